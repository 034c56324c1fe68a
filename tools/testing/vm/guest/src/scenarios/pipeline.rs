// SPDX-License-Identifier: GPL-2.0

//! Slow firmware: which requests wait for it, and which do not. A MiB takes half a second
//! here. No time is measured: the tests check what is possible before firmware is done.

use super::{
    compare::{
        self,
        words,
        Site, //
    },
    loads,
    streams,
    tool,
    NamedRun,
    Vfs, //
};
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::Driver,
    kmsg,
    records,
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd,
    sync::atomic::{
        AtomicBool,
        AtomicU32,
        Ordering::Relaxed, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("pipeline", run)];

pub const OUT: i16 = libc::POLLOUT;
const IN: i16 = libc::POLLIN;

/// What poll says right now.
pub fn now(file: &File, events: i16) -> Result<i16> {
    Ok(uapi::poll(file.as_fd(), events, 0)?)
}

/// What poll says, however long it takes.
pub fn soon(file: &File, events: i16) -> Result<i16> {
    Ok(uapi::poll(file.as_fd(), events, 30_000)?)
}

/// Reset and close, while firmware loads.
fn reset_while_loading(site: &Site) -> Result<()> {
    let (bytes, _) = streams::save(site.other, 2)?;
    let mut bytes = bytes;
    // The beginning of another record: the write does not wait for the load.
    bytes.push(0);
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&bytes)?;
    ensure!(now(&file, OUT)? == 0, "write() has waited for the load");
    device.reset()?;
    ensure!(device.state()? == State::RUNNING);
    let after = words(file.write(&[0; 1]));
    ensure!(after == "ENODEV", "after the reset: {after}");
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&bytes)?;
    drop(device);
    let after = words(file.write(&[0; 1]));
    ensure!(after == "ENODEV", "after the close: {after}");
    Ok(())
}

/// poll() wakes up for data, for the end, and for an error.
fn poll_wakes(site: &Site) -> Result<()> {
    // The SAVE that a reset ends.
    kmsg::expect("SAVE_VHCA_STATE");
    let wait = |file: &File| -> Result<thread::JoinHandle<Result<i16>>> {
        let file = file.try_clone()?;
        Ok(thread::spawn(move || soon(&file, IN | libc::POLLRDHUP)))
    };
    let end = |waiter: thread::JoinHandle<Result<i16>>| -> Result<i16> {
        waiter.join().ok().context("the waiter panicked")?
    };
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    records::read_head(&mut file)?;
    // The first image is under way.
    let waiter = wait(&file)?;
    ensure!(end(waiter)? == IN, "no wake-up for data");
    read_all(&mut file, "ENOMSG")?;
    ensure!(now(&file, IN)? == 0, "readable at the temporary end");
    vf.command(regs::CMD_CHANGE_STATE, &[200, 0])?;
    uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    ensure!(now(&file, IN)? == 0, "readable while an image is saved");
    uapi::set_nonblocking(file.as_fd(), true)?;
    ensure!(words(file.read(&mut [0; 1])) == "EAGAIN", "no EAGAIN");
    uapi::set_nonblocking(file.as_fd(), false)?;
    ensure!(end(wait(&file)?)? == IN, "no wake-up for the increment");
    read_all(&mut file, "ENOMSG")?;
    vf.command(regs::CMD_CHANGE_STATE, &[200, 0])?;
    vf.device().set_state(State::STOP_COPY)?;
    ensure!(end(wait(&file)?)? == IN, "no wake-up for the last image");
    read_all(&mut file, "0")?;
    ensure!(now(&file, IN)? == IN, "not readable at the end");
    vf.device().set_state(State::RUNNING)?;

    let mut file = vf.device().begin(State::PRE_COPY)?;
    records::read_head(&mut file)?;
    let waiter = wait(&file)?;
    thread::sleep(Duration::from_millis(20));
    vf.device().reset()?;
    let woken = end(waiter)?;
    ensure!(woken & libc::POLLRDHUP != 0, "no wake-up for an error");
    Ok(())
}

fn read_all(file: &mut File, until: &str) -> Result<()> {
    let mut buf = vec![0; 1 << 20];
    loop {
        match words(file.read(&mut buf)) {
            end if end == until => return Ok(()),
            more if more.parse::<usize>().is_ok_and(|n| n > 0) => (),
            other => anyhow::bail!("{other}, not {until}"),
        }
    }
}

/// A request that waits for firmware is broken off by a signal.
fn waits_are_interruptible(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let file = vf.device().begin(State::PRE_COPY)?;
    let seen = sys::interrupted(Duration::from_millis(30), || {
        words(uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(|_| "ok"))
    })?;
    ensure!(seen == "EINTR", "PRECOPY_INFO: {seen}");
    let seen = sys::interrupted(Duration::from_millis(30), || {
        words(uapi::set_state(vf.device().fd(), State::STOP_COPY.0).map(|_| "ok"))
    })?;
    ensure!(seen == "EINTR", "SET_STATE: {seen}");
    ensure!(vf.device().state()? == State::PRE_COPY);
    // And then it goes on.
    uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    vf.device().set_state(State::STOP_COPY)?;
    Ok(())
}

/// SAVEs after which [`arcs_come_next`] gives up.
const TOO_MANY: u32 = 20;

/// Has changes saved, and reads them, again and again, before the arc's thread gets the
/// CPU.
fn ask_for_changes(vf: &Vf, mut file: &File, over: impl Fn() -> Result<bool>) -> Result<()> {
    sys::on_first_cpu()?;
    sys::at_real_time_priority()?;
    let mut buf = vec![0; 1 << 20];
    while !over()? {
        // Impossible once the device is stopped.
        let _ = vf.command(regs::CMD_CHANGE_STATE, &[200, 0]);
        let _ = uapi::precopy_info(file.as_fd(), PrecopyInfo::default());
        if file.read(&mut buf).is_err() {
            // None is saved: the arc's turn.
            thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(())
}

/// An arc waits for the SAVE that is under way, and for no other, however fast new ones
/// are asked for.
fn arcs_come_next(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    read_all(&mut file, "ENOMSG")?;
    let counted = Fault::late(opcode::SAVE_VHCA_STATE, Duration::from_millis(5));
    faults.arm(counted.about(fault::vhca(site.vf)?).times(0))?;
    let (limit, done) = (AtomicU32::new(u32::MAX), AtomicBool::new(false));
    let over = || Ok(done.load(Relaxed) || faults.fired()? >= limit.load(Relaxed));
    thread::scope(|scope| -> Result<()> {
        let asker = scope.spawn(|| ask_for_changes(&vf, &file, over));
        let arc = scope.spawn(|| -> Result<u32> {
            sys::on_first_cpu()?;
            while faults.fired()? < 3 {
                thread::sleep(Duration::from_millis(1));
            }
            let before = faults.fired()?;
            limit.store(before + TOO_MANY, Relaxed);
            vf.device().set_state(State::PRE_COPY_P2P)?;
            Ok(faults.fired()? - before)
        });
        let sent = arc.join().ok().context("a thread panicked")?;
        done.store(true, Relaxed);
        asker.join().ok().context("a thread panicked")??;
        let sent = sent?;
        // One may have begun between the count and the call.
        ensure!(sent <= 1, "{sent} SAVEs were sent before the arc's turn");
        Ok(())
    })?;
    faults.disarm()
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let tests: [compare::Test; 5] = [
        ("reset and close while firmware loads", reset_while_loading),
        ("poll wakes up for data, the end, and an error", poll_wakes),
        (
            "waits for firmware can be interrupted",
            waits_are_interruptible,
        ),
        (
            "an arc comes next, however fast changes are asked for",
            arcs_come_next,
        ),
        (
            "vfio-mig puts things back when a signal comes",
            tool::interrupted_saves,
        ),
    ];
    for (name, test) in tests.into_iter().chain(loads::TESTS) {
        results.test(name, |_| test(&site));
    }
    for end in [End::Reset, End::Finish] {
        blocked_writer(results, &site, end);
    }
    Ok(())
}

/// How a writer that was blocked ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The session is gone.
    Reset,
    /// Its memory comes, and it writes.
    Finish,
}

/// A writer waits for its user memory: no other call waits for the writer, and the writer
/// can go on afterwards. It has the buffers of the session, of which firmware has loaded
/// one, and gives them back.
fn blocked_writer(results: &mut Results, site: &Site, end: End) {
    let name = match end {
        End::Reset => "a writer that waits for its memory does not hold up a reset",
        End::Finish => "a writer that waits for its memory can finish after EBUSY",
    };
    let memory = match sys::MissingMemory::new() {
        Ok(memory) => memory,
        Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
            results.skip(name, "the kernel has no userfaultfd");
            return;
        }
        Err(err) => {
            results.test(name, |_| Err(err.into()));
            return;
        }
    };
    results.test(name, |_| {
        let (stream, _) = streams::save(site.other, 2)?;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream)?;
        let writer = {
            let (file, addr) = (file.try_clone()?, memory.addr());
            thread::spawn(move || words(sys::write_raw(&file, addr, 8)))
        };
        memory.wait_for_fault()?;
        ensure!(device.state()? == State::RESUMING);
        let left = device.set_state(State::STOP).err().and_then(|e| e.errno());
        ensure!(left == Some(libc::EBUSY), "leaving RESUMING: {left:?}");
        ensure!(
            device.state()? == State::RESUMING,
            "EBUSY changes the state"
        );
        if end == End::Reset {
            device.reset()?;
            ensure!(device.state()? == State::RUNNING);
        }
        memory.resolve_fault()?;
        let written = writer.join().ok().context("the writer panicked")?;
        match end {
            End::Reset => ensure!(written == "ENODEV", "the writer got {written}"),
            End::Finish => {
                ensure!(written == "8", "the writer got {written}");
                ensure!(device.state()? == State::RESUMING);
            }
        }
        Ok(())
    });
}

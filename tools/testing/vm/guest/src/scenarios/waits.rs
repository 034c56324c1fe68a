// SPDX-License-Identifier: GPL-2.0

//! Calls on a data file that wait for firmware: what signals, resets and other callers do to
//! them. In some tests firmware holds a command, so that a call is sure to wait when it is
//! disturbed. In others firmware is slow: a MiB takes half a second.

use super::{
    compare::{
        self,
        words,
        Site, //
    },
    streams,
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
    records::{
        self,
        HEADER, //
    },
    sys::{
        self,
        Edges,
        MissingMemory, //
    },
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    fs::File,
    io::{
        ErrorKind,
        Read,
        Write, //
    },
    os::fd::AsFd,
    sync::mpsc::{
        self,
        Receiver, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("waits", run)];

/// When a call that waits is disturbed.
pub(super) const SOON: Duration = Duration::from_millis(50);
/// Nothing takes as long as this.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Does something on a thread of its own, and sends what came of it.
pub(super) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(work());
    });
    receiver
}

/// What was sent, which must come soon enough.
pub(super) fn within<T>(receiver: &Receiver<T>, time: Duration, what: &str) -> Result<T> {
    let result = receiver.recv_timeout(time);
    result.with_context(|| format!("{what} did not return within {time:?}"))
}

/// Fails if the call has returned.
pub(super) fn require_waiting<T>(receiver: &Receiver<T>, what: &str) -> Result<()> {
    thread::sleep(SOON);
    match receiver.try_recv() {
        Err(mpsc::TryRecvError::Empty) => Ok(()),
        _ => bail!("{what} did not wait"),
    }
}

/// A device in STOP_COPY whose SAVE firmware holds until [`Faults::release`], and its
/// file behind all that was there before.
fn saving(site: &Site, faults: &Faults) -> Result<(Device, File)> {
    let device = Device::open(site.vf)?;
    let held = Fault::held(opcode::SAVE_VHCA_STATE);
    faults.arm(held.about(fault::vhca(site.vf)?))?;
    let mut file = device.begin(State::STOP_COPY)?;
    records::read_head(&mut file)?;
    faults.wait_for_held(1)?;
    Ok((device, file))
}

/// All of a stream.
pub(super) fn drain(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A signal ends a read that waits, and nothing is lost.
fn signal_in_read(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let whole = {
        let (_device, mut file) = saving(site, &faults)?;
        faults.release()?;
        drain(&mut file)?
    };
    let (_device, mut file) = saving(site, &faults)?;
    let seen = sys::interrupted(SOON, || words(file.read(&mut [0; 4096])))?;
    ensure!(seen == "EINTR", "the read ended with {seen}");
    faults.release()?;
    streams::same(&whole, &drain(&mut file)?)
}

/// A signal whose handler restarts system calls is not seen by a read that waits.
fn restarted_read(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let (_device, mut file) = saving(site, &faults)?;
    let mut buf = [0; 4096];
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(2 * SOON);
            faults.release()
        });
        sys::signalled(SOON, || words(file.read(&mut buf)))
    })?;
    let bytes: usize = seen.parse().ok().with_context(|| seen.clone())?;
    ensure!(bytes > 0, "the end, too early");
    Ok(())
}

/// Writes all of it, with a signal in each call. Returns how many were ended by one.
fn write_with_signals(file: &mut File, mut bytes: &[u8]) -> Result<u32> {
    let mut ended = 0;
    while !bytes.is_empty() {
        match sys::interrupted(SOON, || file.write(bytes))? {
            Ok(0) => bail!("nothing was written"),
            Ok(n) if n < bytes.len() => {
                ended += 1;
                bytes = &bytes[n..];
            }
            Ok(_) => break,
            Err(err) if err.kind() == ErrorKind::Interrupted => ended += 1,
            Err(err) => return Err(err.into()),
        }
        ensure!(ended < 1000, "signals let no write go on");
    }
    Ok(ended)
}

/// Signals while a write waits for firmware: what has been taken in is counted, and
/// what has not can be written again.
fn signals_in_write(site: &Site) -> Result<()> {
    let (bytes, digest) = streams::save(site.other, 7)?;
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::RESUMING)?;
    write_with_signals(&mut file, &bytes)?;
    // Another image: its last byte has to wait for the first one, at least.
    let image = &bytes[records::head(&bytes)?..];
    write_with_signals(&mut file, image)?;
    drop(file);
    vf.device().set_state(State::RUNNING)?;
    ensure!(vf.digest()? == digest, "another state was loaded");
    Ok(())
}

/// As [`signals_in_write`], with a handler that restarts system calls.
fn restarted_write(site: &Site) -> Result<()> {
    let (bytes, digest) = streams::save(site.other, 7)?;
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::RESUMING)?;
    for mut part in [&bytes[..], &bytes[records::head(&bytes)?..]] {
        while !part.is_empty() {
            let n = sys::signalled(SOON, || file.write(part))??;
            ensure!(n > 0, "nothing was written");
            part = &part[n..];
        }
    }
    vf.device().set_state(State::RUNNING)?;
    ensure!(vf.digest()? == digest, "another state was loaded");
    Ok(())
}

/// How often each byte is there.
fn histogram(bytes: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    counts
}

/// Several readers at once, which all wait at first: each byte comes to one of them.
fn several_readers(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    vf.work(20, 16)?;
    let whole = drain(&mut vf.device().begin(State::STOP_COPY)?)?;
    vf.device().set_state(State::STOP)?;
    for round in 0..3 {
        let file = vf.device().begin(State::STOP_COPY)?;
        let readers: Vec<_> = (1..=3usize)
            .map(|reader| {
                let mut file = file.try_clone()?;
                Ok(aside(move || -> Result<Vec<u8>> {
                    let mut piece = vec![0; reader * 1237 + round];
                    let mut bytes = Vec::new();
                    loop {
                        match file.read(&mut piece)? {
                            0 => return Ok(bytes),
                            n => bytes.extend(&piece[..n]),
                        }
                    }
                }))
            })
            .collect::<Result<_>>()?;
        let mut all = Vec::new();
        for reader in readers {
            all.extend(within(&reader, LONG, "a reader")??);
        }
        ensure!(
            all.len() == whole.len() && histogram(&all) == histogram(&whole),
            "{} bytes came out of {}, or others",
            all.len(),
            whole.len()
        );
        vf.device().set_state(State::STOP)?;
    }
    Ok(())
}

/// poll() answers while another caller waits in read(), and both wake up.
fn poll_beside_a_reader(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let (_device, file) = saving(site, &faults)?;
    let mut reading = file.try_clone()?;
    let reader = aside(move || words(reading.read(&mut [0; HEADER])));
    require_waiting(&reader, "the read")?;
    let now = uapi::poll(file.as_fd(), libc::POLLIN, 0)?;
    ensure!(now == 0, "poll: {now:#x}, before there is anything");
    let polled = {
        let file = file.try_clone()?;
        aside(move || uapi::poll(file.as_fd(), libc::POLLIN, -1))
    };
    faults.release()?;
    let read = within(&reader, LONG, "the reader")?;
    ensure!(read == HEADER.to_string(), "the reader got {read}");
    let polled = within(&polled, LONG, "poll")??;
    ensure!(polled == libc::POLLIN, "poll: {polled:#x}");
    Ok(())
}

/// Whatever ends the session wakes up a read that waits.
fn end_of_session(
    site: &Site,
    end: fn(&Device) -> Result<(), vfio_mig::error::Error>,
) -> Result<()> {
    let faults = Faults::open()?;
    let (device, mut file) = saving(site, &faults)?;
    let mut again = file.try_clone()?;
    let reader = aside(move || words(file.read(&mut [0; 4096])));
    require_waiting(&reader, "the read")?;
    thread::scope(|scope| {
        // It waits for the SAVE.
        scope.spawn(|| {
            thread::sleep(2 * SOON);
            faults.release()
        });
        end(&device)
    })?;
    let read = within(&reader, LONG, "the reader")?;
    ensure!(read == "ENODEV", "the read ended with {read}");
    let after = words(again.read(&mut [0; 1]));
    ensure!(after == "ENODEV", "after that, a read: {after}");
    Ok(())
}

/// A reset while a read waits.
fn reset_beside_a_reader(site: &Site) -> Result<()> {
    end_of_session(site, Device::reset)
}

/// A request to leave STOP_COPY while a read waits.
fn request_beside_a_reader(site: &Site) -> Result<()> {
    end_of_session(site, |device| device.set_state(State::RUNNING).map(|_| ()))
}

/// While one reader waits for its memory, others do not get the record that it reads, and
/// poll() does not say readable. They go on when the reader has its memory.
fn reader_without_memory(site: &Site, memory: &MissingMemory) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let whole = drain(&mut vf.device().begin(State::STOP_COPY)?)?;
    vf.device().set_state(State::STOP)?;
    let mut file = vf.device().begin(State::STOP_COPY)?;
    let head = records::read_head(&mut file)?;
    ensure!(
        uapi::poll(file.as_fd(), libc::POLLIN, -1)? == libc::POLLIN,
        "no image comes"
    );
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(sys::read_raw(&file, addr, HEADER)))
    };
    memory.wait_for_fault()?;
    let now = uapi::poll(file.as_fd(), libc::POLLIN, 0)?;
    ensure!(now == 0, "poll beside it: {now:#x}");
    uapi::set_nonblocking(file.as_fd(), true)?;
    let beside = words(file.read(&mut [0; 1]));
    ensure!(beside == "EAGAIN", "a read beside it: {beside}");
    uapi::set_nonblocking(file.as_fd(), false)?;
    let second = {
        let mut file = file.try_clone()?;
        aside(move || drain(&mut file))
    };
    require_waiting(&second, "a second read")?;
    memory.resolve_fault()?;
    let first = within(&first, LONG, "the first reader")?;
    ensure!(first == HEADER.to_string(), "the first reader got {first}");
    let rest = within(&second, LONG, "the second reader")??;
    streams::same(&whole[head.len() + HEADER..], &rest)
}

/// A reader that was told to come again, beside one that waits for its memory, hears when
/// that has ended, even if it only looks for edges.
fn edge_beside_a_reader(site: &Site, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    records::read_head(&mut file)?;
    let edges = Edges::of(file.as_fd(), libc::EPOLLIN)?;
    ensure!(edges.wait(5000)?, "no image comes");
    // The end of a SAVE may be told of twice.
    while edges.wait(0)? {}
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(sys::read_raw(&file, addr, HEADER)))
    };
    memory.wait_for_fault()?;
    uapi::set_nonblocking(file.as_fd(), true)?;
    let beside = words(file.read(&mut [0; 1]));
    ensure!(beside == "EAGAIN", "a read beside it: {beside}");
    ensure!(!edges.wait(0)?, "an edge, and nothing to read");
    memory.resolve_fault()?;
    let first = within(&first, LONG, "the first reader")?;
    ensure!(first == HEADER.to_string(), "the first reader got {first}");
    ensure!(edges.wait(5000)?, "no edge, and an image to read");
    Ok(())
}

/// A reset while a read copies the first of two records: what it has read is void.
fn reset_between_two_records(site: &Site, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(site.vf)?;
    let file = device.begin(State::STOP_COPY)?;
    let reader = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(sys::read_raw(&file, addr, 4096)))
    };
    memory.wait_for_fault()?;
    device.reset()?;
    memory.resolve_fault()?;
    let read = within(&reader, LONG, "the reader")?;
    ensure!(read == "ENODEV", "the read ended with {read}");
    Ok(())
}

/// Does `work` on a thread of its own, to which a signal comes while it waits. Returns what
/// `work` has returned, which must be soon.
fn signal_in_wait(work: impl FnOnce() -> String + Send + 'static) -> Result<String> {
    let waiter = aside(move || sys::interrupted(2 * SOON, work));
    require_waiting(&waiter, "the call")?;
    Ok(within(&waiter, LONG, "a call with a signal")??)
}

/// A signal ends the wait for another reader, which goes on.
fn signal_beside_a_reader(site: &Site, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    records::read_head(&mut file)?;
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(sys::read_raw(&file, addr, HEADER)))
    };
    memory.wait_for_fault()?;
    let second = signal_in_wait(move || words(file.read(&mut [0; 1])));
    // Whatever came of that, the first one is not to wait for ever.
    memory.resolve_fault()?;
    let first = within(&first, LONG, "the first reader")?;
    let second = second?;
    ensure!(second == "EINTR", "the second reader got {second}");
    ensure!(first == HEADER.to_string(), "the first reader got {first}");
    Ok(())
}

/// A signal ends the wait for another writer, which goes on.
fn signal_beside_a_writer(site: &Site, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        // A part of a header.
        aside(move || words(sys::write_raw(&file, addr, 8)))
    };
    memory.wait_for_fault()?;
    let second = signal_in_wait(move || words(file.write(&[0; 1])));
    memory.resolve_fault()?;
    let first = within(&first, LONG, "the first writer")?;
    let second = second?;
    ensure!(second == "EINTR", "the second writer got {second}");
    ensure!(first == "8", "the first writer got {first}");
    Ok(())
}

/// A test with memory that is missing.
type WithoutMemory = fn(&Site, &MissingMemory) -> Result<()>;

const TESTS: &[compare::Test] = &[
    ("a signal in a read", signal_in_read),
    ("a read is restarted after a signal", restarted_read),
    ("signals in writes", signals_in_write),
    ("a write is restarted after a signal", restarted_write),
    ("several readers at once", several_readers),
    ("poll beside a reader", poll_beside_a_reader),
];

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    for driver in Driver::BOTH {
        let (vf, other) = vfs.of(driver);
        for (name, test) in TESTS {
            let name = format!("{name}, {} driver", driver.name());
            results.test(&name, |_| test(&Site { vf, other }));
        }
    }
    // The C driver never frees a session whose SAVE was ended by a reset, gives a reader
    // what is saved while STOP_COPY is left, and has all callers wait for a reader's
    // memory.
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("leaving STOP_COPY beside a reader, rust driver", |_| {
        request_beside_a_reader(&site)
    });
    results.test("a reset beside a reader, rust driver", |_| {
        reset_beside_a_reader(&site)
    });
    let tests: [(&str, WithoutMemory); 5] = [
        (
            "beside a reader that waits for its memory, rust driver",
            reader_without_memory,
        ),
        (
            "edges beside a reader that waits for its memory, rust driver",
            edge_beside_a_reader,
        ),
        (
            "a reset between two records of a read, rust driver",
            reset_between_two_records,
        ),
        (
            "a signal beside a reader that waits for its memory, rust driver",
            signal_beside_a_reader,
        ),
        (
            "a signal beside a writer that waits for its memory, rust driver",
            signal_beside_a_writer,
        ),
    ];
    for (name, test) in tests {
        match MissingMemory::new() {
            Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
                results.skip(name, "the kernel has no userfaultfd");
            }
            memory => results.test(name, |_| test(&site, &memory?)),
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Resets, and other ends of a session, while firmware is at work.
//!
//! Only with the Rust driver: the C driver sends the rest of an arc after a reset, and
//! so leaves a VF that says RUNNING and is suspended.

use super::{
    compare::{outcome, words, Site},
    streams, Bench, NamedRun,
};
use crate::{
    fault::{self, opcode, Fault, Faults},
    hca::{Driver, Pf},
    kmsg::{KernelLog, Refused},
    reset::Way,
    sys::{self, MissingMemory},
    tap::Results,
    vf::Vf,
};
use anyhow::{bail, ensure, Context, Result};
use fastrand::Rng;
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use vfio_mig::{
    state::State,
    uapi::{self, PrecopyInfo},
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("resets", run), ("resets-chunks", run_chunks)];

/// Arcs that meet a reset, in `make check` and in `make check-all`.
const ROUNDS: [u32; 2] = [200, 1000];
/// Most milliseconds between the two.
const APART: u64 = 150;
/// What does not wait for a held command is over by then.
const SOON: Duration = Duration::from_secs(10);
/// What waits for a held command is not over by then.
const A_WHILE: Duration = Duration::from_millis(300);
/// What the driver says of a stream that may not end there.
const INCOMPLETE: &str = "without a complete and valid state";
/// Bytes of a size record, which a stream begins with.
const SIZE_RECORD: usize = 24;

/// What the VF says of itself, if it is in a state.
fn flags_in(state: State) -> Result<u32> {
    let initiator = regs::FLAG_INITIATOR_SUSPENDED;
    Ok(match state {
        State::RUNNING | State::PRE_COPY => 0,
        State::RUNNING_P2P | State::PRE_COPY_P2P => initiator,
        State::STOP | State::STOP_COPY | State::RESUMING => {
            initiator | regs::FLAG_RESPONDER_SUSPENDED
        }
        other => bail!("the state is {other}"),
    })
}

/// The VF is what its state says. Returns the state.
fn is_as_it_says(vf: &Vf) -> Result<State> {
    let state = vf.device().state()?;
    let flags = vf.read(regs::FLAGS)? as u32;
    ensure!(
        flags == flags_in(state)?,
        "in {state}, the VF's flags are {flags:#x}"
    );
    Ok(state)
}

/// The VF runs, works, and can be stopped.
fn runs(vf: &Vf) -> Result<()> {
    let state = is_as_it_says(vf)?;
    ensure!(state == State::RUNNING, "the state is {state}");
    vf.device().enable_bus_master()?;
    vf.work(1, 16)?;
    for state in [State::STOP, State::RUNNING] {
        vf.device().set_state(state)?;
        is_as_it_says(vf)?;
    }
    Ok(())
}

/// Has a thread ask for a state, and another one reset the VF.
fn race(site: &Site, vf: &Vf, rng: &mut Rng) -> Result<String> {
    let device = vf.device();
    let begin = *rng
        .choice(&[State::RUNNING, State::STOP, State::PRE_COPY])
        .unwrap();
    let target = *rng.choice(&State::ALL[1..]).unwrap();
    let way = *rng.choice(&Way::ALL).unwrap();
    // Half of them as close together as commands are.
    let apart = match rng.bool() {
        true => Duration::from_micros(rng.u64(..5000)),
        false => Duration::from_millis(rng.u64(..APART)),
    };
    let reset_first = rng.u32(..4) == 0;
    let what = format!(
        "{begin} -> {target}, {way:?}, {apart:?} apart{}",
        if reset_first { ", reset first" } else { "" }
    );
    // Data files stay open: a session ends all the same.
    let _data = device.set_state(begin)?;
    let wait = |waits: bool| {
        if waits {
            thread::sleep(apart)
        }
    };
    let (arc, reset) = thread::scope(|scope| {
        let arc = scope.spawn(|| {
            wait(reset_first);
            uapi::set_state(device.fd(), target.0)
        });
        let reset = scope.spawn(|| {
            wait(!reset_first);
            way.reset(site.vf, device)?;
            device.state().context("after the reset")
        });
        (arc.join(), reset.join())
    });
    let reset = reset.ok().context("a thread panicked")?;
    let after_reset = reset.with_context(|| what.clone())?;
    let check = || -> Result<()> {
        let state = is_as_it_says(vf)?;
        if reset_first {
            ensure!(after_reset != State::ERROR, "ERROR after the reset");
        }
        match state {
            // Nothing was written, so it cannot be left but by a reset.
            State::RESUMING => device.reset()?,
            _ => drop(device.set_state(State::RUNNING)?),
        }
        runs(vf)
    };
    check().with_context(|| what.clone())?;
    drop(arc);
    Ok(what)
}

fn races(results: &mut Results, site: &Site) -> Result<()> {
    let seed = sys::seed()?;
    let rounds = sys::rounds(ROUNDS)?;
    let name = format!("{rounds} arcs meet a reset: RUNNING means that it runs");
    results.test(&name, |results| {
        let mut rng = Rng::with_seed(seed);
        let mut refused = Refused::from_now_on()?;
        let vf = Vf::open(site.vf, 16)?;
        for round in 0..rounds {
            let what =
                race(site, &vf, &mut rng).with_context(|| format!("seed {seed}, round {round}"))?;
            refused
                .none()
                .with_context(|| format!("seed {seed}, round {round}, {what}"))?;
            if round % 20 == 19 {
                results.progress(&format!("{} rounds", round + 1));
            }
        }
        Ok(())
    });
    Ok(())
}

/// A thread asks again and again what there is to be saved, and has it saved, while
/// another one stops the device: neither has the other fail.
fn stopped_while_asked(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let mut rng = Rng::with_seed(1);
    for round in 0..20 {
        let file = vf.device().begin(State::PRE_COPY)?;
        let over = AtomicBool::new(false);
        let mut buf = vec![0; 1 << 20];
        let stopped = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                while !over.load(Relaxed) {
                    // Impossible once the device is stopped.
                    let _ = vf.command(regs::CMD_CHANGE_STATE, &[20, 0]);
                    let _ = uapi::precopy_info(file.as_fd(), PrecopyInfo::default());
                    while (&file).read(&mut buf).is_ok_and(|n| n > 0) {}
                }
            });
            thread::sleep(Duration::from_millis(rng.u64(..APART)));
            let stopped = [State::PRE_COPY_P2P, State::PRE_COPY, State::STOP_COPY]
                .map(|state| uapi::set_state(vf.device().fd(), state.0));
            over.store(true, Relaxed);
            asker.join().ok().context("the asker panicked")?;
            stopped
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(anyhow::Error::from)
        });
        stopped.with_context(|| format!("round {round}"))?;
        let end = words((&file).read(&mut [0]));
        ensure!(end == "0" || end == "1", "round {round}, reading: {end}");
        vf.device().set_state(State::RUNNING)?;
    }
    runs(&vf)
}

/// What ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Reset(Way),
    Close,
}

const ENDS: [End; 4] = [
    End::Reset(Way::Ioctl),
    End::Reset(Way::Sysfs),
    End::Reset(Way::Bit),
    End::Close,
];

impl End {
    /// Ends the session of a VF, which is open after that and runs.
    fn carry_out(self, site: &Site, vf: Vf) -> Result<Vf> {
        match self {
            Self::Reset(way) => {
                way.reset(site.vf, vf.device())?;
                Ok(vf)
            }
            Self::Close => {
                drop(vf);
                Vf::open(site.vf, 16)
            }
        }
    }
}

/// Writes all that is taken, and returns what came last.
fn write_on(mut file: &File, bytes: &[u8]) -> String {
    let mut at = 0;
    while at < bytes.len() {
        match file.write(&bytes[at..]) {
            Ok(n) if n > 0 => at += n,
            other => return words(other),
        }
    }
    "all".to_string()
}

/// A stream is written, with another image behind it, and then the session ends:
/// whatever has not begun does not begin any more.
fn written_then_ended(site: &Site, end: End, waits: bool, rng: &mut Rng) -> Result<()> {
    let (mut bytes, _) = streams::save(site.other, 2)?;
    bytes.extend_from_within(SIZE_RECORD..);
    let mut refused = Refused::from_now_on()?;
    let vf = Vf::open(site.vf, 16)?;
    let empty = vf.digest()?;
    let file = vf.device().begin(State::RESUMING)?;
    uapi::set_nonblocking(file.as_fd(), !waits)?;
    let writer = {
        let file = file.try_clone()?;
        thread::spawn(move || write_on(&file, &bytes))
    };
    let written = match waits {
        true => {
            thread::sleep(Duration::from_millis(rng.u64(..2 * APART)));
            end.carry_out(site, vf)
                .map(|vf| (vf, writer.join().unwrap_or_default()))
        }
        false => {
            let written = writer.join().unwrap_or_default();
            end.carry_out(site, vf).map(|vf| (vf, written))
        }
    };
    let (vf, written) = written?;
    ensure!(
        ["all", "ENODEV", "EAGAIN"].contains(&written.as_str()),
        "the writer got {written}"
    );
    let after = words((&file).write(&[0]));
    ensure!(after == "ENODEV", "a write after that: {after}");
    ensure!(is_as_it_says(&vf)? == State::RUNNING);
    ensure!(vf.digest()? == empty, "the VF has a state that was loaded");
    runs(&vf)?;
    refused.none()
}

/// Does `call` on a thread, which must wait for a command that is held, while the state
/// can be asked for. Then releases the command.
fn waits_for_held<T: Send>(
    faults: &Faults,
    call: impl FnOnce() -> T + Send,
    ask: impl FnOnce() -> Result<()>,
) -> Result<T> {
    thread::scope(|scope| {
        let caller = scope.spawn(call);
        let seen = (|| {
            faults.wait_for_held(1)?;
            thread::sleep(A_WHILE);
            ensure!(!caller.is_finished(), "it has not waited for firmware");
            let begin = Instant::now();
            ask()?;
            ensure!(begin.elapsed() < SOON, "asking for the state has waited");
            Ok(())
        })();
        // Else the other thread would wait for a minute.
        faults.release()?;
        let result = caller.join().ok().context("a thread panicked")?;
        seen.map(|()| result)
    })
}

/// Asks for the state.
fn state_is(vf: &Vf, expected: State) -> Result<()> {
    let state = vf.device().state()?;
    ensure!(state == expected, "the state is {state}, not {expected}");
    Ok(())
}

/// While an arc waits for firmware.
fn state_during_an_arc(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let faults = Faults::open()?;
    let about = fault::vhca(site.vf)?;
    faults.arm(Fault::held(opcode::SUSPEND_VHCA).about(about).nth(2))?;
    waits_for_held(
        &faults,
        || vf.device().set_state(State::STOP),
        || state_is(&vf, State::RUNNING_P2P),
    )??;
    state_is(&vf, State::STOP)?;
    faults.arm(Fault::held(opcode::SAVE_VHCA_STATE).about(about))?;
    let _file = vf.device().begin(State::STOP_COPY)?;
    waits_for_held(
        &faults,
        || vf.device().set_state(State::RUNNING),
        || state_is(&vf, State::STOP_COPY),
    )??;
    runs(&vf)
}

/// The means to have firmware hold a command of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Save,
    Load,
}

/// A session with a SAVE or a LOAD that firmware is executing.
fn held_session(site: &Site, faults: &Faults, held: Held, bytes: &[u8]) -> Result<(Vf, File)> {
    let vf = Vf::open(site.vf, 16)?;
    let about = fault::vhca(site.vf)?;
    let (opcode, state) = match held {
        Held::Save => (opcode::SAVE_VHCA_STATE, State::PRE_COPY),
        Held::Load => (opcode::LOAD_VHCA_STATE, State::RESUMING),
    };
    faults.arm(Fault::held(opcode).about(about))?;
    let file = vf.device().begin(state)?;
    if held == Held::Load {
        uapi::set_nonblocking(file.as_fd(), true)?;
        let written = write_on(&file, bytes);
        ensure!(written == "EAGAIN", "write() says {written}");
    }
    faults.wait_for_held(1)?;
    Ok((vf, file))
}

/// The session of a file has ended.
fn is_over(held: Held, mut file: &File) -> Result<()> {
    let after = match held {
        Held::Save => words(file.read(&mut [0])),
        Held::Load => words(file.write(&[0])),
    };
    ensure!(after == "ENODEV", "after the end: {after}");
    Ok(())
}

/// A reset or a close waits for the command that firmware is executing, and for nothing
/// else. The state can be asked for, and is RUNNING once the reset has returned.
fn end_waits_for_one(site: &Site, held: Held, end: End) -> Result<()> {
    let (bytes, _) = streams::save(site.other, 2)?;
    let mut refused = Refused::from_now_on()?;
    let faults = Faults::open()?;
    let (vf, file) = held_session(site, &faults, held, &bytes)?;
    let vf = match end {
        End::Reset(way) => {
            let state = vf.device().state()?;
            waits_for_held(
                &faults,
                || {
                    way.reset(site.vf, vf.device())?;
                    state_is(&vf, State::RUNNING)
                },
                || state_is(&vf, state),
            )??;
            vf
        }
        End::Close => waits_for_held(&faults, || end.carry_out(site, vf), || Ok(()))??,
    };
    is_over(held, &file)?;
    runs(&vf)?;
    refused.none()
}

/// A reload of the PF waits for the command that firmware is executing, and ends the
/// session: what that has put into memory, or into the VF, is lost.
fn reload_waits_for_one(site: &Site, held: Held) -> Result<()> {
    let (bytes, _) = streams::save(site.other, 2)?;
    let mut refused = Refused::from_now_on()?;
    let faults = Faults::open()?;
    let (vf, file) = held_session(site, &faults, held, &bytes)?;
    let state = vf.device().state()?;
    waits_for_held(&faults, || Pf::find()?.reload(), || state_is(&vf, state))??;
    is_over(held, &file)?;
    vf.device().reset()?;
    runs(&vf)?;
    refused.none()
}

/// A VF with a session that an arc ends, and a SAVE or a LOAD that firmware is executing.
type Busy = fn(&Site, &Faults, &[u8]) -> Result<(Vf, File)>;

const BUSY: [(&str, Busy); 3] = [
    ("STOP_COPY", |site, faults, _| {
        let vf = Vf::open(site.vf, 16)?;
        let about = fault::vhca(site.vf)?;
        faults.arm(Fault::held(opcode::SAVE_VHCA_STATE).about(about))?;
        let file = vf.device().begin(State::STOP_COPY)?;
        faults.wait_for_held(1)?;
        Ok((vf, file))
    }),
    ("RESUMING", |site, faults, bytes| {
        held_session(site, faults, Held::Load, bytes)
    }),
    ("RESUMING, after an error", |site, faults, bytes| {
        let vf = Vf::open(site.vf, 16)?;
        let about = fault::vhca(site.vf)?;
        faults.arm(Fault::held(opcode::LOAD_VHCA_STATE).about(about))?;
        let mut file = vf.device().begin(State::RESUMING)?;
        // No header.
        let written = words(file.write(&[bytes, &[0xff; 16]].concat()));
        ensure!(written == "ENOMEM", "write() says {written}");
        faults.wait_for_held(1)?;
        Ok((vf, file))
    }),
];

/// An arc waits for the command that firmware is executing, and a reset comes: it waits,
/// too. The arc says that there was a reset, and a good stream is not complained of.
fn arc_meets_reset(site: &Site, busy: Busy, good: bool) -> Result<()> {
    let (bytes, _) = streams::save(site.other, 2)?;
    let mut log = KernelLog::new()?;
    let mut refused = Refused::from_now_on()?;
    let faults = Faults::open()?;
    let (vf, _file) = busy(site, &faults, &bytes)?;
    log.lines();
    let arc = thread::scope(|scope| {
        let arc = scope.spawn(|| outcome(vf.device().set_state(State::STOP)));
        thread::sleep(A_WHILE);
        waits_for_held(
            &faults,
            || vf.device().reset(),
            || {
                // Until the reset has begun.
                while outcome(vf.device().data_size()) != "ECANCELED" {
                    thread::sleep(Duration::from_millis(1));
                    ensure!(!arc.is_finished(), "the arc has not waited for firmware");
                }
                Ok(())
            },
        )??;
        arc.join().ok().context("the arc panicked")
    })?;
    ensure!(arc == "ECANCELED", "the arc ended with {arc}");
    let complained = log.lines().iter().any(|line| line.contains(INCOMPLETE));
    ensure!(!(good && complained), "the log has: {INCOMPLETE}");
    runs(&vf)?;
    refused.none()
}

/// A call on a data file meets a page that never comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stuck {
    Read,
    Write,
}

/// Nobody waits for a call that waits for user memory, whatever ends its session.
fn stuck_call(site: &Site, stuck: Stuck, end: End) -> Result<()> {
    let memory = MissingMemory::new()?;
    let (addr, len) = memory.around();
    let vf = Vf::open(site.vf, 16)?;
    let mut file = match stuck {
        Stuck::Read => vf.device().begin(State::STOP_COPY)?,
        Stuck::Write => vf.device().begin(State::RESUMING)?,
    };
    match stuck {
        Stuck::Read => file.read_exact(&mut [0; SIZE_RECORD])?,
        // The header of an image.
        Stuck::Write => file.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?,
    }
    let caller = {
        let file = file.try_clone()?;
        thread::spawn(move || match stuck {
            Stuck::Read => words(sys::read_raw(&file, addr, len)),
            Stuck::Write => words(sys::write_raw(&file, addr, len)),
        })
    };
    memory.wait_for_fault()?;
    let others = (|| {
        let state = vf.device().state()?;
        Pf::find()?.reload()?;
        state_is(&vf, state)?;
        let vf = end.carry_out(site, vf)?;
        runs(&vf)
    })();
    // Else the caller would never end.
    let waited = !caller.is_finished();
    memory.provide()?;
    let seen = caller.join().ok().context("the caller panicked")?;
    others?;
    ensure!(waited, "the call has not waited for its memory");
    ensure!(seen == "ENODEV", "the call ended with {seen}");
    Ok(())
}

fn stuck_calls(results: &mut Results, site: &Site) {
    for stuck in [Stuck::Read, Stuck::Write] {
        for end in ENDS {
            let name = format!("a {stuck:?} that waits for its memory, the PF's reload, {end:?}");
            match MissingMemory::new() {
                Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
                    results.skip(&name, "the kernel has no userfaultfd");
                }
                _ => results.test(&name, |_| stuck_call(site, stuck, end)),
            }
        }
    }
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let (vf, other) = bench.of(Driver::Rust);
    let site = Site { vf, other };
    stuck_calls(results, &site);
    results.test("PRECOPY_INFO, while the device is stopped", |_| {
        stopped_while_asked(&site)
    });
    races(results, &site)?;
    for end in ENDS {
        for (waits, how) in [(true, "write() waits"), (false, "write() does not wait")] {
            let name = format!("a stream is written, then {end:?}: {how}");
            results.test(&name, |_| {
                let mut rng = Rng::with_seed(1);
                (0..5).try_for_each(|_| written_then_ended(&site, end, waits, &mut rng))
            });
        }
    }
    results.test("the state can be asked for during an arc", |_| {
        state_during_an_arc(&site)
    });
    for (state, busy) in BUSY {
        let name = format!("an arc that leaves {state}, and a reset, wait for firmware");
        let good = state != "RESUMING, after an error";
        results.test(&name, |_| arc_meets_reset(&site, busy, good));
    }
    for held in [Held::Save, Held::Load] {
        for end in ENDS {
            let name = format!("{end:?} waits for the {held:?} that is executed, and no other");
            results.test(&name, |_| end_waits_for_one(&site, held, end));
        }
        let name = format!("a reload of the PF waits for the {held:?} that is executed");
        results.test(&name, |_| reload_waits_for_one(&site, held));
    }
    Ok(())
}

/// Ends a session while a reader keeps up with firmware: it waits for the SAVE that is
/// under way, and for no other.
fn waits_for_one_chunk(site: &Site, end: impl FnOnce(&Vf) -> Result<()>) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let file = {
        // So that all SAVEs count.
        let counted = Fault::late(opcode::SAVE_VHCA_STATE, Duration::from_millis(1));
        faults.arm(counted.about(fault::vhca(site.vf)?).times(0))?;
        vf.device().begin(State::STOP_COPY)?
    };
    let read = AtomicU64::new(0);
    let ended = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| {
            let mut buf = vec![0; 1 << 20];
            loop {
                match (&file).read(&mut buf) {
                    Ok(n) if n > 0 => read.fetch_add(n as u64, Relaxed),
                    end => return words(end),
                };
            }
        });
        while faults.fired()? < 8 {
            thread::sleep(Duration::from_millis(1));
        }
        let before = faults.fired()?;
        let result = end(&vf);
        let after = faults.fired()?;
        let seen = reader.join().ok().context("the reader panicked")?;
        result?;
        // One may have begun between the count and the call.
        ensure!(after - before <= 1, "{} SAVEs were sent", after - before);
        ensure!(faults.fired()? == after, "a SAVE was sent after the end");
        Ok(seen)
    })?;
    let read = read.load(Relaxed);
    ensure!(
        ended == "ENODEV",
        "after {read} bytes, the reader got {ended}"
    );
    faults.disarm()?;
    runs(&vf)
}

pub fn run_chunks(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let (vf, other) = bench.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("STOP_COPY -> STOP waits for one chunk", |_| {
        waits_for_one_chunk(&site, |vf| {
            vf.device().set_state(State::STOP)?;
            vf.device().set_state(State::RUNNING)?;
            Ok(())
        })
    });
    for way in Way::ALL {
        results.test(&format!("a reset ({way:?}) waits for one chunk"), |_| {
            waits_for_one_chunk(&site, |vf| way.reset(site.vf, vf.device()))
        });
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Firmware holds a command: which calls wait for the command, and which do not.

use super::session::{
    runs,
    state_is,
    write_on,
    End, //
};
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::Pf,
    kmsg::{
        KernelLog,
        Refused, //
    },
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        streams, //
    },
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    state::State,
    uapi, //
};

/// Time within which a call that does not wait for a held command must return.
const SOON: Duration = Duration::from_secs(10);
/// Time after which a call that waits for a held command must not have returned.
const A_WHILE: Duration = Duration::from_millis(300);
/// The driver's message about a stream that is not complete.
const INCOMPLETE: &str = "without a complete and valid state";

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
            ensure!(
                !caller.is_finished(),
                "the call has not waited for firmware"
            );
            let begin = Instant::now();
            ask()?;
            ensure!(begin.elapsed() < SOON, "asking for the state has waited");
            Ok(())
        })();
        // Otherwise the other thread would wait for a minute.
        faults.release()?;
        let result = caller.join().ok().context("a thread panicked")?;
        seen.map(|()| result)
    })
}

/// Asking for the state does not wait while an arc waits for firmware.
pub(super) fn state_during_an_arc(site: &Site) -> Result<()> {
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

/// What it takes to have firmware hold a command of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
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
pub(super) fn end_waits_for_one(site: &Site, held: Held, end: End) -> Result<()> {
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
/// session. What the command has written to memory, or to the VF, is lost.
pub(super) fn reload_waits_for_one(site: &Site, held: Held) -> Result<()> {
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

pub(super) const BUSY: [(&str, Busy); 3] = [
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

/// An arc waits for the command that firmware is executing, and a reset that comes then also
/// waits. The arc fails with ECANCELED, and the driver logs no message about a good stream.
pub(super) fn arc_meets_reset(site: &Site, busy: Busy, good: bool) -> Result<()> {
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

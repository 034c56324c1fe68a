// SPDX-License-Identifier: GPL-2.0

//! Ending by a signal only after what was begun has been undone. If the tool is killed, the
//! kernel resets the device when its file is closed. But nobody removes a temporary file,
//! and a host at the other end does not hear why. So a signal is only noted, and the code
//! that moves a state checks for it between two pieces. A signal interrupts a system call. A
//! signal that comes between the check and the call does not, and a pipe that nobody reads
//! would then block the call for ever. So SIGALRM interrupts every second until [`check`]
//! has seen the signal.

use crate::{
    error::{
        Context,
        Error, //
    },
    process, //
};
use nix::{
    sys::signal::Signal,
    unistd::alarm, //
};
use std::sync::atomic::{
    AtomicBool,
    AtomicI32,
    Ordering, //
};

/// The first signal that came, or 0.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
/// Whether system calls are to be interrupted until the signal has been seen.
static WAKE: AtomicBool = AtomicBool::new(true);
/// Whether signals are caught.
static CATCHING: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: libc::c_int) {
    let _ = CAUGHT.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    wake(signal);
}

extern "C" fn wake(_signal: libc::c_int) {
    if WAKE.load(Ordering::Relaxed) {
        alarm::set(1);
    }
}

/// From now on, the first SIGINT, SIGTERM and SIGHUP only make [`check`] fail. Each ends the
/// tool at once if it comes a second time. A signal that is ignored stays ignored (nohup).
pub fn catch() -> Result<(), Error> {
    if CATCHING.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let caught = || -> std::io::Result<()> {
        process::on_signal(Signal::SIGALRM, wake)?;
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            process::on_first_signal(signal, note)?;
        }
        Ok(())
    };
    caught().context("catching signals")
}

/// Fails if a signal came since [`catch`].
pub fn check() -> Result<(), Error> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => {
            stop_waking();
            Err(Error::Interrupted { signal })
        }
    }
}

/// Stops interrupting system calls for a signal that came.
fn stop_waking() {
    WAKE.store(false, Ordering::Relaxed);
    alarm::cancel();
}

/// Does `step`, which undoes what was begun: a signal does not interrupt it again and
/// again.
pub fn undo<T>(step: impl FnOnce() -> T) -> T {
    stop_waking();
    let done = step();
    // In this order: a signal that comes between the two statements finds the flag set.
    WAKE.store(true, Ordering::Relaxed);
    if CAUGHT.load(Ordering::Relaxed) != 0 {
        stop_waking();
    }
    done
}

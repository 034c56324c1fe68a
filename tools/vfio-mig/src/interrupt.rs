// SPDX-License-Identifier: GPL-2.0

//! Ending by a signal only after what was begun has been undone.
//!
//! A tool that is killed leaves a device to the kernel, which resets it when its
//! file is closed, but nobody removes a temporary file. So a signal is noted, and
//! what moves a state looks for it between two pieces.

use crate::{error::Error, uapi};
use nix::sys::signal::Signal;
use std::{
    io,
    sync::atomic::{AtomicI32, Ordering},
};

/// The signal that came, or 0.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// From now on, the first SIGINT, SIGTERM and SIGHUP only let [`check`] fail. Each
/// ends the tool at once if it comes a second time.
pub fn catch() -> io::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        uapi::on_first_signal(signal, note)?;
    }
    Ok(())
}

/// Fails if a signal came since [`catch`].
pub fn check() -> Result<(), Error> {
    match CAUGHT.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Error::Interrupted { signal }),
    }
}

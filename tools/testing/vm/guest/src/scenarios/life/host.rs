// SPDX-License-Identifier: GPL-2.0

//! What the host does to its devices as a whole: it sleeps, an error is reported on PCI Express,
//! and the PF is taken away and found again.

use crate::{
    hca::Pf,
    kmsg::KernelLog,
    sys, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    path::Path,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Files of suspending: how far it goes, the seconds before it is undone, and what begins it.
const TEST: &str = "/sys/power/pm_test";
const DELAY: &str = "/sys/module/suspend/parameters/pm_test_delay";
const STATE: &str = "/sys/power/state";
/// The module that injects errors, and its file.
const INJECT_MODULE: &str = "aer_inject";
const INJECT: &str = "/dev/aer_inject";
/// `PCI_ERR_UNC_COMP_TIME`, which is not fatal by default, and `PCI_ERR_UNC_MALF_TLP`, which is.
const COMPLETION_TIMEOUT: u32 = 0x4000;
const MALFORMED: u32 = 0x4_0000;
/// What the kernel says in the end: of a PF that works, and of one that it has given up.
const ENDS: [&str; 2] = ["device recovery successful", "device recovery failed"];
/// How long the kernel may take to deal with an error.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Why the host cannot be suspended, if it cannot.
pub(super) fn no_suspend() -> Option<&'static str> {
    (!Path::new(TEST).exists()).then_some("the kernel cannot test suspending")
}

/// Suspends all processes and devices, and resumes them.
pub(super) fn suspend() -> Result<()> {
    fs::write(DELAY, "0").context(DELAY)?;
    fs::write(TEST, "devices").context(TEST)?;
    fs::write(STATE, "freeze").context("suspending")
}

/// Why no error can be injected, if none can.
pub(super) fn no_errors() -> Option<&'static str> {
    let has = sys::is_module(INJECT_MODULE).unwrap_or(false);
    (!has).then_some("the kernel cannot inject errors of PCI Express")
}

/// `struct aer_error_inj`: an uncorrectable error of a function.
fn error(bus: u8, device: u8, function: u8, status: u32) -> Vec<u8> {
    let mut bytes = vec![bus, device, function, 0];
    // Correctable errors, the header of a packet, the domain: none, and 0.
    for word in [status, 0, 0, 0, 0, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Reports an error of the PF to its root port, and waits until the kernel has dealt with it.
fn inject(status: u32) -> Result<()> {
    if !Path::new(INJECT).exists() {
        sys::load_module(INJECT_MODULE, "").context(INJECT_MODULE)?;
    }
    let address = Pf::find()?.address().to_string();
    let numbers: Vec<u8> = address
        .split([':', '.'])
        .skip(1)
        .map(|number| u8::from_str_radix(number, 16))
        .collect::<Result<_, _>>()?;
    let [bus, device, function] = numbers[..] else {
        bail!("{address} is no address");
    };
    let mut log = KernelLog::new()?;
    log.lines();
    fs::write(INJECT, error(bus, device, function, status)).context(INJECT)?;
    let begin = Instant::now();
    let mut seen = Vec::new();
    loop {
        seen.extend(log.lines());
        if ENDS
            .iter()
            .any(|end| seen.iter().any(|line| line.contains(end)))
        {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "the kernel has not dealt with the error: {seen:#?}"
        );
        thread::sleep(POLL);
    }
}

/// An error that is not fatal.
pub(super) fn error_that_is_not_fatal() -> Result<()> {
    inject(COMPLETION_TIMEOUT)
}

/// A fatal error: the kernel resets the link.
pub(super) fn fatal_error() -> Result<()> {
    inject(MALFORMED)
}

/// Removes the PF from the bus, as if it was unplugged.
pub(super) fn remove_pf() -> Result<()> {
    let file = Pf::find()?.dir().join("remove");
    fs::write(file, "1").context("removing the PF")
}

/// Looks for devices that are not known.
pub(super) fn rescan() -> Result<()> {
    fs::write("/sys/bus/pci/rescan", "1").context("rescanning")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_as_the_kernel_wants_it() {
        let bytes = error(1, 0, 2, MALFORMED);
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..8], [1, 0, 2, 0, 0, 0, 4, 0]);
    }
}

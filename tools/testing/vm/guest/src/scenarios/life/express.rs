// SPDX-License-Identifier: GPL-2.0

//! Errors of PCI Express that the PF or its root port reports. VFs have no way to report any, as
//! on an adapter, but whatever stands behind the root port hears of them.

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

/// The module that injects errors, and its file.
const INJECT_MODULE: &str = "aer_inject";
const INJECT: &str = "/dev/aer_inject";
/// `PCI_ERR_COR_BAD_TLP`, which the hardware has corrected.
const BAD_TLP: u32 = 0x40;
/// `PCI_ERR_UNC_COMP_TIME`, which is not fatal by default, and `PCI_ERR_UNC_MALF_TLP`, which is.
const COMPLETION_TIMEOUT: u32 = 0x4000;
const MALFORMED: u32 = 0x4_0000;
/// Before the number of corrected errors of a device.
const CORRECTED: &str = "TOTAL_ERR_COR ";
/// What the kernel says in the end: of a PF that works, and of one that it has given up.
const ENDS: [&str; 2] = ["device recovery successful", "device recovery failed"];
/// How long the kernel may take to deal with an error.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Why no error can be injected, if none can.
pub(super) fn no_errors() -> Option<&'static str> {
    let has = sys::is_module(INJECT_MODULE).unwrap_or(false);
    (!has).then_some("the kernel cannot inject errors of PCI Express")
}

/// `struct aer_error_inj`: an error of the function with an address, as bits of
/// `PCI_ERR_UNCOR_STATUS` and of `PCI_ERR_COR_STATUS`.
fn error(address: &str, uncorrectable: u32, correctable: u32) -> Result<Vec<u8>> {
    let numbers: Vec<u8> = address
        .split([':', '.'])
        .skip(1)
        .map(|number| u8::from_str_radix(number, 16))
        .collect::<Result<_, _>>()?;
    let [bus, device, function] = numbers[..] else {
        bail!("{address} is no address");
    };
    let mut bytes = vec![bus, device, function, 0];
    // The header of a packet, the domain: none, and 0.
    for word in [uncorrectable, correctable, 0, 0, 0, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    Ok(bytes)
}

/// Has the function in a folder of sysfs report an error.
fn inject(dir: &Path, uncorrectable: u32, correctable: u32) -> Result<()> {
    if !Path::new(INJECT).exists() {
        sys::load_module(INJECT_MODULE, "").context(INJECT_MODULE)?;
    }
    let address = dir.file_name().unwrap_or_default().to_string_lossy();
    let error = error(&address, uncorrectable, correctable)?;
    fs::write(INJECT, error).with_context(|| format!("{INJECT}, {address}"))
}

/// Has a function report an error, and waits until the kernel has dealt with it.
fn report(dir: &Path, uncorrectable: u32) -> Result<()> {
    let mut log = KernelLog::new()?;
    log.lines();
    inject(dir, uncorrectable, 0)?;
    log.wait_for(&ENDS, PATIENCE)
}

/// The number of corrected errors of a function.
fn corrected(dir: &Path) -> Result<u64> {
    let text = fs::read_to_string(dir.join("aer_dev_correctable"))?;
    let mut lines = text.lines();
    let total = lines.find_map(|line| line.strip_prefix(CORRECTED));
    Ok(total.context("no sum of corrected errors")?.parse()?)
}

/// An error of the PF that the hardware has corrected: the kernel counts it.
pub(super) fn corrected_error() -> Result<()> {
    let dir = Pf::find()?.dir();
    let before = corrected(&dir)?;
    inject(&dir, 0, BAD_TLP)?;
    let begin = Instant::now();
    while corrected(&dir)? == before {
        ensure!(begin.elapsed() < PATIENCE, "the error was not counted");
        thread::sleep(POLL);
    }
    Ok(())
}

/// An error of the PF that is not fatal.
pub(super) fn error_of_pf() -> Result<()> {
    report(&Pf::find()?.dir(), COMPLETION_TIMEOUT)
}

/// A fatal error of the PF: the kernel resets the link.
pub(super) fn fatal_error_of_pf() -> Result<()> {
    report(&Pf::find()?.dir(), MALFORMED)
}

/// An error of the root port that is not fatal.
pub(super) fn error_of_port() -> Result<()> {
    report(&Pf::find()?.port()?, COMPLETION_TIMEOUT)
}

/// A fatal error of the root port: the kernel resets the link.
pub(super) fn fatal_error_of_port() -> Result<()> {
    report(&Pf::find()?.port()?, MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_as_the_kernel_wants_it() {
        let bytes = error("0000:01:00.2", MALFORMED, BAD_TLP).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..12], [1, 0, 2, 0, 0, 0, 4, 0, 0x40, 0, 0, 0]);
        assert!(error("pci0000:00", MALFORMED, 0).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the host does to its devices as a whole: it sleeps, and its PF is reset, or taken away and
//! found again.

use crate::{
    fault::Control,
    hca::Pf,
    kmsg::KernelLog,
    reset, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs,
    path::Path,
    time::Duration, //
};

/// Files of suspending: how far it goes, the seconds before it is undone, and what begins it.
const TEST: &str = "/sys/power/pm_test";
const DELAY: &str = "/sys/module/suspend/parameters/pm_test_delay";
const STATE: &str = "/sys/power/state";
/// How long the kernel may take to deal with what has happened.
const PATIENCE: Duration = Duration::from_secs(60);
/// What mlx5_core says in the end, of a PF that it has found to be broken.
const RECOVERED: [&str; 2] = ["health recovery succeeded", "health recovery failed"];

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

/// Resets the PF, which then says that it is disabled, as a function that was reset is: mlx5_core
/// finds that out, and recovers.
pub(super) fn reset_pf() -> Result<()> {
    let pf = Pf::find()?;
    let mut log = KernelLog::new()?;
    log.lines();
    reset::by_flr(pf.address()).context("resetting the PF")?;
    Control::open(&pf)?.disable_nic(0)?;
    log.wait_for(&RECOVERED, PATIENCE)
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

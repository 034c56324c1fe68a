// SPDX-License-Identifier: GPL-2.0

//! A side of a migration, whose firmware can be made to fail.

use super::super::config::Assigned;
use crate::{
    fault::{
        Fault,
        Faults, //
    },
    hca::Pf, //
};
use anyhow::{
    ensure,
    Result, //
};

/// The VF of a side, and the faults of its HCA: the other side's VF may be of the same one.
pub struct Side {
    faults: Faults,
    vhca: u16,
}

impl Side {
    /// That of a VF, with no fault.
    pub fn of(vf: Assigned) -> Result<Self> {
        Ok(Self {
            faults: Faults::of(&Pf::of(vf.bdf)?)?,
            vhca: vf.vhca as u16,
        })
    }

    /// Arms a fault of a command about the VF.
    pub fn arm(&self, fault: Fault) -> Result<()> {
        self.faults.arm(fault.about(self.vhca))
    }

    /// Arms a fault of a command about whatever it is.
    pub fn arm_any(&self, fault: Fault) -> Result<()> {
        self.faults.arm(fault)
    }

    /// Makes the next report of the VF's page tracker fail: `kind` is one of `TRACK_*`.
    pub fn arm_report(&self, kind: u64) -> Result<()> {
        self.faults.arm_report(self.vhca, kind)
    }

    /// Has the VF tell its driver that it was reset.
    pub fn tell_of_reset(&self) -> Result<()> {
        self.faults.disable_nic(self.vhca)
    }

    /// Has all held commands of the HCA answered.
    pub fn release(&self) -> Result<()> {
        self.faults.release()
    }

    /// Waits until the HCA holds `count` commands.
    pub fn wait_for_held(&self, count: u32) -> Result<()> {
        self.faults.wait_for_held(count)
    }

    /// Has firmware carry out what is held. Fails if a fault did not come to pass.
    pub fn finish(&self) -> Result<()> {
        self.release()?;
        self.wait_for_held(0)?;
        let armed = self.faults.armed()?;
        ensure!(armed == 0, "{armed} faults did not come to pass");
        Ok(())
    }
}

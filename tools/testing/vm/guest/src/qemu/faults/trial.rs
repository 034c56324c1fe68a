// SPDX-License-Identifier: GPL-2.0

//! A migration in which a device is to fail.

use super::{
    super::{
        guest::Guest,
        process::Qemu, //
    },
    side::Side, //
};
use crate::{
    fault::{
        opcode,
        Fault, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    tap::Results, //
};
use anyhow::Result;
use std::{
    thread::{
        self,
        JoinHandle, //
    },
    time::Duration, //
};
use vm_common::judge::UNDESTROYED;

/// Until an unbind of the PF waits for a VF.
const UNBINDING: Duration = Duration::from_secs(1);

/// A guest, and the device that is to fail.
pub struct Trial<'g, 'a> {
    pub(super) results: &'g mut Results,
    pub(super) guest: &'g mut Guest<'a>,
    pub(super) driver: Driver,
    pub(super) source: &'g Side,
    pub(super) destination: &'g Side,
    /// Whether the last LOAD must fail, and no other.
    pub(super) of_last_load: bool,
    /// An unbind of the PF, which waits for its VFs.
    pub(super) unbind: Option<JoinHandle<Result<()>>>,
}

impl Trial<'_, '_> {
    /// Firmware answers when the migration has ended, and mlx5_core does not wait so long.
    pub(super) fn late(&self, opcode: u16) -> Fault {
        // What firmware still uses, or is asked to destroy, is not known to be destroyed.
        match self.driver {
            Driver::Rust => [UNDESTROYED, "DESTROY_MKEY"].map(kmsg::expect),
            // It does not look, and goes on to the PD, which is in use.
            Driver::C => ["DEALLOC_PD", "DESTROY_MKEY"].map(kmsg::expect),
        };
        Fault::held(opcode)
    }

    /// A fault of a command that comes by itself.
    pub(super) fn fail(&mut self, side: &Side, fault: Fault) -> Result<Qemu> {
        side.arm(fault)?;
        self.guest.begin_migration(self.results)
    }

    /// The same of a command that is not about a VHCA, to the source's HCA.
    pub(super) fn fail_any(&mut self, fault: Fault) -> Result<Qemu> {
        self.source.arm_any(fault)?;
        self.guest.begin_migration(self.results)
    }

    /// A fault of the next command when the destination has the first image.
    pub(super) fn fail_in_precopy(&mut self, side: &Side, fault: Fault) -> Result<Qemu> {
        let destination = self.guest.begin_precopy(self.results)?;
        side.arm(fault)?;
        Ok(destination)
    }

    /// A fault of the source's tracker.
    pub(super) fn fail_report(&mut self, kind: u64) -> Result<Qemu> {
        self.source.arm_report(kind)?;
        self.guest.begin_migration(self.results)
    }

    /// The source's first SUSPEND is held when this returns: all images but the last were
    /// saved, and none can be saved before it is released.
    pub(super) fn stop_before_last_save(&mut self) -> Result<Qemu> {
        let destination = self.guest.begin_precopy(self.results)?;
        self.source.arm(Fault::held(opcode::SUSPEND_VHCA))?;
        self.guest.switch_over()?;
        self.source.wait_for_held(1)?;
        Ok(destination)
    }

    /// A fault of the destination's last LOAD. It is armed when the last SAVE is held and
    /// all other images are loaded.
    pub(super) fn before_last_load(&mut self, fault: Fault) -> Result<Qemu> {
        let mut destination = self.stop_before_last_save()?;
        self.source.arm(Fault::held(opcode::SAVE_VHCA_STATE))?;
        self.source.release()?;
        self.source.wait_for_held(1)?;
        let before = self
            .guest
            .wait_for_silence(self.results, &mut destination)?;
        self.destination.arm(fault.nth(before + 1))?;
        self.of_last_load = true;
        self.source.release()?;
        Ok(destination)
    }

    /// Begins to unbind the PF. Returns when the kernel wants the first VF back.
    pub(super) fn unbind(&mut self) {
        kmsg::expect(kmsg::PF_UNBIND);
        self.unbind = Some(thread::spawn(|| Pf::find()?.set_bound(false)));
        thread::sleep(UNBINDING);
    }

    /// A fault of the source when the migration is cancelled in stop-copy.
    pub(super) fn cancel_with(&mut self, fault: Fault) -> Result<Qemu> {
        let destination = self.guest.begin_switchover(self.results)?;
        self.source.arm(fault)?;
        self.guest.give_up()?;
        Ok(destination)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What fails, and when: a function for each fault of the table.

use super::{
    super::process::Qemu,
    trial::Trial, //
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
    kmsg, //
};
use anyhow::Result;
use mlx5_emu_regs as regs;
use std::{
    thread,
    time::Duration, //
};

/// `MLX5_CMD_STAT_INT_ERR`
const INTERNAL_ERR: u8 = 0x1;

/// What a slow LOAD takes.
const SLOW_LOAD: Duration = Duration::from_secs(5);

/// Until a reload of the PF waits for a command that is held.
const RELOADING: Duration = Duration::from_millis(500);

/// A command that the C driver sends to a VF that its guest resets: the driver learns of the
/// reset too late.
const C_LATE: [&str; 2] = ["QUERY_VHCA_MIGRATION_STATE", "SAVE_VHCA_STATE"];

/// Starts to migrate the guest, and has something go wrong. Returns the destination.
pub type Fail = fn(&mut Trial<'_, '_>) -> Result<Qemu>;

/// A function for each fault of the table.
pub const ALL: &[(&str, Fail)] = &[
    ("SAVE of the first image", |trial| {
        trial.fail(trial.source, save_error())
    }),
    ("SAVE of an incremental image", |trial| {
        trial.fail_in_precopy(trial.source, save_error())
    }),
    ("SAVE of the last image", |trial| {
        let destination = trial.stop_before_last_save()?;
        trial.source.arm(save_error())?;
        trial.source.release()?;
        Ok(destination)
    }),
    ("first image cannot be saved yet", |trial| {
        trial.fail(trial.source, Fault::fail(opcode::SAVE_VHCA_STATE))
    }),
    ("LOAD of the first image", |trial| {
        trial.fail(trial.destination, Fault::fail(opcode::LOAD_VHCA_STATE))
    }),
    ("LOAD of the first image takes 5 seconds", |trial| {
        let held = Fault::held(opcode::LOAD_VHCA_STATE);
        trial.destination.arm(held)?;
        let destination = trial.guest.begin_any_downtime(trial.results)?;
        trial.destination.wait_for_held(1)?;
        thread::sleep(SLOW_LOAD);
        // Firmware has not answered. So the ack comes after the LOAD, and the downtime
        // after the ack.
        trial.guest.check_not_ready(trial.results)?;
        trial.destination.wait_for_held(1)?;
        trial.destination.release()?;
        trial.guest.wait_for_ack(trial.results)?;
        Ok(destination)
    }),
    ("LOAD of an incremental image", |trial| {
        trial.fail_in_precopy(trial.destination, Fault::fail(opcode::LOAD_VHCA_STATE))
    }),
    ("LOAD of the last image", |trial| {
        trial.before_last_load(Fault::fail(opcode::LOAD_VHCA_STATE))
    }),
    ("SUSPEND of the source's initiator", |trial| {
        trial.fail(trial.source, Fault::fail(opcode::SUSPEND_VHCA))
    }),
    ("SUSPEND of the source's responder", |trial| {
        let fault = Fault::fail(opcode::SUSPEND_VHCA).nth(2);
        trial.fail(trial.source, fault)
    }),
    ("SUSPEND of the destination's initiator", |trial| {
        trial.fail(trial.destination, Fault::fail(opcode::SUSPEND_VHCA))
    }),
    ("SUSPEND of the destination's responder", |trial| {
        let fault = Fault::fail(opcode::SUSPEND_VHCA).nth(2);
        trial.fail(trial.destination, fault)
    }),
    ("RESUME of the source's responder", |trial| {
        trial.cancel_with(Fault::fail(opcode::RESUME_VHCA))
    }),
    ("RESUME of the source's initiator", |trial| {
        trial.cancel_with(Fault::fail(opcode::RESUME_VHCA).nth(2))
    }),
    ("RESUME of the destination's responder", |trial| {
        trial.fail(trial.destination, Fault::fail(opcode::RESUME_VHCA))
    }),
    ("RESUME of the destination's initiator", |trial| {
        let fault = Fault::fail(opcode::RESUME_VHCA).nth(2);
        trial.fail(trial.destination, fault)
    }),
    // QEMU starts the tracker first.
    ("CREATE_MKEY for the page tracker", |trial| {
        trial.fail_any(Fault::fail(opcode::CREATE_MKEY))
    }),
    ("CREATE_MKEY for the first SAVE", |trial| {
        trial.fail_any(Fault::fail(opcode::CREATE_MKEY).nth(2))
    }),
    ("CREATE_MKEY for the first LOAD", |trial| {
        // The source has what it needs when it saves.
        let held = Fault::held(opcode::SAVE_VHCA_STATE);
        let destination = trial.fail(trial.source, held)?;
        trial.source.wait_for_held(1)?;
        trial
            .destination
            .arm_any(Fault::fail(opcode::CREATE_MKEY))?;
        trial.source.release()?;
        Ok(destination)
    }),
    ("page tracker in error", |trial| {
        trial.fail_report(regs::TRACK_ERROR)
    }),
    ("page tracker says that it failed", |trial| {
        trial.fail_report(regs::TRACK_ERROR_MESSAGE)
    }),
    ("page tracker's QP fails", |trial| {
        trial.fail_report(regs::TRACK_QP_ERROR)
    }),
    ("page tracker's CQ fails", |trial| {
        trial.fail_report(regs::TRACK_CQ_ERROR)
    }),
    ("page tracker is silent", |trial| {
        trial.fail_report(regs::TRACK_STALL)
    }),
    ("SAVE of the first image is too late", |trial| {
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.fail(trial.source, late)
    }),
    ("SAVE of an incremental image is too late", |trial| {
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.fail_in_precopy(trial.source, late)
    }),
    ("SAVE of the last image is too late", |trial| {
        let destination = trial.stop_before_last_save()?;
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.source.arm(late)?;
        trial.source.release()?;
        Ok(destination)
    }),
    ("LOAD of the last image is too late", |trial| {
        let late = trial.late(opcode::LOAD_VHCA_STATE);
        trial.before_last_load(late)
    }),
    ("SUSPEND of the initiator is too late", |trial| {
        let late = trial.late(opcode::SUSPEND_VHCA);
        trial.fail(trial.source, late)
    }),
    ("page tracker reports too late", |trial| {
        let late = trial.late(opcode::MODIFY_GENERAL_OBJECT);
        trial.fail_any(late)
    }),
    ("DESTROY_MKEY is too late", |trial| {
        let late = trial.late(opcode::DESTROY_MKEY);
        trial.fail_any(late)
    }),
    ("guest resets its VF in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        if trial.driver == Driver::C {
            C_LATE.into_iter().for_each(kmsg::expect);
        }
        trial.guest.reset_vf(trial.results)?;
        Ok(destination)
    }),
    ("PF reloaded in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        Pf::find()?.reload()?;
        Ok(destination)
    }),
    ("PF reloaded in stop-copy", |trial| {
        let destination = trial.guest.begin_switchover(trial.results)?;
        // The reload has let the device run: QEMU's RESUME is refused, and so it resets it.
        kmsg::expect("RESUME_VHCA");
        Pf::find()?.reload()?;
        trial.guest.go_on_from_switchover()?;
        Ok(destination)
    }),
    ("PF reloaded in RESUMING", |trial| {
        let destination = trial.before_last_load(Fault::held(opcode::LOAD_VHCA_STATE))?;
        trial.destination.wait_for_held(1)?;
        let reload = thread::spawn(|| Pf::find()?.reload());
        thread::sleep(RELOADING);
        trial.destination.release()?;
        match reload.join() {
            Ok(done) => done?,
            Err(_) => anyhow::bail!("the reload panicked"),
        }
        Ok(destination)
    }),
    ("PF unbound in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        trial.unbind();
        trial.guest.switch_over()?;
        Ok(destination)
    }),
    ("PF unbound in stop-copy", |trial| {
        let destination = trial.guest.begin_switchover(trial.results)?;
        trial.unbind();
        trial.guest.go_on_from_switchover()?;
        Ok(destination)
    }),
    ("PF unbound in RESUMING", |trial| {
        let destination = trial.before_last_load(Fault::held(opcode::LOAD_VHCA_STATE))?;
        trial.of_last_load = false;
        trial.destination.wait_for_held(1)?;
        trial.unbind();
        trial.destination.release()?;
        Ok(destination)
    }),
];

/// A SAVE that fails. Bad resource state would not do: it says that a running VF cannot be
/// saved right now, and both drivers save all of it once it is stopped.
fn save_error() -> Fault {
    Fault::fail(opcode::SAVE_VHCA_STATE).status(INTERNAL_ERR, 0)
}

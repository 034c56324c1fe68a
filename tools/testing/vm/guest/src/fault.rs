// SPDX-License-Identifier: GPL-2.0

//! Faults of the emulated HCA: firmware commands that fail or are answered late, events that do
//! not come, or come late or twice, and page trackers that fail.
//!
//! They are armed through the PF's configuration space, so no VF need be open,
//! and they stay armed if a VF is reset.

use crate::{
    hca::Pf,
    kmsg,
    lie::Lie, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    os::unix::fs::FileExt,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::bdf::Bdf;

/// Commands (`MLX5_CMD_OP_*`).
pub mod opcode {
    /// Any.
    pub const ANY: u16 = mlx5_emu_regs::FAULT_ANY_OPCODE;
    /// Asks for capabilities.
    pub const QUERY_HCA_CAP: u16 = 0x100;
    /// Enables a function. A PF that is loaded enables itself, and then its VFs.
    pub const ENABLE_HCA: u16 = 0x104;
    /// Stops a side of a VHCA.
    pub const SUSPEND_VHCA: u16 = 0x115;
    /// Lets a side of a VHCA run.
    pub const RESUME_VHCA: u16 = 0x116;
    /// Asks for the size of a state.
    pub const QUERY_VHCA_MIGRATION_STATE: u16 = 0x117;
    /// Saves an image.
    pub const SAVE_VHCA_STATE: u16 = 0x118;
    /// Loads an image.
    pub const LOAD_VHCA_STATE: u16 = 0x119;
    /// Makes memory known to firmware.
    pub const CREATE_MKEY: u16 = 0x200;
    /// Takes it back.
    pub const DESTROY_MKEY: u16 = 0x202;
    /// Makes an event queue.
    pub const CREATE_EQ: u16 = 0x301;
    /// Destroys an event queue.
    pub const DESTROY_EQ: u16 = 0x302;
    /// Makes a completion queue.
    pub const CREATE_CQ: u16 = 0x400;
    /// Destroys a completion queue.
    pub const DESTROY_CQ: u16 = 0x401;
    /// Makes a queue pair.
    pub const CREATE_QP: u16 = 0x500;
    /// Destroys a queue pair.
    pub const DESTROY_QP: u16 = 0x501;
    /// Makes a flow table.
    pub const CREATE_FLOW_TABLE: u16 = 0x930;
    /// Makes a page tracker.
    pub const CREATE_GENERAL_OBJECT: u16 = 0xa00;
    /// Has a page tracker report.
    pub const MODIFY_GENERAL_OBJECT: u16 = 0xa01;
    /// Asks a page tracker for its state.
    pub const QUERY_GENERAL_OBJECT: u16 = 0xa02;
    /// Destroys a page tracker.
    pub const DESTROY_GENERAL_OBJECT: u16 = 0xa03;
    /// Takes a protection domain.
    pub const ALLOC_PD: u16 = 0x800;
    /// Gives a protection domain back.
    pub const DEALLOC_PD: u16 = 0x801;
    /// Gives a page of doorbells back.
    pub const DEALLOC_UAR: u16 = 0x803;

    /// Whether a command destroys something.
    pub fn is_destroy(opcode: u16) -> bool {
        [
            DESTROY_MKEY,
            DESTROY_EQ,
            DESTROY_CQ,
            DESTROY_QP,
            DESTROY_GENERAL_OBJECT,
            DEALLOC_PD,
            DEALLOC_UAR,
        ]
        .contains(&opcode)
    }
}

/// Events (`MLX5_EVENT_TYPE_*`).
pub mod event {
    /// A completion on a CQ.
    pub const COMP: u8 = 0x00;
    /// A CQ has failed.
    pub const CQ_ERROR: u8 = 0x04;
    /// A QP has failed.
    pub const WQ_CATAS_ERROR: u8 = 0x05;
    /// A command has ended.
    pub const CMD: u8 = 0x0a;
    /// A general object, such as a page tracker, has changed its state.
    pub const OBJECT_CHANGE: u8 = 0x27;
}

/// What happens to an event.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// It does not come.
    Lost,
    /// It comes twice.
    Twice,
    /// It comes later.
    Late(Duration),
}

/// `MLX5_CMD_STAT_BAD_RES_STATE_ERR`
const BAD_RES_STATE: u8 = 0x9;
/// How long to wait for a command to be held.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fault of a firmware command: by default, of the next one with this opcode, about any
/// VHCA.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    opcode: u16,
    vhca: u16,
    nth: u32,
    how: u64,
    delay: u64,
    times: u64,
}

impl Fault {
    /// It fails.
    pub fn fail(opcode: u16) -> Self {
        Self {
            opcode,
            vhca: regs::FAULT_ANY_VHCA,
            nth: 1,
            how: regs::fault_how(BAD_RES_STATE, 0),
            delay: 0,
            times: 1,
        }
    }

    /// It is carried out after `delay`.
    pub fn late(opcode: u16, delay: Duration) -> Self {
        Self {
            how: 0,
            delay: delay.as_millis() as u64,
            ..Self::fail(opcode)
        }
    }

    /// After `delay`.
    pub fn after(self, delay: Duration) -> Self {
        Self {
            delay: delay.as_millis() as u64,
            ..self
        }
    }

    /// It is carried out after [`Faults::release`].
    pub fn held(opcode: u16) -> Self {
        Self {
            how: 0,
            delay: regs::FAULT_HOLD,
            ..Self::fail(opcode)
        }
    }

    /// Only if it is about this VHCA; others are not counted.
    pub fn about(self, vhca: u16) -> Self {
        Self { vhca, ..self }
    }

    /// The `nth` one from now on; 1 is the next.
    pub fn nth(self, nth: u32) -> Self {
        Self { nth, ..self }
    }

    /// With this status and syndrome.
    pub fn status(self, status: u8, syndrome: u32) -> Self {
        Self {
            how: regs::fault_how(status, syndrome),
            ..self
        }
    }

    /// This many one after the other.
    pub fn times(self, times: u32) -> Self {
        Self {
            times: times.into(),
            ..self
        }
    }
}

/// The control capability of a PF.
pub struct Control(File);

impl Control {
    /// Opens it.
    pub fn open(pf: &Pf) -> Result<Self> {
        let config = OpenOptions::new()
            .read(true)
            .write(true)
            .open(pf.dir().join("config"))?;
        let control = Self(config);
        ensure!(
            control.read(regs::CONTROL_HEADER)? == regs::CONTROL_HEADER_VALUE,
            "the PF has no control capability"
        );
        Ok(control)
    }

    fn read(&self, register: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, regs::CONTROL + register)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn write(&self, register: u64, value: u32) -> Result<()> {
        let at = regs::CONTROL + register;
        Ok(self.0.write_all_at(&value.to_le_bytes(), at)?)
    }

    fn command(&self, command: u32, args: &[u64]) -> Result<()> {
        for (at, arg) in (regs::CONTROL_ARGS..).step_by(8).zip(args) {
            self.write(at, *arg as u32)?;
            self.write(at + 4, (arg >> 32) as u32)?;
        }
        self.write(regs::CONTROL_CMD, command)?;
        let status = self.read(regs::CONTROL_STATUS)?;
        ensure!(
            status == regs::STATUS_OK,
            "control command {command} {args:x?}: status {status}"
        );
        Ok(())
    }

    /// Arms a lie.
    pub fn lie(&self, args: [u64; 4]) -> Result<()> {
        self.command(regs::CMD_ARM_LIE, &args)
    }

    /// Has the function with this VHCA, or the PF with 0, say that it is disabled, until its driver
    /// begins anew.
    pub fn disable_nic(&self, vhca: u16) -> Result<()> {
        self.command(regs::CMD_DISABLE_NIC, &[vhca.into()])
    }

    /// Plugs the wire into the PF's port, or pulls it.
    pub fn plug(&self, plugged: bool) -> Result<()> {
        self.command(regs::CMD_SET_LINK, &[plugged.into()])
    }
}

/// What makes faults through the control capability. What it has armed is disarmed when it
/// is dropped.
pub struct Faults {
    control: Control,
    /// The number of faults that had fired before.
    fired: u32,
}

/// The VHCA of a VF.
pub fn vhca(vf: Bdf) -> Result<u16> {
    let vfs = Pf::find()?.vfs()?;
    let number = vfs.iter().position(|other| *other == vf);
    Ok(number.context("not a VF of the PF")? as u16 + 1)
}

impl Faults {
    /// Begins, with none.
    pub fn open() -> Result<Self> {
        Self::of(&Pf::find()?)
    }

    /// Begins, with none of the HCA that has this PF.
    pub fn of(pf: &Pf) -> Result<Self> {
        let control = Control::open(pf)?;
        let fired = control.read(regs::CONTROL_FIRED)?;
        Ok(Self { control, fired })
    }

    /// Arms a fault. Until the test ends, a message of mlx5_core about a failed command does
    /// not fail the test, unless the fault is for any command.
    pub fn arm(&self, fault: Fault) -> Result<()> {
        if fault.how != 0 && fault.opcode != opcode::ANY {
            kmsg::expect(&format!("({:#x})", fault.opcode));
        }
        let what = regs::fault_what(fault.opcode, fault.vhca, fault.nth);
        let args = [what, fault.how, fault.delay, fault.times];
        self.control.command(regs::CMD_ARM_FAULT, &args)
    }

    /// Has something happen to the `nth` event of a type from now on; 1 is the next.
    pub fn arm_event(&self, kind: u8, nth: u32, effect: Event) -> Result<()> {
        self.arm_events(kind, nth, effect, 1)
    }

    /// The same with all events of a type.
    pub fn arm_all_events(&self, kind: u8, effect: Event) -> Result<()> {
        self.arm_events(kind, 1, effect, 0)
    }

    fn arm_events(&self, kind: u8, nth: u32, effect: Event, times: u64) -> Result<()> {
        let (how, late) = match effect {
            Event::Lost => (regs::EVENT_LOST, Duration::ZERO),
            Event::Twice => (regs::EVENT_TWICE, Duration::ZERO),
            Event::Late(late) => (regs::EVENT_LATE, late),
        };
        let what = regs::fault_what(kind.into(), 0, nth);
        let args = [what, how, late.as_millis() as u64, times];
        self.control.command(regs::CMD_ARM_EVENT, &args)
    }

    /// Arms a lie.
    pub fn lie(&self, lie: &Lie) -> Result<()> {
        self.control.lie(lie.args())
    }

    /// Makes the next report of a VHCA's page tracker fail: `kind` is one of `TRACK_*`.
    pub fn arm_report(&self, vhca: u16, kind: u64) -> Result<()> {
        self.control
            .command(regs::CMD_TRACK_FAULT, &[kind, vhca.into()])
    }

    /// Has the VF with this VHCA say that it is disabled, until its driver begins anew.
    pub fn disable_nic(&self, vhca: u16) -> Result<()> {
        self.control.disable_nic(vhca)
    }

    /// Disarms all faults, and releases what is held.
    pub fn disarm(&self) -> Result<()> {
        self.control.command(regs::CMD_DISARM_FAULTS, &[])
    }

    /// Has all held commands answered.
    pub fn release(&self) -> Result<()> {
        self.control.command(regs::CMD_RELEASE, &[])
    }

    /// The last command that has met a fault.
    pub fn last(&self) -> Result<u16> {
        Ok(self.control.read(regs::CONTROL_LAST)? as u16)
    }

    /// How many commands, reports and events have met a fault since this was opened.
    pub fn fired(&self) -> Result<u32> {
        Ok(self
            .control
            .read(regs::CONTROL_FIRED)?
            .wrapping_sub(self.fired))
    }

    /// How many faults are still to fire.
    pub fn armed(&self) -> Result<u32> {
        self.control.read(regs::CONTROL_ARMED)
    }

    /// Waits until `count` commands are held.
    pub fn wait_for_held(&self, count: u32) -> Result<()> {
        let begin = Instant::now();
        loop {
            let held = self.control.read(regs::CONTROL_HELD)?;
            if held == count {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{held} commands are held");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // A test that ends early must not leave faults to the next one.
        let _ = self.disarm();
    }
}

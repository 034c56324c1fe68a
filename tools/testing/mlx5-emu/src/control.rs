// SPDX-License-Identifier: GPL-2.0

//! The control capability: registers in the configuration space of the PF
//! through which a test arms faults while no VF is open, pulls the wire, and has a function
//! say that it is disabled.

use crate::{
    faults,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
};
use mlx5_emu_regs as regs;

/// What was written to the registers.
#[derive(Clone, Debug, Default)]
pub struct Control {
    args: [u64; 4],
    status: u32,
}

/// The argument that is at `offset`, and how far its half is shifted.
fn argument(offset: u64) -> Option<(usize, u64)> {
    let at = offset.checked_sub(regs::CONTROL_ARGS)?;
    (at < 32).then_some(((at / 8) as usize, at % 8 * 8))
}

impl Hca {
    /// Reads 4 bytes of the capability.
    pub fn control_read(&self, offset: u64) -> u32 {
        if let Some((i, shift)) = argument(offset) {
            return (self.control.args[i] >> shift) as u32;
        }
        match offset {
            regs::CONTROL_STATUS => self.control.status,
            regs::CONTROL_FIRED => self.faults.fired as u32,
            regs::CONTROL_ARMED => (self.faults.armed() + self.lies.armed()) as u32,
            regs::CONTROL_HELD => self.held() as u32,
            regs::CONTROL_LAST => self.faults.last.into(),
            _ => 0,
        }
    }

    /// Has a function say that it is disabled.
    fn disable_nic(&mut self, function: u64) -> u32 {
        let function = usize::try_from(function).ok();
        match function.and_then(|number| self.functions.get_mut(number)) {
            Some(function) => {
                function.initseg.disable_nic();
                regs::STATUS_OK
            }
            None => regs::STATUS_BAD_ARG,
        }
    }

    /// Writes 4 bytes of the capability.
    pub fn control_write(&mut self, host: &mut dyn Host, offset: u64, value: u32) {
        if let Some((i, shift)) = argument(offset) {
            let arg = &mut self.control.args[i];
            *arg = *arg & !(0xffff_ffff << shift) | (u64::from(value) << shift);
        } else if offset == regs::CONTROL_CMD {
            let args = self.control.args;
            self.control.status = match value {
                regs::CMD_SET_LINK => {
                    self.set_link(host, args[0] != 0);
                    regs::STATUS_OK
                }
                regs::CMD_DISABLE_NIC => self.disable_nic(args[0]),
                _ if faults::is_command(value) => {
                    self.fault_command(host, FunctionId::PF, value, args)
                }
                _ => regs::STATUS_BAD_CMD,
            };
        }
    }
}

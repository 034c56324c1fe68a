// SPDX-License-Identifier: GPL-2.0

//! Work for a device that has no guest to make it work: an emulated ConnectX VF
//! does what its registers tell it to.

use crate::{device::Device, error::Error};
use mlx5_emu_regs as regs;

/// Work of a source during pre-copy.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Bytes of new objects that it creates, once, when the destination has all
    /// initial bytes.
    pub create_bytes: u64,
    /// Bytes that it changes in each round.
    pub change_bytes: u64,
}

fn command(device: &Device, block: u64, command: u32, args: [u64; 2]) -> Result<(), Error> {
    for (i, arg) in (0..).zip(args) {
        device.write_at(block + regs::ARGS + i * 8, &arg.to_le_bytes())?;
    }
    device.write_at(block + regs::CMD, &command.to_le_bytes())?;
    match read32(device, block + regs::STATUS)? {
        regs::STATUS_OK => Ok(()),
        status => Err(Error::Workload {
            bdf: device.bdf(),
            status,
        }),
    }
}

fn read32(device: &Device, at: u64) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    device.read_at(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

impl Workload {
    /// Has `device` work. `round` counts from 0.
    pub fn step(&self, device: &Device, round: u32) -> Result<(), Error> {
        device.enable_bus_master()?;
        let block = device.region(0)?.offset + regs::BLOCK;
        if read32(device, block + regs::MAGIC)? != regs::MAGIC_VALUE {
            return Err(Error::NoWorkload(device.bdf()));
        }
        let pages = |bytes: u64| bytes.div_ceil(regs::PAGE);
        if round == 0 && self.create_bytes > 0 {
            let args = [pages(self.create_bytes), 0];
            command(device, block, regs::CMD_CREATE_STATE, args)?;
        }
        if self.change_bytes > 0 {
            let args = [pages(self.change_bytes), u64::from(round)];
            command(device, block, regs::CMD_CHANGE_STATE, args)?;
        }
        Ok(())
    }
}

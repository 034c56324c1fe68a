// SPDX-License-Identifier: GPL-2.0

//! Work for a device that has no guest to make it work: an emulated ConnectX VF
//! does what its registers tell it to.

use crate::{
    device::Device,
    error::Error, //
};
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

fn read32(device: &Device, at: u64) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    device.read_at(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Where the registers are, of a device that has them.
fn block(device: &Device) -> Result<u64, Error> {
    let region = device.region(0)?;
    let missing = || Error::NoWorkload(device.address());
    if region.size < regs::BLOCK + regs::BLOCK_LEN {
        return Err(missing());
    }
    device.enable_bus_master()?;
    let block = region.offset + regs::BLOCK;
    if read32(device, block + regs::MAGIC)? != regs::MAGIC_VALUE {
        return Err(missing());
    }
    Ok(block)
}

/// Whether a device has the registers.
pub fn is_available(device: &Device) -> bool {
    block(device).is_ok()
}

fn command(device: &Device, command: u32, args: &[u64]) -> Result<(), Error> {
    let block = block(device)?;
    for (i, arg) in (0..).zip(args) {
        device.write_at(block + regs::ARGS + i * 8, &arg.to_le_bytes())?;
    }
    device.write_at(block + regs::CMD, &command.to_le_bytes())?;
    match read32(device, block + regs::STATUS)? {
        regs::STATUS_OK => Ok(()),
        status => Err(Error::Workload {
            device: device.address(),
            status,
        }),
    }
}

/// A digest of all of `device`'s state that migrates.
pub fn digest(device: &Device) -> Result<u64, Error> {
    command(device, regs::CMD_DIGEST, &[])?;
    let mut bytes = [0; 8];
    device.read_at(block(device)? + regs::DIGEST, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Has `device` write to `pages` pages somewhere in `length` bytes from `iova` on.
pub fn scatter(device: &Device, iova: u64, length: u64, pages: u64) -> Result<(), Error> {
    command(device, regs::CMD_DMA_SCATTER, &[iova, length, pages])
}

/// Has `device` write `length` bytes from `iova` on.
pub fn write(device: &Device, iova: u64, length: u64) -> Result<(), Error> {
    command(device, regs::CMD_DMA_WRITE, &[iova, length])
}

impl Workload {
    /// Has `device` work, unless there are no bytes to create or change. `round`
    /// counts from 0.
    pub fn step(&self, device: &Device, round: u32) -> Result<(), Error> {
        let pages = |bytes: u64| bytes.div_ceil(regs::PAGE);
        if round == 0 && self.create_bytes > 0 {
            command(
                device,
                regs::CMD_CREATE_STATE,
                &[pages(self.create_bytes), 0],
            )?;
        }
        if self.change_bytes > 0 {
            let args = [pages(self.change_bytes), u64::from(round)];
            command(device, regs::CMD_CHANGE_STATE, &args)?;
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The ways in which user space resets a VF.

use anyhow::{
    bail,
    Result, //
};
use std::{
    fs,
    io,
    path::PathBuf, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    sysfs,
    uapi, //
};

/// Where the list of capabilities begins, in configuration space.
const CAPABILITIES: u64 = 0x34;
/// `PCI_CAP_ID_EXP`.
const EXPRESS: u8 = 0x10;
/// `PCI_EXP_DEVCTL`, and its bit for a function level reset.
const DEVICE_CONTROL: u64 = 8;
const FUNCTION_RESET: u16 = 1 << 15;

/// A way to reset a VF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// VFIO_DEVICE_RESET.
    Ioctl,
    /// The file `reset` in sysfs.
    Sysfs,
    /// The bit in the configuration space that VFIO shows.
    Bit,
}

impl Way {
    /// All.
    pub const ALL: [Self; 3] = [Self::Ioctl, Self::Sysfs, Self::Bit];

    /// Resets the VF at `bdf`, which is open as `device`. `EAGAIN` if another reset
    /// is under way.
    pub fn reset(self, bdf: Bdf, device: &Device) -> Result<()> {
        match self {
            Self::Ioctl => Ok(device.reset()?),
            Self::Sysfs => Ok(by_sysfs(bdf)?),
            Self::Bit => by_bit(device),
        }
    }
}

/// Resets a function, open or not.
pub fn by_sysfs(bdf: Bdf) -> io::Result<()> {
    let file: PathBuf = sysfs::device_dir(bdf).join("reset");
    fs::write(file, "1")
}

/// Resets a function by FLR, whatever else there is.
pub fn by_flr(bdf: Bdf) -> io::Result<()> {
    fs::write(sysfs::device_dir(bdf).join("reset_method"), "flr")?;
    by_sysfs(bdf)
}

fn by_bit(device: &Device) -> Result<()> {
    let config = device.region(uapi::CONFIG_REGION)?.offset;
    let read = |at: u64| -> Result<u8> {
        let mut byte = [0];
        device.read_at(config + at, &mut byte)?;
        Ok(byte[0])
    };
    let mut at = u64::from(read(CAPABILITIES)?);
    while at != 0 && read(at)? != EXPRESS {
        at = u64::from(read(at + 1)?);
    }
    if at == 0 {
        bail!("no PCI Express capability");
    }
    let control = config + at + DEVICE_CONTROL;
    let mut bytes = [0; 2];
    device.read_at(control, &mut bytes)?;
    let value = u16::from_le_bytes(bytes) | FUNCTION_RESET;
    Ok(device.write_at(control, &value.to_le_bytes())?)
}

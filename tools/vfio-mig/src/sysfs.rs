// SPDX-License-Identifier: GPL-2.0

//! What sysfs knows of a device.

use crate::{address::Address, error::Error};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of a device.
pub fn device_dir(device: impl Into<Address>) -> PathBuf {
    let device = device.into();
    let bus = match device {
        Address::Pci(_) => "pci",
        Address::Mdev(_) => "mdev",
    };
    Path::new("/sys/bus")
        .join(bus)
        .join("devices")
        .join(device.to_string())
}

fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The driver that a device is bound to.
pub fn driver(device: impl Into<Address>) -> Result<String, Error> {
    let device = device.into();
    let path = device_dir(device);
    if !path.exists() {
        return Err(Error::NoDevice(device));
    }
    link_name(&path.join("driver")).ok_or(Error::NoDriver { device, path })
}

/// The IOMMU group of a device.
pub fn iommu_group(device: impl Into<Address>) -> Result<String, Error> {
    let device = device.into();
    link_name(&device_dir(device).join("iommu_group")).ok_or(Error::NoIommuGroup(device))
}

/// The VFIO device node, where the kernel has them.
pub fn cdev(device: Address) -> Option<PathBuf> {
    let entry = fs::read_dir(device_dir(device).join("vfio-dev"))
        .ok()?
        .next()?
        .ok()?;
    let node = Path::new("/dev/vfio/devices").join(entry.file_name());
    node.exists().then_some(node)
}

/// Whether a VFIO driver is bound: only those have the folder.
pub fn is_vfio(device: Address) -> bool {
    device_dir(device).join("vfio-dev").exists()
}

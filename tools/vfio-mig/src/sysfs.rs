// SPDX-License-Identifier: GPL-2.0

//! What sysfs knows of a device.

use crate::{bdf::Bdf, error::Error};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of a device.
pub fn device_dir(bdf: Bdf) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(bdf.to_string())
}

fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The driver that a device is bound to.
pub fn driver(bdf: Bdf) -> Result<String, Error> {
    let path = device_dir(bdf);
    if !path.exists() {
        return Err(Error::NoDevice(bdf));
    }
    link_name(&path.join("driver")).ok_or(Error::NoDriver { bdf, path })
}

/// The IOMMU group of a device.
pub fn iommu_group(bdf: Bdf) -> Result<String, Error> {
    link_name(&device_dir(bdf).join("iommu_group")).ok_or(Error::NoIommuGroup(bdf))
}

/// The VFIO device node, where the kernel has them.
pub fn cdev(bdf: Bdf) -> Option<PathBuf> {
    let entry = fs::read_dir(device_dir(bdf).join("vfio-dev"))
        .ok()?
        .next()?
        .ok()?;
    let node = Path::new("/dev/vfio/devices").join(entry.file_name());
    node.exists().then_some(node)
}

/// Whether a VFIO driver is bound: only those have the folder.
pub fn is_vfio(bdf: Bdf) -> bool {
    device_dir(bdf).join("vfio-dev").exists()
}

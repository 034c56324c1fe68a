// SPDX-License-Identifier: GPL-2.0

//! What sysfs knows of a device.

use crate::{
    address::Address,
    error::Error,
    host::{
        binding,
        Host, //
    },
    text, //
};
use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
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
        return Err(Error::NoDevice {
            device,
            vfio: vfio_devices(),
        });
    }
    let name = link_name(&path.join("driver"));
    name.map(|name| text::shown(&name))
        .ok_or_else(|| Error::NoDriver {
            device,
            how: how_to_bind(&Host::this(), device),
        })
}

/// What binds a device that has no driver.
fn how_to_bind(host: &Host, device: Address) -> String {
    let dir = device_dir(device);
    let by_hand = || match device {
        Address::Pci(_) => format!(
            "write the driver's name to {}/driver_override and {device} to \
             /sys/bus/pci/drivers_probe",
            dir.display()
        ),
        Address::Mdev(_) => format!("write {device} to /sys/bus/mdev/drivers/DRIVER/bind"),
    };
    binding::command(host, device).unwrap_or_else(by_hand)
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
    has_vfio_driver(&device_dir(device))
}

fn has_vfio_driver(device: &Path) -> bool {
    device.join("vfio-dev").exists()
}

/// All devices that a VFIO driver is bound to.
pub fn vfio_devices() -> Vec<Address> {
    vfio_devices_of(Path::new("/sys/bus"))
}

fn vfio_devices_of(buses: &Path) -> Vec<Address> {
    let mut devices: Vec<Address> = ["pci", "mdev"]
        .iter()
        .filter_map(|bus| fs::read_dir(buses.join(bus).join("devices")).ok())
        .flat_map(Iterator::flatten)
        .filter(|entry| has_vfio_driver(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    devices.sort();
    devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{
        Fake,
        PF,
        VFS, //
    };

    #[test]
    fn a_device_without_a_driver_is_told_what_binds_one() {
        let fake = Fake::new("how-to-bind");
        let how = |device: &str| how_to_bind(&fake.host(), device.parse().unwrap());
        assert!(how(VFS[0]).contains(&format!("`vfio-mig bind {}`", VFS[0])));
        assert!(how(PF).contains(&format!("/sys/bus/pci/devices/{PF}/driver_override")));
        let mdev = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        assert!(how(mdev).contains("/sys/bus/mdev/drivers/"));
    }

    #[test]
    fn devices_with_a_vfio_driver_are_found() {
        let buses = std::env::temp_dir().join(format!("vfio-mig-bus-{}", std::process::id()));
        let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        for path in [
            "pci/devices/0000:01:00.3/vfio-dev".to_string(),
            "pci/devices/0000:01:00.2/vfio-dev".to_string(),
            "pci/devices/0000:01:00.4/net".to_string(),
            format!("mdev/devices/{uuid}/vfio-dev"),
        ] {
            fs::create_dir_all(buses.join(path)).unwrap();
        }
        let found: Vec<String> = vfio_devices_of(&buses)
            .iter()
            .map(Address::to_string)
            .collect();
        assert_eq!(found, ["0000:01:00.2", "0000:01:00.3", uuid]);
        fs::remove_dir_all(&buses).unwrap();
        assert!(vfio_devices_of(&buses).is_empty());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! VFIO devices and their migration, from user space.
//!
//! [`device::Device`] opens a device, through iommufd where the kernel has it
//! and through the legacy container otherwise. [`migrate`] moves the state of
//! one device to another, [`file`] to a file and from there, [`precopy`] most of it while the device runs. All `unsafe` is in [`uapi`] and [`memory`].

pub mod bdf;
pub mod device;
pub mod error;
pub mod file;
pub mod iommu;
pub mod memory;
pub mod migrate;
pub mod precopy;
pub mod state;
pub mod stream;
pub mod sysfs;
pub mod uapi;
pub mod workload;

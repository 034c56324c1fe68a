// SPDX-License-Identifier: GPL-2.0

//! VFIO devices and their migration, from user space. [`device::Device`] opens a device,
//! through iommufd if the kernel has it and through the legacy container otherwise.
//! [`migrate`] moves the device's state by stop-copy to a [`target`], and [`precopy`] moves
//! it while the device runs. [`file`] saves and loads states. [`conformance`] tests drivers;
//! [`stress`] and [`fuzz`] try to break them. All `unsafe` is in [`uapi`], [`memory`] and
//! [`process`].

// Printing is up to the command line.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod address;
pub mod bdf;
pub mod bounded;
pub mod conformance;
pub mod device;
pub mod doctor;
pub mod endpoint;
pub mod error;
pub mod file;
pub mod fuzz;
pub mod holders;
pub mod host;
pub mod hwtest;
pub mod interrupt;
pub mod iommu;
pub mod memory;
pub mod migratable;
pub mod migrate;
pub mod output;
pub mod precopy;
pub mod process;
pub mod reason;
pub mod remote;
pub mod state;
pub mod stream;
pub mod stress;
pub mod sysfs;
pub mod target;
pub mod text;
pub mod text_file;
pub mod uapi;
pub mod wait;
pub mod workload;

/// Version of the objects that `--json` prints. It changes if a key is removed, or has another
/// meaning or type; new keys may come without a new version.
pub const JSON_VERSION: u32 = 1;

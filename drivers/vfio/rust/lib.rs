// SPDX-License-Identifier: GPL-2.0

//! Abstractions for VFIO PCI variant drivers.
//!
//! A variant driver is the generic `vfio_pci_core` plus whatever one device
//! needs on top; here that is migration. The driver implements
//!
//! - [`pci::Driver`]: what it is bound to, and its life cycle,
//! - [`migration::Migration`]: the arcs of the migration state machine, one at a
//!   time,
//! - [`file::DataFile`]: read, write and poll of the migration data fd,
//! - [`dirty_log::DirtyLog`]: logging of what the device writes to memory,
//!
//! and everything else (regions, interrupts, reset, IOMMU) goes to
//! `vfio_pci_core` unchanged.
//!
//! The module is compiled into each driver that uses it: VFIO itself is
//! modular, so the abstractions cannot live in the built-in `kernel` crate.
//! It knows nothing of any device.
//!
//! C headers: `include/linux/vfio.h`, `include/linux/vfio_pci_core.h`,
//! `include/uapi/linux/vfio.h`.

#![allow(unsafe_code)]

pub(crate) mod bar;
mod bindings;
pub(crate) mod coherent;
pub(crate) mod completion;
pub(crate) mod dirty_log;
pub(crate) mod dma;
pub(crate) mod errno;
pub(crate) mod file;
pub(crate) mod log;
pub(crate) mod migratable;
pub(crate) mod migration;
pub(crate) mod pages;
pub(crate) mod pci;
pub(crate) mod session;
pub(crate) mod trace;
mod walk;
pub(crate) mod workqueue;

// SPDX-License-Identifier: GPL-2.0

//! Abstractions for VFIO PCI variant drivers.
//!
//! A variant driver adds to the generic `vfio_pci_core` what one kind of device
//! needs: here, migration. The driver implements
//!
//! - [`pci::Driver`]: the devices that it is bound to, and its life cycle,
//! - [`migration::Migration`]: the arcs of the migration state machine, one at a
//!   time,
//! - [`file::DataFile`], or [`session::Stream`] if that is enough: the migration
//!   data fd,
//! - [`dirty_log::DirtyLog`]: logging of the device's writes to memory.
//!
//! [`migratable::Migratable`] owns the state, the state lock and deferred resets. `vfio_pci_core`
//! does everything else: interrupts, IOMMU, and the requests that a driver has no hook for
//! ([`region`], [`ioctl`]).
//!
//! The crate is a module of its own, `vfio_rust`: VFIO itself is modular, so the abstractions
//! cannot live in the built-in `kernel` crate. They contain nothing that is specific to one kind of
//! device.
//!
//! All `unsafe` code of a driver's VFIO side is in here. Each SAFETY comment
//! argues from the `# Invariants` of a type or the `# Safety` of a function.
//!
//! C headers: `include/linux/vfio.h`, `include/linux/vfio_pci_core.h`,
//! `include/uapi/linux/vfio.h`.

#![allow(unsafe_code)]
// Types with `len()` need no `is_empty()`: the length is only used to copy or to map.
#![allow(clippy::len_without_is_empty, clippy::new_without_default)]

pub mod bar;
mod bindings;
pub mod dirty_log;
pub mod dirty_pages;
pub mod file;
pub mod ioctl;
pub mod kernel;
pub mod migratable;
pub mod migration;
mod module;
pub mod pci;
pub mod region;
pub mod session;
pub mod trace;
mod walk;

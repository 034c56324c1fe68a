// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate lacks.
//!
//! Files are named and laid out as those in `rust/kernel`, so that a patch to the kernel crate only
//! moves them. Nothing in this module depends on VFIO.

pub mod device;
pub mod dma;
pub mod error;
pub mod fs;
pub mod page;
pub mod pci;
pub mod sync;
pub mod task;
pub mod uaccess;

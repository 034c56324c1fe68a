// SPDX-License-Identifier: GPL-2.0

//! Generated bindings of the VFIO headers, on top of the kernel crate's.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    rustdoc::all,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    improper_ctypes,
    unused_imports
)]

pub use kernel::bindings::*;
use kernel::ffi;
use pin_init::MaybeZeroable;

include!(env!("VFIO_RUST_BINDINGS"));

/// Does nothing, as the header's function in a kernel without bitmaps: that is inline, so bindgen
/// leaves it out.
#[cfg(not(CONFIG_IOMMUFD_DRIVER))]
#[inline(always)]
pub unsafe fn iova_bitmap_set(_bitmap: *mut iova_bitmap, _iova: ffi::c_ulong, _length: usize) {}

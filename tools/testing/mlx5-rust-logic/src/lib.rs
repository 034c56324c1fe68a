// SPDX-License-Identifier: GPL-2.0

//! The parts of the driver that have no kernel types in them.
//!
//! The very files of the driver, so that what is tested here is what runs
//! there. Everything in them is private to the driver; hence the tests are
//! modules of this crate instead of `tests/`.

#![cfg_attr(not(test), allow(dead_code))]

#[path = "../../../../drivers/vfio/pci/mlx5_rust/mlx5/bits.rs"]
mod bits;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/stream.rs"]
mod stream;

#[cfg(test)]
mod bits_tests;
#[cfg(test)]
mod stream_tests;

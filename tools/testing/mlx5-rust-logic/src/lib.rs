// SPDX-License-Identifier: GPL-2.0

//! The parts of the driver, of its abstractions and of the skeletons that have no kernel types
//! in them. These are the files of the kernel side themselves, so that the code that is tested
//! here is the code that runs there. Tests by example are in those files, and run in the kernel
//! as well; tests that need `std` are here. Everything in them is private; hence the tests are
//! modules of this crate instead of `tests/`, and so is what a fuzzer calls.

#![cfg_attr(not(test), allow(dead_code))]

#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/bits.rs"]
mod bits;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/saving/buffers.rs"]
mod buffers;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/saving/chunks.rs"]
mod chunks;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/cqe.rs"]
mod cqe;
#[path = "../../../../drivers/vfio/rust/dirty_pages.rs"]
mod dirty_pages;
#[path = "../../../../samples/vfio-rust/skeletons/firmware/mailbox.rs"]
mod mailbox;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/ownership.rs"]
mod ownership;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/saving/precopy.rs"]
mod precopy;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/remainder.rs"]
mod remainder;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/report.rs"]
mod report;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/stream.rs"]
mod stream;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/track_limits.rs"]
mod track_limits;
#[path = "../../../../drivers/vfio/rust/walk.rs"]
mod walk;

pub mod fuzz;

#[cfg(test)]
mod bits_compile_tests;
#[cfg(test)]
mod bits_tests;
#[cfg(test)]
mod buffers_tests;
#[cfg(test)]
mod chunks_tests;
#[cfg(test)]
mod cqe_tests;
#[cfg(test)]
mod dirty_pages_tests;
#[cfg(test)]
mod mailbox_tests;
#[cfg(test)]
mod precopy_tests;
#[cfg(test)]
mod remainder_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod track_limits_tests;

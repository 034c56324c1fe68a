// SPDX-License-Identifier: GPL-2.0

//! Our drivers.

/// Their modules. Test machines load them, and unload them in the end.
pub const OURS: [&str; 2] = ["mlx5_vfio_pci_rust", "vfio_ivshmem_rust"];
/// What they stand on.
pub const ABSTRACTIONS: &str = "vfio_rust";

// SPDX-License-Identifier: GPL-2.0

//! The slot of the first HCA, which a machine can take it out of and put it back into.

/// QEMU's name of the first HCA.
pub const HCA: &str = "hca";

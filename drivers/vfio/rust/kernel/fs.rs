// SPDX-License-Identifier: GPL-2.0

//! Files.

pub mod anon_inode;

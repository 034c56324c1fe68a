// SPDX-License-Identifier: GPL-2.0

//! User memory.

pub mod cursor;

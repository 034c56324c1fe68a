// SPDX-License-Identifier: GPL-2.0

//! Synchronisation.

pub mod completion;
pub mod poll;
pub mod turns;
pub mod wait;

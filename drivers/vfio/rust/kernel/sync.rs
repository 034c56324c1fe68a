// SPDX-License-Identifier: GPL-2.0

//! Synchronisation.

pub mod changes;
pub mod completion;
pub mod turns;
pub mod wait;

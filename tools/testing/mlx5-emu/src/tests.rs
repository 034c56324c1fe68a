// SPDX-License-Identifier: GPL-2.0

//! The model on a machine made of a hash map.

mod commands;
mod driver;
mod faults;
mod queue;
mod state;
mod track;

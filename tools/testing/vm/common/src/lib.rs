// SPDX-License-Identifier: GPL-2.0

//! What a test machine's init and the host agree on.

pub mod c_driver;
pub mod config_space;
pub mod documented;
pub mod drivers;
pub mod faults;
pub mod judge;
pub mod kernel;
pub mod names;
pub mod scenario;
pub mod scenarios;
pub mod slot;

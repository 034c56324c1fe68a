// SPDX-License-Identifier: GPL-2.0

//! QEMU, as the user of our VFs, and the guests that it runs.

mod config;
pub mod faults;
mod figures;
mod guest;
mod process;
mod trace;
mod trial;

pub use config::{
    Access,
    Assigned,
    Common,
    Config,
    Program, //
};
pub use guest::{
    Channel,
    Death,
    Guest, //
};
pub use trial::{
    End,
    Place, //
};

// SPDX-License-Identifier: GPL-2.0

//! QEMU, as the user of our VFs, and the guests that it runs.

mod config;
mod figures;
mod guest;
mod process;
mod qmp;
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
pub use process::Qemu;
pub use trial::Place;

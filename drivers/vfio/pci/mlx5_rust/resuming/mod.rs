// SPDX-License-Identifier: GPL-2.0

//! Loading a device.

mod file;
mod intake;
pub(crate) mod session;

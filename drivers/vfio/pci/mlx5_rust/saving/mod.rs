// SPDX-License-Identifier: GPL-2.0

//! Saving a device: the session, and the pure logic behind it.

pub(crate) mod buffers;
pub(crate) mod chunks;
mod commands;
mod file;
mod idle;
mod outgoing;
pub(crate) mod precopy;
mod precopy_info;
mod record;
pub(crate) mod session;

// SPDX-License-Identifier: GPL-2.0

//! Saving a device: the session, and the pure logic behind it.

pub(crate) mod buffers;
pub(crate) mod chunks;
mod outgoing;
mod part;
pub(crate) mod precopy;
pub(crate) mod session;

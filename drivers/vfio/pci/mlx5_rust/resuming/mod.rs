// SPDX-License-Identifier: GPL-2.0

//! Loading a device.

pub(crate) mod session;

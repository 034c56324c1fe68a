// SPDX-License-Identifier: GPL-2.0

//! Pages.

pub mod runs;

// SPDX-License-Identifier: GPL-2.0

//! Direct memory access (DMA).

pub mod streaming;
pub mod words;

// SPDX-License-Identifier: GPL-2.0

//! The time that commands took on an adapter.
//!
//! From a recording of mlx5_core of 2016 while it probed a ConnectX-4 with firmware
//! 14.12.1220. Fourteen CREATE_EQ were answered by events, after 145 to 188 us. For all
//! other commands the driver looked every ten milliseconds, so that their times are upper
//! bounds: but for INIT_HCA and a list of many pages, they say nothing.

use crate::ifc;

/// Any command: the median of fourteen CREATE_EQ is 153 us.
const COMMAND_NS: u64 = 150_000;
/// INIT_HCA: 189 ms.
const INIT_HCA_NS: u64 = 189_000_000;
/// A page that is given to firmware: 12,868 pages took 27 ms.
const GIVEN_PAGE_NS: u64 = 2_000;
/// `op_mod` of the MANAGE_PAGES that gives pages.
const GIVE: u64 = 1;

/// Time of a command, in nanoseconds.
pub fn recorded_ns(input: &[u8]) -> u64 {
    match ifc::OPCODE.get(input) as u16 {
        ifc::INIT_HCA => INIT_HCA_NS,
        ifc::MANAGE_PAGES if ifc::OP_MOD.get(input) == GIVE => {
            COMMAND_NS + ifc::NUM_PAGES.get(input) * GIVEN_PAGE_NS
        }
        _ => COMMAND_NS,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! alloc_flow_counter_in and the commands about its counter.

use super::{
    field,
    Field, //
};

/// alloc_flow_counter_in: `flow_counter_bulk_log_size` and `flow_counter_bulk`.
pub const BULK: Field = field(0xe, 3, 13);
/// alloc_flow_counter_out, dealloc_flow_counter_in: `flow_counter_id`.
pub const ID: Field = field(0x8, 0, 32);
/// flow_counter_list: `flow_counter_id`.
pub const LISTED: Field = field(0x0, 0, 32);
/// query_flow_counter_in: `clear`.
pub const CLEAR: Field = field(0x18, 0, 1);
/// query_flow_counter_in: `num_of_counters`.
pub const COUNT: Field = field(0x1a, 0, 16);
/// query_flow_counter_in: `flow_counter_id`.
pub const QUERY_ID: Field = field(0x1c, 0, 32);
/// query_flow_counter_out: `flow_statistics`, a list of traffic_counter.
pub const STATISTICS: usize = 0x10;
/// Bytes of a traffic_counter.
pub const TRAFFIC_LEN: usize = 0x10;
/// traffic_counter: `packets`.
pub const PACKETS: Field = field(0x0, 0, 64);
/// traffic_counter: `octets`.
pub const OCTETS: Field = field(0x8, 0, 64);

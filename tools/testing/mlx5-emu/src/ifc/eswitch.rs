// SPDX-License-Identifier: GPL-2.0

//! Commands of the manager of an e-switch.

use super::{
    field,
    Field, //
};

/// `vport_number` of all commands that have `other_vport`.
pub const VPORT_NUMBER: Field = field(0xa, 0, 16);
/// MLX5_VPORT_UPLINK: the wire, as a source and a destination of packets.
pub const UPLINK: u16 = 0xffff;

/// query_vport_state_in, modify_vport_state_in.
pub mod vport_state {
    use super::*;
    /// MLX5_VPORT_STATE_OP_MOD_*: what a function sees of its port, what its manager
    /// does, and the wire.
    pub const OF_FUNCTION: u64 = 0;
    pub const OF_ESWITCH: u64 = 1;
    pub const OF_UPLINK: u64 = 2;
    /// modify_vport_state_in, query_vport_state_out: `admin_state`.
    pub const ADMIN_STATE: Field = field(0xf, 0, 4);
}

/// modify_esw_vport_context_in, query_esw_vport_context_out, and the
/// esw_vport_context in both.
pub mod esw_vport {
    use super::*;
    /// modify_esw_vport_context_in: `field_select`.
    pub const SELECT: Field = field(0xc, 0, 32);
    /// esw_vport_context_fields_select: `vport_cvlan_strip`.
    pub const SELECT_STRIP: u64 = 1 << 1;
    /// esw_vport_context_fields_select: `vport_cvlan_insert`, with the tag.
    pub const SELECT_INSERT: u64 = 1 << 3;
    /// `esw_vport_context`.
    pub const CONTEXT: usize = 0x10;
    /// Bytes of it.
    pub const LEN: usize = 0x100;
    /// `vport_cvlan_strip`.
    pub const STRIP: Field = field(0x0, 4, 1);
    /// `vport_cvlan_insert`.
    pub const INSERT: Field = field(0x0, 6, 2);
    /// MLX5_VPORT_CVLAN_INSERT_WHEN_NO_CVLAN
    pub const INSERT_IF_UNTAGGED: u64 = 1;
    /// `cvlan_pcp`, `cvlan_cfi` and `cvlan_id`: as a VLAN tag has them, but that the
    /// first two have changed places.
    pub const CFI: Field = field(0xa, 0, 1);
    pub const PRIORITY: Field = field(0xa, 1, 3);
    pub const VLAN: Field = field(0xa, 4, 12);
}

/// set_l2_table_entry_in, delete_l2_table_entry_in.
pub mod l2_table {
    use super::*;
    /// `table_index`.
    pub const INDEX: Field = field(0x15, 0, 24);
    /// `silent_mode_valid`, `silent_mode`, `vlan_valid` and `vlan`.
    pub const OPTIONS: Field = field(0x1e, 0, 16);
    /// `mac_address`.
    pub const MAC: std::ops::Range<usize> = 0x22..0x28;
}

/// fte_match_set_misc: `misc_parameters` of a fte_match_param, behind the outer
/// headers.
pub mod misc {
    use super::*;
    /// Bytes.
    pub const LEN: usize = 0x40;
    /// `source_port`, counted from the beginning of the fte_match_param.
    pub const SOURCE_PORT: Field = field(0x40 + 0x6, 0, 16);
}

/// `vport_num` of mlx5_eqe_vport_change: where it is in the data of the event.
pub const EVENT_VPORT: std::ops::Range<usize> = 2..4;

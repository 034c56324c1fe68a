// SPDX-License-Identifier: GPL-2.0

//! Capabilities of a PF that manages an e-switch, in legacy mode: its tables do
//! not change packets, which switchdev mode needs.

use crate::{
    ifc::{
        field,
        Field, //
    },
    mpfs,
    steering, //
};

/// MLX5_CAP_GENERAL, cmd_hca_cap.
mod general {
    use super::{
        field,
        Field, //
    };

    pub const ESWITCH_MANAGER: Field = field(0x34, 7, 1);
    pub const NIC_VPORT_CHANGE_EVENT: Field = field(0x7c, 0, 1);
    pub const LOG_MAX_L2_TABLE: Field = field(0x90, 3, 5);
}

/// MLX5_CAP_ESWITCH_FLOW_TABLE, flow_table_eswitch_cap: where the
/// flow_table_prop_layout of the FDB is, and those of the ACLs of ports.
const FDB: usize = 0x40;
const INGRESS_ACL: usize = 0x80;
const EGRESS_ACL: usize = 0xc0;

/// What all three have.
fn set_common(at: usize, cap: &mut [u8]) {
    for (byte, bit, width, value) in [
        // ft_support, flow_modify_en, modify_root, identified_miss_table_mode and
        // flow_table_modify.
        (0x0, 0, 1, 1),
        (0x0, 3, 4, 0b1111),
        // log_max_ft_size, max_ft_level and log_max_ft_num.
        (0x4, 2, 6, steering::LOG_MAX_SIZE),
        (0x7, 0, 8, 64),
        (0xf, 0, 8, steering::LOG_MAX_TABLES),
        // log_max_destination and log_max_flow.
        (0x13, 0, 8, steering::LOG_MAX_DESTINATIONS),
        (0x17, 0, 8, steering::LOG_MAX_ENTRIES),
        // ft_field_support, from outer_dmac to outer_first_vid.
        (0x20, 0, 7, 0b111_1111),
    ] {
        field(at + byte, bit, width).set(cap, value);
    }
}

/// `source_eswitch_port` of the FDB's `ft_field_support`.
const SOURCE_PORT: Field = field(FDB + 0x23, 7, 1);
/// `flow_counter` of both kinds of ACLs.
const COUNTERS: [Field; 2] = [field(INGRESS_ACL, 2, 1), field(EGRESS_ACL, 2, 1)];

/// MLX5_CAP_ESWITCH, e_switch_cap.
mod e_switch {
    use super::{
        field,
        Field, //
    };

    pub const VPORT_CVLAN_STRIP: Field = field(0x0, 1, 1);
    pub const VPORT_CVLAN_INSERT_IF_NOT_EXIST: Field = field(0x0, 3, 1);
    pub const NIC_VPORT_NODE_GUID_MODIFY: Field = field(0x3, 6, 1);
}

/// Adds to a page of type `kind`.
pub fn add(kind: u16, cap: &mut [u8]) {
    let fields: &[(Field, u64)] = match kind {
        0x0 => &[
            (general::ESWITCH_MANAGER, 1),
            (general::NIC_VPORT_CHANGE_EVENT, 1),
            (general::LOG_MAX_L2_TABLE, mpfs::LOG_MAX_ENTRIES),
        ],
        0x8 => {
            for at in [FDB, INGRESS_ACL, EGRESS_ACL] {
                set_common(at, cap);
            }
            &[(SOURCE_PORT, 1), (COUNTERS[0], 1), (COUNTERS[1], 1)]
        }
        0x9 => &[
            (e_switch::VPORT_CVLAN_STRIP, 1),
            (e_switch::VPORT_CVLAN_INSERT_IF_NOT_EXIST, 1),
            (e_switch::NIC_VPORT_NODE_GUID_MODIFY, 1),
        ],
        _ => &[],
    };
    for (field, value) in fields {
        field.set(cap, *value);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Capabilities of an HCA that is a NIC.

use super::LEN;
use crate::{
    commands::LOG_MAX_OBJECTS,
    flow_counter,
    host::FunctionId,
    ifc::{
        field,
        Field, //
    },
    rqt,
    sq,
    state::Digest,
    steering,
    vport,
    wq, //
};

/// MLX5_CAP_GENERAL, cmd_hca_cap.
mod general {
    use super::{
        field,
        Field, //
    };

    pub const LOG_MAX_CQ_SZ: Field = field(0x19, 0, 8);
    pub const LOG_MAX_CQ: Field = field(0x1b, 3, 5);
    pub const MAX_QP_CNT: Field = field(0x30, 6, 10);
    pub const VPORT_COUNTERS: Field = field(0x30, 1, 1);
    pub const VPORT_GROUP_MANAGER: Field = field(0x34, 0, 1);
    pub const NIC_FLOW_TABLE: Field = field(0x34, 6, 1);
    pub const LOG_MAX_QP_SZ: Field = field(0x11, 0, 8);
    pub const LOG_MAX_QP: Field = field(0x13, 3, 5);
    pub const ETH_NET_OFFLOADS: Field = field(0x43, 4, 1);
    pub const CQ_MODERATION: Field = field(0x44, 2, 1);
    pub const CQ_PERIOD_MODE_MODIFY: Field = field(0x44, 3, 1);
    pub const CQ_PERIOD_START_FROM_CQE: Field = field(0x45, 3, 1);
    pub const UMEM_UID_0: Field = field(0x4a, 2, 1);
    pub const LOG_BF_REG_SIZE: Field = field(0x4d, 3, 5);
    pub const MAX_WQE_SZ_SQ: Field = field(0x52, 0, 16);
    pub const LOG_MAX_TRANSPORT_DOMAIN: Field = field(0x64, 3, 5);
    pub const LOG_MAX_FLOW_COUNTER_BULK: Field = field(0x69, 0, 8);
    pub const MAX_FLOW_COUNTER: Field = field(0x6a, 0, 16);
    pub const LOG_MAX_RQ: Field = field(0x6c, 3, 5);
    pub const LOG_MAX_SQ: Field = field(0x6d, 3, 5);
    pub const LOG_MAX_TIR: Field = field(0x6e, 3, 5);
    pub const LOG_MAX_TIS: Field = field(0x6f, 3, 5);
    pub const LOG_MAX_RQT: Field = field(0x71, 3, 5);
    pub const LOG_MAX_RQT_SIZE: Field = field(0x72, 3, 5);
    pub const LOG_MAX_VLAN_LIST: Field = field(0x7d, 3, 5);
    pub const LOG_MAX_CURRENT_MC_LIST: Field = field(0x7e, 3, 5);
    pub const LOG_MAX_CURRENT_UC_LIST: Field = field(0x7f, 3, 5);
}

/// MLX5_CAP_ETHERNET_OFFLOADS, per_protocol_networking_offload_caps.
mod offloads {
    use super::{
        field,
        Field, //
    };

    pub const CSUM_CAP: Field = field(0x0, 0, 1);
    pub const VLAN_CAP: Field = field(0x0, 1, 1);
    pub const SELF_LB_EN_MODIFIABLE: Field = field(0x1, 0, 1);
    pub const MAX_LSO_CAP: Field = field(0x1, 3, 5);
    pub const WQE_INLINE_MODE: Field = field(0x2, 2, 2);
    pub const RSS_IND_TBL_CAP: Field = field(0x2, 4, 4);
    pub const CQE_CHECKSUM_FULL: Field = field(0x4, 3, 1);
    /// MLX5_CAP_INLINE_MODE_NOT_REQUIRED
    pub const INLINE_NOT_REQUIRED: u64 = 2;
}

/// MLX5_CAP_FLOW_TABLE: `flow_table_properties_nic_receive` of a
/// flow_table_nic_cap.
mod receive {
    use super::{
        field,
        Field, //
    };

    const AT: usize = 0x40;
    pub const FT_SUPPORT: Field = field(AT, 0, 1);
    pub const FLOW_COUNTER: Field = field(AT, 2, 1);
    pub const FLOW_MODIFY_EN: Field = field(AT, 3, 1);
    pub const MODIFY_ROOT: Field = field(AT, 4, 1);
    pub const IDENTIFIED_MISS_TABLE_MODE: Field = field(AT, 5, 1);
    pub const FLOW_TABLE_MODIFY: Field = field(AT, 6, 1);
    pub const LOG_MAX_FT_SIZE: Field = field(AT + 0x4, 2, 6);
    pub const MAX_FT_LEVEL: Field = field(AT + 0x7, 0, 8);
    pub const LOG_MAX_FT_NUM: Field = field(AT + 0xf, 0, 8);
    pub const LOG_MAX_DESTINATION: Field = field(AT + 0x13, 0, 8);
    pub const LOG_MAX_FLOW: Field = field(AT + 0x17, 0, 8);
    /// `ft_field_support`, from `outer_dmac` to `outer_ipv4_ttl`.
    pub const LAYER_2: Field = field(AT + 0x20, 0, 8);
    /// `outer_sip` to `outer_ip_protocol`, `outer_ip_ecn` and `outer_ip_dscp`.
    pub const LAYER_3: Field = field(AT + 0x21, 4, 6);
    /// `outer_udp_sport` to `outer_tcp_flags`.
    pub const LAYER_4: Field = field(AT + 0x22, 2, 5);
}

/// A digest of all that is added.
pub fn digest(function: FunctionId) -> u64 {
    let mut digest = Digest::default();
    for kind in [0x0, 0x1, 0x7] {
        let mut cap = vec![0; LEN];
        add(kind, function, &mut cap);
        digest.bytes(&cap);
    }
    digest.value()
}

/// Adds to a page of type `kind`.
pub fn add(kind: u16, function: FunctionId, cap: &mut [u8]) {
    let log_max = u64::from(LOG_MAX_OBJECTS);
    let fields: &[(Field, u64)] = match kind {
        0x0 => &[
            (
                general::VPORT_GROUP_MANAGER,
                u64::from(function == FunctionId::PF),
            ),
            (general::VPORT_COUNTERS, 1),
            (general::NIC_FLOW_TABLE, 1),
            (general::ETH_NET_OFFLOADS, 1),
            (general::CQ_MODERATION, 1),
            (general::CQ_PERIOD_MODE_MODIFY, 1),
            (general::CQ_PERIOD_START_FROM_CQE, 1),
            (general::UMEM_UID_0, 1),
            (general::LOG_BF_REG_SIZE, sq::LOG_DOORBELL),
            (general::MAX_WQE_SZ_SQ, sq::MAX_WQE),
            (general::MAX_QP_CNT, 0xff),
            (general::LOG_MAX_CQ, 12),
            (general::LOG_MAX_CQ_SZ, crate::cq::MAX_LOG_SIZE),
            (general::LOG_MAX_QP, 12),
            (general::LOG_MAX_QP_SZ, wq::MAX_LOG_SIZE),
            (general::LOG_MAX_TRANSPORT_DOMAIN, log_max),
            (
                general::LOG_MAX_FLOW_COUNTER_BULK,
                flow_counter::LOG_MAX_BULK.into(),
            ),
            (general::MAX_FLOW_COUNTER, flow_counter::MAX.into()),
            (general::LOG_MAX_RQ, log_max),
            (general::LOG_MAX_SQ, log_max),
            (general::LOG_MAX_TIR, log_max),
            (general::LOG_MAX_TIS, log_max),
            (general::LOG_MAX_RQT, log_max),
            (general::LOG_MAX_RQT_SIZE, rqt::LOG_MAX_SIZE),
            (general::LOG_MAX_VLAN_LIST, vport::LOG_MAX_LIST),
            (general::LOG_MAX_CURRENT_MC_LIST, vport::LOG_MAX_LIST),
            (general::LOG_MAX_CURRENT_UC_LIST, vport::LOG_MAX_LIST),
        ],
        0x1 => &[
            (offloads::CSUM_CAP, 1),
            (offloads::VLAN_CAP, 1),
            (offloads::SELF_LB_EN_MODIFIABLE, 1),
            (offloads::MAX_LSO_CAP, sq::LOG_MAX_LSO),
            (offloads::WQE_INLINE_MODE, offloads::INLINE_NOT_REQUIRED),
            (offloads::RSS_IND_TBL_CAP, rqt::LOG_MAX_SIZE),
            (offloads::CQE_CHECKSUM_FULL, 1),
        ],
        0x7 => &[
            (receive::FT_SUPPORT, 1),
            (receive::FLOW_COUNTER, 1),
            (receive::FLOW_MODIFY_EN, 1),
            (receive::MODIFY_ROOT, 1),
            (receive::IDENTIFIED_MISS_TABLE_MODE, 1),
            (receive::FLOW_TABLE_MODIFY, 1),
            (receive::LOG_MAX_FT_SIZE, steering::LOG_MAX_SIZE),
            (receive::MAX_FT_LEVEL, 64),
            (receive::LOG_MAX_FT_NUM, steering::LOG_MAX_TABLES),
            (receive::LOG_MAX_DESTINATION, steering::LOG_MAX_DESTINATIONS),
            (receive::LOG_MAX_FLOW, steering::LOG_MAX_ENTRIES),
            (receive::LAYER_2, 0xff),
            (receive::LAYER_3, 0b11_1111),
            (receive::LAYER_4, 0b1_1111),
        ],
        _ => &[],
    };
    for (field, value) in fields {
        field.set(cap, *value);
    }
}

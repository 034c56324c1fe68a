// SPDX-License-Identifier: GPL-2.0

//! Commands, contexts and registers of an Ethernet NIC.
//!
//! A context is kept as its driver gave it, so a field of one is given by where
//! it is in the context, and the context by where it is in the command.

use super::{
    field,
    Field, //
};

/// Where `ctx` is in the commands that create and modify TISs, TIRs, SQs, RQs
/// and RQTs, and in what QUERY_SQ and QUERY_RQ give.
pub const CONTEXT: usize = 0x20;
/// modify_sq_in, modify_rq_in: `sq_state`, `rq_state`.
pub const CURRENT_STATE: Field = field(0x8, 0, 4);
/// modify_sq_in, modify_rq_in: `modify_bitmask`; modify_tir_in, modify_rqt_in:
/// `bitmask`.
pub const MODIFY_BITMASK: Field = field(0x10, 0, 64);

/// tisc: what a TIS has.
pub mod tisc {
    use super::*;
    /// Bytes.
    pub const LEN: usize = 0xa0;
    /// `transport_domain`.
    pub const TRANSPORT_DOMAIN: Field = field(0x25, 0, 24);
}

/// tirc: what a TIR has.
pub mod tirc {
    use super::*;
    /// Bytes.
    pub const LEN: usize = 0xf0;
    /// `disp_type`.
    pub const DISPATCH: Field = field(0x4, 0, 4);
    /// `inline_rqn`.
    pub const RQN: Field = field(0x1d, 0, 24);
    /// `rx_hash_symmetric`.
    pub const SYMMETRIC: Field = field(0x20, 0, 1);
    /// `indirect_table`.
    pub const RQT: Field = field(0x21, 0, 24);
    /// `rx_hash_fn`.
    pub const HASH: Field = field(0x24, 0, 4);
    /// `self_lb_block`.
    pub const SELF_LB_BLOCK: Field = field(0x24, 6, 2);
    /// `transport_domain`.
    pub const TRANSPORT_DOMAIN: Field = field(0x25, 0, 24);
    /// `rx_hash_toeplitz_key`.
    pub const KEY: std::ops::Range<usize> = 0x28..0x50;
    /// `rx_hash_field_selector_outer`.
    pub const SELECTOR: std::ops::Range<usize> = 0x50..0x54;
    /// rx_hash_field_select: `selected_fields`.
    pub const SELECTED: Field = field(0x50, 2, 30);
    /// modify_tir_bitmask: `hash`.
    pub const MODIFY_HASH: u64 = 1 << 2;
    /// modify_tir_bitmask: `self_lb_en`.
    pub const MODIFY_SELF_LB: u64 = 1 << 4;
}

/// rqtc: what an RQT has.
pub mod rqtc {
    use super::*;
    /// `rqt_max_size`.
    pub const MAX_SIZE: Field = field(0x16, 0, 16);
    /// `rqt_actual_size`.
    pub const ACTUAL_SIZE: Field = field(0x1a, 0, 16);
    /// `rq_num`.
    pub const LIST: usize = 0xf0;
    /// rqt_bitmask: `rqn_list`.
    pub const MODIFY_LIST: u64 = 1;
}

/// sqc: what an SQ has.
pub mod sqc {
    use super::*;
    /// `flush_in_error_en`.
    pub const FLUSH: Field = field(0x0, 3, 1);
    /// `tis_lst_sz`.
    pub const TIS_COUNT: Field = field(0x20, 0, 16);
    /// `tis_num_0`.
    pub const TIS: Field = field(0x2d, 0, 24);
}

/// rqc: what an RQ has.
pub mod rqc {
    use super::*;
    /// `vsd`: VLAN tags are not stripped.
    pub const VSD: Field = field(0x0, 3, 1);
    /// `mem_rq_type`.
    pub const MEMORY: Field = field(0x0, 4, 4);
    /// `flush_in_error_en`.
    pub const FLUSH: Field = field(0x1, 5, 1);
    /// `counter_set_id`.
    pub const COUNTER_SET: Field = field(0xc, 0, 8);
    /// modify_rq_in: bit of `modify_bitmask` for `vsd`
    /// (MLX5_MODIFY_RQ_IN_MODIFY_BITMASK_VSD).
    pub const MODIFY_VSD: u64 = 1 << 1;
}

/// wq, which sqc and rqc have from 0x30 on, and the fields before it that they share.
pub mod wq {
    use super::*;
    /// Where it is in them.
    pub const OFFSET: usize = 0x30;
    /// `state`.
    pub const STATE: Field = field(0x1, 0, 4);
    /// `cqn`.
    pub const CQN: Field = field(0x9, 0, 24);
    /// Bytes of sqc and rqc without the list of pages.
    pub const CONTEXT_LEN: usize = OFFSET + PAS;
    /// `wq_type`.
    pub const TYPE: Field = field(OFFSET, 0, 4);
    /// `wq_signature`.
    pub const SIGNATURE: Field = field(OFFSET, 4, 1);
    /// `page_offset`.
    pub const PAGE_OFFSET: Field = field(OFFSET + 0x5, 3, 5);
    /// `pd`.
    pub const PD: Field = field(OFFSET + 0x9, 0, 24);
    /// `uar_page`.
    pub const UAR: Field = field(OFFSET + 0xd, 0, 24);
    /// `dbr_addr`.
    pub const DBR: Field = field(OFFSET + 0x10, 0, 64);
    /// `log_wq_stride`.
    pub const LOG_STRIDE: Field = field(OFFSET + 0x21, 4, 4);
    /// `log_wq_pg_sz`.
    pub const LOG_PAGE_SIZE: Field = field(OFFSET + 0x22, 3, 5);
    /// `log_wq_sz`.
    pub const LOG_SIZE: Field = field(OFFSET + 0x23, 3, 5);
    /// `dbr_umem_valid` and `wq_umem_valid`.
    pub const UMEM_VALID: Field = field(OFFSET + 0x24, 0, 2);
    /// `pas`, in wq.
    pub const PAS: usize = 0xc0;
}

/// Flow tables, groups and entries.
pub mod flow {
    use super::*;
    /// `other_vport` of all commands.
    pub const OTHER_VPORT: Field = field(0x8, 0, 1);
    /// `table_type` of all commands.
    pub const TABLE_TYPE: Field = field(0x10, 0, 8);
    /// `table_id` of all commands but create_flow_table_in.
    pub const TABLE: Field = field(0x15, 0, 24);
    /// create_flow_table_in, modify_flow_table_in: `flow_table_context`.
    pub const TABLE_CONTEXT: usize = 0x18;
    /// Bytes of it.
    pub const TABLE_CONTEXT_LEN: usize = 0x28;
    /// flow_table_context: `reformat_en`, `decap_en`, `sw_owner`,
    /// `termination_table`.
    pub const TABLE_FLAGS: Field = field(0x0, 0, 4);
    /// flow_table_context: `table_miss_action`.
    pub const MISS_ACTION: Field = field(0x0, 4, 4);
    /// flow_table_context: `level`.
    pub const LEVEL: Field = field(0x1, 0, 8);
    /// flow_table_context: `log_size`.
    pub const LOG_SIZE: Field = field(0x3, 0, 8);
    /// flow_table_context: `table_miss_id`.
    pub const MISS_ID: Field = field(0x5, 0, 24);
    /// modify_flow_table_in: `modify_field_select`.
    pub const TABLE_MODIFY: Field = field(0xe, 0, 16);

    /// create_flow_group_in: `group_type`.
    pub const GROUP_TYPE: Field = field(0x11, 4, 4);
    /// create_flow_group_in: `start_flow_index`.
    pub const GROUP_START: Field = field(0x1c, 0, 32);
    /// create_flow_group_in: `end_flow_index`.
    pub const GROUP_END: Field = field(0x24, 0, 32);
    /// create_flow_group_in: `match_criteria_enable`.
    pub const CRITERIA: Field = field(0x3f, 0, 8);
    /// create_flow_group_in: `match_criteria`, a fte_match_param.
    pub const MASK: usize = 0x40;
    /// destroy_flow_group_in: `group_id`.
    pub const GROUP: Field = field(0x18, 0, 32);

    /// set_fte_in, delete_fte_in: `flow_index`.
    pub const INDEX: Field = field(0x20, 0, 32);
    /// set_fte_in: `modify_enable_mask`.
    pub const MODIFY_ENABLE: Field = field(0x1b, 0, 8);
    /// set_fte_in: `flow_context`.
    pub const CONTEXT: usize = 0x40;
    /// flow_context: `group_id`.
    pub const CONTEXT_GROUP: Field = field(0x4, 0, 32);
    /// flow_context: `flow_tag`.
    pub const TAG: Field = field(0x9, 0, 24);
    /// flow_context: `action`.
    pub const ACTION: Field = field(0xe, 0, 16);
    /// flow_context: `extended_destination`.
    pub const EXTENDED: Field = field(0x10, 0, 1);
    /// flow_context: `destination_list_size`.
    pub const DESTINATIONS: Field = field(0x11, 0, 24);
    /// flow_context: `flow_counter_list_size`.
    pub const COUNTERS: Field = field(0x15, 0, 24);
    /// flow_context: `match_value`, a fte_match_param.
    pub const VALUE: usize = 0x40;
    /// flow_context: `destination`.
    pub const DESTINATION: usize = 0x300;
    /// dest_format_struct: `destination_type`.
    pub const DESTINATION_TYPE: Field = field(0x0, 0, 8);
    /// dest_format_struct: `destination_id`.
    pub const DESTINATION_ID: Field = field(0x1, 0, 24);
    /// Bytes of a fte_match_param.
    pub const PARAM_LEN: usize = 0x200;
}

/// fte_match_set_lyr_2_4: `outer_headers` of a fte_match_param.
pub mod headers {
    use super::*;
    /// Bytes.
    pub const LEN: usize = 0x40;
    /// `smac_47_16` and `smac_15_0`.
    pub const SMAC: Field = field(0x0, 0, 48);
    /// `ethertype`.
    pub const ETHERTYPE: Field = field(0x6, 0, 16);
    /// `dmac_47_16` and `dmac_15_0`.
    pub const DMAC: Field = field(0x8, 0, 48);
    /// `first_prio`, `first_cfi` and `first_vid`: as a VLAN tag has them.
    pub const FIRST_TAG: Field = field(0xe, 0, 16);
    /// `ip_protocol`.
    pub const IP_PROTOCOL: Field = field(0x10, 0, 8);
    /// `ip_dscp` and `ip_ecn`: as an IP header has them.
    pub const TRAFFIC_CLASS: Field = field(0x11, 0, 8);
    /// `cvlan_tag`.
    pub const CVLAN: Field = field(0x12, 0, 1);
    /// `svlan_tag`.
    pub const SVLAN: Field = field(0x12, 1, 1);
    /// `frag`.
    pub const FRAGMENT: Field = field(0x12, 2, 1);
    /// `ip_version`.
    pub const IP_VERSION: Field = field(0x12, 3, 4);
    /// `tcp_flags`.
    pub const TCP_FLAGS: Field = field(0x12, 7, 9);
    /// `tcp_sport`.
    pub const TCP_SOURCE: Field = field(0x14, 0, 16);
    /// `tcp_dport`.
    pub const TCP_DESTINATION: Field = field(0x16, 0, 16);
    /// `ttl_hoplimit`.
    pub const TTL: Field = field(0x1b, 0, 8);
    /// `udp_sport`.
    pub const UDP_SOURCE: Field = field(0x1c, 0, 16);
    /// `udp_dport`.
    pub const UDP_DESTINATION: Field = field(0x1e, 0, 16);
    /// `src_ipv4_src_ipv6`.
    pub const SOURCE: std::ops::Range<usize> = 0x20..0x30;
    /// `dst_ipv4_dst_ipv6`.
    pub const DESTINATION: std::ops::Range<usize> = 0x30..0x40;
    /// All that can be matched but the addresses of IP.
    pub const MATCHED: [Field; 16] = [
        SMAC,
        ETHERTYPE,
        DMAC,
        FIRST_TAG,
        IP_PROTOCOL,
        TRAFFIC_CLASS,
        CVLAN,
        SVLAN,
        FRAGMENT,
        IP_VERSION,
        TCP_FLAGS,
        TCP_SOURCE,
        TCP_DESTINATION,
        TTL,
        UDP_SOURCE,
        UDP_DESTINATION,
    ];
}

/// Virtual ports.
pub mod vport {
    use super::*;
    /// `other_vport` of all commands.
    pub const OTHER: Field = field(0x8, 0, 1);
    /// query_nic_vport_context_in: `allowed_list_type`.
    pub const QUERY_LIST: Field = field(0xc, 5, 3);
    /// query_nic_vport_context_out: `nic_vport_context`.
    pub const QUERY_CONTEXT: usize = 0x10;
    /// modify_nic_vport_context_in: `field_select`.
    pub const SELECT: Field = field(0xc, 0, 32);
    /// modify_nic_vport_context_in: `nic_vport_context`.
    pub const MODIFY_CONTEXT: usize = 0x100;
    /// Bytes of a nic_vport_context without its list.
    pub const CONTEXT_LEN: usize = 0x100;
    /// modify_nic_vport_field_select: `disable_uc_local_lb` and
    /// `disable_mc_local_lb`.
    pub const SELECT_LOCAL_LB: u64 = 0b11 << 10;
    /// modify_nic_vport_field_select: `roce_en`.
    pub const SELECT_ROCE: u64 = 1 << 1;
    /// nic_vport_context: `roce_en`.
    pub const ROCE: Field = field(0x3, 7, 1);
    /// nic_vport_context: `disable_mc_local_lb` and `disable_uc_local_lb`.
    pub const LOCAL_LB: Field = field(0x3, 5, 2);
    /// nic_vport_context: `arm_change_event` and what it is for.
    pub const CHANGE_EVENT: Field = field(0x4, 0, 32);
    /// nic_vport_context: `arm_change_event`.
    pub const ARM: Field = field(0x4, 0, 1);
    /// nic_vport_context: `event_on_mtu`, `event_on_promisc_change`, and those on the
    /// lists by their types.
    pub const CHANGES: Field = field(0x7, 3, 5);
    /// `event_on_promisc_change`, in them.
    pub const PROMISC_CHANGE: u64 = 1 << 3;
    /// `event_on_mtu`, in them.
    pub const MTU_CHANGE: u64 = 1 << 4;
    /// modify_nic_vport_field_select: `mtu`.
    pub const SELECT_MTU: u64 = 1 << 6;
    /// modify_nic_vport_field_select: `change_event`.
    pub const SELECT_CHANGE_EVENT: u64 = 1 << 5;
    /// modify_nic_vport_field_select: `node_guid`.
    pub const SELECT_NODE_GUID: u64 = 1 << 9;
    /// modify_nic_vport_field_select: `permanent_address`.
    pub const SELECT_PERMANENT: u64 = 1 << 3;
    /// What only the manager of a port can set: its addresses, and what it is told of.
    pub const SELECT_MANAGED: u64 = SELECT_NODE_GUID | SELECT_PERMANENT | SELECT_CHANGE_EVENT;
    /// modify_nic_vport_field_select: `promisc`.
    pub const SELECT_PROMISC: u64 = 1 << 4;
    /// modify_nic_vport_field_select: `addresses_list`.
    pub const SELECT_LIST: u64 = 1 << 2;
    /// nic_vport_context: `mtu`.
    pub const MTU: Field = field(0x26, 0, 16);
    /// nic_vport_context: `system_image_guid`.
    pub const SYSTEM_GUID: Field = field(0x28, 0, 64);
    /// nic_vport_context: `port_guid`.
    pub const PORT_GUID: Field = field(0x30, 0, 64);
    /// nic_vport_context: `node_guid`.
    pub const NODE_GUID: Field = field(0x38, 0, 64);
    /// nic_vport_context: `promisc_uc`, `promisc_mc` and `promisc_all`.
    pub const PROMISC: Field = field(0xf0, 0, 3);
    /// nic_vport_context: `allowed_list_type`.
    pub const LIST_TYPE: Field = field(0xf0, 5, 3);
    /// nic_vport_context: `allowed_list_size`.
    pub const LIST_SIZE: Field = field(0xf2, 0, 16);
    /// nic_vport_context: `permanent_address`, a mac_address_layout.
    pub const PERMANENT: Field = field(0xf6, 0, 48);
    /// nic_vport_context: `current_uc_mac_address`.
    pub const LIST: usize = 0x100;
    /// query_vport_state_out: `state`.
    pub const STATE: Field = field(0xf, 4, 4);
    /// query_vport_counter_in: `clear`.
    pub const CLEAR: Field = field(0x18, 0, 1);
    /// query_vport_counter_out: `received_errors`.
    pub const RECEIVED_ERRORS: usize = 0x10;
    /// query_vport_counter_out: `transmit_errors`.
    pub const TRANSMIT_ERRORS: usize = 0x20;
    /// query_vport_counter_out: `received_eth_broadcast`. What is transmitted
    /// of the same kind is the next, and the other kinds follow.
    pub const ETHERNET: usize = 0x70;
}

/// alloc_q_counter_out, dealloc_q_counter_in: `counter_set_id`.
pub const COUNTER_SET: Field = field(0xb, 0, 8);
/// query_q_counter_in: `counter_set_id`.
pub const QUERY_COUNTER_SET: Field = field(0x1f, 0, 8);
/// query_q_counter_in: `clear`.
pub const COUNTER_CLEAR: Field = field(0x18, 0, 1);
/// query_q_counter_out: `out_of_buffer`.
pub const OUT_OF_BUFFER: Field = field(0x30, 0, 32);

/// modify_cq_in: `modify_field_select_resize_field_select`.
pub const CQ_MODIFY: Field = field(0xc, 0, 32);
/// cqc: `cq_period`.
pub const CQC_PERIOD: Field = field(0x10, 4, 12);
/// cqc: `cq_max_count`.
pub const CQC_MAX_COUNT: Field = field(0x12, 0, 16);
/// cqc: `cq_period_mode`.
pub const CQC_PERIOD_MODE: Field = field(0x1, 7, 2);

/// mkc: `length64`.
pub const MKC_LENGTH64: Field = field(0x10 + 0xc, 0, 1);

/// Registers of the port, as ACCESS_REG has them.
pub mod register {
    use super::*;
    /// access_register_in: `register_id`.
    pub const ID: Field = field(0xa, 0, 16);
    /// access_register_in, access_register_out: `register_data`.
    pub const DATA: usize = 0x10;
    /// MLX5_REG_PMTU.
    pub const PMTU: u64 = 0x5003;
    /// MLX5_REG_PTYS.
    pub const PTYS: u64 = 0x5004;
    /// MLX5_REG_PAOS.
    pub const PAOS: u64 = 0x5006;
    /// MLX5_REG_PPCNT.
    pub const PPCNT: u64 = 0x5008;
    /// paos_reg: `admin_status`.
    pub const PAOS_ADMIN: Field = field(0x2, 4, 4);
    /// paos_reg: `oper_status`.
    pub const PAOS_OPER: Field = field(0x3, 4, 4);
    /// paos_reg: `ase`, admin_status is to be set.
    pub const PAOS_SET: Field = field(0x4, 0, 1);
    /// pmtu_reg: `max_mtu`.
    pub const PMTU_MAX: Field = field(0x4, 0, 16);
    /// pmtu_reg: `admin_mtu`.
    pub const PMTU_ADMIN: Field = field(0x8, 0, 16);
    /// pmtu_reg: `oper_mtu`.
    pub const PMTU_OPER: Field = field(0xc, 0, 16);
    /// ptys_reg: `eth_proto_capability`.
    pub const PTYS_CAPABILITY: Field = field(0xc, 0, 32);
    /// ptys_reg: `eth_proto_admin`.
    pub const PTYS_ADMIN: Field = field(0x18, 0, 32);
    /// ptys_reg: `eth_proto_oper`.
    pub const PTYS_OPER: Field = field(0x24, 0, 32);
    /// ppcnt_reg: `grp`.
    pub const PPCNT_GROUP: Field = field(0x3, 2, 6);
    /// ppcnt_reg: `counter_set`.
    pub const PPCNT_SET: usize = 0x8;
    /// MLX5_IEEE_802_3_COUNTERS_GROUP.
    pub const IEEE_802_3: u64 = 0x0;
    /// MLX5_RFC_2863_COUNTERS_GROUP.
    pub const RFC_2863: u64 = 0x1;
    /// MLX5_RFC_2819_COUNTERS_GROUP.
    pub const RFC_2819: u64 = 0x2;
    /// MLX5_PER_PRIORITY_COUNTERS_GROUP.
    pub const PER_PRIORITY: u64 = 0x10;
    /// ppcnt_reg: `prio_tc`.
    pub const PPCNT_PRIORITY: Field = field(0x7, 3, 5);
    /// MLX5_REG_PFCC.
    pub const PFCC: u64 = 0x5007;
    /// pfcc_reg: `pptx`.
    pub const PFCC_SEND: Field = field(0x8, 0, 1);
    /// pfcc_reg: `pprx`.
    pub const PFCC_RECEIVE: Field = field(0xc, 0, 1);
    /// pfcc_reg: `pfctx` and `pfcrx`, pauses of single priorities.
    pub const PFCC_PRIORITIES: [Field; 2] = [field(0x9, 0, 8), field(0xd, 0, 8)];
}

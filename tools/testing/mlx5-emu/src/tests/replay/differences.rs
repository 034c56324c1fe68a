// SPDX-License-Identifier: GPL-2.0

//! In what the model's answers differ from those of the adapter, and why: all of it.

use crate::ifc::{
    self,
    field,
    Field, //
};

/// A part of answers in which the model differs.
pub struct Difference {
    /// Lines of the recording, by their `n`.
    pub answers: &'static [usize],
    /// What mlx5_ifc.h calls it.
    pub name: &'static str,
    pub at: Field,
    /// What the model has; `None` for zeros of any length.
    pub model: Option<u64>,
    pub why: &'static str,
}

/// The model has zeros.
const fn missing(
    answers: &'static [usize],
    name: &'static str,
    at: Field,
    why: &'static str,
) -> Difference {
    Difference {
        answers,
        name,
        at,
        model: None,
        why,
    }
}

/// The model has another value.
const fn other(
    answers: &'static [usize],
    name: &'static str,
    at: Field,
    model: u64,
    why: &'static str,
) -> Difference {
    Difference {
        answers,
        name,
        at,
        model: Some(model),
        why,
    }
}

/// A field of a capability page.
const fn cap(byte: usize, bit: usize, width: usize) -> Field {
    field(ifc::CAPABILITY + byte, bit, width)
}

const PAGES: &[usize] = &[3, 9];
const ADAPTER: &[usize] = &[22];
/// Capability pages: what can be chosen, and what holds.
const GENERAL: &[usize] = &[6, 7, 12, 13];
const GENERAL_MAX: &[usize] = &[6, 13];
const ETHERNET: &[usize] = &[14, 15];
const ATOMIC: &[usize] = &[16, 17];
const ROCE: &[usize] = &[18, 19];
const FLOW_TABLES: &[usize] = &[20, 21];

const UNSIGNED: &str = "no answer is signed; the adapter signs this one only, and no driver looks";
const BOARD: &str = "not a product: tools choose a firmware by it";
const NEWER: &str = "the adapter is older than what the VFIO drivers need";
const UNNAMED: &str = "mlx5_ifc.h does not say what it is";
const TIMER: &str = "the timer counts nanoseconds";
const UARS: &str = "UAR pages are of 4 KiB only";
const SRQ: &str = "no shared receive queues";
const MKEYS: &str = "mkeys are lists of up to 2^20 pages, and do nothing else";
const CQS: &str = "an event for each completion that was asked for, in CQs as they were created";
const RDMA: &str = "QPs only carry the reports of page trackers";
const CONGESTION: &str = "no congestion control";
const BLUE_FLAME: &str = "doorbells only: no work is read from a UAR";
const NIC: &str = "no Ethernet";

pub const DIFFERENCES: &[Difference] = &[
    // How the signature has changed, behind the answer.
    missing(PAGES, "signature", field(0x10, 0, 8), UNSIGNED),
    other(GENERAL, "hca_cap_2", cap(0x4, 0, 1), 1, NEWER),
    missing(GENERAL, "log_max_srq_sz", cap(0x10, 0, 8), SRQ),
    other(GENERAL, "event_cap", cap(0x12, 0, 1), 1, NEWER),
    missing(GENERAL, "log_max_srq", cap(0x15, 3, 5), SRQ),
    missing(GENERAL, "max_indirection", cap(0x20, 0, 8), MKEYS),
    missing(GENERAL, "log_max_mrw_sz", cap(0x21, 1, 7), MKEYS),
    missing(GENERAL, "log_max_bsf_list_size", cap(0x22, 2, 6), MKEYS),
    missing(GENERAL, "log_max_klm_list_size", cap(0x23, 2, 6), MKEYS),
    missing(GENERAL, "log_max_ra_req_dc", cap(0x25, 2, 6), RDMA),
    missing(GENERAL, "log_max_ra_res_dc", cap(0x27, 2, 6), RDMA),
    missing(GENERAL, "log_max_ra_req_qp", cap(0x29, 2, 6), RDMA),
    missing(GENERAL, "log_max_ra_res_qp", cap(0x2b, 2, 6), RDMA),
    missing(GENERAL, "end_pad", cap(0x2c, 0, 1), RDMA),
    missing(GENERAL, "cc_query_allowed", cap(0x2c, 1, 1), CONGESTION),
    missing(GENERAL, "cc_modify_allowed", cap(0x2c, 2, 1), CONGESTION),
    missing(GENERAL_MAX, "gid_table_size", cap(0x2e, 0, 16), RDMA),
    missing(GENERAL, "vport_counters", cap(0x30, 1, 1), NIC),
    missing(GENERAL, "max_qp_cnt", cap(0x30, 6, 10), RDMA),
    missing(GENERAL_MAX, "pkey_table_size", cap(0x32, 0, 16), RDMA),
    missing(GENERAL, "vport_group_manager", cap(0x34, 0, 1), NIC),
    missing(GENERAL, "ets", cap(0x34, 5, 1), NIC),
    missing(GENERAL, "nic_flow_table", cap(0x34, 6, 1), NIC),
    missing(GENERAL, "eswitch_manager", cap(0x34, 7, 1), NIC),
    missing(GENERAL, "stat_rate_support", cap(0x3c, 0, 16), RDMA),
    missing(GENERAL, "cqe_version", cap(0x3f, 4, 4), CQS),
    missing(GENERAL, "compact_address_vector", cap(0x40, 0, 1), RDMA),
    missing(GENERAL, "striding_rq", cap(0x40, 1, 1), NIC),
    missing(GENERAL, "reserved_at_20d", cap(0x41, 5, 2), UNNAMED),
    missing(GENERAL_MAX, "cmdif_checksum", cap(0x42, 0, 2), UNSIGNED),
    missing(GENERAL, "wq_signature", cap(0x42, 4, 1), RDMA),
    missing(GENERAL, "sctr_data_cqe", cap(0x42, 5, 1), RDMA),
    missing(GENERAL, "eth_net_offloads", cap(0x43, 4, 1), NIC),
    missing(GENERAL, "roce", cap(0x43, 5, 1), RDMA),
    missing(GENERAL, "atomic", cap(0x43, 6, 1), RDMA),
    missing(GENERAL, "cq_oi", cap(0x44, 0, 1), CQS),
    missing(GENERAL, "cq_resize", cap(0x44, 1, 1), CQS),
    missing(GENERAL, "cq_moderation", cap(0x44, 2, 1), CQS),
    missing(GENERAL, "cq_eq_remap", cap(0x44, 6, 1), CQS),
    missing(GENERAL, "block_lb_mc", cap(0x45, 0, 1), RDMA),
    missing(GENERAL, "reserved_at_229", cap(0x45, 1, 1), UNNAMED),
    missing(GENERAL, "scqe_break_moderation", cap(0x45, 2, 1), CQS),
    missing(GENERAL, "cq_period_start_from_cqe", cap(0x45, 3, 1), CQS),
    missing(GENERAL, "cd", cap(0x45, 4, 1), RDMA),
    missing(GENERAL, "apm", cap(0x45, 6, 1), RDMA),
    missing(GENERAL, "qkv", cap(0x46, 6, 1), RDMA),
    missing(GENERAL, "pkv", cap(0x46, 7, 1), RDMA),
    missing(GENERAL, "xrc", cap(0x47, 4, 1), RDMA),
    missing(GENERAL, "ud", cap(0x47, 5, 1), RDMA),
    missing(GENERAL, "uc", cap(0x47, 6, 1), RDMA),
    missing(GENERAL, "rc", cap(0x47, 7, 1), RDMA),
    missing(GENERAL, "bf", cap(0x4c, 0, 1), BLUE_FLAME),
    missing(GENERAL, "pad_tx_eth_packet", cap(0x4c, 2, 1), NIC),
    missing(GENERAL, "log_bf_reg_size", cap(0x4d, 3, 5), BLUE_FLAME),
    missing(GENERAL, "max_wqe_sz_sq", cap(0x52, 0, 16), RDMA),
    missing(GENERAL, "max_wqe_sz_rq", cap(0x56, 0, 16), RDMA),
    missing(GENERAL, "max_wqe_sz_sq_dc", cap(0x5a, 0, 16), RDMA),
    missing(GENERAL, "max_qp_mcg", cap(0x5c, 7, 25), RDMA),
    missing(GENERAL, "log_max_mcg", cap(0x63, 0, 8), RDMA),
    missing(GENERAL, "log_max_transport_domain", cap(0x64, 3, 5), NIC),
    missing(GENERAL, "log_max_xrcd", cap(0x67, 3, 5), RDMA),
    missing(GENERAL, "log_max_rq", cap(0x6c, 3, 5), NIC),
    missing(GENERAL, "log_max_sq", cap(0x6d, 3, 5), NIC),
    missing(GENERAL, "log_max_tir", cap(0x6e, 3, 5), NIC),
    missing(GENERAL, "log_max_tis", cap(0x6f, 3, 5), NIC),
    missing(GENERAL, "basic_cyclic_rcv_wqe", cap(0x70, 0, 1), NIC),
    missing(GENERAL, "log_max_rmp", cap(0x70, 3, 5), NIC),
    missing(GENERAL, "log_max_rqt", cap(0x71, 3, 5), NIC),
    missing(GENERAL, "log_max_rqt_size", cap(0x72, 3, 5), NIC),
    missing(GENERAL, "log_max_stride_sz_rq", cap(0x74, 3, 5), NIC),
    missing(GENERAL, "log_min_stride_sz_rq", cap(0x75, 3, 5), NIC),
    missing(GENERAL, "log_max_stride_sz_sq", cap(0x76, 3, 5), NIC),
    missing(GENERAL, "log_min_stride_sz_sq", cap(0x77, 3, 5), NIC),
    missing(GENERAL, "log_max_wq_sz", cap(0x7b, 3, 5), NIC),
    missing(GENERAL, "nic_vport_change_event", cap(0x7c, 0, 1), NIC),
    missing(GENERAL, "log_max_vlan_list", cap(0x7d, 3, 5), NIC),
    missing(GENERAL, "log_max_current_mc_list", cap(0x7e, 3, 5), NIC),
    missing(GENERAL, "log_max_current_uc_list", cap(0x7f, 3, 5), NIC),
    missing(GENERAL, "log_max_l2_table", cap(0x90, 3, 5), NIC),
    missing(GENERAL_MAX, "log_uar_page_sz", cap(0x92, 0, 16), UARS),
    other(
        GENERAL,
        "device_frequency_mhz",
        cap(0x98, 0, 32),
        1000,
        TIMER,
    ),
    other(
        GENERAL,
        "device_frequency_khz",
        cap(0x9c, 0, 32),
        1_000_000,
        TIMER,
    ),
    other(GENERAL, "adv_virtualization", cap(0xaf, 1, 1), 1, NEWER),
    missing(GENERAL, "cqe_compression", cap(0xb7, 7, 1), CQS),
    missing(GENERAL, "cqe_compression_timeout", cap(0xb8, 0, 16), CQS),
    missing(GENERAL, "cqe_compression_max_num", cap(0xba, 0, 16), CQS),
    other(GENERAL, "migration", cap(0xd1, 5, 1), 1, NEWER),
    missing(ETHERNET, "csum_cap", cap(0x0, 0, 1), NIC),
    missing(ETHERNET, "vlan_cap", cap(0x0, 1, 1), NIC),
    missing(ETHERNET, "lro_cap", cap(0x0, 2, 1), NIC),
    missing(ETHERNET, "lro_time_stamp", cap(0x0, 4, 1), NIC),
    missing(ETHERNET, "reserved_at_9", cap(0x1, 1, 2), NIC),
    missing(ETHERNET, "max_lso_cap", cap(0x1, 3, 5), NIC),
    missing(ETHERNET, "multi_pkt_send_wqe", cap(0x2, 0, 2), NIC),
    missing(ETHERNET, "wqe_inline_mode", cap(0x2, 2, 2), NIC),
    missing(ETHERNET, "rss_ind_tbl_cap", cap(0x2, 4, 4), NIC),
    missing(ETHERNET, "tunnel_stateless_gre", cap(0x3, 6, 1), NIC),
    missing(ETHERNET, "tunnel_stateless_vxlan", cap(0x3, 7, 1), NIC),
    missing(ETHERNET, "lro_min_mss_size", cap(0xa, 0, 16), NIC),
    missing(
        ETHERNET,
        "lro_timer_supported_periods",
        cap(0x30, 0, 128),
        NIC,
    ),
    missing(ATOMIC, "atomic_operations", cap(0x12, 0, 16), RDMA),
    missing(ATOMIC, "atomic_size_qp", cap(0x16, 0, 16), RDMA),
    missing(ATOMIC, "atomic_size_dc", cap(0x1a, 0, 16), RDMA),
    missing(ROCE, "reserved_at_1", cap(0x0, 1, 3), RDMA),
    missing(ROCE, "l3_type", cap(0x11, 4, 4), RDMA),
    missing(ROCE, "roce_version", cap(0x13, 0, 8), RDMA),
    missing(ROCE, "r_roce_dest_udp_port", cap(0x16, 0, 16), RDMA),
    missing(ROCE, "r_roce_max_src_udp_port", cap(0x18, 0, 16), RDMA),
    missing(ROCE, "r_roce_min_src_udp_port", cap(0x1a, 0, 16), RDMA),
    missing(ROCE, "roce_address_table_size", cap(0x1e, 0, 16), RDMA),
    missing(
        FLOW_TABLES,
        "flow_table_properties_nic_receive",
        cap(0x40, 0, 512),
        NIC,
    ),
    missing(
        FLOW_TABLES,
        "flow_table_properties_nic_receive_sniffer",
        cap(0xc0, 0, 512),
        NIC,
    ),
    missing(
        FLOW_TABLES,
        "flow_table_properties_nic_transmit",
        cap(0x100, 0, 512),
        NIC,
    ),
    missing(
        FLOW_TABLES,
        "flow_table_properties_nic_transmit_sniffer",
        cap(0x180, 0, 512),
        NIC,
    ),
    other(
        ADAPTER,
        "vsd_contd_psid",
        field(ifc::PSID, 0, 64),
        u64::from_be_bytes(*b"EMU_0000"),
        BOARD,
    ),
    other(
        ADAPTER,
        "vsd_contd_psid",
        field(ifc::PSID + 8, 0, 64),
        u64::from_be_bytes(*b"000001\0\0"),
        BOARD,
    ),
];

// SPDX-License-Identifier: GPL-2.0

//! Numbers of the firmware interface.
//!
//! Names are those of `include/linux/mlx5/mlx5_ifc.h` (commands and their
//! fields) and `device.h` (status codes, events). A field is given by its byte,
//! the bits before it in that byte, and its width in bits, all big endian.

pub mod eswitch;
pub mod ethernet;
pub mod flow_counter;

use std::ops::Range;

/// A bit field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    offset: usize,
    width: usize,
}

/// The field that begins `bit` bits into byte `byte`.
pub const fn field(byte: usize, bit: usize, width: usize) -> Field {
    Field {
        offset: byte * 8 + bit,
        width,
    }
}

impl Field {
    /// Its bits, counted from the first one of the buffer.
    pub fn bits(self) -> Range<usize> {
        self.offset..self.offset + self.width
    }

    /// The bytes that it is in, and how many bits of the last one follow it.
    fn bytes(self) -> (Range<usize>, usize) {
        let end = self.offset + self.width;
        let bytes = self.offset / 8..end.div_ceil(8);
        let after = bytes.end * 8 - end;
        (bytes, after)
    }

    /// All bits that it has.
    fn mask(self) -> u128 {
        (1 << self.width) - 1
    }

    /// Whether it has bits for a value.
    pub fn holds(self, value: u64) -> bool {
        u128::from(value) <= self.mask()
    }

    /// Reads the field; what is not in `buf` is 0.
    pub fn get(self, buf: &[u8]) -> u64 {
        let (bytes, after) = self.bytes();
        let all = bytes.fold(0, |all: u128, at| {
            (all << 8) | u128::from(buf.get(at).copied().unwrap_or(0))
        });
        ((all >> after) & self.mask()) as u64
    }

    /// Writes the field; what is not in `buf` is lost.
    pub fn set(self, buf: &mut [u8], value: u64) {
        let (bytes, after) = self.bytes();
        let mut mask = self.mask() << after;
        let mut value = u128::from(value) << after;
        for at in bytes.rev() {
            if let Some(byte) = buf.get_mut(at) {
                *byte = *byte & !(mask as u8) | (value & mask) as u8;
            }
            mask >>= 8;
            value >>= 8;
        }
    }
}

/// All commands begin so: `opcode`.
pub const OPCODE: Field = field(0x0, 0, 16);
/// All commands begin so: `op_mod`.
pub const OP_MOD: Field = field(0x6, 0, 16);
/// All outputs begin so: `status`.
pub const STATUS: Field = field(0x0, 0, 8);
/// All outputs begin so: `syndrome`.
pub const SYNDROME: Field = field(0x4, 0, 32);

macro_rules! opcodes {
    ($($name:ident = $value:literal,)*) => {
        $(#[doc = concat!("MLX5_CMD_OP_", stringify!($name))] pub const $name: u16 = $value;)*

        /// The name of a command.
        pub fn opcode_name(opcode: u16) -> &'static str {
            match opcode {
                $($value => stringify!($name),)*
                _ => "?",
            }
        }

        /// The command with this name.
        pub fn opcode_by_name(name: &str) -> Option<u16> {
            match name {
                $(stringify!($name) => Some($value),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    QUERY_HCA_CAP = 0x100,
    QUERY_ADAPTER = 0x101,
    INIT_HCA = 0x102,
    TEARDOWN_HCA = 0x103,
    ENABLE_HCA = 0x104,
    DISABLE_HCA = 0x105,
    QUERY_PAGES = 0x107,
    MANAGE_PAGES = 0x108,
    SET_HCA_CAP = 0x109,
    QUERY_ISSI = 0x10a,
    SET_ISSI = 0x10b,
    SET_DRIVER_VERSION = 0x10d,
    SUSPEND_VHCA = 0x115,
    RESUME_VHCA = 0x116,
    QUERY_VHCA_MIGRATION_STATE = 0x117,
    SAVE_VHCA_STATE = 0x118,
    LOAD_VHCA_STATE = 0x119,
    CREATE_MKEY = 0x200,
    DESTROY_MKEY = 0x202,
    CREATE_EQ = 0x301,
    DESTROY_EQ = 0x302,
    CREATE_CQ = 0x400,
    DESTROY_CQ = 0x401,
    MODIFY_CQ = 0x403,
    CREATE_QP = 0x500,
    DESTROY_QP = 0x501,
    RST2INIT_QP = 0x502,
    INIT2RTR_QP = 0x503,
    RTR2RTS_QP = 0x504,
    QUERY_VPORT_STATE = 0x750,
    MODIFY_VPORT_STATE = 0x751,
    QUERY_ESW_VPORT_CONTEXT = 0x752,
    MODIFY_ESW_VPORT_CONTEXT = 0x753,
    QUERY_NIC_VPORT_CONTEXT = 0x754,
    MODIFY_NIC_VPORT_CONTEXT = 0x755,
    QUERY_VPORT_COUNTER = 0x770,
    ALLOC_Q_COUNTER = 0x771,
    DEALLOC_Q_COUNTER = 0x772,
    QUERY_Q_COUNTER = 0x773,
    ALLOC_PD = 0x800,
    DEALLOC_PD = 0x801,
    ALLOC_UAR = 0x802,
    DEALLOC_UAR = 0x803,
    ACCESS_REG = 0x805,
    ALLOC_TRANSPORT_DOMAIN = 0x816,
    DEALLOC_TRANSPORT_DOMAIN = 0x817,
    SET_L2_TABLE_ENTRY = 0x829,
    DELETE_L2_TABLE_ENTRY = 0x82b,
    CREATE_TIR = 0x900,
    MODIFY_TIR = 0x901,
    DESTROY_TIR = 0x902,
    CREATE_SQ = 0x904,
    MODIFY_SQ = 0x905,
    DESTROY_SQ = 0x906,
    QUERY_SQ = 0x907,
    CREATE_RQ = 0x908,
    MODIFY_RQ = 0x909,
    DESTROY_RQ = 0x90a,
    QUERY_RQ = 0x90b,
    CREATE_TIS = 0x912,
    DESTROY_TIS = 0x914,
    CREATE_RQT = 0x916,
    MODIFY_RQT = 0x917,
    DESTROY_RQT = 0x918,
    SET_FLOW_TABLE_ROOT = 0x92f,
    CREATE_FLOW_TABLE = 0x930,
    DESTROY_FLOW_TABLE = 0x931,
    CREATE_FLOW_GROUP = 0x933,
    DESTROY_FLOW_GROUP = 0x934,
    SET_FLOW_TABLE_ENTRY = 0x936,
    DELETE_FLOW_TABLE_ENTRY = 0x938,
    ALLOC_FLOW_COUNTER = 0x939,
    DEALLOC_FLOW_COUNTER = 0x93a,
    QUERY_FLOW_COUNTER = 0x93b,
    MODIFY_FLOW_TABLE = 0x93c,
    CREATE_GENERAL_OBJECT = 0xa00,
    MODIFY_GENERAL_OBJECT = 0xa01,
    QUERY_GENERAL_OBJECT = 0xa02,
    DESTROY_GENERAL_OBJECT = 0xa03,
}

/// Whether a command names a VHCA with [`VHCA_ID`].
pub fn is_about_vhca(opcode: u16) -> bool {
    (SUSPEND_VHCA..=LOAD_VHCA_STATE).contains(&opcode)
}

/// Whether a command creates an object.
pub fn is_create(opcode: u16) -> bool {
    matches!(
        opcode,
        CREATE_MKEY
            | CREATE_EQ
            | CREATE_CQ
            | CREATE_QP
            | CREATE_GENERAL_OBJECT
            | ALLOC_PD
            | ALLOC_UAR
            | ALLOC_Q_COUNTER
            | ALLOC_FLOW_COUNTER
            | ALLOC_TRANSPORT_DOMAIN
            | CREATE_TIR
            | CREATE_SQ
            | CREATE_RQ
            | CREATE_TIS
            | CREATE_RQT
            | CREATE_FLOW_TABLE
            | CREATE_FLOW_GROUP
    )
}

/// Whether a command destroys an object.
pub fn is_destroy(opcode: u16) -> bool {
    matches!(
        opcode,
        DESTROY_MKEY
            | DESTROY_EQ
            | DESTROY_CQ
            | DESTROY_QP
            | DESTROY_GENERAL_OBJECT
            | DEALLOC_PD
            | DEALLOC_UAR
            | DEALLOC_Q_COUNTER
            | DEALLOC_FLOW_COUNTER
            | DEALLOC_TRANSPORT_DOMAIN
            | DESTROY_TIR
            | DESTROY_SQ
            | DESTROY_RQ
            | DESTROY_TIS
            | DESTROY_RQT
            | DESTROY_FLOW_TABLE
            | DESTROY_FLOW_GROUP
    )
}

/// `MLX5_CMD_STAT_*`: how a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// OK
    Ok = 0x0,
    /// BAD_OP_ERR
    BadOp = 0x2,
    /// BAD_PARAM_ERR
    BadParam = 0x3,
    /// BAD_SYS_STATE_ERR
    BadSysState = 0x4,
    /// BAD_RES_ERR
    BadRes = 0x5,
    /// LIM_ERR
    Lim = 0x8,
    /// BAD_RES_STATE_ERR
    BadResState = 0x9,
    /// IX_ERR
    Index = 0xa,
    /// BAD_INP_LEN_ERR
    BadInputLen = 0x50,
    /// BAD_OUTP_LEN_ERR
    BadOutputLen = 0x51,
}

/// `MLX5_CMD_DELIVERY_STAT_*`: how a command reached the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Delivery {
    /// OK
    Ok = 0x0,
    /// SIGNAT_ERR
    Signature = 0x1,
    /// TOK_ERR
    Token = 0x2,
    /// BAD_BLK_NUM_ERR
    BlockNumber = 0x3,
    /// OUT_PTR_ALIGN_ERR
    OutAlign = 0x4,
    /// IN_PTR_ALIGN_ERR
    InAlign = 0x5,
    /// IN_LENGTH_ERR
    InLength = 0x7,
    /// OUT_LENGTH_ERR
    OutLength = 0x8,
    /// CMD_DESCR_ERR
    Descriptor = 0x10,
}

/// `MLX5_EVENT_TYPE_*`: what an EQE is about.
pub mod event {
    /// A completion on a CQ.
    pub const COMP: u8 = 0x00;
    /// A CQ has failed.
    pub const CQ_ERROR: u8 = 0x04;
    /// A QP has failed.
    pub const WQ_CATAS_ERROR: u8 = 0x05;
    /// The port has gone up or down.
    pub const PORT_CHANGE: u8 = 0x09;
    /// A command that ended.
    pub const CMD: u8 = 0x0a;
    /// Firmware wants pages, or gives them back.
    pub const PAGE_REQUEST: u8 = 0x0b;
    /// A virtual port has changed.
    pub const NIC_VPORT_CHANGE: u8 = 0x0d;
    /// A general object has changed its state.
    pub const OBJECT_CHANGE: u8 = 0x27;
}

/// `vhca_id` of suspend_vhca_in, and of the other migration commands.
pub const VHCA_ID: Field = field(0xa, 0, 16);
/// query_vhca_migration_state_in, save_vhca_state_in: `incremental`.
pub const INCREMENTAL: Field = field(0x8, 0, 1);
/// save_vhca_state_in: `set_track`.
pub const SET_TRACK: Field = field(0x8, 1, 1);
/// query_vhca_migration_state_in: `chunk`.
pub const CHUNK: Field = field(0x8, 1, 1);
/// save_vhca_state_in, load_vhca_state_in: `mkey`.
pub const STATE_MKEY: Field = field(0x18, 0, 32);
/// save_vhca_state_in, load_vhca_state_in: `size`.
pub const STATE_SIZE: Field = field(0x1c, 0, 32);
/// query_vhca_migration_state_out: `migration_state`.
pub const MIGRATION_STATE: Field = field(0xc, 0, 4);
/// query_vhca_migration_state_out: `required_umem_size`.
pub const REQUIRED_UMEM_SIZE: Field = field(0x10, 0, 32);
/// query_vhca_migration_state_out: `remaining_total_size`.
pub const REMAINING_TOTAL_SIZE: Field = field(0x18, 0, 64);
/// save_vhca_state_out: `actual_image_size`.
pub const ACTUAL_IMAGE_SIZE: Field = field(0x8, 0, 32);
/// save_vhca_state_out: `next_required_umem_size`.
pub const NEXT_REQUIRED_UMEM_SIZE: Field = field(0xc, 0, 32);

/// create_eq_in: `eq_context_entry`.`log_eq_size`.
pub const EQ_LOG_SIZE: Field = field(0x10 + 0xc, 3, 5);
/// create_eq_in: `eq_context_entry`.`uar_page`.
pub const EQ_UAR: Field = field(0x10 + 0xd, 0, 24);
/// create_eq_in: `eq_context_entry`.`intr`.
pub const EQ_INTR: Field = field(0x10 + 0x16, 4, 12);
/// create_eq_in: `eq_context_entry`.`log_page_size`.
pub const EQ_LOG_PAGE_SIZE: Field = field(0x10 + 0x18, 3, 5);
/// create_eq_in: `event_bitmask`, the word for events 0 to 63.
pub const EQ_EVENTS: Field = field(0x58, 0, 64);
/// create_eq_in: `pas`.
pub const EQ_PAS: usize = 0x110;
/// create_eq_out, destroy_eq_in: `eq_number`.
pub const EQ_NUMBER: Field = field(0xb, 0, 8);

/// query_hca_cap_in: `other_function`.
pub const CAP_OTHER_FUNCTION: Field = field(0x8, 0, 1);
/// `function_id` of query_hca_cap_in, manage_pages_in, query_pages_in,
/// enable_hca_in and disable_hca_in.
pub const FUNCTION_ID: Field = field(0xa, 0, 16);
/// query_pages_out: `num_pages`; manage_pages_in: `input_num_entries`.
pub const NUM_PAGES: Field = field(0xc, 0, 32);
/// manage_pages_out: `output_num_entries`.
pub const OUTPUT_NUM_ENTRIES: Field = field(0x8, 0, 32);
/// manage_pages_in, manage_pages_out: `pas`.
pub const MANAGE_PAGES_PAS: usize = 0x10;

/// set_hca_cap_in: `capability`; query_hca_cap_out: the same.
pub const CAPABILITY: usize = 0x10;

/// query_adapter_out: where `query_adapter_struct` is.
const ADAPTER: usize = 0x10;
/// query_adapter_param_block: `ieee_vendor_id`.
pub const IEEE_VENDOR_ID: Field = field(ADAPTER + 0x19, 0, 24);
/// query_adapter_param_block: `vsd_vendor_id`.
pub const VSD_VENDOR_ID: Field = field(ADAPTER + 0x1e, 0, 16);
/// query_adapter_param_block: `vsd_contd_psid`.
pub const PSID: usize = ADAPTER + 0xf0;

/// query_issi_out: `supported_issi_dw0`.
pub const SUPPORTED_ISSI_DW0: Field = field(0x6c, 0, 32);
/// set_issi_in: `current_issi`.
pub const CURRENT_ISSI: Field = field(0xa, 0, 16);

/// The 24-bit number in alloc_pd_out, alloc_uar_out, create_mkey_out, and in
/// the commands that undo them.
pub const OBJECT: Field = field(0x9, 0, 24);

/// create_mkey_in: `pg_access`.
pub const MKEY_PG_ACCESS: Field = field(0xc, 0, 1);
/// create_mkey_in: where `memory_key_mkey_entry` is.
const MKC: usize = 0x10;
/// mkc: `free`.
pub const MKC_FREE: Field = field(MKC, 1, 1);
/// mkc: `access_mode_1_0`.
pub const MKC_ACCESS_MODE: Field = field(MKC + 0x2, 6, 2);
/// mkc: `lw`.
pub const MKC_LW: Field = field(MKC + 0x2, 4, 1);
/// mkc: `lr`.
pub const MKC_LR: Field = field(MKC + 0x2, 5, 1);
/// mkc: `mkey_7_0`.
pub const MKC_KEY: Field = field(MKC + 0x7, 0, 8);
/// mkc: `pd`.
pub const MKC_PD: Field = field(MKC + 0xd, 0, 24);
/// mkc: `start_addr`.
pub const MKC_START: Field = field(MKC + 0x10, 0, 64);
/// mkc: `len`.
pub const MKC_LEN: Field = field(MKC + 0x18, 0, 64);
/// mkc: `translations_octword_size`.
pub const MKC_OCTWORDS: Field = field(MKC + 0x34, 0, 32);
/// mkc: `log_page_size`.
pub const MKC_LOG_PAGE_SIZE: Field = field(MKC + 0x3b, 2, 6);
/// create_mkey_in: `translations_octword_actual_size`.
pub const MKEY_ACTUAL_OCTWORDS: Field = field(0x60, 0, 32);
/// create_mkey_in: `klm_pas_mtt`.
pub const MKEY_MTT: usize = 0x110;
/// MLX5_MKC_ACCESS_MODE_MTT.
pub const ACCESS_MODE_MTT: u64 = 1;

/// create_cq_in: where `cq_context` is.
const CQC: usize = 0x10;
/// cqc: `cqe_sz`.
pub const CQC_CQE_SZ: Field = field(CQC + 0x1, 0, 3);
/// cqc: `log_cq_size`.
pub const CQC_LOG_SIZE: Field = field(CQC + 0xc, 3, 5);
/// cqc: `uar_page`.
pub const CQC_UAR: Field = field(CQC + 0xd, 0, 24);
/// cqc: `c_eqn_or_apu_element`.
pub const CQC_EQN: Field = field(CQC + 0x14, 0, 32);
/// cqc: `log_page_size`.
pub const CQC_LOG_PAGE_SIZE: Field = field(CQC + 0x18, 3, 5);
/// cqc: `dbr_addr`.
pub const CQC_DBR: Field = field(CQC + 0x38, 0, 64);
/// create_cq_in, create_qp_in: `pas`.
pub const QUEUE_PAS: usize = 0x110;

/// create_qp_in, init2rtr_qp_in: where `qpc` is.
const QPC: usize = 0x18;
/// qpc: `st`.
pub const QPC_ST: Field = field(QPC + 0x1, 0, 8);
/// qpc: `pd`.
pub const QPC_PD: Field = field(QPC + 0x5, 0, 24);
/// qpc: `log_rq_size`.
pub const QPC_LOG_RQ_SIZE: Field = field(QPC + 0x9, 1, 4);
/// qpc: `log_rq_stride`.
pub const QPC_LOG_RQ_STRIDE: Field = field(QPC + 0x9, 5, 3);
/// qpc: `no_sq`.
pub const QPC_NO_SQ: Field = field(QPC + 0xa, 0, 1);
/// qpc: `log_page_size`.
pub const QPC_LOG_PAGE_SIZE: Field = field(QPC + 0x14, 3, 5);
/// qpc: `remote_qpn`.
pub const QPC_REMOTE_QPN: Field = field(QPC + 0x15, 0, 24);
/// qpc: `cqn_rcv`.
pub const QPC_CQN_RCV: Field = field(QPC + 0x9d, 0, 24);
/// qpc: `dbr_addr`.
pub const QPC_DBR: Field = field(QPC + 0xa0, 0, 64);
/// qpc: `rq_type`.
pub const QPC_RQ_TYPE: Field = field(QPC + 0xac, 5, 3);

/// general_obj_in_cmd_hdr: `obj_type`.
pub const OBJ_TYPE: Field = field(0x6, 0, 16);
/// general_obj_in_cmd_hdr, general_obj_out_cmd_hdr: `obj_id`.
pub const OBJ_ID: Field = field(0x8, 0, 32);
/// MLX5_OBJ_TYPE_PAGE_TRACK.
pub const OBJ_PAGE_TRACK: u16 = 0x46;
/// Where `obj_context`, a page_track, is in inputs and outputs.
const TRACK: usize = 0x10;
/// page_track: `modify_field_select`.
pub const TRACK_MODIFY: Field = field(TRACK, 0, 64);
/// page_track: `vhca_id`.
pub const TRACK_VHCA: Field = field(TRACK + 0xa, 0, 16);
/// page_track: `state`.
pub const TRACK_STATE: Field = field(TRACK + 0x10, 0, 4);
/// page_track: `log_addr_space_size`.
pub const TRACK_LOG_SPACE: Field = field(TRACK + 0x11, 0, 8);
/// page_track: `log_page_size`.
pub const TRACK_LOG_PAGE: Field = field(TRACK + 0x12, 3, 5);
/// page_track: `log_msg_size`.
pub const TRACK_LOG_MSG: Field = field(TRACK + 0x13, 3, 5);
/// page_track: `reporting_qpn`.
pub const TRACK_QPN: Field = field(TRACK + 0x15, 0, 24);
/// page_track: `num_ranges`.
pub const TRACK_NUM_RANGES: Field = field(TRACK + 0x1b, 0, 8);
/// page_track: `range_start_address`.
pub const TRACK_START: Field = field(TRACK + 0x20, 0, 64);
/// page_track: `length`.
pub const TRACK_LENGTH: Field = field(TRACK + 0x28, 0, 64);
/// page_track: `track_range`.
pub const TRACK_RANGES: usize = TRACK + 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_its_bits_and_no_others() {
        for (byte, bit, width) in [(0, 0, 1), (0, 7, 2), (1, 3, 5), (2, 4, 64), (3, 0, 32)] {
            let field = field(byte, bit, width);
            for filled in [0, 0xff] {
                let mut buf = [filled; 12];
                let value = 0x1234_5678_9abc_def1 & (u64::MAX >> (64 - width));
                // What is more than the field has is lost.
                field.set(&mut buf, value | (u64::MAX << (width - 1) << 1));
                assert_eq!(field.get(&buf), value);
                for at in (0..96).filter(|at| !field.bits().contains(at)) {
                    let bit = (buf[at / 8] >> (7 - at % 8)) & 1;
                    assert_eq!(bit, filled & 1);
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_a_buffer_is_zero_or_lost() {
        let field = field(1, 4, 16);
        let mut buf = [0; 2];
        field.set(&mut buf, 0xffff);
        assert_eq!(buf, [0, 0x0f]);
        assert_eq!(field.get(&buf), 0xf000);
        assert_eq!(field.get(&[]), 0);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Lies of the emulated HCA: what a hostile device says, and no honest one.

use mlx5_emu_regs as regs;
use std::time::Duration;

/// A field: its first bit, and its width.
#[derive(Clone, Copy, Debug)]
pub struct Field(u16, u16);

/// The field that begins `bit` bits into byte `byte`.
const fn field(byte: u16, bit: u16, width: u16) -> Field {
    Field(byte * 8 + bit, width)
}

/// Fields of answers (`include/linux/mlx5/mlx5_ifc.h`).
pub mod answer {
    use super::{
        field,
        Field, //
    };

    /// `syndrome` of any command.
    pub const SYNDROME: Field = field(0x4, 0, 32);
    /// Number of what CREATE_CQ, CREATE_QP, CREATE_MKEY or ALLOC_PD has made.
    pub const NUMBER: Field = field(0x8, 8, 24);
    /// `obj_id` of CREATE_GENERAL_OBJECT.
    pub const OBJECT: Field = field(0x8, 0, 32);
    /// `state` of QUERY_GENERAL_OBJECT of a page tracker.
    pub const TRACK_STATE: Field = field(0x20, 0, 4);
    /// `required_umem_size` of QUERY_VHCA_MIGRATION_STATE.
    pub const REQUIRED: Field = field(0x10, 0, 32);
    /// `remaining_total_size` of it.
    pub const REMAINING: Field = field(0x18, 0, 64);
    /// `actual_image_size` of SAVE_VHCA_STATE.
    pub const IMAGE: Field = field(0x8, 0, 32);
    /// `next_required_umem_size` of it.
    pub const NEXT: Field = field(0xc, 0, 32);
    /// `vhca_id` of QUERY_HCA_CAP, general capabilities.
    pub const VHCA_ID: Field = field(0x16, 0, 16);
    /// `cqe_version` of it.
    pub const CQE_VERSION: Field = field(0x4f, 4, 4);
    /// `migration` of it.
    pub const MIGRATION: Field = field(0xe1, 5, 1);
    /// `migratable` of QUERY_HCA_CAP, general capabilities 2.
    pub const MIGRATABLE: Field = field(0x20, 0, 1);
    /// `migration_multi_load` of it.
    pub const MULTI_LOAD: Field = field(0x29, 0, 1);
    /// `migration_tracking_state` of it.
    pub const TRACKING_STATE: Field = field(0x29, 1, 1);
    /// `migration_in_chunks` of it.
    pub const IN_CHUNKS: Field = field(0x2a, 0, 1);
    /// `migration_state` of it.
    pub const MIGRATION_STATE: Field = field(0x2b, 1, 1);
    /// `pg_track_max_num_range` of QUERY_HCA_CAP, advanced virtualization.
    pub const MAX_RANGES: Field = field(0x11, 0, 8);
    /// `pg_track_log_min_addr_space` of it.
    pub const MIN_SPACE: Field = field(0x12, 0, 8);
    /// `pg_track_log_max_addr_space` of it.
    pub const MAX_SPACE: Field = field(0x13, 0, 8);
    /// `pg_track_log_min_msg_size` of it.
    pub const MIN_MESSAGE: Field = field(0x14, 3, 5);
    /// `pg_track_log_max_msg_size` of it.
    pub const MAX_MESSAGE: Field = field(0x15, 3, 5);
    /// `pg_track_log_min_page_size` of it.
    pub const MIN_PAGE: Field = field(0x16, 3, 5);
    /// `pg_track_log_max_page_size` of it.
    pub const MAX_PAGE: Field = field(0x17, 3, 5);
}

/// Fields of completion queue entries (`struct mlx5_cqe64`).
pub mod cqe {
    use super::{
        field,
        Field, //
    };

    /// What the tracker does next, in `immediate`.
    pub const STATE: Field = field(36, 0, 4);
    /// `byte_cnt`.
    pub const BYTES: Field = field(44, 0, 32);
    /// `wqe_counter`.
    pub const COUNTER: Field = field(60, 0, 16);
    /// The opcode in `op_own`.
    pub const OPCODE: Field = field(63, 0, 4);
    /// The owner bit in `op_own`. It can be set, and not cleared.
    pub const OWNER: Field = field(63, 7, 1);
}

/// `op_mod` of QUERY_HCA_CAP.
pub mod capability {
    /// General capabilities, as they are now.
    pub const GENERAL: u16 = 0x01;
    /// General capabilities 2, at most.
    pub const GENERAL_2: u16 = 0x40;
    /// General capabilities 2, as they are now.
    pub const GENERAL_2_NOW: u16 = 0x41;
    /// Advanced virtualization, as it is now.
    pub const ADV_VIRTUALIZATION: u16 = 0x4d;
}

/// A lie: by default about the next command or message, of any VHCA.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    opcode: u16,
    nth: u32,
    kind: u8,
    event: u8,
    op_mod: u16,
    field: Field,
    value: u64,
    times: u64,
}

impl Lie {
    const fn new(opcode: u16, kind: u8, value: u64) -> Self {
        Self {
            opcode,
            nth: 1,
            kind,
            event: 0,
            op_mod: regs::LIE_ANY_OP_MOD,
            field: Field(0, 0),
            value,
            times: 1,
        }
    }

    /// A field of a command's answer has a value.
    pub const fn answer(opcode: u16, field: Field, value: u64) -> Self {
        Self {
            field,
            ..Self::new(opcode, regs::LIE_ANSWER, value)
        }
    }

    /// A command was carried out, it is said.
    pub const fn undone(opcode: u16) -> Self {
        Self::new(opcode, regs::LIE_UNDONE, 0)
    }

    /// With a command, `count` events of a type come about an object with a number, or about the
    /// page tracker that the command is about.
    pub const fn events(opcode: u16, event: u8, number: Option<u32>, count: u16) -> Self {
        let number = match number {
            Some(number) => number,
            None => regs::LIE_OWN,
        };
        let value = regs::lie_events(number, count, 0);
        Self {
            event,
            ..Self::new(opcode, regs::LIE_EVENTS, value)
        }
    }

    /// Those events come one after the other.
    pub const fn every(self, time: Duration) -> Self {
        // CAST: Times are a few milliseconds.
        let ms = time.as_millis() as u16;
        Self {
            value: self.value | regs::lie_events(0, 0, ms),
            ..self
        }
    }

    /// A field of a message's completion queue entry has a value.
    pub const fn completion(field: Field, value: u64) -> Self {
        Self {
            field,
            ..Self::new(0, regs::LIE_COMPLETION, value)
        }
    }

    /// A message has `more` entries more.
    pub const fn again(more: u64) -> Self {
        Self::new(0, regs::LIE_AGAIN, more)
    }

    /// All addresses in a message are this one.
    pub const fn addresses(address: u64) -> Self {
        Self::new(0, regs::LIE_ADDRESSES, address)
    }

    /// Messages are full of this address, and none is the last one.
    pub const fn endless(address: u64) -> Self {
        Self::new(0, regs::LIE_ENDLESS, address).always()
    }

    /// `count` events come whenever the driver arms the CQ.
    pub const fn armed(count: u64) -> Self {
        Self::new(0, regs::LIE_ARMED, count).always()
    }

    /// Only of commands with this `op_mod`.
    pub const fn op_mod(self, op_mod: u16) -> Self {
        Self { op_mod, ..self }
    }

    /// The `nth` one from now on; 1 is the next.
    pub const fn nth(self, nth: u32) -> Self {
        Self { nth, ..self }
    }

    /// `more` later than it is.
    pub const fn later(self, more: u32) -> Self {
        Self {
            nth: self.nth + more,
            ..self
        }
    }

    /// All that follow.
    pub const fn always(self) -> Self {
        Self { times: 0, ..self }
    }

    /// The arguments of the command that arms it.
    pub fn args(&self) -> [u64; 4] {
        let Field(bit, width) = self.field;
        [
            regs::fault_what(self.opcode, regs::FAULT_ANY_VHCA, self.nth),
            regs::lie_how(self.kind, self.event, self.op_mod, (bit, width)),
            self.value,
            self.times,
        ]
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A page tracker, as a driver makes one and has it report.

use super::driver::{
    command,
    Machine,
    DATA, //
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        event,
        Field, //
    },
};
use mlx5_emu_regs as regs;

/// Where things are; the mkey is over the 512 KiB from [`DATA`] on.
pub(super) const EQ: u64 = DATA + 0x8_0000;
const CQ: u64 = EQ + 0x1000;
const RQ: u64 = EQ + 0x2000;
pub(super) const CQ_RECORD: u64 = EQ + 0x3000;
const RQ_RECORD: u64 = EQ + 0x3040;
/// Memory that VF 1 writes to, and that is tracked.
pub(super) const TRACKED: u64 = DATA + 0x10_0000;
pub(super) const PAGES: u64 = 256;
/// Messages of 512 bytes have 64 addresses.
pub(super) const LOG_MESSAGE: u64 = 9;
pub(super) const ENTRIES: u64 = 64;
pub(super) const EVENT_VECTOR: u64 = 3;

pub(super) struct Tracked {
    pub(super) machine: Machine,
    pub(super) uar: u64,
    pub(super) cqn: u64,
    pub(super) id: u64,
    pub(super) posted: u32,
}

pub(super) fn input(opcode: u16, len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut input = command(opcode, 0, len);
    for (field, value) in fields {
        field.set(&mut input, *value);
    }
    input
}

/// Sends a command that has to go well, and returns its output.
pub(super) fn send(machine: &mut Machine, input: &[u8]) -> Vec<u8> {
    let reply = machine.send(input, 0x80);
    assert_eq!(reply.status(), 0, "{:?}", machine.memory.violations);
    reply.output
}

fn with_pas(mut input: Vec<u8>, at: usize, page: u64) -> Vec<u8> {
    input[at..at + 8].copy_from_slice(&page.to_be_bytes());
    input
}

/// CREATE_GENERAL_OBJECT of a tracker of VF 1.
pub(super) fn create(sender: u64, log_message: u64) -> Vec<u8> {
    let track = [
        (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
        (ifc::TRACK_VHCA, 1),
        (ifc::TRACK_LOG_SPACE, 20),
        (ifc::TRACK_LOG_PAGE, 12),
        (ifc::TRACK_LOG_MSG, log_message),
        (ifc::TRACK_QPN, sender),
        (ifc::TRACK_NUM_RANGES, 1),
    ];
    let track = input(ifc::CREATE_GENERAL_OBJECT, ifc::TRACK_RANGES + 16, &track);
    let track = with_pas(track, ifc::TRACK_RANGES, TRACKED);
    with_pas(track, ifc::TRACK_RANGES + 8, PAGES * 4096)
}

/// CREATE_CQ.
pub(super) fn create_cq(uar: u64, eq: u64) -> Vec<u8> {
    let cq = [
        (ifc::CQC_LOG_SIZE, 3),
        (ifc::CQC_UAR, uar),
        (ifc::CQC_EQN, eq),
        (ifc::CQC_DBR, CQ_RECORD),
    ];
    let cq = input(ifc::CREATE_CQ, ifc::QUEUE_PAS + 8, &cq);
    with_pas(cq, ifc::QUEUE_PAS, CQ)
}

impl Tracked {
    pub(super) fn new() -> Self {
        let mut machine = Machine::with_vfs();
        let key = machine.data_mkey();
        let pd = send(&mut machine, &command(ifc::ALLOC_PD, 0, 16));
        let pd = ifc::OBJECT.get(&pd);
        let uar = send(&mut machine, &command(ifc::ALLOC_UAR, 0, 16));
        let uar = ifc::OBJECT.get(&uar);
        let eq = [
            (ifc::EQ_LOG_SIZE, 5),
            (ifc::EQ_UAR, uar),
            (ifc::EQ_INTR, EVENT_VECTOR),
            (
                ifc::EQ_EVENTS,
                [event::OBJECT_CHANGE, event::WQ_CATAS_ERROR, event::CQ_ERROR]
                    .iter()
                    .fold(0, |events, kind| events | (1 << kind)),
            ),
        ];
        let eq = input(ifc::CREATE_EQ, ifc::EQ_PAS + 8, &eq);
        let eq = send(&mut machine, &with_pas(eq, ifc::EQ_PAS, EQ));
        let eq = ifc::EQ_NUMBER.get(&eq);
        machine.write_register(uar * 4096 + 0x40, (eq as u32) << 24);

        for i in 0..8 {
            machine.memory.bytes[(CQ + i * 64 + 63) as usize] = 0xf0;
        }
        let cq = send(&mut machine, &create_cq(uar, eq));
        let cqn = ifc::OBJECT.get(&cq);

        for i in 0..4u32 {
            let at = (RQ + u64::from(i) * 16) as usize;
            let words = [512, key, 0, i * 512].map(u32::to_be_bytes).concat();
            machine.memory.bytes[at..at + 16].copy_from_slice(&words);
        }
        let receiver = [
            (ifc::QPC_PD, pd),
            (ifc::QPC_NO_SQ, 1),
            (ifc::QPC_CQN_RCV, cqn),
            (ifc::QPC_LOG_RQ_SIZE, 2),
            (ifc::QPC_DBR, RQ_RECORD),
        ];
        let receiver = input(ifc::CREATE_QP, ifc::QUEUE_PAS + 8, &receiver);
        let receiver = send(&mut machine, &with_pas(receiver, ifc::QUEUE_PAS, RQ));
        let receiver = ifc::OBJECT.get(&receiver);
        let sender = [
            (ifc::QPC_PD, pd),
            (ifc::QPC_NO_SQ, 1),
            (ifc::QPC_RQ_TYPE, 3),
        ];
        let sender = input(ifc::CREATE_QP, ifc::QUEUE_PAS, &sender);
        let sender = ifc::OBJECT.get(&send(&mut machine, &sender));
        for (qp, remote, opcodes) in [
            (receiver, sender, &[ifc::RST2INIT_QP, ifc::INIT2RTR_QP][..]),
            (
                sender,
                receiver,
                &[ifc::RST2INIT_QP, ifc::INIT2RTR_QP, ifc::RTR2RTS_QP],
            ),
        ] {
            for opcode in opcodes {
                let fields = [(ifc::OBJECT, qp), (ifc::QPC_REMOTE_QPN, remote)];
                send(&mut machine, &input(*opcode, 0x110, &fields));
            }
        }

        let track = create(sender, LOG_MESSAGE);
        let id = ifc::OBJ_ID.get(&send(&mut machine, &track));
        Self {
            machine,
            uar,
            cqn,
            id,
            posted: 0,
        }
    }

    pub(super) fn word(&mut self, at: u64, value: u32) {
        self.machine.memory.bytes[at as usize..at as usize + 4]
            .copy_from_slice(&value.to_be_bytes());
    }

    /// Posts that many receives more.
    pub(super) fn post(&mut self, count: u32) {
        self.posted += count;
        self.word(RQ_RECORD, self.posted);
    }

    fn control(&mut self, command: u32, args: [u64; 4]) {
        let (hca, memory) = (&mut self.machine.hca, &mut self.machine.memory);
        let status = hca.fault_command(memory, FunctionId::PF, command, args);
        assert_eq!(status, regs::STATUS_OK);
    }

    /// Has the next report go wrong.
    pub(super) fn fault(&mut self, fault: u64) {
        self.control(regs::CMD_TRACK_FAULT, [fault, 1, 0, 0]);
    }

    /// Has what is held be released.
    pub(super) fn release(&mut self) {
        self.control(regs::CMD_RELEASE, [0; 4]);
    }

    /// Has VF 1 write to `count` pages from the first on.
    pub(super) fn work(&mut self, count: u64) {
        let write = |machine: &mut Machine, offset: u64, value: u64| {
            for (i, half) in [value as u32, (value >> 32) as u32].into_iter().enumerate() {
                let at = regs::BLOCK + offset + i as u64 * 4;
                machine
                    .hca
                    .write(&mut machine.memory, FunctionId(1), at, half);
            }
        };
        write(&mut self.machine, regs::ARGS, TRACKED);
        write(&mut self.machine, regs::ARGS + 8, count * 4096);
        let at = regs::BLOCK + regs::CMD;
        self.machine.hca.write(
            &mut self.machine.memory,
            FunctionId(1),
            at,
            regs::CMD_DMA_WRITE,
        );
    }

    /// The request for a report of everything.
    pub(super) fn modify(&self) -> Vec<u8> {
        let fields = [
            (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
            (ifc::OBJ_ID, self.id),
            (ifc::TRACK_MODIFY, 0b11),
            (ifc::TRACK_STATE, 1),
            (ifc::TRACK_START, TRACKED),
            (ifc::TRACK_LENGTH, PAGES * 4096),
        ];
        input(ifc::MODIFY_GENERAL_OBJECT, ifc::TRACK_RANGES, &fields)
    }

    /// Asks for a report of everything. Returns the status.
    pub(super) fn report(&mut self) -> u8 {
        let modify = self.modify();
        self.machine.send(&modify, 16).status()
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.machine.memory.now += ns;
        self.machine.hca.timer(&mut self.machine.memory);
    }

    pub(super) fn time(&mut self) {
        self.pass(1_000_000);
    }

    /// The QP that reports are sent through.
    pub(super) fn sender(&self) -> u64 {
        let trackers = &self.machine.hca.functions[0].objects.trackers;
        trackers[&(self.id as u32)].qpn.into()
    }

    /// Type and data of event `i`.
    pub(super) fn event(&self, i: u64) -> (u8, &[u8]) {
        let eqe = &self.machine.memory.bytes[(EQ + i * 64) as usize..][..64];
        (eqe[1], &eqe[32..60])
    }

    /// Entry `i` of the CQ: `op_own`, bytes, state and entry of the queue.
    pub(super) fn cqe(&self, i: u64) -> (u8, u32, u32, u16) {
        let cqe = &self.machine.memory.bytes[(CQ + i * 64) as usize..][..64];
        let be32 = |at: usize| u32::from_be_bytes(cqe[at..at + 4].try_into().unwrap());
        let counter = u16::from_be_bytes([cqe[60], cqe[61]]);
        (cqe[63], be32(44), be32(36) >> 28, counter)
    }
}

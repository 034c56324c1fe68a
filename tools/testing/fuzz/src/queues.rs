// SPDX-License-Identifier: GPL-2.0

//! The emulated NIC: drivers that post anything to their send and receive queues, and frames
//! that come over the wire. The PF and a VF each have a send queue, a receive queue and a flow
//! table for all frames, so that what one sends the other receives.

use crate::{
    frames,
    machine::{
        self,
        Machine,
        DATA,
        OUTPUT, //
    },
};
use mlx5_emu::{
    config::Config,
    hca::Hca,
    host::FunctionId,
    ifc::{
        self,
        eswitch::UPLINK,
        ethernet::{
            flow,
            register,
            rqc,
            sqc,
            tirc,
            tisc,
            vport,
            wq,
            CONTEXT,
            COUNTER_SET,
            CURRENT_STATE,
            MKC_LENGTH64, //
        },
        event,
        flow_counter,
        Field, //
    },
    steering::kind::{
        COUNT,
        FORWARD, //
    },
    turn::SENDS, //
};
use mlx5_rust_logic::fuzz::{
    Input,
    Seed, //
};
use std::ops::Range;

/// Most steps of an input.
const STEPS: usize = 64;
/// Functions that have queues.
const FUNCTIONS: u16 = 2;
/// From the memory of one function's queues to that of the next.
const OWN: u64 = 0x8000;
/// Where queues are in it, and counters of what was posted and consumed.
const EQ: u64 = 0;
const CQ: u64 = 0x1000;
const CQ_RECORD: u64 = 0x2000;
const SQ_RECORD: u64 = 0x2044;
const RQ_RECORD: u64 = 0x2080;
const SQ: u64 = 0x3000;
const RQ: u64 = 0x4000;
/// Bytes of an EQ and a CQ, of 64 entries.
const EVENTS: u64 = 0x1000;
/// Entries of SQ and RQ, and bytes of each, as shifts.
const LOG_WQES: u64 = 4;
const LOG_WQE: u64 = 6;
const WQES: u64 = 1 << LOG_WQES;
const WQE: u64 = 1 << LOG_WQE;
/// Where there is memory for frames, in bytes.
pub const BUFFERS: u64 = DATA + FUNCTIONS as u64 * OWN;
pub const BUFFERS_LEN: u64 = 0x1_0000;
/// Shortest and longest frame that a port takes. The e-switch may give it a tag.
const MIN_FRAME: usize = 60;
const MAX_FRAME: usize = 1518;
const TAG: usize = 4;
/// Types of flow tables, and of destinations.
const NIC_RECEIVE: u64 = 0;
const FDB: u64 = 4;
const VPORT: u64 = 0;
const TIR: u64 = 2;
/// An lkey that ends a list of segments.
const TERMINATE: u32 = 0x100;
/// Opcodes of CQEs that tell of an error, and the syndrome of those that were flushed.
const ERRORS: [u8; 2] = [13, 14];
const FLUSHED: u8 = 5;

/// The lowest three bits of the byte that a step begins with; the next one is the function.
const SEND: u8 = 0;
const RECEIVE: u8 = 1;
/// A frame comes over the wire.
const FRAME: u8 = 2;
const MEMORY_WRITE: u8 = 3;
const REGISTER: u8 = 4;
const TIME: u8 = 5;
/// A queue is brought from one state to another.
const STATE: u8 = 6;
const COMMAND: u8 = 7;
const OF_VF: u8 = 1 << 3;
/// What is posted is also changed at random, is not told of in the record, or without a
/// doorbell.
const SPOILT: u8 = 1 << 4;
const NO_RECORD: u8 = 1 << 5;
const NO_DOORBELL: u8 = 1 << 6;

/// The bits of the byte that an input begins with: the drivers take completions from their
/// CQs at once, queues flush what they had when they fail, tags are stripped, and there is an
/// e-switch, which sends all frames to both functions and the wire.
pub const CONSUMED: u8 = 1 << 0;
pub const FLUSH: u8 = 1 << 1;
const STRIPPED: u8 = 1 << 2;
const ESWITCH: u8 = 1 << 3;

/// Commands about what is sent and received, for one byte to choose from.
pub const OPCODES: [u16; 35] = [
    ifc::CREATE_TIS,
    ifc::DESTROY_TIS,
    ifc::CREATE_TIR,
    ifc::MODIFY_TIR,
    ifc::DESTROY_TIR,
    ifc::CREATE_RQT,
    ifc::MODIFY_RQT,
    ifc::DESTROY_RQT,
    ifc::CREATE_SQ,
    ifc::MODIFY_SQ,
    ifc::QUERY_SQ,
    ifc::DESTROY_SQ,
    ifc::CREATE_RQ,
    ifc::MODIFY_RQ,
    ifc::QUERY_RQ,
    ifc::DESTROY_RQ,
    ifc::MODIFY_CQ,
    ifc::DESTROY_CQ,
    ifc::DESTROY_MKEY,
    ifc::MODIFY_NIC_VPORT_CONTEXT,
    ifc::QUERY_NIC_VPORT_CONTEXT,
    ifc::QUERY_VPORT_COUNTER,
    ifc::ACCESS_REG,
    ifc::MODIFY_FLOW_TABLE,
    ifc::SET_FLOW_TABLE_ENTRY,
    ifc::CREATE_FLOW_TABLE,
    ifc::CREATE_FLOW_GROUP,
    ifc::SET_FLOW_TABLE_ROOT,
    ifc::MODIFY_ESW_VPORT_CONTEXT,
    ifc::MODIFY_VPORT_STATE,
    ifc::SET_L2_TABLE_ENTRY,
    ifc::ALLOC_FLOW_COUNTER,
    ifc::DEALLOC_FLOW_COUNTER,
    ifc::QUERY_FLOW_COUNTER,
    ifc::QUERY_VPORT_STATE,
];

/// What a function may write besides its output.
#[derive(Default)]
struct Own {
    cq: Range<u64>,
    eq: Range<u64>,
    rq: Range<u64>,
    /// Memory that the receive WQE has that was read last.
    segments: Vec<Range<u64>>,
    /// The CQE that is being written, and where.
    cqe: (u64, Vec<u8>),
    /// CQEs that were written.
    completions: u32,
}

/// Panics if a function writes what its driver has not given it.
pub struct Guard {
    functions: Vec<Own>,
    /// CQEs of an error that came first.
    errors: u64,
}

fn covers(range: &Range<u64>, addr: u64, len: usize) -> bool {
    range.contains(&addr) && len as u64 <= range.end - addr
}

impl Guard {
    fn new() -> Self {
        let own = |function: u16| {
            let base = base(function);
            Own {
                cq: base + CQ..base + CQ + EVENTS,
                eq: base + EQ..base + EQ + EVENTS,
                rq: base + RQ..base + RQ + WQES * WQE,
                ..Own::default()
            }
        };
        Self {
            functions: (0..FUNCTIONS).map(own).collect(),
            errors: 0,
        }
    }

    /// A function has read memory.
    pub fn read(&mut self, function: FunctionId, addr: u64, bytes: &[u8]) {
        let Some(own) = self.functions.get_mut(usize::from(function.0)) else {
            return;
        };
        if bytes.len() as u64 != WQE || !covers(&own.rq, addr, bytes.len()) {
            return;
        }
        let word = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().expect("a word"));
        own.segments = (0..bytes.len())
            .step_by(16)
            .take_while(|at| word(at + 4) != TERMINATE)
            .map(|at| {
                let addr = (u64::from(word(at + 8)) << 32) | u64::from(word(at + 12));
                addr..addr.saturating_add((word(at) & 0x7fff_ffff).into())
            })
            .collect();
    }

    /// A function writes memory.
    pub fn write(&mut self, function: FunctionId, addr: u64, bytes: &[u8]) {
        if OUTPUT.iter().any(|range| covers(range, addr, bytes.len())) {
            return;
        }
        let own = self.functions.get_mut(usize::from(function.0));
        let own = own.expect("a function that has queues");
        let covered = |range: &Range<u64>| covers(range, addr, bytes.len());
        if bytes.is_empty() || own.segments.iter().any(covered) || covered(&own.eq) {
            return;
        }
        assert!(covered(&own.cq), "{addr:#x}, {} bytes", bytes.len());
        // A CQE is written without its last byte, and then that.
        let (at, cqe) = std::mem::replace(&mut own.cqe, (addr, bytes.to_vec()));
        if let [op_own] = bytes {
            assert_eq!((at + 63, cqe.len()), (addr, 63));
            own.completions += 1;
            let first = ERRORS.contains(&(op_own >> 4)) && cqe[55] != FLUSHED;
            self.errors += u64::from(first);
        }
    }
}

/// Where the memory of a function's queues is.
pub fn base(function: u16) -> u64 {
    DATA + u64::from(function) * OWN
}

/// What a function's driver has.
pub struct Driver {
    pub uar: u32,
    pub cqn: u32,
    pub eqn: u32,
    pub sqn: u32,
    pub rqn: u32,
    /// Keys of all memory, of memory that is only read, and of another domain.
    pub keys: [u32; 3],
    /// What was posted.
    sends: u16,
    receives: u32,
}

/// The HCA, its machine and its drivers.
pub struct Model {
    pub hca: Hca,
    pub machine: Machine,
    pub drivers: Vec<Driver>,
    options: u8,
    /// Of commands that prepare the queues.
    violations: u64,
}

pub fn command(opcode: u16, len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut input = vec![0; len];
    for (field, value) in fields {
        field.set(&mut input, *value);
    }
    ifc::OPCODE.set(&mut input, opcode.into());
    input
}

/// A command with a context.
pub fn with_context(opcode: u16, len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut input = command(opcode, CONTEXT + len, &[]);
    for (field, value) in fields {
        field.set(&mut input[CONTEXT..], *value);
    }
    input
}

pub fn with_page(mut input: Vec<u8>, page: u64) -> Vec<u8> {
    input.extend_from_slice(&page.to_be_bytes());
    input
}

/// MODIFY_SQ or MODIFY_RQ.
fn set_state(opcode: u16, number: u32, from: u64, to: u64) -> Vec<u8> {
    let mut input = with_context(opcode, wq::CONTEXT_LEN, &[(wq::STATE, to)]);
    ifc::OBJECT.set(&mut input, number.into());
    CURRENT_STATE.set(&mut input, from);
    input
}

impl Model {
    /// Returns an HCA whose PF and first VF have drivers with queues.
    pub fn new(options: u8) -> Self {
        let config = Config {
            vfs: 2,
            network: Some([2, 0, 0, 0, 0, 7]),
            ..Config::default()
        };
        let mut model = Self {
            hca: Hca::new(config),
            machine: Machine::new((BUFFERS + BUFFERS_LEN) as usize),
            drivers: Vec::new(),
            options,
            violations: 0,
        };
        model.machine.begin(&mut model.hca);
        let mut port = command(ifc::ACCESS_REG, 0x20, &[(register::ID, register::PAOS)]);
        register::PAOS_ADMIN.set(&mut port[register::DATA..], 1);
        register::PAOS_SET.set(&mut port[register::DATA..], 1);
        model.send(FunctionId::PF, &port);
        for function in 0..FUNCTIONS {
            let driver = model.prepare(FunctionId(function));
            model.drivers.push(driver);
            let driven = &mut model.hca.functions[usize::from(function)];
            driven.started = function > 0;
            driven.up = true;
        }
        if options & ESWITCH != 0 {
            model.switch();
        }
        model.machine.guard = Some(Guard::new());
        model.violations = model.hca.violations;
        model
    }

    /// Sends a command. Returns its output.
    pub fn send(&mut self, function: FunctionId, input: &[u8]) -> Vec<u8> {
        self.machine.send(&mut self.hca, function, input, 16);
        self.machine.output().to_vec()
    }

    /// Sends a command. Returns the number of what it has created.
    pub fn create(&mut self, function: FunctionId, input: &[u8]) -> u64 {
        ifc::OBJECT.get(&self.send(function, input))
    }

    /// Has a function's driver create its queues.
    fn prepare(&mut self, function: FunctionId) -> Driver {
        let base = base(function.0);
        let mut alloc = |opcode| self.create(function, &command(opcode, 16, &[]));
        let (pd, other_pd) = (alloc(ifc::ALLOC_PD), alloc(ifc::ALLOC_PD));
        let (uar, domain) = (alloc(ifc::ALLOC_UAR), alloc(ifc::ALLOC_TRANSPORT_DOMAIN));
        let counter = self.send(function, &command(ifc::ALLOC_Q_COUNTER, 16, &[]));
        let counter = COUNTER_SET.get(&counter);
        let keys = [(pd, 1), (pd, 0), (other_pd, 1)].map(|(pd, write)| {
            let fields = [
                (MKC_LENGTH64, 1),
                (ifc::MKC_LW, write),
                (ifc::MKC_LR, 1),
                (ifc::MKC_PD, pd),
            ];
            let mkey = command(ifc::CREATE_MKEY, ifc::MKEY_MTT, &fields);
            (self.create(function, &mkey) as u32) << 8
        });
        let events = (1 << event::CQ_ERROR) | (1 << event::PORT_CHANGE);
        let fields = [
            (ifc::EQ_LOG_SIZE, 6),
            (ifc::EQ_UAR, uar),
            (ifc::EQ_EVENTS, events),
        ];
        let eq = with_page(command(ifc::CREATE_EQ, ifc::EQ_PAS, &fields), base + EQ);
        let eqn = ifc::EQ_NUMBER.get(&self.send(function, &eq));
        for at in (base + CQ..base + CQ + EVENTS).step_by(64) {
            self.machine.put(at + 63, &[0xf0]);
        }
        let fields = [
            (ifc::CQC_LOG_SIZE, 6),
            (ifc::CQC_UAR, uar),
            (ifc::CQC_EQN, eqn),
            (ifc::CQC_DBR, base + CQ_RECORD),
        ];
        let cq = command(ifc::CREATE_CQ, ifc::QUEUE_PAS, &fields);
        let cqn = self.create(function, &with_page(cq, base + CQ));
        let fields = [(tisc::TRANSPORT_DOMAIN, domain)];
        let tis = with_context(ifc::CREATE_TIS, tisc::LEN, &fields);
        let tis = self.create(function, &tis);
        let queue = [
            (wq::CQN, cqn),
            (wq::PD, pd),
            (wq::UAR, uar),
            (wq::TYPE, 1),
            (wq::LOG_STRIDE, LOG_WQE),
            (wq::LOG_SIZE, LOG_WQES),
        ];
        let flush = u64::from(self.options & FLUSH != 0);
        let of_sq = [
            (sqc::TIS_COUNT, 1),
            (sqc::TIS, tis),
            (sqc::FLUSH, flush),
            (wq::DBR, base + SQ_RECORD - 4),
        ];
        let of_rq = [
            (rqc::FLUSH, flush),
            (rqc::VSD, u64::from(self.options & STRIPPED == 0)),
            (rqc::COUNTER_SET, counter),
            (wq::DBR, base + RQ_RECORD),
        ];
        let [sqn, rqn] = [
            (ifc::CREATE_SQ, ifc::MODIFY_SQ, &of_sq, SQ),
            (ifc::CREATE_RQ, ifc::MODIFY_RQ, &of_rq, RQ),
        ]
        .map(|(create, modify, fields, ring)| {
            let context = [&queue[..], fields].concat();
            let input = with_context(create, wq::CONTEXT_LEN, &context);
            let number = self.create(function, &with_page(input, base + ring)) as u32;
            self.send(function, &set_state(modify, number, 0, 1));
            number
        });
        self.receive_all(function, rqn.into(), domain);
        Driver {
            uar: uar as u32,
            cqn: cqn as u32,
            eqn: eqn as u32,
            sqn,
            rqn,
            keys,
            sends: 0,
            receives: 0,
        }
    }

    /// Has all frames go to a receive queue.
    fn receive_all(&mut self, function: FunctionId, rqn: u64, domain: u64) {
        let fields = [(tirc::RQN, rqn), (tirc::TRANSPORT_DOMAIN, domain)];
        let tir = with_context(ifc::CREATE_TIR, tirc::LEN, &fields);
        let tir = self.create(function, &tir);
        self.forward_all(function, NIC_RECEIVE, &[(TIR, tir)]);
    }

    /// Has the e-switch send all frames to both functions and the wire.
    fn switch(&mut self) {
        // All addresses of the MPFS: a promiscuous function wants everything.
        let len = vport::MODIFY_CONTEXT + vport::CONTEXT_LEN;
        let fields = [(vport::SELECT, vport::SELECT_PROMISC)];
        let mut promiscuous = command(ifc::MODIFY_NIC_VPORT_CONTEXT, len, &fields);
        vport::PROMISC.set(&mut promiscuous[vport::MODIFY_CONTEXT..], 1);
        self.send(FunctionId::PF, &promiscuous);
        let ports = [0, 1, UPLINK.into()].map(|port| (VPORT, port));
        self.forward_all(FunctionId::PF, FDB, &ports);
    }

    /// Has tables of a type forward all that comes.
    fn forward_all(&mut self, function: FunctionId, kind: u64, to: &[(u64, u64)]) {
        let of_type = (flow::TABLE_TYPE, kind);
        let table = command(ifc::CREATE_FLOW_TABLE, 0x40, &[of_type]);
        let table = (flow::TABLE, self.create(function, &table));
        let group = command(ifc::CREATE_FLOW_GROUP, 0x400, &[of_type, table]);
        let group = self.create(function, &group);
        // Those of the e-switch do not count.
        let counter = (kind != FDB).then(|| {
            let counter = self.send(function, &command(ifc::ALLOC_FLOW_COUNTER, 16, &[]));
            flow_counter::ID.get(&counter)
        });
        let listed = to.len() + usize::from(counter.is_some());
        let len = flow::CONTEXT + flow::DESTINATION + listed * 8;
        let mut entry = command(ifc::SET_FLOW_TABLE_ENTRY, len, &[of_type, table]);
        let context = &mut entry[flow::CONTEXT..];
        let action = match counter {
            Some(_) => FORWARD | COUNT,
            None => FORWARD,
        };
        for (field, value) in [
            (flow::CONTEXT_GROUP, group),
            (flow::ACTION, action),
            (flow::DESTINATIONS, to.len() as u64),
            (flow::COUNTERS, counter.is_some().into()),
        ] {
            field.set(context, value);
        }
        let mut list = context[flow::DESTINATION..].chunks_mut(8);
        for ((kind, number), destination) in to.iter().zip(list.by_ref()) {
            flow::DESTINATION_TYPE.set(destination, *kind);
            flow::DESTINATION_ID.set(destination, *number);
        }
        for (listed, counter) in list.zip(counter) {
            flow_counter::LISTED.set(listed, counter);
        }
        self.send(function, &entry);
        let root = command(ifc::SET_FLOW_TABLE_ROOT, 0x40, &[of_type, table]);
        self.send(function, &root);
    }

    pub fn write(&mut self, function: u16, offset: u64, value: u32) {
        let function = FunctionId(function);
        self.machine.write(&mut self.hca, function, offset, value);
    }

    /// Takes a data segment: its length, a key, and where it is in the buffers.
    fn segment(&self, function: u16, input: &mut Input<'_>) -> [u8; 16] {
        let count = match input.u16() {
            count @ ..0xfff0 => u32::from(count),
            _ => input.u32(),
        };
        let key = match input.byte() {
            number @ 0..3 => self.drivers[usize::from(function)].keys[usize::from(number)],
            3 => TERMINATE,
            _ => input.u32(),
        };
        let addr = BUFFERS + u64::from(input.u16());
        let mut segment = [0; 16];
        segment[..4].copy_from_slice(&count.to_be_bytes());
        segment[4..8].copy_from_slice(&key.to_be_bytes());
        segment[8..].copy_from_slice(&addr.to_be_bytes());
        segment
    }

    /// Posts a WQE with an inline header and data segments.
    fn post_send(&mut self, options: u8, function: u16, input: &mut Input<'_>) {
        let driver = &self.drivers[usize::from(function)];
        let opcode = match input.byte() {
            0 => 0x00,
            1 => 0x0a,
            2 => 0x0e,
            opcode => opcode,
        };
        let (flags, mss) = (input.byte(), input.u16());
        let inline = usize::from(input.byte());
        let mut wqe = vec![0; 30];
        wqe[1..3].copy_from_slice(&driver.sends.to_be_bytes());
        wqe[3] = opcode;
        wqe[11] = 0x08;
        wqe[20] = flags;
        wqe[22..24].copy_from_slice(&mss.to_be_bytes());
        wqe[28..30].copy_from_slice(&(inline as u16).to_be_bytes());
        let sqn = driver.sqn;
        let header = input.bytes(inline);
        wqe.extend_from_slice(header);
        wqe.resize((30 + inline).max(32).next_multiple_of(16), 0);
        for _ in 0..input.byte() % 16 {
            let segment = self.segment(function, input);
            wqe.extend_from_slice(&segment);
        }
        let sqn_ds = (sqn << 8) | (wqe.len() / 16) as u32;
        wqe[4..8].copy_from_slice(&sqn_ds.to_be_bytes());
        if options & SPOILT != 0 {
            let at = usize::from(input.byte()) % wqe.len();
            wqe[at] = input.byte();
        }
        let ring = base(function) + SQ;
        for block in wqe.chunks(WQE as usize) {
            let driver = &mut self.drivers[usize::from(function)];
            let at = ring + u64::from(driver.sends) % WQES * WQE;
            driver.sends = driver.sends.wrapping_add(1);
            self.machine.put(at, block);
        }
        if options & NO_RECORD == 0 {
            let sends = u32::from(self.drivers[usize::from(function)].sends);
            let record = base(function) + SQ_RECORD;
            self.machine.put(record, &sends.to_be_bytes());
        }
        if options & NO_DOORBELL == 0 {
            let at = u64::from(self.drivers[usize::from(function)].uar) * 0x1000 + 0x800;
            self.write(function, at, 0);
            self.write(function, at + 4, sqn << 8);
        }
    }

    /// Posts memory for a frame.
    fn post_receive(&mut self, options: u8, function: u16, input: &mut Input<'_>) {
        let mut wqe: Vec<u8> = (0..input.byte() % 5)
            .flat_map(|_| self.segment(function, input))
            .collect();
        wqe.extend([0, 0, 0, 0, 0, 0, 1, 0]);
        wqe.resize(WQE as usize, 0);
        if options & SPOILT != 0 {
            wqe[usize::from(input.byte() % 64)] = input.byte();
        }
        let driver = &mut self.drivers[usize::from(function)];
        let at = base(function) + RQ + u64::from(driver.receives) % WQES * WQE;
        driver.receives = driver.receives.wrapping_add(1);
        let record = driver.receives.to_be_bytes();
        self.machine.put(at, &wqe);
        if options & NO_RECORD == 0 {
            self.machine.put(base(function) + RQ_RECORD, &record);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.machine.step();
        let options = input.byte();
        let function = u16::from(options & OF_VF != 0);
        match options & 7 {
            SEND => self.post_send(options, function, input),
            RECEIVE => self.post_receive(options, function, input),
            FRAME => {
                let mut frame = frames::take(input);
                frame.extend(std::iter::repeat_n(0x55, usize::from(input.u16() % 0x800)));
                self.hca.frame_arrived(&mut self.machine, &frame);
            }
            MEMORY_WRITE => {
                let end = self.machine.memory.len() as u64;
                let at = DATA + u64::from(input.u16()) * 4 % (end - DATA);
                self.machine.put(at, &input.u32().to_be_bytes());
            }
            REGISTER => {
                let driver = &self.drivers[usize::from(function)];
                let (uar, register) = (input.byte(), input.u16() % 0x1000);
                let uar = match uar {
                    0 => driver.uar,
                    uar => uar.into(),
                };
                let value = match input.byte() {
                    0 => driver.sqn << 8,
                    1 => driver.cqn,
                    2 => driver.eqn << 24,
                    _ => input.u32(),
                };
                // Not a register of the initialization segment.
                let offset = u64::from(uar.max(1)) * 0x1000 + u64::from(register);
                self.write(function, offset, value);
            }
            TIME => self.machine.pass(&mut self.hca, 1),
            STATE => {
                let driver = &self.drivers[usize::from(function)];
                let (states, is_rq) = (input.byte(), options & SPOILT != 0);
                let (opcode, number) = match is_rq {
                    true => (ifc::MODIFY_RQ, driver.rqn),
                    false => (ifc::MODIFY_SQ, driver.sqn),
                };
                let (from, to) = (u64::from(states & 3), u64::from((states >> 2) & 3));
                let input = set_state(opcode, number, from, to);
                self.send(FunctionId(function), &input);
                if to == 0 {
                    let driver = &mut self.drivers[usize::from(function)];
                    match is_rq {
                        true => driver.receives = 0,
                        false => driver.sends = 0,
                    }
                }
            }
            _ => {
                // There may be other queues from now on.
                self.machine.guard = None;
                let (command, out_len) = machine::command(&OPCODES, input);
                let function = FunctionId(function);
                self.machine
                    .send(&mut self.hca, function, &command, out_len);
            }
        }
        self.check();
    }

    /// Checks what a step has done. The drivers take their completions.
    fn check(&mut self) {
        // One frame for each function whose turn is over is sent in any case.
        let most = SENDS + usize::from(FUNCTIONS);
        assert!(
            self.machine.sent.len() <= most,
            "{}",
            self.machine.sent.len()
        );
        for frame in &self.machine.sent {
            assert!((MIN_FRAME..=MAX_FRAME + TAG).contains(&frame.len()));
        }
        let Some(guard) = &self.machine.guard else {
            return;
        };
        assert!(guard.errors <= self.hca.violations - self.violations);
        if self.options & CONSUMED != 0 {
            let counts: Vec<u32> = guard.functions.iter().map(|own| own.completions).collect();
            for (function, count) in (0..).zip(counts) {
                let record = base(function) + CQ_RECORD;
                self.machine.put(record, &count.to_be_bytes());
            }
        }
    }
}

/// Takes the steps of an input.
fn drive(bytes: &[u8]) -> Model {
    let mut input = Input::new(bytes);
    let mut model = Model::new(input.byte());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    model
}

/// Runs one input: a byte that configures the NIC, and steps of its drivers.
pub fn run(bytes: &[u8]) {
    drive(bytes);
}

/// What steps are made of.
mod steps {
    use super::*;

    /// A data segment.
    fn segment(count: u16, key: u8, at: u16) -> Vec<u8> {
        [&count.to_le_bytes()[..], &[key], &at.to_le_bytes()].concat()
    }

    /// A WQE of the PF that sends a frame: some of it inline, and the rest, which
    /// [`write()`] has put there, in a segment at the beginning of the buffers.
    pub fn send(opcode: u8, frame: &[u8], inline: usize, (flags, mss): (u8, u16)) -> Vec<u8> {
        let (header, rest) = frame.split_at(inline);
        let mut bytes = vec![SEND, opcode, flags];
        bytes.extend_from_slice(&mss.to_le_bytes());
        bytes.push(inline as u8);
        bytes.extend_from_slice(header);
        match rest {
            [] => bytes.push(0),
            _ => {
                bytes.push(1);
                bytes.extend(segment(rest.len() as u16, 0, 0));
            }
        }
        bytes
    }

    /// Writes what a WQE sends to the beginning of the buffers.
    pub fn write(bytes: &[u8]) -> Vec<u8> {
        let first = (BUFFERS - DATA) / 4;
        let step = |(number, word): (usize, &[u8])| {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            let at = (first as u16 + number as u16).to_le_bytes();
            // The input is little endian, memory big endian.
            padded.reverse();
            [&[MEMORY_WRITE][..], &at, &padded].concat()
        };
        bytes.chunks(4).enumerate().flat_map(step).collect()
    }

    /// Memory of the VF for frames, in two segments, from byte `at` of the buffers on.
    pub fn receive(at: u16) -> Vec<u8> {
        let first = segment(20, 0, at);
        let second = segment(2000, 0, at + 20);
        [&[RECEIVE | OF_VF, 2][..], &first, &second].concat()
    }
}

/// Inputs that break no rule of the interface.
fn proper() -> Vec<Seed> {
    let input = |options: u8, steps: &[Vec<u8>]| [&[options][..], &steps.concat()].concat();
    let usual = CONSUMED | FLUSH | STRIPPED;
    let frames = frames::frames();
    let (tcp, tagged) = (&frames[0].1, &frames[2].1);
    let data = &tcp[54..];
    let time = vec![TIME];
    vec![
        (
            "a frame",
            input(
                usual,
                &[
                    steps::receive(0x8000),
                    steps::send(1, tcp, tcp.len(), (0, 0)),
                    time.clone(),
                ],
            ),
        ),
        (
            "a frame of two parts",
            input(
                usual,
                &[
                    steps::receive(0x8000),
                    steps::write(data),
                    steps::send(1, tcp, 54, (0xc0, 0)),
                    time.clone(),
                ],
            ),
        ),
        (
            "segments",
            input(
                usual,
                &[
                    steps::receive(0x8000),
                    steps::receive(0x9000),
                    steps::receive(0xa000),
                    steps::write(data),
                    steps::send(2, tcp, 54, (0xc0, 4)),
                    time.clone(),
                ],
            ),
        ),
        (
            "a frame from the wire",
            input(
                usual,
                &[
                    steps::receive(0x8000),
                    vec![FRAME, 2, 0, 0, 0],
                    time.clone(),
                ],
            ),
        ),
        (
            "a frame through the e-switch",
            input(
                usual | ESWITCH,
                &[
                    steps::receive(0x8000),
                    steps::send(1, tcp, tcp.len(), (0, 0)),
                    time.clone(),
                ],
            ),
        ),
        (
            "nothing",
            input(usual, &[steps::send(0, tagged, 0, (0, 0))]),
        ),
        ("no room", input(0, &[vec![FRAME, 0, 0, 0, 0], time])),
    ]
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let tcp = &frames::frames()[0].1;
    let mut spoilt = steps::send(1, tcp, tcp.len(), (0, 0));
    spoilt[0] |= SPOILT;
    spoilt.extend([3, 0x25]);
    let mut seeds = proper();
    seeds.extend([
        (
            "a WQE of no kind",
            [&[CONSUMED | FLUSH][..], &spoilt].concat(),
        ),
        (
            "memory of another domain",
            vec![0, RECEIVE, 1, 64, 0, 2, 0, 0, FRAME, 0, 0, 0, 0, TIME],
        ),
        (
            "memory that is only read",
            vec![0, RECEIVE, 1, 64, 0, 1, 0, 0, FRAME, 0, 0, 0, 0, TIME],
        ),
        (
            "a queue that is told to fail",
            vec![FLUSH, STATE, 1 | (3 << 2)],
        ),
        ("a doorbell", vec![0, REGISTER, 0, 0x40, 0, 2]),
        ("a command", vec![0, COMMAND, 10, 0, 1, 64, 0]),
    ]);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(name: &str) -> Model {
        let mut seeds = seeds().into_iter();
        drive(&seeds.find(|(other, _)| *other == name).unwrap().1)
    }

    /// What a VF has received at some place of the buffers.
    fn received(model: &Model, at: u64, len: usize) -> &[u8] {
        &model.machine.memory[(BUFFERS + at) as usize..][..len]
    }

    #[test]
    fn what_is_proper_breaks_no_rule() {
        assert_eq!(Model::new(0).hca.violations, 0);
        let violations = |(name, bytes): &Seed| (*name, drive(bytes).hca.violations);
        for (name, violations) in proper().iter().map(violations) {
            assert_eq!(violations, 0, "{name}");
        }
    }

    #[test]
    fn frames_arrive() {
        let frames = frames::frames();
        for name in [
            "a frame",
            "a frame of two parts",
            "a frame through the e-switch",
        ] {
            let (model, tcp) = (seed(name), &frames[0].1);
            assert_eq!(received(&model, 0x8000, tcp.len()), tcp, "{name}");
            let is_on = name.contains("e-switch");
            assert_eq!(model.hca.eswitch.is_on(), is_on, "{name}");
        }
        let segments = seed("segments");
        for (at, data) in [(0x8000, "some"), (0x9000, " dat"), (0xa000, "a")] {
            let segment = received(&segments, at + 54, data.len());
            assert_eq!(segment, data.as_bytes());
        }
        // Its tag is stripped.
        let tagged = &frames[2].1;
        let wire = seed("a frame from the wire");
        let len = tagged.len() - 16;
        assert_eq!(received(&wire, 0x8000 + 12, len), &tagged[16..]);
    }

    #[test]
    fn what_must_not_be_written_is_not() {
        for name in ["memory of another domain", "memory that is only read"] {
            let model = seed(name);
            assert_eq!(model.hca.violations, 1, "{name}");
            assert_eq!(received(&model, 0, 64), [0; 64], "{name}");
            assert_eq!(model.machine.guard.unwrap().errors, 1, "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "0x20000, 1 bytes")]
    fn what_was_not_given_is_found() {
        Guard::new().write(FunctionId(0), BUFFERS, &[1]);
    }
}

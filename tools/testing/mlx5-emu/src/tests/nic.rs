// SPDX-License-Identifier: GPL-2.0

//! An HCA that is a NIC, and a driver that sends and receives with it.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    tracker::{
        input,
        send, //
    },
};
use crate::{
    config::Config,
    host::FunctionId,
    ifc::{
        self,
        ethernet::{
            flow,
            register,
            rqc,
            rqtc,
            sqc,
            tirc,
            tisc,
            vport,
            wq,
            CONTEXT,
            COUNTER_SET,
            CURRENT_STATE,
            MKC_LENGTH64,
            OUT_OF_BUFFER,
            QUERY_COUNTER_SET, //
        },
        event,
        Field,
        Status, //
    },
    packet::{
        self,
        tests::{
            tcp4,
            udp6, //
        },
    },
};
use mlx5_emu_regs as regs;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
pub(super) const EQ: u64 = DATA;
pub(super) const CQ: u64 = DATA + 0x1000;
const CQ_RECORD: u64 = DATA + 0x2000;
const SQ: u64 = DATA + 0x3000;
const SQ_RECORD: u64 = DATA + 0x4000;
const RQ: u64 = DATA + 0x5000;
const RQ_RECORD: u64 = DATA + 0x6000;
/// What is sent, and where what is received goes.
pub(super) const OUT: u64 = DATA + 0x1_0000;
pub(super) const IN: u64 = DATA + 0x2_0000;
/// Bytes for each frame that is received.
const ROOM: u64 = 2048;
const LOG_CQ: u64 = 4;

pub(super) struct Nic {
    pub(super) machine: Machine,
    pub(super) pd: u64,
    key: u32,
    pub(super) cqn: u64,
    pub(super) uar: u64,
    pub(super) sqn: u64,
    rqn: u64,
    pub(super) tir: u64,
    tis: u64,
    /// Ring and doorbell record of the SQ.
    sq: [u64; 2],
    counter: u64,
    /// Blocks and entries posted.
    sent: u16,
    posted: u32,
    /// CQEs read.
    consumed: u32,
}

fn number(output: &[u8]) -> u64 {
    ifc::OBJECT.get(output)
}

/// A command with a context.
fn with_context(opcode: u16, len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut input = command(opcode, 0, CONTEXT + len);
    for (field, value) in fields {
        field.set(&mut input[CONTEXT..], *value);
    }
    input
}

pub(super) fn with_page(mut input: Vec<u8>, page: u64) -> Vec<u8> {
    input.extend_from_slice(&page.to_be_bytes());
    input
}

/// CREATE_SQ or CREATE_RQ of 16 entries.
pub(super) fn queue(
    opcode: u16,
    log_stride: u64,
    record: u64,
    ring: u64,
    fields: &[(Field, u64)],
) -> Vec<u8> {
    let usual = [
        (wq::TYPE, 1),
        (wq::DBR, record),
        (wq::LOG_STRIDE, log_stride),
        (wq::LOG_SIZE, 4),
    ];
    let all = [&usual, fields].concat();
    with_page(with_context(opcode, wq::CONTEXT_LEN, &all), ring)
}

pub(super) fn set_state(opcode: u16, number: u64, from: u64, to: u64) -> Vec<u8> {
    let mut input = with_context(opcode, wq::CONTEXT_LEN, &[(wq::STATE, to)]);
    ifc::OBJECT.set(&mut input, number);
    CURRENT_STATE.set(&mut input, from);
    input
}

fn port(admin: u64) -> Vec<u8> {
    let mut input = command(ifc::ACCESS_REG, 0, 0x20);
    register::ID.set(&mut input, register::PAOS);
    register::PAOS_ADMIN.set(&mut input[register::DATA..], admin);
    register::PAOS_SET.set(&mut input[register::DATA..], 1);
    input
}

impl Nic {
    fn new() -> Self {
        Self::on(FunctionId::PF)
    }

    /// The NIC that a function is.
    pub(super) fn on(function: FunctionId) -> Self {
        let mut machine = Machine::new(Config {
            vfs: 2,
            network: Some(MAC),
            ..Config::default()
        });
        for function in 0..3 {
            let fields = [(ifc::FUNCTION_ID, function)];
            send(&mut machine, &input(ifc::ENABLE_HCA, 16, &fields));
        }
        send(&mut machine, &port(1));
        let driven = &mut machine.hca.functions[usize::from(function.0)];
        driven.started = function != FunctionId::PF;
        driven.up = true;
        machine.drive(function);
        let alloc = |machine: &mut Machine, opcode| number(&send(machine, &command(opcode, 0, 16)));
        let pd = alloc(&mut machine, ifc::ALLOC_PD);
        let uar = alloc(&mut machine, ifc::ALLOC_UAR);
        let domain = alloc(&mut machine, ifc::ALLOC_TRANSPORT_DOMAIN);
        let counter = send(&mut machine, &command(ifc::ALLOC_Q_COUNTER, 0, 16));
        let counter = COUNTER_SET.get(&counter);
        let mkey = [
            (MKC_LENGTH64, 1),
            (ifc::MKC_LW, 1),
            (ifc::MKC_LR, 1),
            (ifc::MKC_PD, pd),
        ];
        let mkey = send(&mut machine, &input(ifc::CREATE_MKEY, 0x110, &mkey));
        let key = (number(&mkey) as u32) << 8;
        let events = [event::CQ_ERROR, event::PORT_CHANGE];
        let eq = [
            (ifc::EQ_LOG_SIZE, 5),
            (ifc::EQ_UAR, uar),
            (
                ifc::EQ_EVENTS,
                events.iter().fold(0, |all, kind| all | (1 << kind)),
            ),
        ];
        let eq = send(
            &mut machine,
            &with_page(input(ifc::CREATE_EQ, ifc::EQ_PAS, &eq), EQ),
        );
        for i in 0..1 << LOG_CQ {
            machine.memory.bytes[(CQ + i * 64 + 63) as usize] = 0xf0;
        }
        let cq = [
            (ifc::CQC_LOG_SIZE, LOG_CQ),
            (ifc::CQC_UAR, uar),
            (ifc::CQC_EQN, ifc::EQ_NUMBER.get(&eq)),
            (ifc::CQC_DBR, CQ_RECORD),
        ];
        let cq = with_page(input(ifc::CREATE_CQ, ifc::QUEUE_PAS, &cq), CQ);
        let cqn = number(&send(&mut machine, &cq));

        let tis = with_context(
            ifc::CREATE_TIS,
            tisc::LEN,
            &[(tisc::TRANSPORT_DOMAIN, domain)],
        );
        let tis = number(&send(&mut machine, &tis));
        let fields = [
            (wq::CQN, cqn),
            (sqc::TIS_COUNT, 1),
            (sqc::TIS, tis),
            (sqc::FLUSH, 1),
            (wq::PD, pd),
            (wq::UAR, uar),
        ];
        let sq = queue(ifc::CREATE_SQ, 6, SQ_RECORD, SQ, &fields);
        let sqn = number(&send(&mut machine, &sq));
        let fields = [
            (wq::CQN, cqn),
            (rqc::FLUSH, 1),
            (rqc::COUNTER_SET, counter),
            (wq::PD, pd),
        ];
        let rq = queue(ifc::CREATE_RQ, 5, RQ_RECORD, RQ, &fields);
        let rqn = number(&send(&mut machine, &rq));
        for (opcode, queue) in [(ifc::MODIFY_SQ, sqn), (ifc::MODIFY_RQ, rqn)] {
            send(&mut machine, &set_state(opcode, queue, 0, 1));
        }
        let fields = [(tirc::RQN, rqn), (tirc::TRANSPORT_DOMAIN, domain)];
        let tir = with_context(ifc::CREATE_TIR, tirc::LEN, &fields);
        let tir = number(&send(&mut machine, &tir));

        let mut table = command(ifc::CREATE_FLOW_TABLE, 0, 0x40);
        flow::LOG_SIZE.set(&mut table[flow::TABLE_CONTEXT..], 2);
        let table = number(&send(&mut machine, &table));
        let fields = [(flow::TABLE, table), (flow::GROUP_END, 3)];
        let group = input(ifc::CREATE_FLOW_GROUP, 0x400, &fields);
        let group = number(&send(&mut machine, &group));
        let len = flow::CONTEXT + flow::DESTINATION + 8;
        let mut entry = input(ifc::SET_FLOW_TABLE_ENTRY, len, &[(flow::TABLE, table)]);
        let context = &mut entry[flow::CONTEXT..];
        for (field, value) in [
            (flow::CONTEXT_GROUP, group),
            (flow::TAG, 0xabc),
            (flow::ACTION, 4),
            (flow::DESTINATIONS, 1),
        ] {
            field.set(context, value);
        }
        let destination = &mut context[flow::DESTINATION..];
        flow::DESTINATION_TYPE.set(destination, 2);
        flow::DESTINATION_ID.set(destination, tir);
        send(&mut machine, &entry);
        let root = input(ifc::SET_FLOW_TABLE_ROOT, 0x40, &[(flow::TABLE, table)]);
        send(&mut machine, &root);
        Self {
            machine,
            pd,
            key,
            cqn,
            uar,
            sqn,
            rqn,
            tir,
            tis,
            sq: [SQ, SQ_RECORD],
            counter,
            sent: 0,
            posted: 0,
            consumed: 0,
        }
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.machine.memory.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn status(&mut self, input: &[u8]) -> u8 {
        self.machine.send(input, 0x80).status()
    }

    /// A WQE: its control and Ethernet segments, the inline header, and one data
    /// segment for the rest, at [`OUT`].
    pub(super) fn wqe(
        &mut self,
        opcode: u8,
        frame: &[u8],
        inline: usize,
        flags: u8,
        mss: u16,
    ) -> Vec<u8> {
        let (header, rest) = frame.split_at(inline);
        self.write(OUT, rest);
        let mut wqe = vec![0; 30];
        wqe[1..3].copy_from_slice(&self.sent.to_be_bytes());
        wqe[3] = opcode;
        wqe[11] = 0x08;
        wqe[20] = flags;
        wqe[22..24].copy_from_slice(&mss.to_be_bytes());
        wqe[28..30].copy_from_slice(&(inline as u16).to_be_bytes());
        wqe.extend_from_slice(header);
        wqe.resize(wqe.len().max(32).next_multiple_of(16), 0);
        wqe.extend_from_slice(&(rest.len() as u32).to_be_bytes());
        wqe.extend_from_slice(&self.key.to_be_bytes());
        wqe.extend_from_slice(&OUT.to_be_bytes());
        let sqn_ds = ((self.sqn as u32) << 8) | (wqe.len() / 16) as u32;
        wqe[4..8].copy_from_slice(&sqn_ds.to_be_bytes());
        wqe
    }

    /// Writes a WQE to the ring, without a doorbell.
    pub(super) fn put(&mut self, wqe: &[u8]) {
        for block in wqe.chunks(64) {
            self.write(self.sq[0] + u64::from(self.sent % 16) * 64, block);
            self.sent += 1;
        }
        let record = u32::from(self.sent).to_be_bytes();
        self.write(self.sq[1] + 4, &record);
    }

    /// Creates another SQ with this ring and this doorbell record, to send with from now on.
    pub(super) fn another_sq(&mut self, ring: u64, record: u64) {
        let fields = [
            (wq::CQN, self.cqn),
            (sqc::TIS_COUNT, 1),
            (sqc::TIS, self.tis),
            (wq::PD, self.pd),
            (wq::UAR, self.uar),
        ];
        let sq = queue(ifc::CREATE_SQ, 6, record, ring, &fields);
        self.sqn = number(&send(&mut self.machine, &sq));
        send(
            &mut self.machine,
            &set_state(ifc::MODIFY_SQ, self.sqn, 0, 1),
        );
        self.sq = [ring, record];
        self.sent = 0;
    }

    pub(super) fn ring(&mut self) {
        let at = self.uar * 4096 + 0x800;
        self.machine.write_register(at, 0);
        let word = ((self.sqn as u32) << 8) | 3;
        self.machine.write_register(at + 4, word);
    }

    pub(super) fn send_frame(&mut self, frame: &[u8]) {
        let wqe = self.wqe(0x0a, frame, 0, 0, 0);
        self.put(&wqe);
        self.ring();
    }

    /// Posts memory for that many frames more.
    pub(super) fn post(&mut self, count: u32) {
        for _ in 0..count {
            let slot = u64::from(self.posted % 16);
            let mut wqe = (ROOM as u32 | (1 << 31)).to_be_bytes().to_vec();
            wqe.extend_from_slice(&self.key.to_be_bytes());
            wqe.extend_from_slice(&(IN + slot * ROOM).to_be_bytes());
            wqe.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0]);
            self.write(RQ + slot * 32, &wqe);
            self.posted += 1;
        }
        let record = self.posted.to_be_bytes();
        self.write(RQ_RECORD, &record);
    }

    pub(super) fn arrive(&mut self, frame: &[u8]) {
        let Machine { hca, memory, .. } = &mut self.machine;
        hca.frame_arrived(memory, frame);
        hca.timer(memory);
    }

    pub(super) fn received(&self, slot: u64, len: usize) -> &[u8] {
        &self.machine.memory.bytes[(IN + slot * ROOM) as usize..][..len]
    }

    /// The next CQE, if there is one.
    pub(super) fn cqe(&mut self) -> Option<Vec<u8>> {
        let index = self.consumed % (1 << LOG_CQ);
        let at = (CQ + u64::from(index) * 64) as usize;
        let cqe = self.machine.memory.bytes[at..at + 64].to_vec();
        let lap = (self.consumed >> LOG_CQ) as u8 & 1;
        if cqe[63] >> 4 == 0xf || cqe[63] & 1 != lap {
            return None;
        }
        self.consumed += 1;
        let record = self.consumed.to_be_bytes();
        self.write(CQ_RECORD, &record);
        Some(cqe)
    }

    /// Opcode, syndrome and WQE of the next CQE.
    pub(super) fn end(&mut self) -> (u8, u8, u16) {
        let cqe = self.cqe().expect("no CQE");
        (
            cqe[63] >> 4,
            cqe[55],
            u16::from_be_bytes([cqe[60], cqe[61]]),
        )
    }

    /// Wants an event for what comes after the CQEs that were read.
    pub(super) fn arm(&mut self) {
        let at = self.uar * 4096 + 0x20;
        self.machine.write_register(at, self.consumed);
        self.machine.write_register(at + 4, self.cqn as u32);
    }

    /// Has it be this late.
    fn at(&mut self, now: u64) {
        let Machine { hca, memory, .. } = &mut self.machine;
        memory.now = now;
        memory.wake = None;
        hca.timer(memory);
    }

    /// How many events there were of the CQ, and no others.
    fn events(&self) -> usize {
        let cqn = (self.cqn as u32).to_be_bytes();
        let mut events = 0;
        while self.eqe(events as u64)[56..60] == cqn {
            events += 1;
        }
        events
    }

    pub(super) fn eqe(&self, index: u64) -> &[u8] {
        &self.machine.memory.bytes[(EQ + index * 64) as usize..][..64]
    }

    pub(super) fn out_of_buffer(&mut self) -> u64 {
        let query = [(QUERY_COUNTER_SET, self.counter)];
        let query = input(ifc::QUERY_Q_COUNTER, 0x20, &query);
        OUT_OF_BUFFER.get(&send(&mut self.machine, &query))
    }

    /// The violations so far, which then are forgotten.
    pub(super) fn violations(&mut self) -> usize {
        std::mem::take(&mut self.machine.memory.violations).len()
    }
}

#[test]
fn a_frame_is_sent() {
    let mut nic = Nic::new();
    let frame = tcp4(b"hello you");
    nic.send_frame(&frame);
    assert_eq!(nic.machine.memory.sent, [frame]);
    let cqe = nic.cqe().unwrap();
    assert_eq!(cqe[63] >> 4, 0);
    assert_eq!(cqe[56], 0x0a);
    assert_eq!(u64::from(cqe[59]) | 0x1_0000, nic.sqn);
    assert_eq!(nic.cqe(), None);
    assert_eq!(nic.violations(), 0);
}

#[test]
fn a_short_frame_is_padded() {
    let mut nic = Nic::new();
    let mut frame = tcp4(b"");
    nic.send_frame(&frame);
    frame.resize(60, 0);
    assert_eq!(nic.machine.memory.sent, [frame]);
}

#[test]
fn registers_of_the_port_keep_what_is_set() {
    let mut nic = Nic::new();
    let access = |nic: &mut Nic, op_mod, data: &[(Field, u64)]| {
        let mut input = command(ifc::ACCESS_REG, op_mod, register::DATA + 0x20);
        register::ID.set(&mut input, register::PFCC);
        for (field, value) in data {
            field.set(&mut input[register::DATA..], *value);
        }
        nic.machine.send(&input, 0x80)
    };
    let told = |nic: &mut Nic| {
        let output = access(nic, 1, &[]).output;
        let fields = [register::PFCC_SEND, register::PFCC_RECEIVE];
        fields.map(|field| field.get(&output[register::DATA..]))
    };
    assert_eq!(told(&mut nic), [0, 0]);
    assert_eq!(access(&mut nic, 0, &[(register::PFCC_SEND, 1)]).status(), 0);
    assert_eq!(told(&mut nic), [1, 0]);
    let of_priorities = [(register::PFCC_PRIORITIES[0], 1)];
    let status = access(&mut nic, 0, &of_priorities).status();
    assert_eq!(status, Status::BadParam as u8);
    assert_eq!(told(&mut nic), [1, 0]);
}

#[test]
fn one_doorbell_is_for_all_that_was_posted() {
    let mut nic = Nic::new();
    for round in 0..40u16 {
        let mut nop = vec![0; 16];
        nop[1..3].copy_from_slice(&nic.sent.to_be_bytes());
        let sqn_ds = ((nic.sqn as u32) << 8) | 1;
        nop[4..8].copy_from_slice(&sqn_ds.to_be_bytes());
        nic.put(&nop);
        let wqe = nic.wqe(0x0a, &udp6(b"data"), 0, 0, 0);
        nic.put(&wqe);
        nic.ring();
        nic.ring();
        assert_eq!(nic.end(), (0, 0, round * 2 + 1));
    }
    assert_eq!(nic.machine.memory.sent.len(), 40);
    assert_eq!(nic.violations(), 0);
}

#[test]
fn offloads_make_checksums_and_segments() {
    let mut nic = Nic::new();
    let data: Vec<u8> = (0..=255).collect();
    let right = tcp4(&data);
    let mut frame = right.clone();
    frame[24..26].fill(0);
    frame[50..52].fill(0xff);
    let wqe = nic.wqe(0x0a, &frame, 0, 0xc0, 0);
    nic.put(&wqe);
    nic.ring();
    assert_eq!(nic.machine.memory.sent, std::slice::from_ref(&right));
    let wqe = nic.wqe(0x0e, &frame, 54, 0xc0, 100);
    assert_eq!(wqe.len(), 7 * 16);
    nic.put(&wqe);
    nic.ring();
    let mut segments: Vec<_> = packet::segment(&right, 54, 100).unwrap().collect();
    for segment in &mut segments {
        packet::set_checksums(segment, true, true);
    }
    assert_eq!(nic.machine.memory.sent[1..], segments);
    assert_eq!(nic.end(), (0, 0, 0));
    assert_eq!(nic.end(), (0, 0, 1));
}

/// Others have their turn: a machine stands still while its NIC sends.
#[test]
fn a_queue_sends_so_much_at_once() {
    let mut nic = Nic::new();
    let frame = tcp4(&[0; 3000]);
    for _ in 0..5 {
        let wqe = nic.wqe(0x0e, &frame, 54, 0, 1);
        nic.put(&wqe);
    }
    nic.ring();
    let sent = |nic: &Nic| nic.machine.memory.sent.len();
    // A WQE counts as a frame, in each turn that has some of it.
    for expected in [4094, 8188, 12_281, 15_000, 15_000] {
        assert_eq!(sent(&nic), expected);
        let Machine { hca, memory, .. } = &mut nic.machine;
        hca.timer(memory);
    }
    // None was sent twice.
    let sequence = |frame: &Vec<u8>| u32::from_be_bytes(frame[38..42].try_into().unwrap());
    let sent = nic.machine.memory.sent.iter().map(sequence);
    let first = sequence(&frame);
    let all = (0..15_000).map(|number| first.wrapping_add(number % 3000));
    assert!(sent.eq(all));
    for wqe in 0..5 {
        assert_eq!(nic.end(), (0, 0, wqe * 2));
    }
    assert_eq!(nic.violations(), 0);
}

#[test]
fn a_bad_wqe_ends_the_queue() {
    let frame = tcp4(b"data");
    type Spoil = fn(&mut Nic, &mut Vec<u8>);
    let cases: [(Spoil, u8); 11] = [
        (|_, wqe| wqe[3] = 0x25, 2),
        (|_, wqe| wqe[0] = 1, 2),
        (|_, wqe| wqe[2] = 9, 2),
        (|_, wqe| wqe[6] ^= 1, 2),
        (|_, wqe| wqe[7] = 0, 2),
        // More blocks than were posted.
        (|_, wqe| wqe[7] = 5, 2),
        // An inline header that is longer than the WQE.
        (|_, wqe| wqe[29] = 200, 2),
        // Segmentation that cannot be.
        (|_, wqe| wqe[3] = 0x0e, 2),
        // Data in the segment.
        (|_, wqe| wqe[32] = 0x80, 1),
        (|_, wqe| wqe[38] ^= 1, 4),
        // Not within memory.
        (|_, wqe| wqe[40] = 0xff, 4),
    ];
    for (i, (spoil, syndrome)) in cases.into_iter().enumerate() {
        let mut nic = Nic::new();
        let mut wqe = nic.wqe(0x0a, &frame, 0, 0, 0);
        spoil(&mut nic, &mut wqe);
        nic.put(&wqe);
        nic.ring();
        assert_eq!(nic.end(), (13, syndrome, 0), "case {i}");
        // What follows is not carried out.
        nic.send_frame(&frame);
        assert_eq!(nic.end(), (13, 5, 1), "case {i}");
        assert!(nic.machine.memory.sent.is_empty());
        assert_eq!(nic.violations(), 1);
        let query = input(ifc::QUERY_SQ, 16, &[(ifc::OBJECT, nic.sqn)]);
        let reply = nic.machine.send(&query, 0x200);
        assert_eq!(wq::STATE.get(&reply.output[CONTEXT..]), 3);
        // The driver begins anew.
        let sqn = nic.sqn;
        send(&mut nic.machine, &set_state(ifc::MODIFY_SQ, sqn, 3, 0));
        nic.sent = 0;
        nic.write(SQ_RECORD + 4, &[0; 4]);
        send(&mut nic.machine, &set_state(ifc::MODIFY_SQ, sqn, 0, 1));
        nic.send_frame(&frame);
        assert_eq!(nic.end(), (0, 0, 0));
    }
}

#[test]
fn an_mkey_of_another_domain_is_no_good() {
    let mut nic = Nic::new();
    let key = nic.machine.data_mkey();
    let mut wqe = nic.wqe(0x0a, &tcp4(b""), 0, 0, 0);
    wqe[36..40].copy_from_slice(&key.to_be_bytes());
    nic.put(&wqe);
    nic.ring();
    assert_eq!(nic.end(), (13, 4, 0));
}

#[test]
fn a_frame_is_received() {
    let mut nic = Nic::new();
    nic.post(2);
    let frame = tcp4(b"hello");
    nic.arrive(&frame);
    assert_eq!(nic.received(0, frame.len()), frame);
    let cqe = nic.cqe().unwrap();
    assert_eq!(cqe[63] >> 4, 2);
    assert_eq!(cqe[44..48], (frame.len() as u32).to_be_bytes());
    assert_eq!(cqe[20..22], packet::sum(&frame[14..]).to_be_bytes());
    assert_eq!(cqe[28..30], [0b111, (4 << 4) | (2 << 2)]);
    assert_eq!(cqe[56..60], 0xabcu32.to_be_bytes());
    // Its tag is stripped, and told.
    let frame = udp6(b"hello");
    nic.arrive(&frame);
    assert_eq!(nic.received(1, 12), &frame[..12]);
    assert_eq!(nic.received(1, frame.len() - 4)[12..], frame[16..]);
    let cqe = nic.cqe().unwrap();
    assert_eq!(cqe[28..32], [0b111, (2 << 4) | (1 << 2) | 1, 0, 5]);
    assert_eq!(cqe[60..62], [0, 1]);
    // There is no memory for the next.
    nic.arrive(&frame);
    assert_eq!(nic.cqe(), None);
    assert_eq!(nic.out_of_buffer(), 1);
    assert_eq!(nic.violations(), 0);
}

#[test]
fn memory_that_is_no_good_ends_the_queue() {
    for (spoil, syndrome) in [(0, 1), (6, 4), (8, 4)] {
        let mut nic = Nic::new();
        nic.post(2);
        let at = (RQ + spoil) as usize;
        // A byte count, the key, the address.
        let bytes: &[u8] = match spoil {
            0 => &[0, 0, 0, 9],
            _ => &[0xee],
        };
        nic.write(at as u64, bytes);
        nic.arrive(&tcp4(b"hello"));
        assert_eq!(nic.end(), (14, syndrome, 0));
        assert_eq!(nic.end(), (14, 5, 1));
        assert_eq!(nic.violations(), 1);
        nic.post(1);
        nic.arrive(&tcp4(b"hello"));
        assert_eq!(nic.cqe(), None);
    }
}

#[test]
fn a_frame_is_no_longer_than_the_mtu() {
    let mut nic = Nic::new();
    nic.post(2);
    // With its checksum, 1522 bytes.
    let fits = tcp4(&[0; 1518 - 54]);
    let long = tcp4(&[0; 1519 - 54]);
    nic.send_frame(&long);
    nic.arrive(&long);
    assert!(nic.machine.memory.sent.is_empty());
    assert_eq!(nic.end(), (0, 0, 0));
    assert_eq!(nic.cqe(), None);
    nic.arrive(&fits);
    assert_eq!(nic.end(), (2, 0, 0));
    let counters = command(ifc::QUERY_VPORT_COUNTER, 0, 0x20);
    let counters = nic.machine.send(&counters, 0x210).output;
    assert_eq!(counters[vport::TRANSMIT_ERRORS + 7], 1);
    let unicast = vport::ETHERNET + 0x20;
    assert_eq!(counters[unicast + 14..unicast + 16], 1518u16.to_be_bytes());
}

#[test]
fn a_completion_queue_overruns() {
    let mut nic = Nic::new();
    for _ in 0..17 {
        nic.send_frame(&tcp4(b""));
    }
    let cqn = (nic.cqn as u32).to_be_bytes();
    let eqe = nic.eqe(0);
    assert_eq!(
        (eqe[1], &eqe[32..36], eqe[43]),
        (event::CQ_ERROR, &cqn[..], 1)
    );
    nic.consumed = 16;
    nic.write(CQ_RECORD, &[0, 0, 0, 16]);
    nic.send_frame(&tcp4(b""));
    assert_eq!(nic.cqe(), None);
    assert_eq!(nic.machine.memory.sent.len(), 17);
}

#[test]
fn functions_hear_each_other() {
    let mut nic = Nic::new();
    nic.post(3);
    let frame = tcp4(b"to myself");
    nic.send_frame(&frame);
    let Machine { hca, memory, .. } = &mut nic.machine;
    assert!(memory.wake.is_some());
    hca.timer(memory);
    assert_eq!(nic.end(), (0, 0, 0));
    assert_eq!(nic.cqe(), None, "it does not hear itself");
    let Machine { hca, memory, .. } = &mut nic.machine;
    hca.transmit(memory, FunctionId(1), frame.clone());
    assert_eq!(nic.cqe(), None, "not while it is sent");
    let Machine { hca, memory, .. } = &mut nic.machine;
    hca.timer(memory);
    assert_eq!(nic.end(), (2, 0, 0));
    assert_eq!(nic.machine.memory.sent, [frame.clone(), frame]);
}

#[test]
fn a_link_goes_down_and_up() {
    let mut nic = Nic::new();
    nic.post(1);
    let Machine { hca, memory, .. } = &mut nic.machine;
    hca.set_link(memory, false);
    nic.send_frame(&tcp4(b""));
    nic.arrive(&tcp4(b""));
    assert_eq!(nic.end(), (0, 0, 0));
    assert_eq!(nic.cqe(), None);
    assert!(nic.machine.memory.sent.is_empty());
    let eqe = nic.eqe(0);
    assert_eq!((eqe[1], eqe[3], eqe[40]), (event::PORT_CHANGE, 1, 0x10));
    let state = |nic: &mut Nic| {
        let query = command(ifc::QUERY_VPORT_STATE, 0, 16);
        vport::STATE.get(&send(&mut nic.machine, &query))
    };
    assert_eq!(state(&mut nic), 0);
    // As a test has it.
    let Machine { hca, memory, .. } = &mut nic.machine;
    hca.control_write(memory, regs::CONTROL_ARGS, 1);
    hca.control_write(memory, regs::CONTROL_CMD, regs::CMD_SET_LINK);
    assert_eq!(hca.control_read(regs::CONTROL_STATUS), regs::STATUS_OK);
    assert_eq!(nic.eqe(1)[3], 4);
    assert_eq!(state(&mut nic), 1);
    send(&mut nic.machine, &port(2));
    assert_eq!(nic.eqe(2)[3], 1);
    // A VF does not own the port.
    nic.machine.drive(FunctionId(1));
    send(&mut nic.machine, &port(1));
    assert_eq!(state(&mut nic), 0);
}

#[test]
fn what_is_in_use_stays_in_use() {
    let mut nic = Nic::new();
    let busy = Status::BadResState as u8;
    for (opcode, number) in [
        (ifc::DESTROY_CQ, nic.cqn),
        (ifc::DESTROY_RQ, nic.rqn),
        (ifc::DESTROY_TIR, nic.tir),
        (ifc::DESTROY_TIS, nic.tis),
        (ifc::DEALLOC_PD, nic.pd),
        (ifc::DEALLOC_TRANSPORT_DOMAIN, 1),
    ] {
        let destroy = input(opcode, 16, &[(ifc::OBJECT, number)]);
        assert_eq!(nic.status(&destroy), busy, "{opcode:#x}");
    }
    let counter = [(COUNTER_SET, nic.counter)];
    assert_eq!(
        nic.status(&input(ifc::DEALLOC_Q_COUNTER, 16, &counter)),
        busy
    );
    let fields = [(rqtc::MAX_SIZE, 1), (rqtc::ACTUAL_SIZE, 1)];
    let mut rqt = with_context(ifc::CREATE_RQT, rqtc::LIST, &fields);
    rqt.extend_from_slice(&(nic.rqn as u32).to_be_bytes());
    let rqtn = number(&send(&mut nic.machine, &rqt));
    for (opcode, number, status) in [
        (ifc::DESTROY_SQ, nic.sqn, 0),
        (ifc::DESTROY_SQ, nic.sqn, Status::BadRes as u8),
        (ifc::DESTROY_TIS, nic.tis, 0),
        (ifc::DESTROY_RQT, rqtn, 0),
        (ifc::DESTROY_RQT, rqtn, Status::BadRes as u8),
    ] {
        let destroy = input(opcode, 16, &[(ifc::OBJECT, number)]);
        assert_eq!(nic.status(&destroy), status);
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let mut nic = Nic::new();
    let good = [
        (wq::CQN, nic.cqn),
        (sqc::TIS_COUNT, 1),
        (sqc::TIS, nic.tis),
        (wq::PD, nic.pd),
        (wq::UAR, nic.uar),
    ];
    for (field, value) in [
        (wq::CQN, 1),
        (sqc::TIS, 0x99),
        (wq::PD, 0x99),
        (wq::UAR, 0x99),
    ] {
        let fields = [&good[..], &[(field, value)]].concat();
        let create = queue(ifc::CREATE_SQ, 6, SQ_RECORD, SQ, &fields);
        assert_eq!(nic.status(&create), Status::BadRes as u8);
    }
    let fields = [(wq::CQN, nic.cqn), (wq::PD, nic.pd), (rqc::COUNTER_SET, 77)];
    let create = queue(ifc::CREATE_RQ, 5, RQ_RECORD, RQ, &fields);
    assert_eq!(nic.status(&create), Status::BadRes as u8);
    for (dispatch, hash) in [(0, 0), (1, 2)] {
        let fields = [
            (tirc::DISPATCH, dispatch),
            (tirc::HASH, hash),
            (tirc::RQN, 0x99),
            (tirc::RQT, 0x99),
            (tirc::TRANSPORT_DOMAIN, 1),
        ];
        let create = with_context(ifc::CREATE_TIR, tirc::LEN, &fields);
        assert_eq!(nic.status(&create), Status::BadRes as u8);
    }
    // The state is another one, and there is no way from failed to ready.
    let sqn = nic.sqn;
    let bad = Status::BadResState as u8;
    assert_eq!(nic.status(&set_state(ifc::MODIFY_SQ, sqn, 0, 1)), bad);
    assert_eq!(nic.status(&set_state(ifc::MODIFY_SQ, sqn, 1, 3)), 0);
    assert_eq!(nic.status(&set_state(ifc::MODIFY_SQ, sqn, 3, 1)), bad);
    // A doorbell of nobody's queue, and one on another page.
    nic.violations();
    nic.sqn = 5;
    nic.ring();
    nic.sqn = sqn;
    nic.uar = number(&send(&mut nic.machine, &command(ifc::ALLOC_UAR, 0, 16)));
    nic.ring();
    assert_eq!(nic.violations(), 2);
}

#[test]
fn completions_are_moderated() {
    let mut nic = Nic::new();
    // By count and by period.
    let fields = [(ifc::OBJECT, nic.cqn), (ifc::ethernet::CQ_MODIFY, 0b11)];
    let mut modify = input(ifc::MODIFY_CQ, 0x110, &fields);
    ifc::ethernet::CQC_PERIOD.set(&mut modify[0x10..], 8);
    ifc::ethernet::CQC_MAX_COUNT.set(&mut modify[0x10..], 3);
    assert_eq!(nic.status(&modify), 0);
    nic.arm();
    nic.at(8_000);
    nic.send_frame(&tcp4(b""));
    assert_eq!(nic.events(), 1, "nothing was told for long");
    assert!(nic.cqe().is_some());
    nic.arm();
    for _ in 0..2 {
        nic.send_frame(&tcp4(b""));
        assert!(nic.cqe().is_some());
    }
    assert_eq!(nic.events(), 1);
    nic.at(15_999);
    assert_eq!(nic.machine.memory.wake, Some(16_000));
    assert_eq!(nic.events(), 1);
    nic.at(16_000);
    assert_eq!(nic.events(), 2, "the period is over");
    nic.arm();
    for events in [2, 2, 3, 3] {
        nic.send_frame(&tcp4(b""));
        assert_eq!(nic.events(), events);
        assert!(nic.cqe().is_some());
    }
    // What has waited for a change does not wait any longer.
    nic.arm();
    nic.send_frame(&tcp4(b""));
    assert_eq!(nic.events(), 3);
    ifc::ethernet::CQC_PERIOD.set(&mut modify[0x10..], 0);
    assert_eq!(nic.status(&modify), 0);
    assert_eq!(nic.events(), 4);
    // No driver resizes a CQ.
    let fields = [(ifc::OBJECT, nic.cqn), (ifc::ethernet::CQ_MODIFY, 1 << 2)];
    let modify = input(ifc::MODIFY_CQ, 0x110, &fields);
    assert_eq!(nic.status(&modify), Status::BadParam as u8);
}

#[test]
fn without_a_network_it_is_no_nic() {
    let mut machine = Machine::with_vfs();
    for opcode in [
        ifc::ALLOC_TRANSPORT_DOMAIN,
        ifc::CREATE_SQ,
        ifc::CREATE_FLOW_TABLE,
        ifc::QUERY_NIC_VPORT_CONTEXT,
    ] {
        let reply = machine.send(&command(opcode, 0, 0x100), 0x100);
        assert_eq!(reply.status(), Status::BadOp as u8);
    }
    let mkey = input(ifc::CREATE_MKEY, 0x110, &[(MKC_LENGTH64, 1)]);
    assert_eq!(machine.send(&mkey, 16).status(), Status::BadParam as u8);
    let query = command(ifc::QUERY_HCA_CAP, 1 << 1, 16);
    let reply = machine.send(&query, 0x1010);
    assert!(reply.output[0x10..].iter().all(|byte| *byte == 0));
}

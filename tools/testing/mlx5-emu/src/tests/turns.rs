// SPDX-License-Identifier: GPL-2.0

//! What is done in a turn, and what goes on in the next one.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    nic::{
        set_state,
        Nic, //
    },
    nic_state::{
        Moving,
        FROM,
        TO, //
    },
    tracker::send, //
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        ethernet::flow, //
    },
    packet::tests::tcp4,
    turn::{
        RECEIVES,
        SENDS, //
    },
    wq::QueueState, //
};

/// Where other rings are.
const RINGS: u64 = DATA + 0x4_0000;
/// MLX5_OPCODE_LSO
const LSO: u8 = 0x0e;

fn pass(machine: &mut Machine) {
    let Machine { hca, memory, .. } = machine;
    hca.timer(memory);
}

/// Posts a frame that is cut in so many.
fn post_segments(nic: &mut Nic, count: usize) {
    let wqe = nic.wqe(LSO, &tcp4(&vec![0; count]), 54, 0, 1);
    nic.put(&wqe);
}

/// The number of each frame that was sent, by the sequence of TCP.
fn sent(nic: &Nic, count: usize) -> Vec<u32> {
    let sequence = |frame: &[u8]| u32::from_be_bytes(frame[38..42].try_into().unwrap());
    let first = sequence(&tcp4(&vec![0; count]));
    let sent = nic.machine.memory.sent.iter();
    sent.map(|frame| sequence(frame).wrapping_sub(first))
        .collect()
}

#[test]
fn all_queues_of_a_function_share_a_turn() {
    let mut moving = Moving::new();
    for number in 0..4 {
        let ring = RINGS + number * 4096;
        moving.nic.another_sq(ring, ring + 2048);
        post_segments(&mut moving.nic, 3000);
    }
    let objects = moving.nic.machine.hca.objects(FunctionId(FROM));
    for sq in objects.sqs.values_mut() {
        sq.behind = true;
    }
    let mut before = 0;
    let mut turns = 0;
    while moving.nic.machine.memory.sent.len() < 12_000 {
        pass(&mut moving.nic.machine);
        let now = moving.nic.machine.memory.sent.len();
        assert!((1..=SENDS).contains(&(now - before)), "{before} {now}");
        before = now;
        turns += 1;
    }
    assert_eq!(turns, 3);
    let mut numbers = sent(&moving.nic, 3000);
    numbers.sort_unstable();
    let all: Vec<u32> = (0..3000).flat_map(|number| [number; 4]).collect();
    assert_eq!(numbers, all);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn a_vf_that_resumes_sends_for_a_turn() {
    let mut moving = Moving::new();
    moving.nic.another_sq(RINGS, RINGS + 2048);
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 0, FROM));
    for _ in 0..2 {
        post_segments(&mut moving.nic, 3000);
    }
    moving.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 1, FROM));
    assert_eq!(moving.nic.machine.memory.sent.len(), SENDS - 2);
    assert!(moving.nic.machine.memory.wake.is_some());
    pass(&mut moving.nic.machine);
    assert_eq!(moving.nic.machine.memory.sent.len(), 6000);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn a_wqe_goes_on_if_its_queue_is_told_what_it_is() {
    let mut moving = Moving::new();
    post_segments(&mut moving.nic, 9000);
    moving.nic.ring();
    let ready = set_state(ifc::MODIFY_SQ, moving.nic.sqn, 1, 1);
    while moving.nic.machine.memory.sent.len() < 9000 {
        assert_eq!(moving.nic.status(&ready), 0);
        pass(&mut moving.nic.machine);
    }
    assert!(sent(&moving.nic, 9000).into_iter().eq(0..9000));
    assert_eq!(moving.nic.end(), (0, 0, 0));
    assert_eq!(moving.nic.violations(), 0);
}

/// None of its frames is lost, and none is sent twice.
#[test]
fn a_wqe_goes_on_elsewhere() {
    let mut moving = Moving::new();
    post_segments(&mut moving.nic, 9000);
    moving.nic.ring();
    // The WQE counts as three: it has 9 KiB.
    assert_eq!(moving.nic.machine.memory.sent.len(), SENDS - 3);
    moving.as_pf(|machine, _| machine.stop(FROM));
    pass(&mut moving.nic.machine);
    assert_eq!(moving.nic.machine.memory.sent.len(), SENDS - 3);
    let size = moving.save(&[]);
    moving.as_pf(|machine, _| machine.stop(TO));
    assert_eq!(moving.load(size), 0);
    assert!(moving.nic.cqe().is_none());
    moving.as_pf(|machine, _| machine.resume(TO));
    moving.nic.machine.turn_to(FunctionId(TO));
    for _ in 0..2 {
        pass(&mut moving.nic.machine);
    }
    assert!(sent(&moving.nic, 9000).into_iter().eq(0..9000));
    assert_eq!(moving.nic.end(), (0, 0, 0));
    assert!(moving.nic.cqe().is_none());
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn functions_share_a_turn() {
    let mut moving = Moving::new();
    post_segments(&mut moving.nic, 20_000);
    moving.nic.ring();
    let transmitted = |moving: &Moving, function: u16| {
        let mut counters = vec![0; 0x200];
        let function = &moving.nic.machine.hca.functions[usize::from(function)];
        function.vport.counters.write(&mut counters);
        ifc::field(0xa0, 0, 64).get(&counters) as usize
    };
    // The second VF has the same to do.
    let functions = &mut moving.nic.machine.hca.functions;
    functions[usize::from(TO)].objects = functions[usize::from(FROM)].objects.clone();
    let before = [FROM, TO].map(|function| transmitted(&moving, function));
    // The WQE counts as five: it has 20 KiB.
    assert_eq!(before, [SENDS - 5, 0]);
    pass(&mut moving.nic.machine);
    let after = [FROM, TO].map(|function| transmitted(&moving, function));
    assert_eq!(after[0] - before[0] + after[1], SENDS - 2 * 5);
    assert_eq!(after[0] - before[0], after[1]);
}

/// A frame is for 16 queues, which have no memory for it.
#[test]
fn frames_that_wait_are_delivered_in_turns() {
    const QUEUES: usize = 16;
    let mut moving = Moving::new();
    let nic = &mut moving.nic;
    let len = flow::CONTEXT + flow::DESTINATION + 8 * QUEUES;
    let mut entry = command(ifc::SET_FLOW_TABLE_ENTRY, 1, len);
    flow::TABLE.set(&mut entry, 1);
    let context = &mut entry[flow::CONTEXT..];
    for (field, value) in [
        (flow::CONTEXT_GROUP, 1),
        (flow::ACTION, 4),
        (flow::DESTINATIONS, QUEUES as u64),
    ] {
        field.set(context, value);
    }
    for destination in context[flow::DESTINATION..].chunks_mut(8) {
        flow::DESTINATION_TYPE.set(destination, 2);
        flow::DESTINATION_ID.set(destination, nic.tir);
    }
    send(&mut nic.machine, &entry);
    let Machine { hca, memory, .. } = &mut nic.machine;
    let missed = |hca: &mut crate::hca::Hca| {
        let counters = &hca.objects(FunctionId(FROM)).q_counters;
        counters.values().next().unwrap().out_of_buffer as usize
    };
    for _ in 0..4096 {
        hca.frame_arrived(memory, &tcp4(b""));
    }
    let turn = RECEIVES.div_ceil(QUEUES + 1);
    for expected in [turn, 2 * turn, 4096, 4096] {
        hca.timer(memory);
        assert_eq!(missed(hca), QUEUES * expected);
    }
    assert_eq!(hca.violations, 0);
}

#[test]
fn a_queue_that_has_failed_is_flushed_in_turns() {
    let mut nic = Nic::on(FunctionId::PF);
    for _ in 0..10 {
        let wqe = nic.wqe(0, b"", 0, 0, 0);
        nic.put(&wqe);
    }
    let Machine { hca, memory, .. } = &mut nic.machine;
    let sqn = nic.sqn as u32;
    let sq = hca.objects(FunctionId::PF).sqs.get_mut(&sqn).unwrap();
    sq.queue.state = QueueState::Error;
    hca.turn.sends = 3;
    hca.send_posted(memory, FunctionId::PF, sqn);
    for wqe in 0..3 {
        assert_eq!(nic.end(), (13, 5, wqe));
    }
    assert!(nic.cqe().is_none());
    pass(&mut nic.machine);
    for wqe in 3..10 {
        assert_eq!(nic.end(), (13, 5, wqe));
    }
    assert!(nic.cqe().is_none());
}

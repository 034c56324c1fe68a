// SPDX-License-Identifier: GPL-2.0

//! Flow counters of what a function receives, and those of a VF that moves.

use super::{
    driver::{
        command,
        Machine, //
    },
    nic::Nic,
    nic_state::{
        Moving,
        FROM,
        TO, //
    },
    tracker::{
        input,
        send, //
    },
};
use crate::{
    flow_counter,
    host::FunctionId,
    ifc::{
        self,
        ethernet::flow,
        flow_counter::{
            BULK,
            CLEAR,
            COUNT as NUM_OF_COUNTERS,
            ID,
            LISTED,
            OCTETS,
            PACKETS,
            QUERY_ID,
            STATISTICS,
            TRAFFIC_LEN, //
        },
        Status, //
    },
    migration::MigrationState,
    packet::tests::tcp4,
    records::{
        Key,
        Kind, //
    },
    resources::Resources,
    steering::kind::{
        COUNT,
        DROP,
        FORWARD, //
    },
};

const VF: FunctionId = FunctionId(FROM);
/// Numbers of the table that takes all frames, and of its group.
const TABLE: u64 = 1;
const GROUP: u64 = 1;
/// Type of a destination.
const TIR: u64 = 2;
const BAD_PARAM: u8 = Status::BadParam as u8;
const BAD_RES: u8 = Status::BadRes as u8;
const BAD_STATE: u8 = Status::BadResState as u8;

fn alloc(machine: &mut Machine) -> u64 {
    ID.get(&send(machine, &command(ifc::ALLOC_FLOW_COUNTER, 0, 16)))
}

fn dealloc(counter: u64) -> Vec<u8> {
    input(ifc::DEALLOC_FLOW_COUNTER, 16, &[(ID, counter)])
}

/// A query of this number of counters, or of one if that is 0.
fn query(first: u64, count: u64) -> Vec<u8> {
    let fields = [(QUERY_ID, first), (NUM_OF_COUNTERS, count)];
    input(ifc::QUERY_FLOW_COUNTER, 0x20, &fields)
}

/// Packets and bytes.
fn counted(machine: &mut Machine, counter: u64) -> (u64, u64) {
    let output = send(machine, &query(counter, 0));
    let traffic = &output[STATISTICS..];
    (PACKETS.get(traffic), OCTETS.get(traffic))
}

/// Has the table of a NIC do this with all frames, in place of what it did.
fn change(action: u64, tir: Option<u64>, counters: &[u64]) -> Vec<u8> {
    let fields = [(flow::TABLE, TABLE), (ifc::OP_MOD, 1)];
    let len = flow::CONTEXT + flow::DESTINATION;
    let mut entry = input(ifc::SET_FLOW_TABLE_ENTRY, len, &fields);
    let context = &mut entry[flow::CONTEXT..];
    for (field, value) in [
        (flow::CONTEXT_GROUP, GROUP),
        (flow::ACTION, action),
        (flow::DESTINATIONS, tir.is_some().into()),
        (flow::COUNTERS, counters.len() as u64),
    ] {
        field.set(context, value);
    }
    if let Some(tir) = tir {
        let mut to = [0; 8];
        flow::DESTINATION_TYPE.set(&mut to, TIR);
        flow::DESTINATION_ID.set(&mut to, tir);
        entry.extend(to);
    }
    for counter in counters {
        let mut listed = [0; 8];
        LISTED.set(&mut listed, *counter);
        entry.extend(listed);
    }
    entry
}

/// Whether a frame that comes is received.
fn receives(nic: &mut Nic, frame: &[u8]) -> bool {
    nic.post(1);
    nic.arrive(frame);
    nic.cqe().is_some()
}

#[test]
fn entries_count_what_they_forward_and_drop() {
    let mut nic = Nic::on(VF);
    let frame = tcp4(b"counted");
    let len = frame.len() as u64;
    let tir = Some(nic.tir);
    let counter = alloc(&mut nic.machine);
    assert!(receives(&mut nic, &frame));
    assert_eq!(counted(&mut nic.machine, counter), (0, 0));
    let ways = [
        (FORWARD | COUNT, tir, true),
        (DROP | COUNT, None, false),
        // What is only counted goes nowhere.
        (COUNT, None, false),
    ];
    for ((action, to, arrives), frames) in ways.into_iter().zip(1..) {
        send(&mut nic.machine, &change(action, to, &[counter]));
        assert_eq!(receives(&mut nic, &frame), arrives, "{action:#x}");
        let expected = (frames, frames * len);
        assert_eq!(counted(&mut nic.machine, counter), expected, "{action:#x}");
    }
    // Even if there is no memory for it.
    let mut nic = Nic::on(VF);
    let counter = alloc(&mut nic.machine);
    send(&mut nic.machine, &change(FORWARD | COUNT, tir, &[counter]));
    nic.arrive(&frame);
    assert_eq!(nic.out_of_buffer(), 1);
    assert_eq!(counted(&mut nic.machine, counter), (1, len));
    let mut clear = query(counter, 0);
    CLEAR.set(&mut clear, 1);
    send(&mut nic.machine, &clear);
    assert_eq!(counted(&mut nic.machine, counter), (0, 0));
    assert_eq!(nic.violations(), 0);
}

#[test]
fn entries_have_a_counter_that_there_is() {
    let mut nic = Nic::on(VF);
    let tir = Some(nic.tir);
    let counter = alloc(&mut nic.machine);
    for (action, to, counters, status) in [
        (DROP | COUNT, None, &[counter + 1][..], BAD_RES),
        (DROP | COUNT, None, &[0], BAD_RES),
        (DROP | COUNT, None, &[], BAD_PARAM),
        (DROP | COUNT, None, &[counter, counter], BAD_PARAM),
        (DROP, None, &[counter], BAD_PARAM),
        (COUNT, tir, &[counter], BAD_PARAM),
        (COUNT, None, &[], BAD_PARAM),
        (0, None, &[counter], BAD_PARAM),
    ] {
        let change = change(action, to, counters);
        assert_eq!(nic.status(&change), status, "{action:#x} {counters:?}");
        assert_eq!(nic.violations(), 1);
    }
    send(&mut nic.machine, &change(DROP | COUNT, None, &[counter]));
    assert_eq!(nic.status(&dealloc(counter)), BAD_STATE);
    send(&mut nic.machine, &change(DROP, None, &[]));
    assert_eq!(nic.violations(), 1);
    send(&mut nic.machine, &dealloc(counter));
    for gone in [dealloc(counter), query(counter, 0)] {
        assert_eq!(nic.status(&gone), BAD_RES);
    }
    assert_eq!(nic.violations(), 2);
}

#[test]
fn functions_have_counters_of_their_own() {
    let mut nic = Nic::on(VF);
    let counter = alloc(&mut nic.machine);
    send(&mut nic.machine, &change(COUNT, None, &[counter]));
    receives(&mut nic, &tcp4(b"of the VF"));
    for other in [FunctionId::PF, FunctionId(TO)] {
        nic.machine.drive(other);
        for about in [dealloc(counter), query(counter, 0)] {
            assert_eq!(nic.status(&about), BAD_RES);
        }
        assert_eq!(nic.violations(), 2);
        // It has the same number, and counts for itself.
        assert_eq!(alloc(&mut nic.machine), counter);
        assert_eq!(counted(&mut nic.machine, counter), (0, 0));
        send(&mut nic.machine, &dealloc(counter));
    }
    nic.machine.drive(VF);
    assert_eq!(counted(&mut nic.machine, counter).0, 1);
    assert_eq!(nic.violations(), 0);
}

#[test]
fn a_function_has_so_many_counters_and_all_go_with_it() {
    let mut nic = Nic::on(VF);
    for _ in 0..flow_counter::MAX {
        alloc(&mut nic.machine);
    }
    let more = command(ifc::ALLOC_FLOW_COUNTER, 0, 16);
    assert_eq!(nic.status(&more), Status::Lim as u8);
    send(&mut nic.machine, &dealloc(77));
    assert_eq!(alloc(&mut nic.machine), 77);
    nic.violations();
    send(&mut nic.machine, &command(ifc::TEARDOWN_HCA, 0, 16));
    let left = nic.machine.memory.violations.join("; ");
    assert!(left.contains("4096 flow counters"), "{left}");
    send(&mut nic.machine, &command(ifc::DISABLE_HCA, 0, 16));
    let hca = &nic.machine.hca;
    assert!(hca.functions[usize::from(FROM)]
        .objects
        .flow_counters
        .all()
        .is_empty());
}

#[test]
fn one_command_reads_many_counters() {
    let mut nic = Nic::on(VF);
    let counters = [(); 6].map(|()| alloc(&mut nic.machine));
    send(&mut nic.machine, &change(COUNT, None, &[counters[4]]));
    receives(&mut nic, &tcp4(b""));
    send(&mut nic.machine, &dealloc(counters[2]));
    // As mlx5_core asks: from a multiple of 4 on, whatever there is.
    let len = STATISTICS + 8 * TRAFFIC_LEN;
    let reply = nic.machine.send(&query(0, 8), len);
    assert_eq!(reply.status(), 0);
    let traffic = reply.output[STATISTICS..].chunks_exact(TRAFFIC_LEN);
    let packets: Vec<u64> = traffic.map(|traffic| PACKETS.get(traffic)).collect();
    assert_eq!(packets, [0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(nic.violations(), 0);
    let short = nic.machine.send(&query(0, 8), len - 1).status();
    assert_eq!(short, Status::BadOutputLen as u8);
    let most = 1 << flow_counter::LOG_MAX_BULK;
    let room = STATISTICS + (most + 1) * TRAFFIC_LEN;
    for (first, count) in [(1, 8), (0, most as u64 + 1), (1 << 20, 8)] {
        let status = nic.machine.send(&query(first, count), room).status();
        assert_eq!(status, BAD_PARAM, "{count} from {first} on");
    }
    let mut several = command(ifc::ALLOC_FLOW_COUNTER, 0, 16);
    BULK.set(&mut several, 1);
    assert_eq!(nic.status(&several), BAD_PARAM);
    assert_eq!(nic.violations(), 5);
}

#[test]
fn counters_go_on_where_a_vf_has_moved() {
    let mut moving = Moving::new();
    let frame = tcp4(b"counted");
    let counter = alloc(&mut moving.nic.machine);
    let counts = change(DROP | COUNT, None, &[counter]);
    send(&mut moving.nic.machine, &counts);
    receives(&mut moving.nic, &frame);
    moving.as_pf(|machine, _| machine.stop(TO));
    let size = moving.save(&[ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.migration_state(), MigrationState::Ready);

    // One that counts is a change, and nothing new.
    receives(&mut moving.nic, &frame);
    assert_eq!(moving.migration_state(), MigrationState::Dirty);
    let size = moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));

    // One more is new, also in place of one that goes.
    let another = alloc(&mut moving.nic.machine);
    for _ in 0..2 {
        assert_eq!(moving.migration_state(), MigrationState::Init);
        let size = moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
        assert_eq!(moving.load(size), 0);
        assert_eq!(moving.migration_state(), MigrationState::Ready);
        send(&mut moving.nic.machine, &dealloc(another));
        assert_eq!(alloc(&mut moving.nic.machine), another);
    }
    moving.as_pf(|machine, _| machine.stop(FROM));
    let size = moving.save(&[ifc::INCREMENTAL]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));

    moving.as_pf(|machine, _| machine.resume(TO));
    moving.nic.machine.turn_to(FunctionId(TO));
    receives(&mut moving.nic, &frame);
    let expected = (3, 3 * frame.len() as u64);
    assert_eq!(counted(&mut moving.nic.machine, counter), expected);
    assert_eq!(counted(&mut moving.nic.machine, another), (0, 0));
    assert_eq!(moving.nic.status(&dealloc(counter)), BAD_STATE);
    assert_eq!(moving.nic.violations(), 1);
}

/// An image of a VF whose table counts with a counter, which the image may lack.
#[test]
fn an_image_has_the_counters_that_its_tables_use() {
    let mut moving = Moving::new();
    let counter = alloc(&mut moving.nic.machine);
    let counts = change(DROP | COUNT, None, &[counter]);
    send(&mut moving.nic.machine, &counts);
    let hca = &moving.nic.machine.hca;
    let mut fresh = Resources::after_reset(&hca.config, VF);
    let mut load = |number: u32, bytes: Option<&[u8]>| {
        let mut resources = hca.resources(VF);
        let key = Key {
            kind: Kind::FlowCounter,
            number,
        };
        let loaded = resources.load(&hca.config, &mut fresh, VF, key, bytes);
        loaded.is_ok().then(|| resources.is_whole())
    };
    let number = counter as u32;
    assert_eq!(load(number, Some(&[3, 9])), Some(true));
    assert_eq!(load(number, None), Some(false));
    assert_eq!(load(number + 1, None), Some(true));
    assert_eq!(load(flow_counter::MAX, Some(&[3, 9])), Some(true));
    for (number, bytes) in [
        (0, &[3, 9][..]),
        (flow_counter::MAX + 1, &[3, 9]),
        (number, &[3]),
        (number, &[3, 9, 0]),
        (number, &[0xff; 21]),
    ] {
        assert_eq!(load(number, Some(bytes)), None, "{number} {bytes:?}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! CQs, QPs and the page tracker: what is reported, and what is refused.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    tracker::{
        create,
        input,
        send,
        Tracked,
        CQ_RECORD,
        ENTRIES,
        EQ,
        EVENT_VECTOR,
        LOG_MESSAGE,
        PAGES,
        TRACKED, //
    },
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        event,
        Status, //
    },
};
use mlx5_emu_regs as regs;

#[test]
fn a_report_comes_in_messages() {
    let mut tracked = Tracked::new();
    tracked.post(4);
    tracked.work(ENTRIES + 2);
    assert_eq!(tracked.report(), 0);
    // More to come, and then no more.
    assert_eq!(tracked.cqe(0), (0x30, 512, 1, 0));
    assert_eq!(tracked.cqe(1), (0x30, 16, 0, 1));
    assert_eq!(tracked.cqe(2).0, 0xf0);
    let last = &tracked.machine.memory.bytes[DATA as usize + 512 + 8..][..8];
    assert_eq!(last, (TRACKED + (ENTRIES + 1) * 4096).to_be_bytes());
    // What was reported is not dirty any more.
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(2), (0x30, 0, 0, 2));
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn a_sender_waits_for_a_receiver_that_is_not_ready() {
    let mut tracked = Tracked::new();
    tracked.work(ENTRIES * 3);
    tracked.post(1);
    assert_eq!(tracked.report(), 0);
    tracked.time();
    assert_eq!(tracked.cqe(0).2, 1);
    assert_eq!(tracked.cqe(1).0, 0xf0);
    assert_eq!(tracked.report(), Status::BadResState as u8);
    tracked.post(3);
    tracked.time();
    assert_eq!(tracked.cqe(2), (0x30, 512, 0, 2));
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn owner_bits_change_each_time_around_and_an_overrun_is_a_violation() {
    let mut tracked = Tracked::new();
    for i in 0..10 {
        tracked.post(1);
        tracked.word(CQ_RECORD, i);
        assert_eq!(tracked.report(), 0);
    }
    assert_eq!((tracked.cqe(1).0, tracked.cqe(2).0), (0x31, 0x30));
    assert_eq!(tracked.machine.hca.violations, 0);
    for _ in 0..8 {
        tracked.post(1);
        assert_eq!(tracked.report(), 0);
    }
    assert_eq!(
        tracked.machine.memory.violations,
        ["completion queue overrun"]
    );
    // The CQ has failed, and the QP with it.
    let mut cq_error = [0; 12];
    cq_error[..4].copy_from_slice(&(tracked.cqn as u32).to_be_bytes());
    cq_error[11] = 1;
    let (kind, data) = tracked.event(0);
    assert_eq!((kind, &data[..12]), (event::CQ_ERROR, &cq_error[..]));
    tracked.word(CQ_RECORD, 18);
    tracked.post(1);
    tracked.time();
    assert_eq!(tracked.cqe(2).0, 0x31, "a message");
    assert_eq!(tracked.machine.hca.violations, 1);
}

#[test]
fn an_entry_is_not_filled_without_a_place_for_its_completion() {
    let mut tracked = Tracked::new();
    tracked.machine.hca.config.page_repeats = 9;
    tracked.work(ENTRIES);
    assert_eq!(tracked.report(), 0);
    for _ in 0..9 {
        // The CQ has eight places, of which none is given back.
        tracked.machine.memory.bytes[DATA as usize..][..4 * 512].fill(0);
        tracked.post(1);
        tracked.time();
    }
    assert_eq!(
        tracked.machine.memory.violations,
        ["completion queue overrun"]
    );
    let slots = &tracked.machine.memory.bytes[DATA as usize..][..4 * 512];
    assert!(slots.iter().all(|byte| *byte == 0));
}

#[test]
fn a_message_is_tried_again_at_once_as_often_as_the_property_says() {
    // How often memory is read if nothing is posted.
    let reads = |retries| {
        let mut tracked = Tracked::new();
        tracked.machine.hca.config.rnr_retries = retries;
        tracked.work(1);
        assert_eq!(tracked.report(), 0);
        assert_eq!(tracked.machine.memory.wake.take(), Some(20_000));
        tracked.machine.memory.reads
    };
    assert_eq!(reads(7), reads(0) + 7);
    let config = crate::config::Config {
        rnr_retries: u32::MAX,
        ..Default::default()
    };
    assert_eq!(Machine::new(config).hca.config.rnr_retries, 10_000);
}

#[test]
fn messages_are_as_large_as_the_property_says() {
    for (property, log_message, status) in [
        (12, 12, 0),
        (12, 13, Status::BadParam as u8),
        (22, 22, 0),
        (22, 23, Status::BadParam as u8),
        (22, 8, Status::BadParam as u8),
    ] {
        let mut tracked = Tracked::new();
        tracked.machine.hca.config.log_max_message = property;
        let create = create(tracked.sender(), log_message);
        let reply = tracked.machine.send(&create, 16);
        assert_eq!(reply.status(), status, "{log_message} of {property}");
    }
    let mut query = command(ifc::QUERY_HCA_CAP, 0x26 << 1, 16);
    ifc::OP_MOD.set(&mut query, 0x26 << 1);
    let mut machine = Machine::new(crate::config::Config {
        log_max_message: 40,
        ..Default::default()
    });
    assert_eq!(machine.send(&query, 0x1010).output[0x10 + 5], 22);
}

#[test]
fn messages_come_one_by_one() {
    let mut tracked = Tracked::new();
    tracked.machine.hca.config.message_ns = 1000;
    tracked.post(4);
    tracked.work(ENTRIES + 2);
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(0).0, 0xf0, "at once");
    assert_eq!(tracked.machine.memory.wake.take(), Some(1000));
    tracked.pass(1000);
    assert_eq!(tracked.cqe(0), (0x30, 512, 1, 0));
    assert_eq!(tracked.cqe(1).0, 0xf0);
    assert_eq!(tracked.machine.memory.wake.take(), Some(2000));
    tracked.pass(999);
    assert_eq!(tracked.cqe(1).0, 0xf0);
    tracked.pass(1);
    assert_eq!(tracked.cqe(1), (0x30, 16, 0, 1));
}

#[test]
fn pages_are_reported_again_and_again() {
    let mut tracked = Tracked::new();
    tracked.machine.hca.config.page_repeats = 3;
    tracked.post(4);
    tracked.work(ENTRIES);
    assert_eq!(tracked.report(), 0);
    let seen = [0, 1, 2].map(|i| tracked.cqe(i));
    let want = [(0x30, 512, 1, 0), (0x30, 512, 1, 1), (0x30, 512, 0, 2)];
    assert_eq!(seen, want);
    let first = |i: usize| &tracked.machine.memory.bytes[DATA as usize + i * 512..][..8];
    assert_eq!(first(2), TRACKED.to_be_bytes());
}

#[test]
fn one_tracker_too_many_is_refused_and_no_violation() {
    let mut tracked = Tracked::new();
    tracked.machine.hca.config.trackers = 4;
    let create = create(tracked.sender(), LOG_MESSAGE);
    let status = |tracked: &mut Tracked| tracked.machine.send(&create, 16).status();
    let seen = [0; 4].map(|_| status(&mut tracked));
    assert_eq!(seen, [0, 0, 0, Status::Lim as u8]);
    let destroy = [
        (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
        (ifc::OBJ_ID, tracked.id),
    ];
    let destroy = input(ifc::DESTROY_GENERAL_OBJECT, 16, &destroy);
    send(&mut tracked.machine, &destroy);
    assert_eq!(status(&mut tracked), 0);
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn a_queue_that_is_armed_tells_its_event_queue() {
    let mut tracked = Tracked::new();
    let interrupts = |t: &Tracked| t.machine.memory.interrupts.len();
    tracked.post(2);
    tracked.report();
    assert_eq!(interrupts(&tracked), 0, "not armed");
    let (uar, cqn) = (tracked.uar * 4096, tracked.cqn as u32);
    // For what comes after the first entry: not there yet.
    tracked.machine.write_register(uar + 0x20, 1);
    tracked.machine.write_register(uar + 0x24, cqn);
    assert_eq!(interrupts(&tracked), 0);
    tracked.report();
    let vector = (FunctionId::PF, EVENT_VECTOR as u16);
    assert_eq!(tracked.machine.memory.interrupts, [vector]);
    let eqe = &tracked.machine.memory.bytes[EQ as usize..][..64];
    assert_eq!(eqe[1], event::COMP);
    assert_eq!(eqe[56..60], cqn.to_be_bytes());
}

#[test]
fn an_object_that_is_in_use_stays_and_the_order_of_states_matters() {
    let mut tracked = Tracked::new();
    let sender = tracked.sender();
    let machine = &mut tracked.machine;
    let destroy = |machine: &mut Machine, opcode, number| {
        let destroy = input(opcode, 16, &[(ifc::OBJECT, number)]);
        machine.send(&destroy, 16).status()
    };
    let in_use = Status::BadResState as u8;
    assert_eq!(destroy(machine, ifc::DESTROY_CQ, tracked.cqn), in_use);
    assert_eq!(destroy(machine, ifc::DESTROY_QP, sender), in_use);
    let again = input(ifc::RST2INIT_QP, 0x110, &[(ifc::OBJECT, sender)]);
    assert_eq!(machine.send(&again, 16).status(), in_use);
    let fields = [
        (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
        (ifc::OBJ_ID, tracked.id),
    ];
    send(machine, &input(ifc::DESTROY_GENERAL_OBJECT, 16, &fields));
    assert_eq!(destroy(machine, ifc::DESTROY_QP, sender), 0);
}

#[test]
fn what_is_asked_of_an_object_after_its_end_is_a_violation_unless_it_is_late() {
    let mut tracked = Tracked::new();
    let fields = [
        (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
        (ifc::OBJ_ID, tracked.id),
    ];
    let destroy = input(ifc::DESTROY_GENERAL_OBJECT, 16, &fields);
    send(&mut tracked.machine, &destroy);
    tracked.machine.hca.config.command_timeout_ms = 1;
    for (ns, violations) in [(2_000_000, 0), (500_000, 1)] {
        tracked.machine.hca.config.command_ns = ns;
        let modify = tracked.modify();
        tracked.machine.submit(1, &modify, 16);
        tracked.machine.ring(1 << 1);
        tracked.pass(ns);
        let reply = tracked.machine.reply(1, 16);
        assert_eq!(reply.status(), Status::BadRes as u8);
        assert_eq!(tracked.machine.hca.violations, violations);
    }
}

#[test]
fn a_range_that_is_not_tracked_is_refused_and_no_violation() {
    let mut tracked = Tracked::new();
    for (start, len) in [
        (TRACKED - 4096, 4096),
        (TRACKED, PAGES * 4096 + 1),
        (TRACKED, 0),
        (u64::MAX, 2),
    ] {
        let fields = [
            (ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()),
            (ifc::OBJ_ID, tracked.id),
            (ifc::TRACK_MODIFY, 0b11),
            (ifc::TRACK_STATE, 1),
            (ifc::TRACK_START, start),
            (ifc::TRACK_LENGTH, len),
        ];
        let modify = input(ifc::MODIFY_GENERAL_OBJECT, ifc::TRACK_RANGES, &fields);
        let status = tracked.machine.send(&modify, 16).status();
        assert_eq!(status, Status::BadParam as u8);
    }
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn a_report_goes_wrong() {
    for (fault, kind, number_at) in [
        (regs::TRACK_ERROR, event::OBJECT_CHANGE, 36),
        (regs::TRACK_QP_ERROR, event::WQ_CATAS_ERROR, 56),
        (regs::TRACK_CQ_ERROR, event::CQ_ERROR, 32),
    ] {
        let mut tracked = Tracked::new();
        tracked.post(1);
        tracked.fault(fault);
        assert_eq!(tracked.report(), 0);
        tracked.time();
        assert_eq!(tracked.cqe(0).0, 0xf0, "a message");
        let qpn = tracked.sender() as u32;
        let number = match fault {
            regs::TRACK_ERROR => tracked.id as u32,
            regs::TRACK_QP_ERROR => qpn,
            _ => tracked.cqn as u32,
        };
        let eqe = &tracked.machine.memory.bytes[EQ as usize..][..64];
        assert_eq!(eqe[1], kind);
        assert_eq!(eqe[number_at..number_at + 4], number.to_be_bytes());
        assert_eq!(tracked.machine.hca.faults.fired, 1);
    }
}

#[test]
fn a_message_says_that_the_tracker_failed() {
    let mut tracked = Tracked::new();
    tracked.post(2);
    tracked.work(3);
    tracked.fault(regs::TRACK_ERROR_MESSAGE);
    assert_eq!(tracked.report(), 0);
    tracked.time();
    assert_eq!(tracked.cqe(0), (0x30, 0, 2, 0));
    assert_eq!(tracked.cqe(1).0, 0xf0);
    assert_eq!(tracked.report(), Status::BadResState as u8);
}

#[test]
fn a_held_report_is_sent_when_it_is_released() {
    let mut tracked = Tracked::new();
    tracked.post(2);
    tracked.work(3);
    tracked.fault(regs::TRACK_HOLD);
    assert_eq!(tracked.report(), 0);
    tracked.machine.memory.wake = None;
    tracked.pass(1 << 40);
    assert_eq!(tracked.cqe(0).0, 0xf0, "a message");
    assert_eq!(tracked.machine.memory.wake, None);
    tracked.release();
    assert!(tracked.machine.memory.wake.is_some());
    tracked.time();
    assert_eq!(tracked.cqe(0), (0x30, 24, 0, 0));
}

#[test]
fn no_function_reaches_the_queues_of_another() {
    let mut tracked = Tracked::new();
    let qpn = tracked.sender();
    let machine = &mut tracked.machine;
    machine.drive(FunctionId(1));
    for (opcode, field, number) in [
        (ifc::DESTROY_CQ, ifc::OBJECT, tracked.cqn),
        (ifc::DESTROY_QP, ifc::OBJECT, qpn),
        (ifc::DESTROY_GENERAL_OBJECT, ifc::OBJ_ID, tracked.id),
        (ifc::DESTROY_EQ, ifc::EQ_NUMBER, 1),
        (ifc::DEALLOC_UAR, ifc::OBJECT, tracked.uar),
    ] {
        let fields = [(ifc::OBJ_TYPE, ifc::OBJ_PAGE_TRACK.into()), (field, number)];
        let fields = match opcode {
            ifc::DESTROY_GENERAL_OBJECT => &fields[..],
            _ => &fields[1..],
        };
        let status = machine.send(&input(opcode, 16, fields), 16).status();
        assert_eq!(status, Status::BadRes as u8, "{opcode:#x}");
    }
    // Nor does a VF see what others write.
    let status = machine.send(&create(qpn, 12), 16).status();
    assert_eq!(status, Status::BadParam as u8);
    machine.drive(FunctionId::PF);
    tracked.post(1);
    tracked.work(3);
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(0), (0x30, 24, 0, 0));
}

#[test]
fn registers_tell_what_is_tracked() {
    let Machine {
        mut hca,
        mut memory,
        ..
    } = Tracked::new().machine;
    let mut read = |id: u16, register| {
        let at = regs::BLOCK + register;
        hca.read(&mut memory, FunctionId(id), at)
    };
    assert_eq!(read(1, regs::TRACKED_RANGES), 1);
    assert_eq!(u64::from(read(1, regs::TRACKED_BYTES)), PAGES * 4096);
    assert_eq!(read(2, regs::TRACKED_RANGES), 0);
}

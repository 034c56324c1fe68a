// SPDX-License-Identifier: GPL-2.0

//! Lies: each changes what is said, and nothing else.

use super::{
    driver::{
        command,
        Machine, //
    },
    faults::{
        control,
        counts, //
    },
    tracker::{
        send,
        Tracked,
        ENTRIES,
        PAGES,
        TRACKED, //
    },
};
use crate::ifc::{
    self,
    event,
    Status, //
};
use mlx5_emu_regs::{
    self as regs,
    fault_what,
    lie_how, //
};

const ANY: u16 = regs::FAULT_ANY_VHCA;
const ANY_OP_MOD: u16 = regs::LIE_ANY_OP_MOD;
const QUERY: u16 = ifc::QUERY_VHCA_MIGRATION_STATE;

/// Arms a lie about the next command or message: its kind and event, a field, a value.
fn lie(machine: &mut Machine, opcode: u16, (kind, event): (u8, u8), field: (u16, u16), value: u64) {
    let how = lie_how(kind, event, ANY_OP_MOD, field);
    let args = [fault_what(opcode, ANY, 1), how, value, 1];
    assert_eq!(
        control(machine, regs::CMD_ARM_LIE, args),
        regs::STATUS_OK,
        "{kind}"
    );
}

/// A lie about the next message.
fn message(tracked: &mut Tracked, kind: u8, field: (u16, u16), value: u64) {
    lie(&mut tracked.machine, 0, (kind, 0), field, value);
}

fn query(machine: &mut Machine) -> Vec<u8> {
    let mut query = command(QUERY, 0, 16);
    ifc::VHCA_ID.set(&mut query, 1);
    send(machine, &query)
}

/// What an honest report is about: two messages.
fn reporting() -> Tracked {
    let mut tracked = Tracked::new();
    tracked.post(4);
    tracked.work(ENTRIES + 2);
    tracked
}

#[test]
fn a_field_of_one_answer_has_another_value() {
    let mut machine = Machine::with_vfs();
    let honest = query(&mut machine);
    lie(
        &mut machine,
        QUERY,
        (regs::LIE_ANSWER, 0),
        (0x10 * 8, 32),
        0x1234,
    );
    assert_eq!(counts(&machine), [0, 1, 0]);
    let told = query(&mut machine);
    assert_eq!(ifc::REQUIRED_UMEM_SIZE.get(&told), 0x1234);
    let mut rest = told;
    ifc::REQUIRED_UMEM_SIZE.set(&mut rest, ifc::REQUIRED_UMEM_SIZE.get(&honest));
    assert_eq!(rest, honest);
    assert_eq!(query(&mut machine), honest);
    assert_eq!(counts(&machine), [1, 0, 0]);
}

#[test]
fn a_lie_can_be_about_one_op_mod_only() {
    let mut machine = Machine::with_vfs();
    let how = lie_how(regs::LIE_UNDONE, 0, 1, (0, 0));
    let what = fault_what(ifc::SUSPEND_VHCA, ANY, 1);
    let status = control(&mut machine, regs::CMD_ARM_LIE, [what, how, 0, 1]);
    assert_eq!(status, regs::STATUS_OK);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 1), 0);
    assert_eq!(counts(&machine), [0, 1, 0]);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 1, 1), 0);
    assert_eq!(counts(&machine), [1, 0, 0]);
    // The second side was not suspended.
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 1, 1), 0);
}

#[test]
fn what_a_lie_leads_to_is_no_violation_while_it_is_armed() {
    let mut machine = Machine::with_vfs();
    let kind = (regs::LIE_UNDONE, 0);
    lie(&mut machine, ifc::SUSPEND_VHCA, kind, (0, 0), 0);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 1), 0);
    assert_ne!(machine.about(ifc::RESUME_VHCA, 1, 1), 0);
    assert_eq!(machine.hca.violations, 0);
    let status = control(&mut machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    assert_eq!(status, regs::STATUS_OK);
    assert_ne!(machine.about(ifc::RESUME_VHCA, 1, 1), 0);
    assert_eq!(machine.hca.violations, 1);
}

#[test]
fn a_wrong_number_is_no_violation_until_the_hca_is_torn_down() {
    let mut machine = Machine::with_vfs();
    let kind = (regs::LIE_ANSWER, 0);
    lie(
        &mut machine,
        ifc::ALLOC_PD,
        kind,
        (8 * 8 + 8, 24),
        0xab_cdef,
    );
    let pd = send(&mut machine, &command(ifc::ALLOC_PD, 0, 16));
    assert_eq!(ifc::OBJECT.get(&pd), 0xab_cdef);
    control(&mut machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    let mut free = command(ifc::DEALLOC_PD, 0, 16);
    ifc::OBJECT.set(&mut free, 0xab_cdef);
    assert_eq!(machine.send(&free, 16).status(), Status::BadRes as u8);
    assert_eq!(machine.hca.violations, 0);
    machine.hca.reset(crate::host::FunctionId::PF);
    assert!(!machine.hca.lies.have_misled());
}

#[test]
fn a_lie_about_any_object_is_one_until_the_hca_is_torn_down() {
    for opcode in [
        ifc::CREATE_MKEY,
        ifc::ALLOC_FLOW_COUNTER,
        ifc::ALLOC_TRANSPORT_DOMAIN,
        ifc::CREATE_TIR,
        ifc::DESTROY_FLOW_GROUP,
    ] {
        let mut machine = Machine::with_vfs();
        lie(&mut machine, opcode, (regs::LIE_UNDONE, 0), (0, 0), 0);
        send(&mut machine, &command(opcode, 0, 16));
        control(&mut machine, regs::CMD_DISARM_FAULTS, [0; 4]);
        assert!(machine.hca.lies.have_misled(), "{opcode:#x}");
    }
}

#[test]
fn a_field_of_one_completion_has_another_value() {
    let mut tracked = reporting();
    message(&mut tracked, regs::LIE_COMPLETION, (44 * 8, 32), 0xffff);
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(0), (0x30, 0xffff, 1, 0));
    assert_eq!(tracked.cqe(1), (0x30, 16, 0, 1));
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn more_completions_come_than_there_is_room_for() {
    let mut tracked = reporting();
    message(&mut tracked, regs::LIE_AGAIN, (0, 0), 9);
    assert_eq!(tracked.report(), 0);
    // Eight entries: these are of the second time around.
    let message = (0x31, 512, 1, 0);
    assert_eq!((tracked.cqe(0), tracked.cqe(1)), (message, message));
    assert_eq!(tracked.machine.hca.violations, 0);
}

#[test]
fn addresses_are_others_and_their_number_is_true() {
    let mut tracked = reporting();
    message(&mut tracked, regs::LIE_ADDRESSES, (0, 0), u64::MAX);
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(0), (0x30, 512, 1, 0));
    let memory = &tracked.machine.memory.bytes[super::driver::DATA as usize..];
    assert!(memory[..512].iter().all(|byte| *byte == 0xff));
    let second = (TRACKED + ENTRIES * 4096).to_be_bytes();
    assert_eq!(memory[512..520], second);
}

#[test]
fn a_report_goes_on_and_ends_after_the_lie() {
    let mut tracked = reporting();
    const { assert!(ENTRIES * 2 < PAGES) };
    let how = lie_how(regs::LIE_ENDLESS, 0, ANY_OP_MOD, (0, 0));
    let args = [fault_what(0, 1, 1), how, 0x5000, 3];
    assert_eq!(
        control(&mut tracked.machine, regs::CMD_ARM_LIE, args),
        regs::STATUS_OK
    );
    assert_eq!(tracked.report(), 0);
    for i in 0..3 {
        assert_eq!(tracked.cqe(i), (0x30, 512, 1, i as u16));
    }
    assert_eq!(tracked.cqe(3), (0x30, 0, 0, 3));
}

#[test]
fn events_come_one_after_the_other_until_they_are_disarmed() {
    let mut tracked = reporting();
    let value = regs::lie_events(regs::LIE_OWN, 3, 1);
    let kind = (regs::LIE_EVENTS, event::OBJECT_CHANGE);
    lie(
        &mut tracked.machine,
        ifc::MODIFY_GENERAL_OBJECT,
        kind,
        (0, 0),
        value,
    );
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.event(0).1, [0; 28]);
    tracked.time();
    let id = (tracked.id as u32).to_be_bytes();
    assert_eq!(tracked.event(0).1[4..8], id);
    tracked.time();
    assert_eq!(tracked.event(1).1[4..8], id);
    control(&mut tracked.machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    tracked.time();
    assert_eq!(tracked.event(2).1, [0; 28]);
}

#[test]
fn events_come_when_the_cq_is_armed() {
    let mut tracked = reporting();
    message(&mut tracked, regs::LIE_ARMED, (0, 0), 2);
    let (uar, cqn) = (tracked.uar * 4096, tracked.cqn as u32);
    for fired in [1, 1] {
        tracked.machine.write_register(uar + 0x20, 0);
        tracked.machine.write_register(uar + 0x24, cqn);
        assert_eq!(counts(&tracked.machine)[0], fired);
        assert_eq!(tracked.event(0).1[24..], cqn.to_be_bytes());
        assert_eq!(tracked.event(1).1[24..], cqn.to_be_bytes());
        assert_eq!(tracked.event(2).1, [0; 28]);
    }
    // It is no lie about a message.
    assert_eq!(tracked.report(), 0);
    assert_eq!(tracked.cqe(0), (0x30, 512, 1, 0));
}

#[test]
fn what_is_no_lie_is_refused() {
    let mut machine = Machine::with_vfs();
    for (kind, field, value) in [
        (0, (0, 0), 0),
        (9, (0, 0), 0),
        (regs::LIE_ARMED, (0, 0), 1 << 16),
        (regs::LIE_ANSWER, (0, 0), 0),
        (regs::LIE_ANSWER, (0, 65), 0),
        (regs::LIE_COMPLETION, (0, 4), 16),
    ] {
        let how = lie_how(kind, 0, ANY_OP_MOD, field);
        let args = [fault_what(QUERY, ANY, 1), how, value, 1];
        let status = control(&mut machine, regs::CMD_ARM_LIE, args);
        assert_eq!(status, regs::STATUS_BAD_ARG, "{kind}");
    }
    assert_eq!(counts(&machine), [0, 0, 0]);
}

#[test]
fn a_message_comes_again_only_so_often() {
    let mut tracked = reporting();
    let most = u64::from(u16::MAX);
    for (value, status) in [
        (most, regs::STATUS_OK),
        (most + 1, regs::STATUS_BAD_ARG),
        (u64::MAX, regs::STATUS_BAD_ARG),
    ] {
        let how = lie_how(regs::LIE_AGAIN, 0, ANY_OP_MOD, (0, 0));
        let args = [fault_what(0, ANY, 1), how, value, 1];
        let armed = control(&mut tracked.machine, regs::CMD_ARM_LIE, args);
        assert_eq!(armed, status, "{value}");
    }
    assert_eq!(tracked.report(), 0);
}

#[test]
fn an_event_is_of_a_type_that_an_eq_can_take() {
    let mut tracked = reporting();
    for (kind, status) in [
        (63, regs::STATUS_OK),
        (64, regs::STATUS_BAD_ARG),
        (u8::MAX, regs::STATUS_BAD_ARG),
    ] {
        let how = lie_how(regs::LIE_EVENTS, kind, ANY_OP_MOD, (0, 0));
        let what = fault_what(ifc::MODIFY_GENERAL_OBJECT, ANY, 1);
        let args = [what, how, regs::lie_events(regs::LIE_OWN, 1, 1), 1];
        let armed = control(&mut tracked.machine, regs::CMD_ARM_LIE, args);
        assert_eq!(armed, status, "{kind}");
    }
    assert_eq!(tracked.report(), 0);
}

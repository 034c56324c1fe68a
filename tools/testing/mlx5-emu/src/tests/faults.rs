// SPDX-License-Identifier: GPL-2.0

//! Faults, armed by a property, by a VF, and through the PF.

use super::driver::{
    command,
    Machine, //
};
use crate::{
    faults::{
        Answer,
        Effect,
        Failed,
        Faults, //
    },
    host::FunctionId,
    ifc::{
        self,
        event,
        Status, //
    },
};
use mlx5_emu_regs::{
    self as regs,
    fault_what, //
};

const BAD_STATE: u8 = Status::BadResState as u8;
const QUERY: u16 = ifc::QUERY_VHCA_MIGRATION_STATE;
const ANY: u16 = regs::FAULT_ANY_VHCA;

/// Writes to the control capability. Returns its status.
pub(super) fn control(machine: &mut Machine, command: u32, args: [u64; 4]) -> u32 {
    for (i, arg) in (0..).zip(args) {
        let at = regs::CONTROL_ARGS + i * 8;
        machine
            .hca
            .control_write(&mut machine.memory, at, arg as u32);
        machine
            .hca
            .control_write(&mut machine.memory, at + 4, (arg >> 32) as u32);
    }
    machine
        .hca
        .control_write(&mut machine.memory, regs::CONTROL_CMD, command);
    machine.hca.control_read(regs::CONTROL_STATUS)
}

fn arm(machine: &mut Machine, what: u64, how: u64, delay: u64, times: u64) {
    let status = control(machine, regs::CMD_ARM_FAULT, [what, how, delay, times]);
    assert_eq!(status, regs::STATUS_OK);
}

fn query(machine: &mut Machine, vhca: u16) -> u8 {
    machine.about(QUERY, 0, vhca)
}

/// Fired, armed, held.
pub(super) fn counts(machine: &Machine) -> [u32; 3] {
    [regs::CONTROL_FIRED, regs::CONTROL_ARMED, regs::CONTROL_HELD]
        .map(|at| machine.hca.control_read(at))
}

/// Submits a query about VF 1 that does not end at once.
fn submit_query(machine: &mut Machine) {
    let mut input = command(QUERY, 0, 16);
    ifc::VHCA_ID.set(&mut input, 1);
    machine.submit(1, &input, 0x40);
    machine.ring(1 << 1);
    assert_eq!(machine.slot(1)[63], 1, "the command has ended");
}

fn ended(machine: &mut Machine) -> bool {
    machine.slot(1)[63] & 1 == 0
}

fn time(machine: &mut Machine, ns: u64) {
    machine.memory.now += ns;
    machine.hca.timer(&mut machine.memory);
}

#[test]
fn the_nth_command_about_a_vhca_fails() {
    let mut machine = Machine::with_vfs();
    arm(
        &mut machine,
        fault_what(QUERY, 2, 2),
        regs::fault_how(BAD_STATE, 0x1234),
        0,
        1,
    );
    // Others do not count.
    assert_eq!(query(&mut machine, 1), 0);
    assert_eq!(query(&mut machine, 1), 0);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 2), 0);
    assert_eq!(query(&mut machine, 2), 0);
    assert_eq!(counts(&machine), [0, 1, 0]);
    assert_eq!(query(&mut machine, 2), BAD_STATE);
    assert_eq!(counts(&machine), [1, 0, 0]);
    let last = machine.memory.commands.last().unwrap();
    assert_eq!((last.syndrome, last.subject), (0x1234, Some(2)));
    assert!(last.fault && last.to_string().ends_with(" fault"));
    assert_eq!(query(&mut machine, 2), 0);
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn a_fault_is_for_several_commands_or_for_all() {
    let mut machine = Machine::with_vfs();
    arm(&mut machine, fault_what(QUERY, ANY, 0), 3, 0, 2);
    let seen = [1, 2, 1].map(|vhca| query(&mut machine, vhca));
    assert_eq!(seen, [3, 3, 0]);
    arm(&mut machine, fault_what(QUERY, ANY, 0), 4, 0, 0);
    assert_eq!([1, 2, 1].map(|vhca| query(&mut machine, vhca)), [4, 4, 4]);
    assert_eq!(counts(&machine), [5, 1, 0]);
    let status = control(&mut machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    assert_eq!(status, regs::STATUS_OK);
    assert_eq!(query(&mut machine, 1), 0);
    assert_eq!(counts(&machine), [5, 0, 0]);
}

#[test]
fn each_fault_counts_for_itself() {
    let mut machine = Machine::with_vfs();
    arm(&mut machine, fault_what(QUERY, 1, 3), 5, 0, 1);
    arm(&mut machine, fault_what(QUERY, 1, 1), 3, 0, 1);
    assert_eq!([1, 1, 1, 1].map(|v| query(&mut machine, v)), [3, 0, 5, 0]);
}

#[test]
fn a_fault_is_for_any_command() {
    let mut machine = Machine::with_vfs();
    let last = |machine: &Machine| machine.hca.control_read(regs::CONTROL_LAST) as u16;
    assert_eq!(last(&machine), 0);
    let any = regs::FAULT_ANY_OPCODE;
    arm(&mut machine, fault_what(any, 1, 2), 3, 0, 1);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 1), 0);
    assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 2), 0);
    assert_eq!(query(&mut machine, 1), 3);
    assert_eq!(last(&machine), QUERY);
    arm(&mut machine, fault_what(any, ANY, 1), 4, 0, 1);
    assert_eq!(machine.about(ifc::RESUME_VHCA, 0, 2), 4);
    assert_eq!(last(&machine), ifc::RESUME_VHCA);
    assert_eq!(counts(&machine), [2, 0, 0]);
}

#[test]
fn an_answer_is_late_or_held() {
    let mut machine = Machine::with_vfs();
    arm(&mut machine, fault_what(QUERY, 1, 0), 0, 50, 1);
    submit_query(&mut machine);
    assert_eq!(machine.memory.wake.take(), Some(50_000_000));
    time(&mut machine, 49_999_999);
    assert!(!ended(&mut machine));
    time(&mut machine, 1);
    assert_eq!(machine.reply(1, 16).status(), 0);

    arm(
        &mut machine,
        fault_what(QUERY, 1, 0),
        9,
        regs::FAULT_HOLD,
        1,
    );
    machine.memory.wake = None;
    submit_query(&mut machine);
    time(&mut machine, 1 << 40);
    assert!(!ended(&mut machine) && machine.memory.wake.is_none());
    assert_eq!(counts(&machine), [2, 0, 1]);
    control(&mut machine, regs::CMD_RELEASE, [0; 4]);
    assert_eq!(machine.memory.wake, Some(machine.memory.now));
    time(&mut machine, 0);
    assert_eq!(machine.reply(1, 16).status(), BAD_STATE);
    assert_eq!(counts(&machine), [2, 0, 0]);
}

#[test]
fn faults_outlive_resets_but_for_those_of_a_vf() {
    let mut machine = Machine::with_vfs();
    let id = FunctionId(1);
    arm(&mut machine, fault_what(QUERY, ANY, 0), 3, 0, 1);
    let mut write = |offset: u64, value: u32| {
        let memory = &mut machine.memory;
        machine.hca.write(memory, id, regs::BLOCK + offset, value);
    };
    write(regs::ARGS, QUERY.into());
    write(regs::ARGS + 8, 5);
    write(regs::CMD, regs::CMD_FAULT);
    assert_eq!(counts(&machine), [0, 2, 0]);
    let armed = |machine: &mut Machine| {
        let at = regs::BLOCK + regs::FAULTS_ARMED;
        machine.hca.read(&mut machine.memory, id, at)
    };
    assert_eq!(armed(&mut machine), 2);
    machine.hca.reset(id);
    assert_eq!(armed(&mut machine), 1);
    machine.hca.reset(FunctionId::PF);
    assert_eq!(armed(&mut machine), 1);
}

#[test]
fn what_a_fault_leaves_is_in_use() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    let mut destroy = command(ifc::DESTROY_MKEY, 0, 16);
    ifc::OBJECT.set(&mut destroy, (key >> 8).into());
    let mut dealloc = command(ifc::DEALLOC_PD, 0, 16);
    ifc::OBJECT.set(&mut dealloc, 1);
    arm(&mut machine, fault_what(ifc::DESTROY_MKEY, ANY, 0), 3, 0, 1);
    assert_eq!(machine.send(&destroy, 16).status(), 3);
    assert_eq!(machine.send(&dealloc, 16).status(), BAD_STATE);
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn an_mkey_stays_while_state_moves_through_it() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    machine.stop(1);
    arm(
        &mut machine,
        fault_what(ifc::SAVE_VHCA_STATE, 1, 0),
        0,
        regs::FAULT_HOLD,
        1,
    );
    let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
    ifc::VHCA_ID.set(&mut save, 1);
    ifc::STATE_MKEY.set(&mut save, key.into());
    ifc::STATE_SIZE.set(&mut save, 128 * 4096);
    machine.submit(1, &save, 16);
    machine.ring(1 << 1);
    let mut destroy = command(ifc::DESTROY_MKEY, 0, 16);
    ifc::OBJECT.set(&mut destroy, (key >> 8).into());
    assert_eq!(machine.send(&destroy, 16).status(), BAD_STATE);
    control(&mut machine, regs::CMD_RELEASE, [0; 4]);
    time(&mut machine, 0);
    assert!(ended(&mut machine));
    assert_eq!(machine.send(&destroy, 16).status(), 0);
    assert_eq!(machine.memory.violations, [""; 0]);
}

#[test]
fn what_is_no_fault_is_refused() {
    let mut machine = Machine::with_vfs();
    let bad = regs::STATUS_BAD_ARG;
    // Neither fails, nor is late.
    let nothing = [fault_what(QUERY, ANY, 0), 0, 0, 1];
    assert_eq!(control(&mut machine, regs::CMD_ARM_FAULT, nothing), bad);
    let track = [99, 1, 0, 0];
    assert_eq!(control(&mut machine, regs::CMD_TRACK_FAULT, track), bad);
    let status = control(&mut machine, regs::CMD_DIGEST, [0; 4]);
    assert_eq!(status, regs::STATUS_BAD_CMD);
    assert_eq!(counts(&machine), [0, 0, 0]);
}

#[test]
fn more_faults_than_there_is_room_for_are_refused() {
    let mut machine = Machine::with_vfs();
    let fault = [fault_what(QUERY, ANY, 1), 0x5, 0, 1];
    let lie = [fault_what(QUERY, ANY, 1), regs::LIE_UNDONE.into(), 0, 1];
    for _ in 0..regs::MOST_ARMED / 2 {
        for (command, args) in [(regs::CMD_ARM_FAULT, fault), (regs::CMD_ARM_LIE, lie)] {
            assert_eq!(control(&mut machine, command, args), regs::STATUS_OK);
        }
    }
    let track = [regs::TRACK_CQ_ERROR, 1, 0, 0];
    let event = [event::CMD.into(), 1, 5, 1];
    for (command, args) in [
        (regs::CMD_FAULT, [QUERY.into(), 5, 0, 0]),
        (regs::CMD_TRACK_FAULT, track),
        (regs::CMD_ARM_FAULT, fault),
        (regs::CMD_ARM_EVENT, event),
        (regs::CMD_ARM_LIE, lie),
    ] {
        let status = control(&mut machine, command, args);
        assert_eq!(status, regs::STATUS_BAD_ARG, "{command}");
    }
    let status = control(&mut machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    assert_eq!(status, regs::STATUS_OK);
    let status = control(&mut machine, regs::CMD_ARM_FAULT, fault);
    assert_eq!(status, regs::STATUS_OK);
    assert_eq!(counts(&machine), [0, 1, 0]);
}

#[test]
fn faults_are_read_from_a_property() {
    let text = "LOAD_VHCA_STATE/vhca=2/nth=2/status=0x5/syndrome=7;0x118/delay-ms=3/times=0;\
                ENABLE_HCA/hold;CREATE_MKEY;track-cq/vhca=1";
    let mut faults = Faults::parse(text).unwrap();
    assert_eq!(faults.armed(), 5);
    assert_eq!(faults.command(ifc::LOAD_VHCA_STATE, 1), None);
    assert_eq!(faults.command(ifc::LOAD_VHCA_STATE, 2), None);
    let failed = |status, syndrome| Effect {
        failed: Some(Failed { status, syndrome }),
        answer: Answer::InTime,
    };
    let answered = |answer| Effect {
        failed: None,
        answer,
    };
    let load = faults.command(ifc::LOAD_VHCA_STATE, 2);
    assert_eq!(load, Some(failed(5, 7)));
    for vhca in 1..4 {
        let save = faults.command(ifc::SAVE_VHCA_STATE, vhca);
        assert_eq!(save, Some(answered(Answer::Late(3_000_000))));
    }
    let enable = faults.command(ifc::ENABLE_HCA, 0);
    assert_eq!(enable, Some(answered(Answer::Held)));
    let create = faults.command(ifc::CREATE_MKEY, 0);
    assert_eq!(create, Some(failed(BAD_STATE, 0)));
    assert!(faults.report(2).is_none() && faults.report(1).is_some());
    assert_eq!((faults.armed(), faults.fired), (1, 7));
    let mut faults = Faults::parse("any/status=5").unwrap();
    assert_eq!(faults.command(QUERY, 1), Some(failed(5, 0)));

    for bad in [
        "NOSUCH",
        "SAVE_VHCA_STATE/nth",
        "track-cq",
        "0x1ffff",
        "ENABLE_HCA/status=256",
    ] {
        assert!(Faults::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Faults::parse("").unwrap().armed(), 0);
}

#[test]
fn a_uar_page_that_could_not_be_given_back_is_no_violation() {
    let mut machine = Machine::with_vfs();
    machine.hca.functions[0].up = true;
    let page = machine.send(&command(ifc::ALLOC_UAR, 0, 16), 16);
    assert_eq!(page.status(), 0);
    arm(&mut machine, fault_what(ifc::DEALLOC_UAR, ANY, 1), 9, 0, 1);
    let given_back = machine.send(&command(ifc::DEALLOC_UAR, 0, 16), 16);
    assert_eq!(given_back.status(), 9);
    let end = machine.send(&command(ifc::TEARDOWN_HCA, 0, 16), 16);
    assert_eq!((end.status(), machine.hca.violations), (0, 0));
}

// SPDX-License-Identifier: GPL-2.0

//! Events that a test has armed a fault of: they do not come, come twice, or late.

use super::{
    driver::command,
    faults::{
        control,
        counts, //
    },
    tracker::{
        create_cq,
        Tracked, //
    },
};
use crate::ifc::{
    self,
    event, //
};
use mlx5_emu_regs as regs;

const CHANGE: u8 = event::OBJECT_CHANGE;

fn arm(tracked: &mut Tracked, kind: u8, nth: u32, how: u64, ms: u64) {
    let args = [regs::fault_what(kind.into(), 0, nth), how, ms, 1];
    let status = control(&mut tracked.machine, regs::CMD_ARM_EVENT, args);
    assert_eq!(status, regs::STATUS_OK);
}

/// Has the tracker fail, which an event tells of.
fn fail(tracked: &mut Tracked) {
    let args = [regs::TRACK_ERROR, 1, 0, 0];
    let status = control(&mut tracked.machine, regs::CMD_TRACK_FAULT, args);
    assert_eq!((status, tracked.report()), (regs::STATUS_OK, 0));
}

#[test]
fn an_event_is_lost() {
    let mut tracked = Tracked::new();
    arm(&mut tracked, CHANGE, 1, regs::EVENT_LOST, 0);
    fail(&mut tracked);
    tracked.time();
    assert_eq!(tracked.event(0).0, 0, "no entry was written");
    // The report, and its event.
    assert_eq!(counts(&tracked.machine), [2, 0, 0]);
}

#[test]
fn an_event_comes_twice() {
    let mut tracked = Tracked::new();
    arm(&mut tracked, CHANGE, 0, regs::EVENT_TWICE, 0);
    fail(&mut tracked);
    assert_eq!(tracked.event(0), tracked.event(1));
    assert_eq!(tracked.event(0).0, CHANGE);
}

#[test]
fn an_event_is_late() {
    let mut tracked = Tracked::new();
    arm(&mut tracked, CHANGE, 1, regs::EVENT_LATE, 2);
    tracked.machine.memory.wake = None;
    fail(&mut tracked);
    assert_eq!(tracked.machine.memory.wake, Some(2_000_000));
    tracked.pass(1_999_999);
    assert_eq!(tracked.event(0).0, 0);
    tracked.pass(1);
    assert_eq!(tracked.event(0).0, CHANGE);
    assert_eq!(tracked.event(1).0, 0);
}

#[test]
fn an_event_that_is_late_is_not_for_an_hca_that_was_torn_down() {
    let mut tracked = Tracked::new();
    arm(&mut tracked, CHANGE, 1, regs::EVENT_LATE, 2);
    fail(&mut tracked);
    assert_eq!(tracked.machine.hca.late_events.len(), 1);
    let disable = command(ifc::DISABLE_HCA, 0, 16);
    assert_eq!(tracked.machine.send(&disable, 16).status(), 0);
    assert!(tracked.machine.hca.late_events.is_empty());
}

#[test]
fn only_events_of_the_type_count() {
    let mut tracked = Tracked::new();
    arm(&mut tracked, event::CQ_ERROR, 1, regs::EVENT_LOST, 0);
    arm(&mut tracked, CHANGE, 2, regs::EVENT_LOST, 0);
    fail(&mut tracked);
    assert_eq!(tracked.event(0).0, CHANGE);
    assert_eq!(counts(&tracked.machine), [1, 2, 0]);
    let disarmed = control(&mut tracked.machine, regs::CMD_DISARM_FAULTS, [0; 4]);
    assert_eq!(disarmed, regs::STATUS_OK);
    assert_eq!(counts(&tracked.machine), [1, 0, 0]);
}

#[test]
fn what_is_no_fault_of_an_event_is_refused() {
    let mut tracked = Tracked::new();
    for (kind, how) in [(0x100, regs::EVENT_LOST), (CHANGE.into(), 4)] {
        let args = [kind, how, 0, 1];
        let status = control(&mut tracked.machine, regs::CMD_ARM_EVENT, args);
        assert_eq!(status, regs::STATUS_BAD_ARG);
    }
}

/// Sends a command that is answered when its driver has given it up. Returns its status.
fn send_late(tracked: &mut Tracked, input: &[u8]) -> u8 {
    let machine = &mut tracked.machine;
    machine.hca.config.command_timeout_ms = 1;
    let what = regs::fault_what(regs::FAULT_ANY_OPCODE, regs::FAULT_ANY_VHCA, 1);
    let status = control(machine, regs::CMD_ARM_FAULT, [what, 0, 2, 1]);
    assert_eq!(status, regs::STATUS_OK);
    machine.submit(1, input, 16);
    machine.ring(1 << 1);
    machine.memory.now += 2_000_000;
    machine.hca.timer(&mut machine.memory);
    machine.reply(1, 16).status()
}

/// What a command makes that is answered too late, its driver does not know of: that it is
/// left is no violation.
#[test]
fn what_is_made_too_late_may_be_left() {
    let mut tracked = Tracked::new();
    assert_eq!(send_late(&mut tracked, &command(ifc::ALLOC_PD, 0, 16)), 0);
    assert!(tracked.machine.hca.functions[0].objects.undestroyed);
}

#[test]
fn the_memory_of_a_cq_that_is_made_too_late_may_be_gone() {
    let mut tracked = Tracked::new();
    tracked.post(1);
    assert_eq!(tracked.report(), 0);
    // It has a completion, and so is not as it must be.
    let eq = tracked.machine.hca.functions[0].objects.cqs[&(tracked.cqn as u32)].eq;
    let create = create_cq(tracked.uar, eq.into());
    assert_eq!(send_late(&mut tracked, &create), 0);
    assert_eq!(tracked.machine.hca.violations, 0);
    assert_ne!(tracked.machine.send(&create, 16).status(), 0);
    assert_eq!(tracked.machine.hca.violations, 1);
}

#[test]
fn the_mailboxes_of_a_command_that_was_given_up_may_be_those_of_another() {
    let mut tracked = Tracked::new();
    let machine = &mut tracked.machine;
    machine.hca.config.command_timeout_ms = 1;
    let what = regs::fault_what(ifc::QUERY_HCA_CAP, regs::FAULT_ANY_VHCA, 1);
    control(machine, regs::CMD_ARM_FAULT, [what, 0, 2, 1]);
    machine.submit(1, &command(ifc::QUERY_HCA_CAP, 1, 16), 0x1010);
    machine.ring(1 << 1);
    *machine.out_mailbox(0, 573) ^= 1;
    machine.memory.now += 2_000_000;
    machine.hca.timer(&mut machine.memory);
    assert_ne!(machine.reply(1, 0x1010).delivery, 0);
    assert_eq!(machine.hca.violations, 0);
}

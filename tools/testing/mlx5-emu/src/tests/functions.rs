// SPDX-License-Identifier: GPL-2.0

//! Functions that are enabled, disabled and reset.

use super::{
    driver::{
        command,
        Machine, //
    },
    migration::{
        digest,
        work,
        BAD_STATE, //
    },
    objects::LEN, //
};
use crate::{
    caps,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
};
use mlx5_emu_regs as regs;

#[test]
fn a_reset_brings_a_vf_back_to_its_beginning() {
    let mut machine = Machine::with_vfs();
    let fresh = digest(&mut machine, 2);
    work(&mut machine, 1);
    machine.stop(1);
    machine.hca.reset(FunctionId(1));
    assert_eq!(digest(&mut machine, 1), fresh);
    // The driver did not know: its command is late, not wrong.
    assert_eq!(machine.about(ifc::RESUME_VHCA, 0, 1), BAD_STATE);
    assert_eq!(machine.hca.violations, 0);
    // It knows now.
    machine.stop(1);
}

/// Doorbells of the command queue and of a completion queue, in the first UAR.
const RINGS: [(u64, u32); 2] = [(0x18, 1), (0x10_0020, 1)];

#[test]
fn doorbells_of_a_driver_that_does_not_know_of_a_reset_are_ignored() {
    let mut machine = Machine::with_vfs();
    machine.drive(FunctionId(1));
    for (at, value) in RINGS {
        machine.write_register(at, value);
    }
    assert_eq!(machine.hca.violations, 2);
    machine.hca.reset(FunctionId(1));
    for (at, value) in RINGS {
        machine.write_register(at, value);
    }
    assert_eq!(machine.hca.violations, 2);
}

/// What the PF's control capability answers to CMD_DISABLE_NIC.
fn disable_nic(machine: &mut Machine, function: u32) -> u32 {
    let Machine { hca, memory, .. } = machine;
    for (at, value) in [
        (regs::CONTROL_ARGS, function),
        (regs::CONTROL_CMD, regs::CMD_DISABLE_NIC),
    ] {
        hca.control_write(memory, at, value);
    }
    hca.control_read(regs::CONTROL_STATUS)
}

#[test]
fn a_function_is_disabled_until_its_driver_begins_again() {
    const QUEUE_AND_NIC: u64 = 0x14;
    let nic_interface = |machine: &mut Machine| (machine.read_register(QUEUE_AND_NIC) >> 8) & 7;
    let mut machine = Machine::with_vfs();
    machine.drive(FunctionId(1));
    let queue = machine.read_register(QUEUE_AND_NIC);
    assert_eq!(nic_interface(&mut machine), 0);
    assert_eq!(disable_nic(&mut machine, 3), regs::STATUS_BAD_ARG);
    assert_eq!(disable_nic(&mut machine, 1), regs::STATUS_OK);
    assert_eq!(nic_interface(&mut machine), 1);
    machine.turn_to(FunctionId(2));
    assert_eq!(nic_interface(&mut machine), 0);
    machine.drive(FunctionId(1));
    assert_eq!(machine.read_register(QUEUE_AND_NIC), queue);
    assert_eq!(machine.hca.violations, 0);
}

/// A general capability page: what can be chosen, or what holds.
fn capabilities(machine: &mut Machine, current: u16) -> Vec<u8> {
    let query = command(ifc::QUERY_HCA_CAP, current, 16);
    let mut page = machine.send(&query, ifc::CAPABILITY + caps::LEN).output;
    page.split_off(ifc::CAPABILITY)
}

#[test]
fn a_driver_chooses_what_it_can() {
    const LOG_MAX_QP: ifc::Field = ifc::field(0x13, 3, 5);
    let choose = |machine: &mut Machine, change: &dyn Fn(&mut [u8])| {
        let mut page = capabilities(machine, 1);
        change(&mut page);
        let mut input = command(ifc::SET_HCA_CAP, 0, ifc::CAPABILITY);
        input.extend(page);
        machine.send(&input, 16).status()
    };
    let mut machine = Machine::with_vfs();
    let first = capabilities(&mut machine, 1);
    let most = LOG_MAX_QP.get(&capabilities(&mut machine, 0));
    assert!(LOG_MAX_QP.get(&first) < most);
    assert_eq!(choose(&mut machine, &|_| ()), 0);
    assert_eq!(choose(&mut machine, &|page| LOG_MAX_QP.set(page, most)), 0);
    let chosen = capabilities(&mut machine, 1);
    assert_eq!(LOG_MAX_QP.get(&chosen), most);
    assert_eq!(machine.hca.violations, 0);

    let too_much = |page: &mut [u8]| LOG_MAX_QP.set(page, most + 1);
    let another_bit = |page: &mut [u8]| page[0x40] ^= 1;
    for status in [
        choose(&mut machine, &too_much),
        choose(&mut machine, &another_bit),
    ] {
        assert_eq!(status, Status::BadParam as u8);
    }
    assert_eq!(machine.hca.violations, 2);
    assert_eq!(capabilities(&mut machine, 1), chosen);
    // The VFs' drivers have chosen nothing, nor has the next one of the PF.
    machine.drive(FunctionId(1));
    let vf = capabilities(&mut machine, 1);
    assert_eq!(LOG_MAX_QP.get(&vf), LOG_MAX_QP.get(&first));
    machine.drive(FunctionId::PF);
    machine.hca.release(FunctionId::PF);
    assert_eq!(capabilities(&mut machine, 1), first);
}

/// ENABLE_HCA or DISABLE_HCA, by the PF about another function.
fn enable(machine: &mut Machine, opcode: u16, function: u16) -> u8 {
    let mut input = command(opcode, 0, 16);
    ifc::FUNCTION_ID.set(&mut input, function.into());
    machine.send(&input, 16).status()
}

#[test]
fn what_disables_or_resets_a_vf_wipes_it() {
    let disable = |machine: &mut Machine| {
        assert_eq!(enable(machine, ifc::DISABLE_HCA, 1), 0);
        assert_eq!(machine.about(ifc::SUSPEND_VHCA, 0, 1), Status::BadRes as u8);
        assert_eq!(enable(machine, ifc::ENABLE_HCA, 1), 0);
    };
    let reset = |machine: &mut Machine| machine.hca.reset(FunctionId(1));
    let ways: [&dyn Fn(&mut Machine); 2] = [&disable, &reset];
    for wipe in ways {
        let mut machine = Machine::with_vfs();
        let key = machine.data_mkey();
        let fresh = digest(&mut machine, 2);
        machine.drive(FunctionId(1));
        assert_eq!(
            machine.send(&command(ifc::ENABLE_HCA, 0, 16), 16).status(),
            0
        );
        machine.data_mkey();
        machine.drive(FunctionId::PF);
        work(&mut machine, 1);
        let track = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[ifc::SET_TRACK]);
        assert_eq!(track.0, 0);
        machine.stop(1);

        wipe(&mut machine);
        assert_eq!(digest(&mut machine, 1), fresh);
        let objects = &machine.hca.functions[1].objects;
        assert!(objects.counts().iter().all(|(_, count)| *count == 0));
        // It runs, and is not tracked.
        machine.stop(1);
        let flags = [ifc::INCREMENTAL];
        let save = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &flags);
        assert_eq!(save.0, BAD_STATE);
        machine.resume(1);
        // Its driver starts from the beginning.
        machine.drive(FunctionId(1));
        assert_eq!(
            machine.send(&command(ifc::ENABLE_HCA, 0, 16), 16).status(),
            0
        );
    }
}

#[test]
fn a_vf_enables_itself_and_is_enabled_by_the_pf() {
    let mut machine = Machine::with_vfs();
    machine.drive(FunctionId(1));
    let me = |machine: &mut Machine, opcode| machine.send(&command(opcode, 0, 16), 16).status();
    assert_eq!(me(&mut machine, ifc::ENABLE_HCA), 0);
    assert_eq!(me(&mut machine, ifc::ENABLE_HCA), Status::BadSysState as u8);
    machine.data_mkey();
    assert_eq!(me(&mut machine, ifc::DISABLE_HCA), 0);
    assert!(machine.hca.functions[1].objects.mkeys.is_empty());
    // The PF's migration commands still work.
    machine.drive(FunctionId::PF);
    machine.stop(1);
    assert_eq!(enable(&mut machine, ifc::DISABLE_HCA, 1), 0);
}

#[test]
fn a_driver_that_disables_its_function_gets_no_answer_any_more() {
    let mut machine = Machine::with_vfs();
    machine.hca.config.command_ns = 100;
    machine.submit(1, &command(ifc::ALLOC_PD, 0, 16), 16);
    machine.ring(1 << 1);
    machine.hca.release(FunctionId::PF);
    machine.memory.now = 100;
    machine.hca.timer(&mut machine.memory);
    assert_eq!(machine.slot(1)[63], 1);
}

#[test]
fn what_is_left_at_teardown_is_a_violation() {
    let mut machine = Machine::with_vfs();
    machine.data_mkey();
    machine.hca.functions[0].up = true;
    assert_eq!(
        machine
            .send(&command(ifc::TEARDOWN_HCA, 0, 16), 16)
            .status(),
        0
    );
    let left = machine.memory.violations.join("\n");
    assert!(left.contains("1 mkeys") && left.contains("1 PDs"), "{left}");
}

#[test]
fn what_a_vfs_own_driver_lends_is_not_the_pfs() {
    let mut machine = Machine::with_vfs();
    let manage = |function: u64, give: bool, pages: &[u64]| {
        let mut input = command(ifc::MANAGE_PAGES, if give { 1 } else { 2 }, 16);
        ifc::FUNCTION_ID.set(&mut input, function);
        ifc::NUM_PAGES.set(&mut input, pages.len() as u64);
        if give {
            input.extend(pages.iter().copied().flat_map(u64::to_be_bytes));
        }
        input
    };
    // The same address is another page for each.
    let pages = [0x1000, 0x2000];
    assert_eq!(machine.send(&manage(1, true, &pages), 16).status(), 0);
    machine.drive(FunctionId(1));
    assert_eq!(
        machine.send(&command(ifc::ENABLE_HCA, 0, 16), 16).status(),
        0
    );
    assert_eq!(machine.send(&manage(0, true, &pages[..1]), 16).status(), 0);
    let taken = |machine: &mut Machine, function| {
        let reply = machine.send(&manage(function, false, &[0; 8]), 0x80);
        ifc::OUTPUT_NUM_ENTRIES.get(&reply.output)
    };
    assert_eq!(taken(&mut machine, 0), 1);
    assert_eq!(machine.send(&manage(0, true, &pages[..1]), 16).status(), 0);
    // The next driver knows nothing of it.
    machine.hca.reset(FunctionId(1));
    machine.drive(FunctionId(1));
    assert_eq!(taken(&mut machine, 0), 0);
    machine.drive(FunctionId::PF);
    assert_eq!(taken(&mut machine, 1), 2);
}

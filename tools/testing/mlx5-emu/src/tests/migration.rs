// SPDX-License-Identifier: GPL-2.0

//! The migration commands in every state.

use super::{
    chunks::{
        at_once_and_in_chunks,
        save_in_chunks, //
    },
    driver::{
        command,
        Machine,
        DATA, //
    },
    objects::LEN, //
};
use crate::{
    config::Config,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
};
use mlx5_emu_regs as regs;

pub(super) const BAD_STATE: u8 = Status::BadResState as u8;

/// Makes VF 1 work a bit.
pub(super) fn work(machine: &mut Machine, vhca: u16) {
    let id = FunctionId(vhca);
    let mut write = |offset: u64, value: u32| {
        machine
            .hca
            .write(&mut machine.memory, id, regs::BLOCK + offset, value);
    };
    write(regs::ARGS, 3);
    write(regs::ARGS + 8, 1);
    write(regs::CMD, regs::CMD_CHANGE_STATE);
    write(regs::SCRATCH + 16, 77);
}

pub(super) fn digest(machine: &mut Machine, vhca: u16) -> u64 {
    let vf = machine.hca.functions[usize::from(vhca)].vf.as_mut();
    vf.unwrap().vhca.state.digest()
}

#[test]
fn sides_stop_and_start_in_order_only() {
    // (suspend initiator, suspend responder, resume responder, resume initiator)
    // as (opcode, op_mod), and what each gives in each state.
    let commands = [
        (ifc::SUSPEND_VHCA, 0),
        (ifc::SUSPEND_VHCA, 1),
        (ifc::RESUME_VHCA, 0),
        (ifc::RESUME_VHCA, 1),
    ];
    let allowed = [
        [true, false, false, false],
        [false, true, false, true],
        [false, false, true, false],
    ];
    for (state, allowed) in allowed.into_iter().enumerate() {
        for ((opcode, op_mod), allowed) in commands.into_iter().zip(allowed) {
            let mut machine = Machine::with_vfs();
            for side in 0..state as u16 {
                assert_eq!(machine.about(ifc::SUSPEND_VHCA, side, 1), 0);
            }
            let status = machine.about(opcode, op_mod, 1);
            assert_eq!(status, if allowed { 0 } else { BAD_STATE });
            assert_eq!(machine.hca.violations, u64::from(!allowed));
        }
    }
}

#[test]
fn save_and_load_want_a_stopped_vhca() {
    for stopped in 0..2 {
        let mut machine = Machine::with_vfs();
        let key = machine.data_mkey();
        for side in 0..stopped {
            assert_eq!(machine.about(ifc::SUSPEND_VHCA, side, 1), 0);
        }
        let save = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[]);
        let load = machine.transfer(ifc::LOAD_VHCA_STATE, 1, key, 1000, &[]);
        assert_eq!((save.0, load.0), (BAD_STATE, BAD_STATE));
        assert_eq!(machine.hca.violations, 2);
    }
}

#[test]
fn a_vhca_that_is_none_is_refused() {
    let mut machine = Machine::with_vfs();
    for vhca in [0, 3, 100] {
        for opcode in [
            ifc::SUSPEND_VHCA,
            ifc::RESUME_VHCA,
            ifc::QUERY_VHCA_MIGRATION_STATE,
        ] {
            assert_eq!(machine.about(opcode, 0, vhca), Status::BadRes as u8);
        }
    }
}

#[test]
fn lengths_and_modifiers_are_checked() {
    let mut machine = Machine::with_vfs();
    let reply = machine.send(&command(ifc::SUSPEND_VHCA, 0, 12), 16);
    assert_eq!(reply.status(), Status::BadInputLen as u8);
    let mut query = command(ifc::QUERY_VHCA_MIGRATION_STATE, 0, 16);
    ifc::VHCA_ID.set(&mut query, 1);
    assert_eq!(
        machine.send(&query, 16).status(),
        Status::BadOutputLen as u8
    );
    assert_eq!(
        machine.about(ifc::SUSPEND_VHCA, 2, 1),
        Status::BadParam as u8
    );
    assert_eq!(machine.hca.violations, 3);
}

#[test]
fn the_state_goes_from_one_vf_to_another() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    work(&mut machine, 1);
    machine.stop(1);
    machine.stop(2);
    let saved = digest(&mut machine, 1);
    assert_ne!(saved, digest(&mut machine, 2));
    let (status, size) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[]);
    assert_eq!(status, 0);
    assert_eq!(
        machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, size, &[]).0,
        0
    );
    assert_eq!(saved, digest(&mut machine, 2));
    assert_eq!(machine.memory.commands.last().unwrap().bytes, size);
}

#[test]
fn a_suspended_vf_does_not_work() {
    let mut machine = Machine::with_vfs();
    machine.about(ifc::SUSPEND_VHCA, 0, 1);
    let before = digest(&mut machine, 1);
    let status = |machine: &mut Machine| {
        let offset = regs::BLOCK + regs::STATUS;
        machine.hca.read(&mut machine.memory, FunctionId(1), offset)
    };
    machine.stop(2);
    work(&mut machine, 2);
    assert_eq!(status(&mut machine), regs::STATUS_OK);
    let offset = regs::BLOCK + regs::CMD;
    for cmd in [
        regs::CMD_CHANGE_STATE,
        regs::CMD_RAISE_IRQ,
        regs::CMD_DMA_WRITE,
    ] {
        machine
            .hca
            .write(&mut machine.memory, FunctionId(1), offset, cmd);
        assert_eq!(status(&mut machine), regs::STATUS_SUSPENDED);
    }
    assert_eq!(before, digest(&mut machine, 1));
}

#[test]
fn a_garbled_image_is_refused_and_no_violation() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    machine.stop(1);
    machine.stop(2);
    let (_, size) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[]);
    let untouched = digest(&mut machine, 2);
    for at in [0, 8, 16, 24, 40, 56, 200, size - 1] {
        let byte = (DATA + at) as usize;
        machine.memory.bytes[byte] ^= 0x40;
        let (status, _) = machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, size, &[]);
        assert_eq!(status, Status::BadParam as u8, "byte {at}");
        machine.memory.bytes[byte] ^= 0x40;
    }
    for short in [0, 1, 100, size - 1] {
        let (status, _) = machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, short, &[]);
        assert_eq!(status, Status::BadParam as u8, "{short} bytes");
    }
    assert_eq!(untouched, digest(&mut machine, 2));
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn changes_are_tracked_while_the_vf_runs() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    let track = [ifc::SET_TRACK];
    let incremental = [ifc::INCREMENTAL, ifc::SET_TRACK];
    machine.stop(2);

    // Nothing to go on from, so nothing incremental.
    assert_eq!(
        machine
            .transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &incremental)
            .0,
        BAD_STATE
    );
    let (status, full) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &track);
    assert_eq!(status, 0);
    assert_eq!(
        machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, full, &[]).0,
        0
    );
    work(&mut machine, 1);
    let (status, less) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &incremental);
    assert_eq!(status, 0);
    assert!(less < full / 2, "{less} of {full}");
    assert_eq!(
        machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, less, &[]).0,
        0
    );
    machine.stop(1);
    let (status, last) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[ifc::INCREMENTAL]);
    assert_eq!(status, 0);
    assert_eq!(
        machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, last, &[]).0,
        0
    );
    assert_eq!(digest(&mut machine, 1), digest(&mut machine, 2));
}

#[test]
fn a_reset_ends_a_save_that_is_under_way() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    machine.stop(1);
    machine.hca.config = Config {
        save_ns_per_mib: 1_000_000,
        ..machine.hca.config.clone()
    };
    let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
    ifc::VHCA_ID.set(&mut save, 1);
    ifc::STATE_MKEY.set(&mut save, key.into());
    ifc::STATE_SIZE.set(&mut save, LEN);
    machine.submit(1, &save, 16);
    machine.ring(1 << 1);
    assert_eq!(machine.slot(1)[63], 1);
    machine.hca.reset(FunctionId(1));
    machine.memory.now = machine.memory.wake.unwrap();
    machine.hca.timer(&mut machine.memory);
    assert_eq!(machine.reply(1, 16).status(), BAD_STATE);
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn tracking_that_was_not_ended_does_not_begin_again() {
    let track = [ifc::SET_TRACK];
    let save = |machine: &mut Machine, key, flags: &[ifc::Field]| {
        let (status, _) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, flags);
        status
    };
    for (mut machine, key) in at_once_and_in_chunks() {
        assert_eq!(save(&mut machine, key, &track), 0);
        assert_eq!(save(&mut machine, key, &track), BAD_STATE);
        assert_eq!(machine.hca.violations, 1);
        // Not after a SAVE without it, nor after the VHCA was stopped.
        assert_eq!(save(&mut machine, key, &[]), 0);
        assert_eq!(save(&mut machine, key, &track), 0);
        machine.stop(1);
        assert_eq!(machine.about(ifc::RESUME_VHCA, 0, 1), 0);
        assert_eq!(machine.about(ifc::RESUME_VHCA, 1, 1), 0);
        assert_eq!(save(&mut machine, key, &track), 0);
        assert_eq!(machine.hca.violations, 1);
    }
}

#[test]
fn a_save_counts_bytes_that_it_does_not_write() {
    const UNWRITTEN: u64 = 5000;
    for chunk_size in [0, 20 << 10] {
        let mut machine = Machine::with_vfs();
        machine.hca.config.save_unwritten = UNWRITTEN as u32;
        machine.hca.config.chunk_size = chunk_size;
        work(&mut machine, 2);
        let key = machine.data_mkey();
        machine.stop(1);
        machine.stop(2);
        machine.memory.bytes[DATA as usize..][..LEN as usize].fill(0x5a);
        if chunk_size > 0 {
            let (status, sizes) = save_in_chunks(&mut machine, key, |next| next);
            assert_eq!(status, 0);
            assert!(sizes.iter().all(|size| *size > UNWRITTEN), "{sizes:?}");
        } else {
            let (status, size) = machine.transfer(ifc::SAVE_VHCA_STATE, 2, key, LEN, &[]);
            assert_eq!(status, 0);
            let end = (DATA + size) as usize;
            let bytes = &machine.memory.bytes;
            assert!(bytes[end - UNWRITTEN as usize..end]
                .iter()
                .all(|b| *b == 0x5a));
            assert_ne!(bytes[end - UNWRITTEN as usize - 1], 0x5a);
            let load = |machine: &mut Machine, size| {
                machine.transfer(ifc::LOAD_VHCA_STATE, 1, key, size, &[]).0
            };
            for wrong in [size - 1, size + 1, UNWRITTEN, UNWRITTEN - 1] {
                assert_eq!(load(&mut machine, wrong), Status::BadParam as u8);
            }
            assert_eq!(load(&mut machine, size), 0);
        }
        assert_eq!(digest(&mut machine, 1), digest(&mut machine, 2));
        assert_eq!(machine.hca.violations, 0);
    }
}

/// Room for a status and nothing else: what does not fit is left out.
#[test]
fn an_output_that_is_too_short_does_no_harm() {
    let mut machine = Machine::with_vfs();
    for (opcode, op_mod) in [(ifc::QUERY_HCA_CAP, 1), (ifc::MANAGE_PAGES, 2)] {
        let reply = machine.send(&command(opcode, op_mod, 16), 8);
        assert_eq!(reply.status(), 0, "{opcode:#x}");
    }
}

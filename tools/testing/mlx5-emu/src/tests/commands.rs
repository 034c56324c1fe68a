// SPDX-License-Identifier: GPL-2.0

//! mkeys, and the migration commands in every state.

use super::driver::{command, Machine, DATA};
use crate::{
    config::Config,
    host::FunctionId,
    ifc::{self, Status},
};
use mlx5_emu_regs as regs;

const BAD_STATE: u8 = Status::BadResState as u8;
const LEN: u64 = 512 << 10;

/// Makes VF 1 work a bit.
fn work(machine: &mut Machine, vhca: u16) {
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

fn digest(machine: &mut Machine, vhca: u16) -> u64 {
    let vf = machine.hca.functions[usize::from(vhca)].vf.as_mut();
    vf.unwrap().vhca.state.digest()
}

#[test]
fn an_mkey_translates_pages_of_any_size() {
    for shift in [12, 13, 16] {
        let page = 1u64 << shift;
        let mut machine = Machine::with_vfs();
        // In reverse, so that the list matters.
        let count = LEN / page;
        let pages: Vec<u64> = (0..count).rev().map(|i| DATA + i * page).collect();
        let key = machine.mkey(shift, &pages, LEN).unwrap();
        machine.stop(1);
        let (status, size) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[]);
        assert_eq!(status, 0, "{shift}");
        machine.stop(2);
        let load = machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, size, &[]);
        assert_eq!(load.0, 0, "{shift}");
        assert_eq!(machine.hca.violations, 0);
    }
}

#[test]
fn a_bad_mkey_is_refused() {
    let mut machine = Machine::with_vfs();
    let page = |shift: u32, pages: &[u64], len| Machine::with_vfs().mkey(shift, pages, len);
    assert_eq!(page(11, &[DATA], 2048), Err(Status::BadParam as u8));
    assert_eq!(page(12, &[DATA + 512], 4096), Err(Status::BadParam as u8));
    assert_eq!(page(12, &[DATA], 4096 * 3), Err(Status::BadParam as u8));
    assert_eq!(page(12, &[DATA], u64::MAX), Err(Status::BadParam as u8));
    let key = machine.data_mkey();
    machine.stop(1);
    for bad in [key + 1, key + 256, 0, u32::MAX] {
        let (status, _) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, bad, LEN, &[]);
        assert_eq!(status, Status::BadRes as u8);
    }
    let (status, _) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN + 1, &[]);
    assert_eq!(status, Status::BadParam as u8);
    assert_eq!(machine.memory.violations.len(), 5);
}

#[test]
fn an_mkey_may_have_to_have_small_pages() {
    let mut machine = Machine::with_vfs();
    machine.hca.config.log_max_mkey_page = 12;
    machine.data_mkey();
    let refused = machine.mkey(13, &[DATA], 8192);
    assert_eq!(refused, Err(Status::BadParam as u8));
}

#[test]
fn an_object_in_use_stays() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    let mut dealloc = command(ifc::DEALLOC_PD, 0, 16);
    ifc::OBJECT.set(&mut dealloc, 1);
    assert_eq!(machine.send(&dealloc, 16).status(), BAD_STATE);
    let mut destroy = command(ifc::DESTROY_MKEY, 0, 16);
    ifc::OBJECT.set(&mut destroy, (key >> 8).into());
    assert_eq!(machine.send(&destroy, 16).status(), 0);
    assert_eq!(machine.send(&destroy, 16).status(), Status::BadRes as u8);
    assert_eq!(machine.send(&dealloc, 16).status(), 0);
}

#[test]
fn each_function_has_numbers_of_its_own() {
    let mut machine = Machine::with_vfs();
    let key = machine.data_mkey();
    machine.drive(FunctionId(1));
    // The same numbers, of other objects.
    assert_eq!(machine.data_mkey(), key);
    let mut destroy = command(ifc::DESTROY_MKEY, 0, 16);
    ifc::OBJECT.set(&mut destroy, (key >> 8).into());
    assert_eq!(machine.send(&destroy, 16).status(), 0);
    assert_eq!(machine.send(&destroy, 16).status(), Status::BadRes as u8);

    machine.drive(FunctionId::PF);
    machine.stop(1);
    let save = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, LEN, &[]);
    assert_eq!(save.0, 0, "the PF's mkey is gone");
    assert_eq!(machine.send(&destroy, 16).status(), 0);
    // What only another function has is not there.
    machine.drive(FunctionId(2));
    machine.data_mkey();
    machine.drive(FunctionId::PF);
    assert_eq!(machine.send(&destroy, 16).status(), Status::BadRes as u8);
    assert_eq!(machine.hca.violations, 2);
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

/// QUERY_VHCA_MIGRATION_STATE with `chunk`: bytes for the next SAVE, and in all.
fn query_chunk(machine: &mut Machine, vhca: u16) -> (u8, u64, u64) {
    let mut query = command(ifc::QUERY_VHCA_MIGRATION_STATE, 0, 16);
    ifc::VHCA_ID.set(&mut query, vhca.into());
    ifc::CHUNK.set(&mut query, 1);
    let reply = machine.send(&query, 0x40);
    (
        reply.status(),
        ifc::REQUIRED_UMEM_SIZE.get(&reply.output),
        ifc::REMAINING_TOTAL_SIZE.get(&reply.output),
    )
}

/// Saves VF 2, which is stopped, in chunks, each with the room that `room` makes
/// of what it is said to need, and loads them into VF 1. Returns the status of
/// the last SAVE, and the sizes of the chunks.
fn save_in_chunks(machine: &mut Machine, key: u32, room: impl Fn(u64) -> u64) -> (u8, Vec<u64>) {
    let (status, mut next, _) = query_chunk(machine, 2);
    assert_eq!(status, 0);
    let mut sizes = Vec::new();
    while next > 0 {
        let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
        ifc::VHCA_ID.set(&mut save, 2);
        ifc::STATE_MKEY.set(&mut save, key.into());
        ifc::STATE_SIZE.set(&mut save, room(next));
        ifc::INCREMENTAL.set(&mut save, u64::from(!sizes.is_empty()));
        let reply = machine.send(&save, 16);
        if reply.status() != 0 {
            return (reply.status(), sizes);
        }
        let size = ifc::ACTUAL_IMAGE_SIZE.get(&reply.output);
        assert!(size <= next);
        next = ifc::NEXT_REQUIRED_UMEM_SIZE.get(&reply.output);
        let load = machine.transfer(ifc::LOAD_VHCA_STATE, 1, key, size, &[]);
        assert_eq!(load.0, 0);
        sizes.push(size);
    }
    (0, sizes)
}

/// Machines whose VF 1 is saved at once, and in chunks, and an mkey of each.
fn at_once_and_in_chunks() -> impl Iterator<Item = (Machine, u32)> {
    [0, 20 << 10].into_iter().map(|chunk_size| {
        let mut machine = Machine::with_vfs();
        machine.hca.config.chunk_size = chunk_size;
        let key = machine.data_mkey();
        if chunk_size > 0 {
            query_chunk(&mut machine, 1);
        }
        (machine, key)
    })
}

#[test]
fn an_image_of_a_running_vf_has_the_changes_that_fit() {
    let incremental = [ifc::INCREMENTAL, ifc::SET_TRACK];
    for (mut machine, key) in at_once_and_in_chunks() {
        machine.stop(2);
        let migrate = |machine: &mut Machine, room, flags: &[ifc::Field]| {
            let (status, size) = machine.transfer(ifc::SAVE_VHCA_STATE, 1, key, room, flags);
            if status != 0 {
                return Err(status);
            }
            let load = machine.transfer(ifc::LOAD_VHCA_STATE, 2, key, size, &[]);
            assert_eq!(load.0, 0);
            Ok(size)
        };
        migrate(&mut machine, LEN, &[ifc::SET_TRACK]).unwrap();
        migrate(&mut machine, LEN, &incremental).unwrap();
        let empty = migrate(&mut machine, LEN, &incremental).unwrap();
        work(&mut machine, 1);
        // Three pages, and the driver has asked when it was one.
        let one = migrate(&mut machine, empty + 5000, &incremental).unwrap();
        let two = migrate(&mut machine, LEN, &incremental).unwrap();
        assert_eq!(two - empty, 2 * (one - empty));
        assert_eq!(migrate(&mut machine, LEN, &incremental), Ok(empty));
        // Not even the header.
        assert_eq!(
            migrate(&mut machine, empty - 1, &incremental),
            Err(BAD_STATE)
        );
        machine.stop(1);
        assert_eq!(digest(&mut machine, 1), digest(&mut machine, 2));
        assert_eq!(machine.hca.violations, 0);
    }
}

#[test]
fn a_state_is_saved_in_chunks() {
    let mut machine = Machine::with_vfs();
    machine.stop(1);
    assert_eq!(query_chunk(&mut machine, 1).0, Status::BadParam as u8);
    machine.hca.config.chunk_size = 20 << 10;
    work(&mut machine, 2);
    let key = machine.data_mkey();
    machine.stop(2);
    let (status, need, total) = query_chunk(&mut machine, 2);
    assert_eq!((status, need), (0, 20 << 10));
    assert!(total > 64 << 10);
    let (status, sizes) = save_in_chunks(&mut machine, key, |next| next);
    assert_eq!(status, 0);
    assert!(sizes.len() > 3, "{sizes:?}");
    assert_eq!(digest(&mut machine, 1), digest(&mut machine, 2));
    assert_eq!(machine.hca.violations, 1);
}

#[test]
fn chunks_grow_and_want_the_room_that_they_were_said_to_need() {
    let mut machine = Machine::with_vfs();
    machine.hca.config.chunk_size = 16 << 10;
    machine.hca.config.chunks_grow = true;
    work(&mut machine, 2);
    let key = machine.data_mkey();
    machine.stop(1);
    machine.stop(2);
    let (status, sizes) = save_in_chunks(&mut machine, key, |next| next);
    assert_eq!(status, 0);
    assert!(sizes.len() > 2 && sizes[1] > sizes[0], "{sizes:?}");
    assert_eq!(digest(&mut machine, 1), digest(&mut machine, 2));
    assert_eq!(machine.hca.violations, 0);
    // Who takes the first for all.
    let (status, sizes) = save_in_chunks(&mut machine, key, |next| next.min(16 << 10));
    assert_eq!((status, sizes.len()), (Status::BadParam as u8, 1));
    assert_eq!(machine.hca.violations, 1);
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

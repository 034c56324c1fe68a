// SPDX-License-Identifier: GPL-2.0

//! A stopped device that is saved in chunks, and images that have only what fits.

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
use crate::ifc::{
    self,
    Status, //
};

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

/// Saves the next chunk of VF 2 into `room` bytes. Returns the status, and the bytes of the chunk
/// and of the one after it.
fn save_chunk(machine: &mut Machine, key: u32, room: u64, flags: &[ifc::Field]) -> (u8, u64, u64) {
    let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
    ifc::VHCA_ID.set(&mut save, 2);
    ifc::STATE_MKEY.set(&mut save, key.into());
    ifc::STATE_SIZE.set(&mut save, room);
    for flag in flags {
        flag.set(&mut save, 1);
    }
    let reply = machine.send(&save, 16);
    (
        reply.status(),
        ifc::ACTUAL_IMAGE_SIZE.get(&reply.output),
        ifc::NEXT_REQUIRED_UMEM_SIZE.get(&reply.output),
    )
}

/// Saves VF 2, which is stopped, in chunks, each with the room that `room` makes
/// of what it is said to need, and loads them into VF 1. Returns the status of
/// the last SAVE, and the sizes of the chunks.
pub(super) fn save_in_chunks(
    machine: &mut Machine,
    key: u32,
    room: impl Fn(u64) -> u64,
) -> (u8, Vec<u64>) {
    let (status, mut next, _) = query_chunk(machine, 2);
    assert_eq!(status, 0);
    let mut sizes = Vec::new();
    while next > 0 {
        let incremental = if sizes.is_empty() {
            &[][..]
        } else {
            &[ifc::INCREMENTAL]
        };
        let (status, size, more) = save_chunk(machine, key, room(next), incremental);
        if status != 0 {
            return (status, sizes);
        }
        assert!(size <= next);
        next = more;
        let load = machine.transfer(ifc::LOAD_VHCA_STATE, 1, key, size, &[]);
        assert_eq!(load.0, 0);
        sizes.push(size);
    }
    (0, sizes)
}

/// Machines whose VF 1 is saved at once, and in chunks, and an mkey of each.
pub(super) fn at_once_and_in_chunks() -> impl Iterator<Item = (Machine, u32)> {
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
        // Nor does that end tracking.
        assert_eq!(
            migrate(&mut machine, empty - 1, &[ifc::INCREMENTAL]),
            Err(BAD_STATE)
        );
        assert_eq!(migrate(&mut machine, LEN, &incremental), Ok(empty));
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
fn a_state_that_lacks_a_chunk_does_not_go_on() {
    let mut machine = Machine::with_vfs();
    machine.hca.config.chunk_size = 20 << 10;
    work(&mut machine, 2);
    let key = machine.data_mkey();
    machine.stop(1);
    machine.stop(2);
    let mut next = query_chunk(&mut machine, 2).1;
    let mut incremental = &[][..];
    while next > 0 {
        let (status, size, more) = save_chunk(&mut machine, key, next, incremental);
        assert_eq!(status, 0);
        let load = machine.transfer(ifc::LOAD_VHCA_STATE, 1, key, size, &[]);
        assert_eq!(load.0, 0);
        let expected = if more > 0 { BAD_STATE } else { 0 };
        assert_eq!(machine.about(ifc::RESUME_VHCA, 0, 1), expected, "{more}");
        (next, incremental) = (more, &[ifc::INCREMENTAL]);
    }
    // Neither is it a violation: a stream comes from user space.
    assert_eq!(machine.hca.violations, 0);
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
    // A driver whose buffer is as large as the first chunk, for all of them.
    let (status, sizes) = save_in_chunks(&mut machine, key, |next| next.min(16 << 10));
    assert_eq!((status, sizes.len()), (Status::BadParam as u8, 1));
    assert_eq!(machine.hca.violations, 1);
}

// SPDX-License-Identifier: GPL-2.0

//! Images of a NIC: how large they are, what comes in several of them, and those that are not
//! what they should be.

use super::{
    driver::{
        command,
        Machine, //
    },
    nic_state::{
        Moving,
        FROM,
        IMAGES,
        TO, //
    },
    objects::LEN,
    tracker::{
        input,
        send, //
    },
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        eswitch::VPORT_NUMBER,
        ethernet::{
            vport,
            COUNTER_SET, //
        },
        Status, //
    },
    image::{
        self,
        Refused, //
    },
    migration::MigrationState,
    packet::tests::tcp4,
    records::{
        Key,
        Kind,
        COMPARED, //
    },
    resources::{
        Resources,
        ENCODED, //
    }, //
};

const CHUNK: u64 = 16 << 10;
const BAD_STATE: u8 = Status::BadResState as u8;
const BAD_PARAM: u8 = Status::BadParam as u8;

impl Moving {
    fn stop(&mut self, vhca: u16) {
        self.as_pf(|machine, _| machine.stop(vhca));
    }

    /// QUERY_VHCA_MIGRATION_STATE: bytes for the next SAVE, and in all.
    fn query(&mut self, flags: &[ifc::Field]) -> (u64, u64) {
        let mut query = command(ifc::QUERY_VHCA_MIGRATION_STATE, 0, 16);
        ifc::VHCA_ID.set(&mut query, FROM.into());
        for flag in flags {
            flag.set(&mut query, 1);
        }
        let output = self.as_pf(|machine, _| send(machine, &query));
        (
            ifc::REQUIRED_UMEM_SIZE.get(&output),
            ifc::REMAINING_TOTAL_SIZE.get(&output),
        )
    }

    /// A SAVE into `room` bytes. Returns the size of the image, and what the next one needs.
    fn save_into(&mut self, room: u64, flags: &[ifc::Field]) -> (u64, u64) {
        let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
        ifc::VHCA_ID.set(&mut save, FROM.into());
        ifc::STATE_MKEY.set(&mut save, self.key.into());
        ifc::STATE_SIZE.set(&mut save, room);
        for flag in flags {
            flag.set(&mut save, 1);
        }
        let output = self.as_pf(|machine, _| send(machine, &save));
        (
            ifc::ACTUAL_IMAGE_SIZE.get(&output),
            ifc::NEXT_REQUIRED_UMEM_SIZE.get(&output),
        )
    }

    /// Saves all of the VF, which is stopped, in chunks. `each` gets the number and the size of
    /// a chunk. Returns what the query said of all of them.
    fn save_chunks(&mut self, mut each: impl FnMut(&mut Self, u64, u64)) -> u64 {
        let (mut next, total) = self.query(&[ifc::CHUNK]);
        for number in 0.. {
            if next == 0 {
                break;
            }
            let flags = [ifc::INCREMENTAL];
            let flags = &flags[..usize::from(number > 0)];
            let (size, more) = self.save_into(next, flags);
            assert!(size <= next);
            next = more;
            each(self, number, size);
        }
        total
    }

    fn resume_responder(&mut self) -> u8 {
        self.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 0, TO))
    }

    /// An mkey whose list of pages takes three chunks.
    fn large_mkey(&mut self) {
        let pages: Vec<u64> = (0..6144).map(|i| i * 4096).collect();
        self.nic.machine.mkey(12, &pages, 6144 * 4096).unwrap();
    }

    /// Has the manager of the VF's port give it this number of addresses.
    fn set_addresses(&mut self, count: usize) {
        let len = vport::MODIFY_CONTEXT + vport::LIST + count * 8;
        let fields = [
            (vport::OTHER, 1),
            (VPORT_NUMBER, FROM.into()),
            (vport::SELECT, vport::SELECT_LIST),
        ];
        let mut modify = input(ifc::MODIFY_NIC_VPORT_CONTEXT, len, &fields);
        vport::LIST_SIZE.set(&mut modify[vport::MODIFY_CONTEXT..], count as u64);
        self.as_pf(|machine, _| send(machine, &modify));
    }

    fn create_q_counter(&mut self) -> u64 {
        let output = send(&mut self.nic.machine, &command(ifc::ALLOC_Q_COUNTER, 0, 16));
        COUNTER_SET.get(&output)
    }

    fn traffic(&mut self) {
        self.nic.post(1);
        self.nic.send_frame(&tcp4(b"out"));
        self.nic.arrive(&tcp4(b"in"));
        while self.nic.cqe().is_some() {
            self.nic.end();
        }
    }
}

#[test]
fn images_have_the_sizes_that_were_told() {
    let mut moving = Moving::new();
    moving.large_mkey();
    moving.stop(TO);
    let (next, total) = moving.query(&[]);
    assert_eq!(next, total);
    let set_track = [ifc::SET_TRACK];
    assert_eq!(moving.save_into(next, &set_track), (next, 0));
    assert_eq!(moving.load(next), 0);

    let changes = [ifc::INCREMENTAL, ifc::SET_TRACK];
    for _ in 0..3 {
        moving.traffic();
        let (next, total) = moving.query(&[ifc::INCREMENTAL]);
        assert_eq!(next, total);
        assert_eq!(moving.save_into(next, &changes), (next, 0));
        assert_eq!(moving.load(next), 0);
    }
    moving.create_q_counter();
    moving.stop(FROM);
    let (next, _) = moving.query(&[ifc::INCREMENTAL]);
    assert_eq!(moving.save_into(next, &[ifc::INCREMENTAL]), (next, 0));
    assert_eq!(moving.load(next), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));
    let (next, _) = moving.query(&[]);
    assert_eq!(moving.save_into(next, &[]), (next, 0));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn chunks_are_no_more_than_was_told() {
    for (grow, unwritten) in [(false, 0), (true, 0), (false, 100), (true, 5000)] {
        let mut moving = Moving::new();
        let config = &mut moving.nic.machine.hca.config;
        config.chunk_size = CHUNK;
        config.chunks_grow = grow;
        config.save_unwritten = unwritten;
        moving.large_mkey();
        moving.traffic();
        moving.stop(FROM);
        moving.stop(TO);
        let (mut sum, mut chunks) = (0, 0);
        let total = moving.save_chunks(|moving, _, size| {
            assert_eq!(moving.load(size), 0);
            sum += size;
            chunks += 1;
        });
        assert!(sum <= total, "{sum} of {total}");
        let headers = 300 + u64::from(unwritten);
        let most = sum + (chunks + 4) * headers * if grow { 3 } else { 1 };
        assert!(total <= most, "{total}, {sum} in {chunks}");
        assert_eq!(moving.records(TO), moving.records(FROM));
        assert_eq!(moving.nic.violations(), 0);
    }
}

#[test]
fn traffic_leaves_little_to_save() {
    let mut moving = Moving::new();
    moving.stop(TO);
    let (next, _) = moving.query(&[]);
    moving.save_into(next, &[ifc::SET_TRACK]);
    assert_eq!(moving.load(next), 0);
    for _ in 0..50 {
        moving.traffic();
        let (next, _) = moving.query(&[ifc::INCREMENTAL]);
        assert!(next < 2048, "{next}");
        assert_eq!(moving.migration_state(), MigrationState::Dirty);
        // More comes before it is saved, and stays if there is no room.
        moving.traffic();
        let (size, _) = moving.save_into(next, &[ifc::INCREMENTAL, ifc::SET_TRACK]);
        assert!(size <= next);
        assert_eq!(moving.load(size), 0);
    }
    moving.stop(FROM);
    let (next, _) = moving.query(&[ifc::INCREMENTAL]);
    moving.save_into(next, &[ifc::INCREMENTAL]);
    assert_eq!(moving.load(next), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn a_running_nic_may_outgrow_what_was_told_of_all_of_it() {
    let mut moving = Moving::new();
    moving.stop(TO);
    let (next, _) = moving.query(&[]);
    // What is created meanwhile, and all counters.
    moving.large_mkey();
    moving.traffic();
    let (size, _) = moving.save_into(next, &[ifc::SET_TRACK]);
    assert!(size <= next);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.migration_state(), MigrationState::Dirty);
    let (next, _) = moving.query(&[ifc::INCREMENTAL]);
    let (size, _) = moving.save_into(next, &[ifc::INCREMENTAL, ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn what_lacks_something_does_not_go_on() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = CHUNK;
    moving.large_mkey();
    moving.stop(FROM);
    moving.stop(TO);
    let before = moving.records(TO);
    let mut refused = 0;
    moving.save_chunks(|moving, number, size| {
        assert_eq!(moving.load(size), 0);
        if moving.records(TO) == before {
            // It is as if nothing was loaded, and cannot go on, or be saved.
            assert_eq!(moving.resume_responder(), BAD_STATE, "{number}");
            refused += 1;
            let key = moving.key;
            let save = |machine: &mut Machine, _| {
                machine.transfer(ifc::SAVE_VHCA_STATE, TO, key, LEN, &[]).0
            };
            // Not over the image: it is to be loaded no more.
            assert_eq!(moving.as_pf(save), BAD_STATE, "{number}");
        }
    });
    assert!(refused > 2, "{refused}");
    assert_eq!(moving.records(TO), moving.records(FROM));
    assert_eq!(moving.resume_responder(), 0);
    assert_eq!(moving.nic.violations(), 0);
}

/// Objects and records are where they were: nothing is copied or made anew for a chunk.
#[test]
fn a_chunk_costs_what_it_has() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = CHUNK;
    moving.large_mkey();
    moving.stop(FROM);
    moving.stop(TO);
    let at = |moving: &Moving| {
        let [from, to] = [FROM, TO].map(|vhca| {
            let function = &moving.nic.machine.hca.functions[usize::from(vhca)];
            &function.vf.as_ref().unwrap().vhca
        });
        let saving = from.saving.as_ref();
        let record = saving.and_then(|records| records.values().next().map(|bytes| bytes.as_ptr()));
        let loaded = to.half.as_ref().map(|half| half.objects());
        let eq = loaded.and_then(|objects| objects.eqs.values().next().map(std::ptr::from_ref));
        (record, eq)
    };
    let mut seen = Vec::new();
    let mut compared = Vec::new();
    moving.save_chunks(|moving, _, size| {
        assert_eq!(moving.load(size), 0);
        seen.push(at(moving));
        compared.push(COMPARED.get());
    });
    assert!(
        compared.iter().all(|count| *count == compared[0]),
        "{compared:?}"
    );
    assert_eq!(seen.last(), Some(&(None, None)));
    let records: Vec<_> = seen.iter().filter_map(|(record, _)| *record).collect();
    let eqs: Vec<_> = seen.iter().filter_map(|(_, eq)| *eq).collect();
    assert!(records.len() > 4 && eqs.len() > 2, "{seen:?}");
    assert!(records.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
    assert!(eqs.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
}

#[test]
fn what_is_destroyed_costs_no_look_at_what_stays() {
    let mut moving = Moving::new();
    moving.save(&[ifc::SET_TRACK]);
    let set = moving.create_q_counter();
    assert_eq!(moving.migration_state(), MigrationState::Init);
    moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
    assert_eq!(moving.migration_state(), MigrationState::Ready);
    let before = ENCODED.get();
    let destroy = input(ifc::DEALLOC_Q_COUNTER, 16, &[(COUNTER_SET, set)]);
    send(&mut moving.nic.machine, &destroy);
    assert_eq!(moving.create_q_counter(), set);
    assert_eq!(ENCODED.get(), before);
    // It is another one.
    assert_eq!(moving.migration_state(), MigrationState::Init);
}

#[test]
fn an_image_of_changes_costs_what_it_has() {
    let mut moving = Moving::new();
    moving.large_mkey();
    moving.stop(TO);
    let size = moving.save(&[ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    let mkey = |moving: &Moving| {
        let objects = &moving.nic.machine.hca.functions[usize::from(TO)].objects;
        std::ptr::from_ref(objects.mkeys.values().next().unwrap())
    };
    let before = mkey(&moving);
    moving.create_q_counter();
    let size = moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(mkey(&moving), before);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn a_chunk_that_is_refused_leaves_no_trace() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = CHUNK;
    moving.large_mkey();
    moving.stop(FROM);
    moving.stop(TO);
    let trace = |moving: &Moving| {
        let Machine { hca, .. } = &moving.nic.machine;
        let vhca = &hca.functions[usize::from(TO)].vf.as_ref().unwrap().vhca;
        let half = vhca.half.as_ref();
        let half = half.map(|half| half.parts(&hca.config, FunctionId(TO)));
        (moving.records(TO), half)
    };
    // A TIS that is none.
    let mut bad = Vec::new();
    bad.extend((Kind::Tis as u16).to_le_bytes());
    bad.extend(0u16.to_le_bytes());
    for word in [1u32, 1, 0, 1, 0] {
        bad.extend(word.to_le_bytes());
    }
    bad.push(9);
    moving.save_chunks(|moving, _, size| {
        let good = moving.nic.machine.memory.bytes[IMAGES as usize..][..size as usize].to_vec();
        let mut image = [&good[..], &bad].concat();
        image::seal(&mut image);
        let before = trace(moving);
        moving.nic.write(IMAGES, &image);
        assert_eq!(moving.load(image.len() as u64), BAD_PARAM);
        assert!(trace(moving) == before);
        moving.nic.write(IMAGES, &good);
        assert_eq!(moving.load(size), 0);
    });
    assert_eq!(moving.records(TO), moving.records(FROM));
    // What is whole is as it was, too.
    let size = moving.save(&[]);
    let good = moving.nic.machine.memory.bytes[IMAGES as usize..][..size as usize].to_vec();
    let mut image = [&good[..], &bad].concat();
    image::seal(&mut image);
    let before = trace(&moving);
    moving.nic.write(IMAGES, &image);
    assert_eq!(moving.load(image.len() as u64), BAD_PARAM);
    assert!(trace(&moving) == before);
    assert_eq!(moving.nic.violations(), 0);
}

/// What is sent of it is of when the first chunk was saved.
#[test]
fn chunks_go_on_after_one_that_is_refused() {
    for flags in [&[][..], &[ifc::INCREMENTAL]] {
        let mut moving = Moving::new();
        // The first chunk has the beginning of the record with the addresses.
        moving.nic.machine.hca.config.chunk_size = image::partial_len(4) + 600;
        moving.set_addresses(128);
        moving.stop(FROM);
        moving.stop(TO);
        let before = moving.records(FROM);
        moving.save_chunks(|moving, number, size| {
            assert_eq!(moving.load(size), 0);
            if number > 0 {
                return;
            }
            let key = moving.key;
            let no_room = |machine: &mut Machine, _| {
                machine.transfer(ifc::SAVE_VHCA_STATE, FROM, key, 0, flags)
            };
            assert_eq!(moving.as_pf(no_room).0, BAD_PARAM);
            moving.set_addresses(0);
        });
        assert!(moving.records(FROM) != before);
        assert!(moving.records(TO) == before);
        assert_eq!(moving.nic.violations(), 1);
    }
}

#[test]
fn a_reset_ends_what_was_loaded_by_half() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = CHUNK;
    moving.large_mkey();
    moving.stop(FROM);
    moving.stop(TO);
    // Without the last one, which is loaded after the reset.
    let mut chunks = Vec::new();
    moving.save_chunks(|moving, _, size| {
        let image = &moving.nic.machine.memory.bytes[IMAGES as usize..][..size as usize];
        chunks.push(image.to_vec());
    });
    let last = chunks.pop().unwrap();
    let load = |moving: &mut Moving, image: &[u8]| {
        moving.nic.write(IMAGES, image);
        moving.load(image.len() as u64)
    };
    for chunk in &chunks {
        assert_eq!(load(&mut moving, chunk), 0);
    }
    moving.nic.machine.hca.reset(FunctionId(TO));
    moving.stop(TO);
    let before = moving.records(TO);
    assert_eq!(load(&mut moving, &last), BAD_PARAM);
    assert_eq!(moving.records(TO), before);
    assert_eq!(moving.resume_responder(), 0);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn all_of_a_nic_in_chunks_takes_the_place_of_what_was_loaded() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = CHUNK;
    moving.create_q_counter();
    moving.stop(FROM);
    moving.stop(TO);
    for round in 0..2 {
        moving.save_chunks(|moving, _, size| assert_eq!(moving.load(size), 0));
        assert_eq!(moving.records(TO), moving.records(FROM));
        if round == 0 {
            // The source has one less then.
            let counters = &mut moving.nic.machine.hca.functions[1].objects.q_counters;
            counters.pop_last();
        }
    }
}

#[test]
fn a_save_takes_the_time_of_what_it_writes() {
    let mut moving = Moving::new();
    moving.large_mkey();
    let config = &mut moving.nic.machine.hca.config;
    config.save_ns_per_mib = 1 << 20;
    let save = |room, incremental| {
        let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
        ifc::VHCA_ID.set(&mut save, FROM.into());
        ifc::STATE_SIZE.set(&mut save, room);
        ifc::INCREMENTAL.set(&mut save, incremental);
        save
    };
    let (next, _) = moving.query(&[]);
    let hca = &mut moving.nic.machine.hca;
    assert_eq!(hca.duration(&save(LEN, 0)), next);
    assert_eq!(hca.duration(&save(5000, 0)), 5000);
    // Not tracked: it fails at once.
    assert_eq!(hca.duration(&save(LEN, 1)), 0);
    hca.config.save_ns_per_mib = 0;
    moving.save(&[ifc::SET_TRACK]);
    moving.large_mkey();
    let (next, _) = moving.query(&[ifc::INCREMENTAL]);
    let hca = &mut moving.nic.machine.hca;
    hca.config.save_ns_per_mib = 1 << 20;
    assert_eq!(hca.duration(&save(LEN, 1)), next);
    assert_eq!(hca.duration(&save(500, 1)), 500);
}

#[test]
fn counters_of_an_image_begin_anew() {
    let mut moving = Moving::new();
    moving.traffic();
    let hca = &mut moving.nic.machine.hca;
    let id = FunctionId(FROM);
    let fresh = Resources::after_reset(&hca.config, id);
    let key = Key {
        kind: Kind::Counters,
        number: 0,
    };
    let most: Vec<u8> = [&[0xff; 9][..], &[1]].concat();
    let mut resources = hca.resources(id);
    let loaded = resources.load(
        &hca.config,
        &mut fresh.clone(),
        id,
        key,
        Some(&most.repeat(16)),
    );
    assert!(loaded.is_ok());
    hca.load_resources(&mut moving.nic.machine.memory, id, resources);
    let vf = hca.functions[1].vf.as_mut().unwrap();
    vf.vhca.state.seq = u64::MAX;
    moving.traffic();
    super::migration::work(&mut moving.nic.machine, FROM);
}

#[test]
fn no_command_of_an_image_takes_for_ever() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.command_ns = 1000;
    moving
        .nic
        .machine
        .submit(3, &command(ifc::ALLOC_PD, 0, 16), 16);
    moving.nic.machine.ring(1 << 3);
    let hca = &moving.nic.machine.hca;
    let id = FunctionId(FROM);
    let records = moving.records(FROM);
    let command = records.iter().find(|(key, _)| key.kind == Kind::Command);
    let (key, bytes) = command.unwrap();
    let fresh = Resources::after_reset(&hca.config, id);
    // Its time comes last: 1000.
    let (rest, time) = bytes.split_at(bytes.len() - 2);
    assert_eq!(time, [0xe8, 7]);
    for (time, ok) in [
        (vec![0xe8, 7], true),
        ([&[0xff; 9][..], &[1]].concat(), false),
        ([&[0xff; 8][..], &[0x7f]].concat(), false),
    ] {
        let bytes = [rest, &time].concat();
        let loaded =
            hca.resources(id)
                .load(&hca.config, &mut fresh.clone(), id, *key, Some(&bytes));
        assert_eq!(loaded.is_ok(), ok, "{time:?}");
    }
    assert_eq!(Refused::Record as u32, 0x10009);
}

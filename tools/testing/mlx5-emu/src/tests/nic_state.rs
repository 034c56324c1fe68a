// SPDX-License-Identifier: GPL-2.0

//! A NIC that is suspended, saved, and goes on elsewhere. Both VFs have the same memory, as a
//! guest has that moves.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    eswitch,
    nic::Nic,
    objects::LEN,
    tracker::{
        create,
        send, //
    },
};
use crate::{
    config::Config,
    host::FunctionId,
    ifc::{
        self,
        ethernet::vport,
        event,
        Status, //
    },
    image::Refused,
    migration::MigrationState,
    packet::tests::tcp4,
    records::{
        Kind,
        Records, //
    },
    track::PageTrack, //
};

/// Where images go: not where a driver has its queues.
pub(super) const IMAGES: u64 = DATA + 0x8_0000;
pub(super) const FROM: u16 = 1;
pub(super) const TO: u16 = 2;

/// A VF with a driver, and an mkey of the PF for images.
pub(super) struct Moving {
    pub(super) nic: Nic,
    pub(super) key: u32,
}

impl Moving {
    pub(super) fn new() -> Self {
        let mut nic = Nic::on(FunctionId(FROM));
        nic.machine.drive(FunctionId::PF);
        let pages: Vec<u64> = (0..LEN / 4096).map(|i| IMAGES + i * 4096).collect();
        let key = nic.machine.mkey(12, &pages, LEN).unwrap();
        nic.machine.hca.config.state_size = 64 << 10;
        for function in 1..=2 {
            let vf = nic.machine.hca.functions[function].vf.as_mut().unwrap();
            vf.vhca = crate::migration::Vhca::new(64 << 10);
        }
        nic.machine.turn_to(FunctionId(FROM));
        Self { nic, key }
    }

    pub(super) fn as_pf<R>(&mut self, act: impl FnOnce(&mut Machine, u32) -> R) -> R {
        self.nic.machine.turn_to(FunctionId::PF);
        let result = act(&mut self.nic.machine, self.key);
        self.nic.machine.turn_to(FunctionId(FROM));
        result
    }

    pub(super) fn save(&mut self, flags: &[ifc::Field]) -> u64 {
        let (status, size) = self
            .as_pf(|machine, key| machine.transfer(ifc::SAVE_VHCA_STATE, FROM, key, LEN, flags));
        assert_eq!(status, 0);
        size
    }

    pub(super) fn load(&mut self, size: u64) -> u8 {
        self.as_pf(|machine, key| machine.transfer(ifc::LOAD_VHCA_STATE, TO, key, size, &[]).0)
    }

    pub(super) fn records(&self, vhca: u16) -> Records {
        self.nic.machine.hca.records(FunctionId(vhca))
    }

    pub(super) fn migration_state(&self) -> MigrationState {
        let vf = self.nic.machine.hca.functions[usize::from(FROM)]
            .vf
            .as_ref();
        vf.unwrap().vhca.migration_state(&self.records(FROM))
    }

    /// Moves the VF; its driver goes on with the other one.
    fn move_over(&mut self) {
        self.as_pf(|machine, _| machine.stop(FROM));
        let size = self.save(&[]);
        let before = self.records(FROM);
        self.as_pf(|machine, _| machine.stop(TO));
        assert_eq!(self.load(size), 0);
        assert_eq!(self.records(TO), before);
        self.as_pf(|machine, _| machine.resume(TO));
        self.nic.machine.turn_to(FunctionId(TO));
    }
}

#[test]
fn a_nic_goes_on_elsewhere() {
    let mut moving = Moving::new();
    let first = tcp4(b"before");
    moving.nic.post(3);
    moving.nic.send_frame(&first);
    moving.nic.arrive(&first);
    assert_eq!(moving.nic.end(), (0, 0, 0));
    assert_eq!(moving.nic.end(), (2, 0, 0));
    let sent = moving.nic.machine.memory.sent.len();
    moving.move_over();
    assert!(moving.nic.cqe().is_none());
    // Nothing is sent twice.
    assert_eq!(moving.nic.machine.memory.sent.len(), sent);

    let second = tcp4(b"after that");
    moving.nic.send_frame(&second);
    assert_eq!(moving.nic.end(), (0, 0, 1));
    assert_eq!(moving.nic.machine.memory.sent.last(), Some(&second));
    moving.nic.arrive(&second);
    assert_eq!(moving.nic.end(), (2, 0, 1));
    assert_eq!(moving.nic.received(1, second.len()), second);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn what_is_posted_meanwhile_is_done_when_it_resumes() {
    let mut moving = Moving::new();
    let frame = tcp4(b"meanwhile");
    // A doorbell comes while it starts nothing any more, another one not even then.
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 0, FROM));
    moving.nic.send_frame(&frame);
    moving
        .nic
        .machine
        .submit(3, &command(ifc::ALLOC_PD, 0, 16), 16);
    moving.nic.machine.ring(1 << 3);
    assert!(moving.nic.machine.memory.sent.is_empty());
    assert_eq!(moving.nic.machine.slot(3)[63], 1);
    moving.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 1, FROM));
    moving.nic.machine.memory.sent.clear();
    assert_eq!(moving.nic.machine.slot(3)[63], 0);
    assert_eq!(moving.nic.end(), (0, 0, 0));

    let wqe = moving.nic.wqe(0x0a, &frame, 0, 0, 0);
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 0, FROM));
    moving.nic.put(&wqe);
    moving
        .nic
        .machine
        .submit(4, &command(ifc::ALLOC_PD, 0, 16), 16);
    moving.nic.machine.ring(1 << 4);
    moving.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 1, FROM));
    assert_eq!(moving.nic.machine.memory.sent, [frame]);
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn no_more_commands_are_under_way_than_there_are_slots() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.command_ns = 1000;
    moving
        .nic
        .machine
        .submit(3, &command(ifc::ALLOC_PD, 0, 16), 16);
    for _ in 0..40 {
        moving.nic.machine.ring(1 << 3);
    }
    let commands = moving.records(FROM);
    let commands = commands.keys().filter(|key| key.kind == Kind::Command);
    assert_eq!(commands.count(), 32);
    assert_eq!(moving.nic.violations(), 8);
}

#[test]
fn a_command_in_flight_is_answered_elsewhere() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.command_ns = 1000;
    let pds = moving.nic.machine.hca.functions[1].objects.pds.len();
    moving
        .nic
        .machine
        .submit(3, &command(ifc::ALLOC_PD, 0, 16), 16);
    moving.nic.machine.ring(1 << 3);
    moving.nic.machine.hca.config.command_ns = 0;
    moving.as_pf(|machine, _| machine.stop(FROM));
    let Machine { hca, memory, .. } = &mut moving.nic.machine;
    memory.now = 5000;
    hca.timer(memory);
    assert_eq!(moving.nic.machine.slot(3)[63], 1, "a suspended VF answers");
    moving.as_pf(|machine, _| {
        machine.about(ifc::RESUME_VHCA, 0, FROM);
        machine.about(ifc::RESUME_VHCA, 1, FROM);
        machine.stop(FROM);
    });
    // Two have moved it on: it was due. So it is answered by whoever resumes.
    let size = moving.save(&[]);
    moving.as_pf(|machine, _| machine.stop(TO));
    assert_eq!(moving.load(size), 0);
    moving.as_pf(|machine, _| machine.resume(TO));
    let Machine { hca, memory, .. } = &mut moving.nic.machine;
    memory.now = 6000;
    hca.timer(memory);
    assert_eq!(moving.nic.machine.slot(3)[63], 0);
    assert_eq!(
        moving.nic.machine.hca.functions[2].objects.pds.len(),
        pds + 1
    );
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn what_comes_to_a_function_that_is_no_bus_master_is_lost() {
    let mut moving = Moving::new();
    moving.nic.post(2);
    let frame = tcp4(b"lost");
    moving.nic.machine.memory.no_masters.push(FunctionId(FROM));
    moving.nic.arrive(&frame);
    assert!(moving.nic.cqe().is_none());
    assert_eq!(moving.nic.violations(), 0);
    moving.nic.machine.memory.no_masters.clear();
    moving.nic.arrive(&frame);
    assert!(moving.nic.cqe().is_some());
}

#[test]
fn what_comes_while_it_is_suspended_is_lost_and_counted() {
    let mut moving = Moving::new();
    moving.nic.post(2);
    let frame = tcp4(b"lost");
    let before = moving.records(FROM);
    for side in 0..2 {
        moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, side, FROM));
        moving.nic.arrive(&frame);
    }
    assert!(moving.nic.cqe().is_none());
    let lost = |moving: &mut Moving| {
        let query = command(ifc::QUERY_VPORT_COUNTER, 0, 16);
        send(&mut moving.nic.machine, &query)[vport::RECEIVED_ERRORS + 7]
    };
    let mut counters = vec![0; 0x200];
    let port = &mut moving.nic.machine.hca.functions[1].vport;
    port.read_counters(false).write(&mut counters);
    assert_eq!(counters[vport::RECEIVED_ERRORS + 7], 2);
    // It does not change while it is saved.
    assert_eq!(moving.records(FROM), before);
    moving.as_pf(|machine, _| machine.resume(FROM));
    assert_eq!(lost(&mut moving), 2);
    moving.nic.arrive(&frame);
    assert_eq!(moving.nic.end(), (2, 0, 0));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn an_interrupt_that_is_due_comes_elsewhere() {
    let mut moving = Moving::new();
    moving.nic.post(1);
    let frame = tcp4(b"one");
    // The driver wants an event for the first completion, and is told of the second.
    moving
        .nic
        .machine
        .write_register(moving.nic.uar * 4096 + 0x20, 0);
    moving.nic.arm();
    moving.nic.arrive(&frame);
    assert_eq!(moving.nic.eqe(0)[1], event::COMP);
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 0, FROM));
    // There is a completion that it does not know of: the event is due at once, later.
    moving.nic.arm();
    moving.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 1, FROM));
    assert_eq!(&moving.nic.eqe(1)[60..], &[0; 4]);
    assert_eq!(moving.nic.eqe(1)[1], event::COMP);
    moving.nic.machine.memory.interrupts.clear();
    moving.move_over();
    let own = FunctionId(TO);
    let interrupts = &moving.nic.machine.memory.interrupts;
    assert!(interrupts.iter().any(|(function, _)| *function == own));
}

#[test]
fn a_link_that_differs_is_told_elsewhere() {
    let mut moving = Moving::new();
    send(
        &mut moving.nic.machine,
        &command(ifc::QUERY_VPORT_STATE, 0, 16),
    );
    moving.as_pf(|machine, _| machine.stop(FROM));
    let Machine { hca, memory, .. } = &mut moving.nic.machine;
    hca.set_link(memory, false);
    assert_ne!(moving.nic.eqe(0)[1], event::PORT_CHANGE);
    moving.as_pf(|machine, _| machine.resume(FROM));
    assert_eq!(moving.nic.eqe(0)[1], event::PORT_CHANGE);
}

#[test]
fn the_manager_of_the_e_switch_is_told_when_it_resumes() {
    let mut moving = Moving::new();
    send(
        &mut moving.nic.machine,
        &eswitch::addresses(&[0x0200_0000_0101]),
    );
    let arm = [(vport::ARM, 1), (vport::CHANGES, 0b01011)];
    let arm = eswitch::modify_context(TO.into(), vport::SELECT_CHANGE_EVENT, &arm);
    moving.as_pf(|machine, _| send(machine, &arm));
    let is_armed = |moving: &Moving| {
        let port = &moving.nic.machine.hca.functions[usize::from(TO)].vport;
        vport::ARM.get(&port.query(0).unwrap()) == 1
    };
    moving.as_pf(|machine, _| machine.stop(FROM));
    let size = moving.save(&[]);
    moving.as_pf(|machine, _| machine.stop(TO));
    assert_eq!(moving.load(size), 0);
    assert!(is_armed(&moving), "the source may still receive");
    moving.as_pf(|machine, _| machine.resume(TO));
    assert!(!is_armed(&moving));
}

#[test]
fn what_it_writes_is_tracked() {
    let mut moving = Moving::new();
    moving.nic.post(1);
    let mut create = create(0, 12);
    ifc::TRACK_VHCA.set(&mut create, FROM.into());
    create[ifc::TRACK_RANGES..][..16]
        .copy_from_slice(&[DATA, 1 << 20].map(u64::to_be_bytes).concat());
    let machine = &mut moving.nic.machine;
    let track = PageTrack::parse(&create, &machine.hca.config).unwrap();
    machine.hca.functions[0].objects.trackers.insert(1, track);
    moving.nic.arrive(&tcp4(b"dirty"));
    let track = &moving.nic.machine.hca.functions[0].objects.trackers[&1];
    let page = |address: u64| track.is_dirty(address);
    // The frame, its completion; the EQ was not armed for it.
    assert!(page(super::nic::IN) && page(super::nic::CQ));
    assert!(!page(super::nic::EQ));
    assert!(!page(super::nic::OUT));
    // An event of the port.
    let Machine { hca, memory, .. } = &mut moving.nic.machine;
    hca.set_link(memory, false);
    let track = &hca.functions[0].objects.trackers[&1];
    assert!(track.is_dirty(super::nic::EQ));
}

#[test]
fn changes_are_saved_and_what_is_new_is_a_new_initial_state() {
    let mut moving = Moving::new();
    let set_track = [ifc::SET_TRACK];
    let changes = [ifc::INCREMENTAL, ifc::SET_TRACK];
    let whole = moving.save(&set_track);
    assert_eq!(moving.migration_state(), MigrationState::Ready);
    moving.as_pf(|machine, _| machine.stop(TO));
    assert_eq!(moving.load(whole), 0);

    // Traffic changes positions and counters, and makes nothing new.
    moving.nic.post(1);
    moving.nic.send_frame(&tcp4(b"change"));
    assert_eq!(moving.migration_state(), MigrationState::Dirty);
    let size = moving.save(&changes);
    assert!(size < 4096, "{size}");
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.migration_state(), MigrationState::Ready);

    let pd = send(
        &mut moving.nic.machine,
        &command(ifc::ALLOC_Q_COUNTER, 0, 16),
    );
    assert_eq!(moving.migration_state(), MigrationState::Init);
    let size = moving.save(&changes);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.migration_state(), MigrationState::Ready);
    let set = ifc::ethernet::COUNTER_SET.get(&pd);
    let mut dealloc = command(ifc::DEALLOC_Q_COUNTER, 0, 16);
    ifc::ethernet::COUNTER_SET.set(&mut dealloc, set);
    send(&mut moving.nic.machine, &dealloc);
    assert_eq!(moving.migration_state(), MigrationState::Dirty);

    // It has the number of the one before, and is another one.
    send(
        &mut moving.nic.machine,
        &command(ifc::ALLOC_Q_COUNTER, 0, 16),
    );
    assert_eq!(moving.migration_state(), MigrationState::Init);

    moving.as_pf(|machine, _| machine.stop(FROM));
    let size = moving.save(&[ifc::INCREMENTAL]);
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.records(TO), moving.records(FROM));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn records_go_in_chunks_that_are_smaller() {
    let mut moving = Moving::new();
    moving.nic.machine.hca.config.chunk_size = 16 << 10;
    // An mkey whose list of pages takes three chunks.
    let pages: Vec<u64> = (0..6144).map(|i| i * 4096).collect();
    moving.nic.machine.mkey(12, &pages, 6144 * 4096).unwrap();
    moving.as_pf(|machine, _| machine.stop(FROM));
    moving.as_pf(|machine, _| machine.stop(TO));
    let mut query = command(ifc::QUERY_VHCA_MIGRATION_STATE, 0, 16);
    ifc::VHCA_ID.set(&mut query, FROM.into());
    ifc::CHUNK.set(&mut query, 1);
    let reply = moving.as_pf(|machine, _| machine.send(&query, 0x40));
    let mut next = ifc::REQUIRED_UMEM_SIZE.get(&reply.output);
    let mut chunks = 0;
    while next > 0 {
        assert!(next <= 16 << 10);
        let mut save = command(ifc::SAVE_VHCA_STATE, 0, 32);
        ifc::VHCA_ID.set(&mut save, FROM.into());
        ifc::STATE_MKEY.set(&mut save, moving.key.into());
        ifc::STATE_SIZE.set(&mut save, next);
        ifc::INCREMENTAL.set(&mut save, u64::from(chunks > 0));
        let reply = moving.as_pf(|machine, _| machine.send(&save, 16));
        assert_eq!(reply.status(), 0);
        next = ifc::NEXT_REQUIRED_UMEM_SIZE.get(&reply.output);
        let size = ifc::ACTUAL_IMAGE_SIZE.get(&reply.output);
        assert_eq!(moving.load(size), 0);
        chunks += 1;
    }
    // The table takes four, and the mkey more than one.
    assert!(chunks > 5, "{chunks}");
    assert_eq!(moving.records(TO), moving.records(FROM));
    assert_eq!(moving.nic.violations(), 0);
}

#[test]
fn an_image_of_no_nic_or_of_a_broken_one_is_refused() {
    let mut moving = Moving::new();
    moving.as_pf(|machine, _| machine.stop(FROM));
    moving.as_pf(|machine, _| machine.stop(TO));
    let size = moving.save(&[]);
    let network = moving.nic.machine.hca.config.network.take();
    assert_eq!(moving.load(size), Status::BadParam as u8);
    moving.nic.machine.hca.config.network = network;
    assert_eq!(moving.load(size), 0);
    // Its driver may have used more than the other one has.
    let changes: [fn(&mut Config); 2] = [
        |config| config.vf_vectors -= 1,
        |config| config.log_max_mkey_page -= 1,
    ];
    for change in changes {
        let config = moving.nic.machine.hca.config.clone();
        change(&mut moving.nic.machine.hca.config);
        assert_eq!(moving.load(size), Status::BadParam as u8);
        moving.nic.machine.hca.config = config;
        assert_eq!(moving.load(size), 0);
    }

    // A CQ is missing that queues have their completions on.
    let cqs = std::mem::take(&mut moving.nic.machine.hca.functions[1].objects.cqs);
    let size = moving.save(&[]);
    let before = moving.records(TO);
    assert_eq!(moving.load(size), Status::BadParam as u8);
    assert_eq!(moving.records(TO), before);
    moving.nic.machine.hca.functions[1].objects.cqs = cqs;
    assert_eq!(moving.nic.violations(), 0);
    assert_eq!(Refused::Missing as u32, 0x1000a);
}

#[test]
fn no_record_that_was_changed_by_hand_harms() {
    let moving = Moving::new();
    let hca = &moving.nic.machine.hca;
    let id = FunctionId(FROM);
    let records = moving.records(FROM);
    let kinds: Vec<Kind> = records.keys().map(|key| key.kind).collect();
    assert!(kinds.contains(&Kind::FlowTable) && kinds.contains(&Kind::Mkey));
    let fresh = crate::resources::Resources::after_reset(&hca.config, id);
    let mut random = fastrand::Rng::with_seed(5);
    for (key, bytes) in &records {
        for _ in 0..200 {
            let mut bytes = bytes.clone();
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random.u8(..)),
            }
            let mut resources = hca.resources(id);
            if resources
                .load(&hca.config, &mut fresh.clone(), id, *key, Some(&bytes))
                .is_err()
            {
                continue;
            }
            let mut moving = Moving::new();
            let Machine { hca, memory, .. } = &mut moving.nic.machine;
            hca.load_resources(memory, id, resources);
            hca.resumed(memory, id);
            moving.nic.post(1);
            moving.nic.ring();
            moving.nic.arrive(&tcp4(b"hello"));
        }
    }
}

/// Commands that are under way, rung and written to slots while the VF is suspended.
fn suspended_with_commands() -> Moving {
    let mut moving = Moving::new();
    let pd = command(ifc::ALLOC_PD, 0, 16);
    moving.nic.machine.hca.config.command_ns = 1000;
    moving.nic.machine.submit(3, &pd, 16);
    moving.nic.machine.ring(1 << 3);
    moving.nic.machine.hca.config.command_ns = 0;
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 0, FROM));
    moving.nic.machine.submit(4, &pd, 16);
    moving.nic.machine.ring(1 << 4);
    moving.as_pf(|machine, _| machine.about(ifc::SUSPEND_VHCA, 1, FROM));
    moving
}

fn pass(moving: &mut Moving, now: u64) {
    let Machine { hca, memory, .. } = &mut moving.nic.machine;
    memory.now = now;
    hca.timer(memory);
}

#[test]
fn commands_of_each_step_end_once() {
    for elsewhere in [false, true] {
        let mut moving = suspended_with_commands();
        let on = if elsewhere { TO } else { FROM };
        let pds = moving.nic.machine.hca.functions[1].objects.pds.len();
        if elsewhere {
            let size = moving.save(&[]);
            moving.as_pf(|machine, _| machine.stop(TO));
            assert_eq!(moving.load(size), 0);
        }
        pass(&mut moving, 5000);
        assert_eq!(moving.nic.machine.slot(3)[63], 1);
        assert_eq!(moving.nic.machine.slot(4)[63], 1);
        moving.as_pf(|machine, _| machine.resume(on));
        for now in [5001, 7000, 9000] {
            pass(&mut moving, now);
        }
        assert_eq!(moving.nic.machine.slot(3)[63], 0);
        assert_eq!(moving.nic.machine.slot(4)[63], 0);
        let functions = &moving.nic.machine.hca.functions;
        assert_eq!(functions[usize::from(on)].objects.pds.len(), pds + 2);
        let stays = functions[usize::from(FROM)].objects.pds.len();
        assert_eq!(stays, if elsewhere { pds } else { pds + 2 });
        assert_eq!(moving.nic.violations(), 0);
    }
}

#[test]
fn a_reset_or_the_pf_ends_a_suspension() {
    for disabled in [false, true] {
        let mut moving = suspended_with_commands();
        let id = FunctionId(FROM);
        if disabled {
            for opcode in [ifc::DISABLE_HCA, ifc::ENABLE_HCA] {
                let mut enable = command(opcode, 0, 16);
                ifc::FUNCTION_ID.set(&mut enable, FROM.into());
                moving.as_pf(|machine, _| send(machine, &enable));
            }
        } else {
            moving.nic.machine.hca.reset(id);
        }
        moving.nic.machine.memory.interrupts.clear();
        assert!(moving.records(FROM).is_empty());
        assert!(!moving.nic.machine.hca.is_suspended(id));
        // What it had sent is not answered, and a RESUME that comes too late is no violation.
        let late = moving.as_pf(|machine, _| machine.about(ifc::RESUME_VHCA, 0, FROM));
        assert_eq!(late, Status::BadResState as u8);
        pass(&mut moving, 5000);
        assert_eq!(moving.nic.machine.slot(3)[63], 1);
        assert_eq!(moving.nic.machine.slot(4)[63], 1);
        let interrupts = &moving.nic.machine.memory.interrupts;
        assert!(!interrupts.iter().any(|(function, _)| *function == id));
        moving.as_pf(|machine, _| machine.stop(FROM));
        moving.as_pf(|machine, _| machine.resume(FROM));
        assert_eq!(moving.nic.violations(), 0);
    }
}

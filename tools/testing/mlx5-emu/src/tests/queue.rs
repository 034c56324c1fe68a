// SPDX-License-Identifier: GPL-2.0

//! Initialization segment, command queue, event queues.

use super::driver::{
    command,
    Machine,
    DATA, //
};
use crate::{
    config::Config,
    host::FunctionId,
    ifc::{
        self,
        Delivery,
        Status, //
    },
    pages, //
};

#[test]
fn the_initialization_segment_says_what_mlx5_core_looks_for() {
    let mut machine = Machine::new(Config::default());
    assert_eq!(machine.read_register(0x4) >> 16, 5);
    assert_eq!(machine.read_register(0x14) & 0xff, 0x56);
    assert_eq!(machine.read_register(0x1fc) >> 31, 0);
    let before = machine.read_register(0x1010);
    machine.memory.now += 2_000_000_000;
    assert_ne!(machine.read_register(0x1010), before);
}

#[test]
fn long_output_goes_through_mailboxes() {
    let mut machine = Machine::new(Config::default());
    let reply = machine.send(&command(ifc::QUERY_HCA_CAP, 1, 16), 0x1010);
    assert_eq!(reply.status(), 0);
    // num_ports of the general capabilities, beyond the first mailbox's start.
    assert_eq!(reply.output[0x10 + 0x37], 1);
}

#[test]
fn long_input_comes_through_mailboxes() {
    let mut machine = Machine::with_vfs();
    let pages: Vec<u64> = (0..500).map(|i| DATA + i % 100 * 4096).collect();
    assert!(machine.mkey(12, &pages, 500 * 4096).is_ok());
}

#[test]
fn a_broken_chain_is_told_apart() {
    let input = command(ifc::CREATE_MKEY, 0, 2000);
    type Break = fn(&mut Machine);
    let breaks: [(Break, Delivery); 4] = [
        (|m| *m.in_mailbox(1, 573) ^= 1, Delivery::Token),
        (|m| *m.in_mailbox(1, 571) ^= 1, Delivery::BlockNumber),
        (|m| m.slot(0)[15] |= 8, Delivery::InAlign),
        // The next mailbox is where no memory is.
        (|m| *m.in_mailbox(0, 560) = 0x7f, Delivery::Descriptor),
    ];
    for (break_it, delivery) in breaks {
        let mut machine = Machine::new(Config::default());
        machine.submit(0, &input, 16);
        break_it(&mut machine);
        machine.ring(1);
        assert_eq!(
            machine.reply(0, 16).delivery,
            delivery as u8,
            "{delivery:?}"
        );
        assert_eq!(machine.hca.violations, 1);
    }
}

#[test]
fn lengths_are_bounded() {
    for (at, delivery) in [(4, Delivery::InLength), (56, Delivery::OutLength)] {
        for len in [0u32, 7, 1 << 30, u32::MAX] {
            let mut machine = Machine::new(Config::default());
            machine.submit(0, &command(ifc::ALLOC_PD, 0, 16), 16);
            machine.slot(0)[at..at + 4].copy_from_slice(&len.to_be_bytes());
            machine.ring(1);
            assert_eq!(machine.reply(0, 16).delivery, delivery as u8);
        }
    }
}

#[test]
fn a_slot_that_the_driver_owns_is_not_run() {
    let mut machine = Machine::new(Config::default());
    machine.submit(3, &command(ifc::ALLOC_PD, 0, 16), 16);
    machine.slot(3)[63] = 0;
    machine.ring(1 << 3);
    assert_eq!(machine.hca.violations, 1);
    assert!(machine.memory.commands.is_empty());
}

#[test]
fn a_signature_is_checked_where_there_is_one() {
    for (good, delivery) in [(true, Delivery::Ok), (false, Delivery::Signature)] {
        let mut machine = Machine::new(Config::default());
        machine.submit(0, &command(ifc::ALLOC_PD, 0, 16), 16);
        let sum = machine.slot(0).iter().fold(0, |sum, byte| sum ^ byte);
        let signature = !sum;
        machine.slot(0)[61] = if good { signature } else { signature ^ 0x55 };
        machine.ring(1);
        assert_eq!(machine.reply(0, 16).delivery, delivery as u8);
    }
}

#[test]
fn commands_take_their_time() {
    let mut machine = Machine::new(Config {
        command_ns: 1000,
        ..Config::default()
    });
    machine.submit(0, &command(ifc::ALLOC_PD, 0, 16), 16);
    machine.ring(1);
    assert_eq!(machine.slot(0)[63], 1, "ended at once");
    assert_eq!(machine.memory.wake, Some(1000));
    machine.memory.now = 1000;
    machine.hca.timer(&mut machine.memory);
    assert_eq!(machine.slot(0)[63], 0);
    assert_eq!(machine.memory.commands[0].duration, 1000);
}

#[test]
fn recorded_times_are_those_of_an_adapter() {
    let mut hca = Machine::new(Config::default()).hca;
    let init = command(ifc::INIT_HCA, 0, 16);
    let eq = command(ifc::CREATE_EQ, 0, ifc::EQ_PAS + 8);
    let mut pages = command(ifc::MANAGE_PAGES, 1, 16);
    ifc::NUM_PAGES.set(&mut pages, 12_868);
    let all = [&init, &eq, &pages];
    assert_eq!(all.map(|input| hca.duration(input)), [0; 3]);
    hca.config.recorded_times = true;
    assert_eq!(
        all.map(|input| hca.duration(input)),
        [189_000_000, 150_000, 25_886_000]
    );
    // Other times are added.
    hca.config.command_ns = 7;
    assert_eq!(hca.duration(&eq), 150_007);
}

fn create_eq(machine: &mut Machine) -> (u8, u32) {
    let uar = machine.send(&command(ifc::ALLOC_UAR, 0, 16), 16);
    let uar = ifc::OBJECT.get(&uar.output);
    let mut input = command(ifc::CREATE_EQ, 0, ifc::EQ_PAS + 8);
    ifc::EQ_LOG_SIZE.set(&mut input, 2);
    ifc::EQ_UAR.set(&mut input, uar);
    ifc::EQ_INTR.set(&mut input, 5);
    ifc::EQ_EVENTS.set(
        &mut input,
        (1 << ifc::event::CMD) | (1 << ifc::event::PAGE_REQUEST),
    );
    input[ifc::EQ_PAS..].copy_from_slice(&DATA.to_be_bytes());
    let reply = machine.send(&input, 16);
    assert_eq!(reply.status(), 0);
    (ifc::EQ_NUMBER.get(&reply.output) as u8, uar as u32)
}

#[test]
fn the_end_of_a_command_is_an_event() {
    let mut machine = Machine::new(Config::default());
    let (eq, uar) = create_eq(&mut machine);
    let eqe =
        |machine: &Machine, i: usize| machine.memory.bytes[DATA as usize + i * 64..][..64].to_vec();
    // Not of the command that made the queue.
    assert_eq!(eqe(&machine, 0)[1], 0);
    let arm = u64::from(uar) * 4096 + 0x40;
    machine.write_register(arm, u32::from(eq) << 24);
    machine.submit(4, &command(ifc::ALLOC_PD, 0, 16), 16);
    machine.ring(1 << 4);
    assert_eq!(eqe(&machine, 0)[1], ifc::event::CMD);
    assert_eq!(eqe(&machine, 0)[32..36], (1u32 << 4).to_be_bytes());
    assert_eq!(machine.memory.interrupts, [(FunctionId::PF, 5)]);
    // Once, until it is armed again; and then at once for what was missed.
    machine.send(&command(ifc::ALLOC_PD, 0, 16), 16);
    assert_eq!(machine.memory.interrupts.len(), 1);
    machine.write_register(arm, (u32::from(eq) << 24) | 1);
    assert_eq!(machine.memory.interrupts.len(), 2);
    // The owner bit changes with each round.
    for round in 0..3 {
        let owner = eqe(&machine, 0)[63];
        assert_eq!(owner, round % 2);
        for i in 0..4 {
            machine.write_register(arm, (u32::from(eq) << 24) | (u32::from(round) * 4 + i + 2));
            machine.send(&command(ifc::ALLOC_PD, 0, 16), 16);
        }
    }
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn an_overrun_and_a_wrong_doorbell_are_violations() {
    let mut machine = Machine::new(Config::default());
    let (eq, uar) = create_eq(&mut machine);
    for _ in 0..4 {
        machine.send(&command(ifc::ALLOC_PD, 0, 16), 16);
    }
    assert_eq!(machine.hca.violations, 0);
    machine.send(&command(ifc::ALLOC_PD, 0, 16), 16);
    assert_eq!(machine.hca.violations, 1);
    machine.write_register(u64::from(uar) * 4096 + 0x40, u32::from(eq + 1) << 24);
    machine.write_register(u64::from(uar + 1) * 4096 + 0x40, u32::from(eq) << 24);
    assert_eq!(machine.hca.violations, 3);
}

#[test]
fn pages_are_lent_and_come_back() {
    let mut machine = Machine::new(Config {
        init_pages: 32,
        ..Config::default()
    });
    assert_eq!(
        machine.send(&command(ifc::ENABLE_HCA, 0, 16), 16).status(),
        0
    );
    let want = u64::from(pages::BOOT + 32);
    assert_eq!(
        machine.send(&command(ifc::INIT_HCA, 0, 16), 16).status(),
        Status::BadSysState as u8
    );
    let missing = machine.send(&command(ifc::QUERY_PAGES, 2, 16), 16);
    assert_eq!(ifc::NUM_PAGES.get(&missing.output), want);
    let given: Vec<u64> = (0..want).map(|i| DATA + i * 4096).collect();
    let mut give = command(ifc::MANAGE_PAGES, 1, 16);
    ifc::NUM_PAGES.set(&mut give, want);
    for page in &given {
        give.extend(page.to_be_bytes());
    }
    assert_eq!(machine.send(&give, 16).status(), 0);
    // The same page twice.
    assert_eq!(machine.send(&give, 16).status(), Status::BadParam as u8);
    assert_eq!(machine.send(&command(ifc::INIT_HCA, 0, 16), 16).status(), 0);
    assert_eq!(
        machine
            .send(&command(ifc::TEARDOWN_HCA, 0, 16), 16)
            .status(),
        0
    );
    let mut take = command(ifc::MANAGE_PAGES, 2, 16);
    ifc::NUM_PAGES.set(&mut take, 1000);
    let back = machine.send(&take, 16 + 8 * 100);
    assert_eq!(ifc::OUTPUT_NUM_ENTRIES.get(&back.output), want);
    let back: Vec<u64> = back.output[16..16 + want as usize * 8]
        .chunks(8)
        .map(|pa| u64::from_be_bytes(pa.try_into().unwrap()))
        .collect();
    assert_eq!(back, given);
}

#[test]
fn pages_for_a_vf_are_asked_for_and_given_back() {
    let mut machine = Machine::new(Config::default());
    let (eq, uar) = create_eq(&mut machine);
    let request = |machine: &Machine, i: usize| {
        let eqe = &machine.memory.bytes[DATA as usize + i * 64..][..64];
        assert_eq!(eqe[1], ifc::event::PAGE_REQUEST);
        let function = u16::from_be_bytes([eqe[34], eqe[35]]);
        (
            function,
            i32::from_be_bytes(eqe[36..40].try_into().unwrap()),
        )
    };
    let mut enable = command(ifc::ENABLE_HCA, 0, 16);
    ifc::FUNCTION_ID.set(&mut enable, 3);
    machine.send(&enable, 16);
    assert_eq!(request(&machine, 0), (3, pages::VF as i32));

    let mut give = command(ifc::MANAGE_PAGES, 1, 16);
    ifc::FUNCTION_ID.set(&mut give, 3);
    ifc::NUM_PAGES.set(&mut give, pages::VF.into());
    for i in 0..u64::from(pages::VF) {
        give.extend((DATA + (i + 1) * 4096).to_be_bytes());
    }
    assert_eq!(machine.send(&give, 16).status(), 0);
    // What was lent survives a reset of the VF.
    machine.hca.reset(FunctionId(3));
    machine.write_register(u64::from(uar) * 4096 + 0x48, (u32::from(eq) << 24) | 3);
    let mut disable = command(ifc::DISABLE_HCA, 0, 16);
    ifc::FUNCTION_ID.set(&mut disable, 3);
    machine.send(&disable, 16);
    assert_eq!(request(&machine, 3), (3, -(pages::VF as i32)));
    assert_eq!(machine.hca.violations, 0);
}

#[test]
fn the_initialization_segment_says_how_long_to_wait() {
    for (property, exec, init) in [(0, 0, 0), (2500, 2500, 2000), (u32::MAX, 0xf_ffff, 2000)] {
        let mut machine = Machine::new(Config {
            command_timeout_ms: property,
            ..Config::default()
        });
        machine.hca.reset(FunctionId::PF);
        let seen = [0xff8, 0xffc].map(|at| machine.read_register(at));
        assert_eq!(seen, [exec, init]);
    }
}

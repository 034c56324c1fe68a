// SPDX-License-Identifier: GPL-2.0

//! How much of the host's memory a function can take.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    nic::{
        queue,
        with_page,
        Nic, //
    },
    nic_state::{
        Moving,
        FROM,
        TO, //
    },
    tracker::{
        input,
        send, //
    },
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        ethernet::wq,
        Status, //
    },
    objects::{
        Objects,
        MAX_OBJECTS,
        MAX_PAGES, //
    },
    pool::Listed,
};

const LIM: u8 = Status::Lim as u8;

fn pages(count: usize) -> Vec<u64> {
    (0..count as u64).map(|i| i * 4096).collect()
}

fn mkey(machine: &mut Machine, count: usize) -> u32 {
    let len = count as u64 * 4096;
    machine.mkey(12, &pages(count), len).unwrap()
}

/// Gives a function copies of an mkey, until there is no room for one more.
fn fill(objects: &mut Objects, key: u32) {
    let mkey = objects.mkey(key).unwrap().clone();
    for index in 0x1000.. {
        if MAX_PAGES - objects.pages() < mkey.pages() {
            break;
        }
        objects.mkeys.insert(index, mkey.clone());
    }
}

#[test]
fn lists_have_no_more_pages_than_there_can_be() {
    let id = FunctionId(FROM);
    let mut nic = Nic::on(id);
    let eq = input(ifc::CREATE_EQ, ifc::EQ_PAS, &[(ifc::EQ_UAR, nic.uar)]);
    let eqs = &nic.machine.hca.objects(id).eqs;
    let eqn = u64::from(*eqs.keys().next().unwrap());
    let fields = [(ifc::CQC_UAR, nic.uar), (ifc::CQC_EQN, eqn)];
    let cq = input(ifc::CREATE_CQ, ifc::QUEUE_PAS, &fields);
    let fields = [
        (ifc::QPC_NO_SQ, 1),
        (ifc::QPC_PD, nic.pd),
        (ifc::QPC_CQN_RCV, nic.cqn),
    ];
    let qp = input(ifc::CREATE_QP, ifc::QUEUE_PAS, &fields);
    let fields = [(wq::CQN, nic.cqn), (wq::PD, nic.pd), (wq::UAR, nic.uar)];
    let of_ring = |opcode| queue(opcode, 6, DATA, DATA, &fields);
    let page = mkey(&mut nic.machine, 1);
    let large = mkey(&mut nic.machine, 1 << 17);
    fill(nic.machine.hca.objects(id), large);
    let left = MAX_PAGES - nic.machine.hca.objects(id).pages();
    mkey(&mut nic.machine, left);
    nic.write(DATA + 63, &[0xf0]);
    let creates = [
        (with_page(eq, DATA), ifc::DESTROY_EQ),
        (with_page(cq, DATA), ifc::DESTROY_CQ),
        (with_page(qp, DATA), ifc::DESTROY_QP),
        (of_ring(ifc::CREATE_SQ), ifc::DESTROY_SQ),
        (of_ring(ifc::CREATE_RQ), ifc::DESTROY_RQ),
    ];
    let destroy = |opcode, number| {
        let mut destroy = command(opcode, 0, 16);
        ifc::OBJECT.set(&mut destroy, number);
        destroy
    };
    for (create, opposite) in &creates {
        assert_eq!(nic.status(create), LIM, "not {opposite:x}");
    }
    assert_eq!(nic.machine.mkey(12, &[DATA], 4096), Err(LIM));
    // No capability says how many there can be.
    assert_eq!(nic.violations(), 0);

    // Without that one, there is room for any of them.
    let page = destroy(ifc::DESTROY_MKEY, (page >> 8).into());
    assert_eq!(nic.status(&page), 0);
    for (create, opposite) in &creates {
        let created = ifc::OBJECT.get(&send(&mut nic.machine, create));
        assert_eq!(nic.status(create), LIM, "not {opposite:x}");
        assert_eq!(nic.status(&destroy(*opposite, created)), 0);
    }
    // Another function has a limit of its own.
    nic.machine.drive(FunctionId::PF);
    nic.machine.data_mkey();
    assert_eq!(nic.violations(), 0);
}

#[test]
fn numbers_have_an_end() {
    let mut nic = Nic::on(FunctionId(FROM));
    let pds = &mut nic.machine.hca.objects(FunctionId(FROM)).pds;
    while pds.len() < MAX_OBJECTS {
        pds.alloc(pds.len() as u32 + 1..u32::MAX).unwrap();
    }
    assert_eq!(nic.status(&command(ifc::ALLOC_PD, 0, 16)), LIM);
}

/// More of a kind than commands can make do not come with an image, either.
#[test]
fn an_image_with_more_objects_is_refused() {
    let mut moving = Moving::new();
    moving.as_pf(|machine, _| machine.stop(TO));
    let size = moving.save(&[ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    mkey(&mut moving.nic.machine, 1);
    let size = moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
    let objects = moving.nic.machine.hca.objects(FunctionId(TO));
    let before = objects.mkeys.clone();
    let (_, mkey) = before.last_key_value().unwrap();
    let left = MAX_OBJECTS - before.len();
    let more = (0x1000..).take(left);
    for index in more {
        objects.mkeys.insert(index, mkey.clone());
    }
    assert_eq!(moving.load(size), Status::BadParam as u8);
    let objects = moving.nic.machine.hca.objects(FunctionId(TO));
    assert_eq!(objects.mkeys.len(), MAX_OBJECTS);
    objects.mkeys = before;
    assert_eq!(moving.load(size), 0);
}

#[test]
fn an_image_with_more_pages_is_refused() {
    let mut moving = Moving::new();
    let pages = 1 << 14;
    let key = mkey(&mut moving.nic.machine, pages);
    moving.as_pf(|machine, _| machine.stop(TO));
    let size = moving.save(&[ifc::SET_TRACK]);
    assert_eq!(moving.load(size), 0);
    // It has one more than is there already.
    mkey(&mut moving.nic.machine, pages);
    let size = moving.save(&[ifc::INCREMENTAL, ifc::SET_TRACK]);
    let objects = moving.nic.machine.hca.objects(FunctionId(TO));
    let before = objects.mkeys.clone();
    fill(objects, key);
    let full = objects.pages();
    assert_eq!(moving.load(size), Status::BadParam as u8);
    let objects = moving.nic.machine.hca.objects(FunctionId(TO));
    assert_eq!(objects.pages(), full);
    objects.mkeys = before;
    assert_eq!(moving.load(size), 0);
    assert_eq!(moving.nic.violations(), 0);
}

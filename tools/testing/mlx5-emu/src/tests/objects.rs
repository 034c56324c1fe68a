// SPDX-License-Identifier: GPL-2.0

//! mkeys, and objects of functions.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    migration::BAD_STATE,
    tracker::{
        input,
        send, //
    },
};
use crate::{
    cq,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
};

pub(super) const LEN: u64 = 512 << 10;

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

/// As rdma-core registers memory that does not begin with a page.
#[test]
fn an_mkey_may_begin_within_a_page() {
    let mut machine = Machine::with_vfs();
    machine.data_mkey();
    let start = 0x1234_5678_9800_u64;
    let mut create = command(ifc::CREATE_MKEY, 0, ifc::MKEY_MTT + 16);
    for (field, value) in [
        (ifc::MKEY_PG_ACCESS, 1),
        (ifc::MKC_ACCESS_MODE, ifc::ACCESS_MODE_MTT),
        (ifc::MKC_LR, 1),
        (ifc::MKC_LW, 1),
        (ifc::MKC_PD, 1),
        (ifc::MKC_START, start),
        (ifc::MKC_LEN, 0x1000),
        (ifc::MKC_OCTWORDS, 1),
        (ifc::MKC_LOG_PAGE_SIZE, 12),
        (ifc::MKEY_ACTUAL_OCTWORDS, 1),
    ] {
        field.set(&mut create, value);
    }
    let pages = [DATA + 0x3000, DATA + 0x1000];
    let mut send = |flags: u64| {
        for (page, mtt) in pages.iter().zip(create[ifc::MKEY_MTT..].chunks_mut(8)) {
            mtt.copy_from_slice(&(page | flags).to_be_bytes());
        }
        let reply = machine.send(&create, 16);
        (reply.status(), ifc::OBJECT.get(&reply.output) as u32)
    };
    // A page that is not there, and one that is only read.
    for flags in [0, 1] {
        assert_eq!(send(flags).0, Status::BadParam as u8);
    }
    let (status, index) = send(3);
    assert_eq!(status, 0);
    let Machine { hca, memory, .. } = &mut machine;
    let mkey = hca.functions[0].objects.mkey(index << 8).unwrap().clone();
    let data: Vec<u8> = (0..0x1000).map(|at| (at >> 4) as u8).collect();
    mkey.write(memory, start, &data).unwrap();
    assert_eq!(mkey.read(memory, start, 0x1000).unwrap(), data);
    assert!(mkey.check(start, 0x1001).is_err());
    let at = |addr: u64| &memory.bytes[addr as usize..][..0x800];
    assert_eq!(at(pages[0] + 0x800), &data[..0x800]);
    assert_eq!(at(pages[1]), &data[0x800..]);
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
fn qps_are_numbered_below_what_the_driver_chose() {
    let mut machine = Machine::with_vfs();
    machine.hca.functions[0].chosen.log_max_qp = 7;
    let pd = machine.send(&command(ifc::ALLOC_PD, 0, 16), 16);
    let mut create = command(ifc::CREATE_QP, 0, ifc::QUEUE_PAS);
    for (field, value) in [
        (ifc::QPC_NO_SQ, 1),
        (ifc::QPC_RQ_TYPE, 3),
        (ifc::QPC_PD, ifc::OBJECT.get(&pd.output)),
    ] {
        field.set(&mut create, value);
    }
    let replies = std::iter::repeat_with(|| machine.send(&create, 16));
    let created: Vec<u64> = replies
        .take_while(|reply| reply.status() != Status::Lim as u8)
        .map(|reply| ifc::OBJECT.get(&reply.output))
        .collect();
    assert_eq!(created.last(), Some(&0x7f));
}

/// An EQ, and a CQ of a size (a shift) whose pages all are one. Returns the status.
fn create_cq(machine: &mut Machine, log_size: u64) -> u8 {
    let uar = ifc::OBJECT.get(&send(machine, &command(ifc::ALLOC_UAR, 0, 16)));
    let mut eq = input(ifc::CREATE_EQ, ifc::EQ_PAS, &[(ifc::EQ_UAR, uar)]);
    eq.extend(DATA.to_be_bytes());
    let eq = ifc::EQ_NUMBER.get(&send(machine, &eq));
    let fields = [
        (ifc::CQC_LOG_SIZE, log_size),
        (ifc::CQC_UAR, uar),
        (ifc::CQC_EQN, eq),
    ];
    let mut cq = input(ifc::CREATE_CQ, ifc::QUEUE_PAS, &fields);
    let pages = (64usize << log_size).div_ceil(4096);
    cq.extend(DATA.to_be_bytes().repeat(pages));
    machine.send(&cq, 16).status()
}

#[test]
fn entries_of_a_cq_are_read_by_the_page() {
    let mut machine = Machine::with_vfs();
    let set = |machine: &mut Machine, entry: u64, op_own| {
        machine.memory.bytes[(DATA + entry * 64 + 63) as usize] = op_own;
    };
    (0..64).for_each(|entry| set(&mut machine, entry, 0xf0));
    let before = machine.memory.reads;
    assert_eq!(create_cq(&mut machine, cq::MAX_LOG_SIZE), 0);
    let pages = 64 << cq::MAX_LOG_SIZE >> 12;
    // The list of pages is read as well, in mailboxes of 64.
    let most = pages + pages / 64 * 4;
    let reads = machine.memory.reads - before;
    assert!((pages..most).contains(&reads), "{reads}");
    // Each entry counts, if they are less than a page, too.
    set(&mut machine, 2, 0x00);
    assert_eq!(create_cq(&mut machine, 1), 0);
    let refused = Status::BadParam as u8;
    assert_eq!(create_cq(&mut machine, 2), refused);
    set(&mut machine, 2, 0xf0);
    set(&mut machine, 63, 0xe0);
    assert_eq!(create_cq(&mut machine, 5), 0);
    assert_eq!(create_cq(&mut machine, 6), refused);
    assert_eq!(create_cq(&mut machine, 8), refused);
}

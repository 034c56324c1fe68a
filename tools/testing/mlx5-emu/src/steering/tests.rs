// SPDX-License-Identifier: GPL-2.0

//! Tables as commands make them.

use super::*;
use crate::{
    ifc::Field,
    packet::{
        tests::{
            tcp4,
            udp6, //
        },
        Packet, //
    },
    resources::Saved, //
};

fn input(len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut input = vec![0; len];
    for (field, value) in fields {
        field.set(&mut input, *value);
    }
    input
}

fn table(level: u64, miss: Option<u32>) -> Vec<u8> {
    let mut input = vec![0; 0x40];
    let context = &mut input[flow::TABLE_CONTEXT..];
    flow::LEVEL.set(context, level);
    flow::LOG_SIZE.set(context, 4);
    flow::MISS_ACTION.set(context, miss.is_some().into());
    flow::MISS_ID.set(context, miss.unwrap_or(0).into());
    input
}

fn group(table: u32, first: u64, last: u64, masked: &[Field]) -> Vec<u8> {
    let fields = [
        (flow::TABLE, table.into()),
        (flow::GROUP_START, first),
        (flow::GROUP_END, last),
        (flow::CRITERIA, u64::from(!masked.is_empty())),
    ];
    let mut input = input(0x400, &fields);
    for field in masked {
        field.set(&mut input[flow::MASK..], u64::MAX);
    }
    input
}

fn entry(
    table: u32,
    group: u32,
    index: u64,
    values: &[(Field, u64)],
    to: &[Destination],
) -> Vec<u8> {
    let fields = [(flow::TABLE, table.into()), (flow::INDEX, index)];
    let mut input = input(flow::CONTEXT + flow::DESTINATION, &fields);
    let context = &mut input[flow::CONTEXT..];
    for (field, value) in [
        (flow::CONTEXT_GROUP, group.into()),
        (flow::TAG, 7),
        (
            flow::ACTION,
            if to.is_empty() {
                kind::DROP
            } else {
                kind::FORWARD
            },
        ),
        (flow::DESTINATIONS, to.len() as u64),
    ] {
        field.set(context, value);
    }
    for (field, value) in values {
        field.set(&mut context[flow::VALUE..], *value);
    }
    for destination in to {
        let (kind, id) = match destination {
            Destination::Table(id) => (1u32, id),
            Destination::Tir(id) => (2, id),
            Destination::Vport(_) => panic!("a NIC has no ports"),
        };
        input.extend_from_slice(&((kind << 24) | id).to_be_bytes());
        input.extend_from_slice(&[0; 4]);
    }
    input
}

fn lookup(tables: &FlowTables, frame: &[u8]) -> Vec<u32> {
    let set = Packet::parse(frame).unwrap().match_set(frame);
    let hits = tables.lookup(&set);
    assert!(hits.iter().all(|hit| hit.tag == 7));
    hits.iter().map(|hit| hit.tir).collect()
}

/// By address, and then by protocol.
fn two() -> (FlowTables, u32, u32) {
    let mut tables = FlowTables::default();
    let tir = |_| true;
    let second = tables.create_table(&table(5, None)).unwrap();
    let first = tables.create_table(&table(4, Some(second))).unwrap();
    let root = input(0x40, &[(flow::TABLE, first.into())]);
    tables.set_root(0, &root).unwrap();
    let protocols = tables
        .create_group(&group(second, 0, 7, &[headers::IP_PROTOCOL]))
        .unwrap();
    let all = tables.create_group(&group(second, 8, 8, &[])).unwrap();
    for (group, index, values, to) in [
        (protocols, 1, &[(headers::IP_PROTOCOL, 6)][..], 1),
        (all, 8, &[][..], 2),
    ] {
        let to = [Destination::Tir(to)];
        let entry = entry(second, group, index, values, &to);
        tables.set_entry(0, &entry, tir).unwrap();
    }
    (tables, first, second)
}

#[test]
fn the_first_entry_that_matches_counts() {
    let (mut tables, first, second) = two();
    let tir = |_| true;
    assert_eq!(lookup(&tables, &tcp4(b"")), [1], "missed the first");
    assert_eq!(lookup(&tables, &udp6(b"")), [2], "matches anything");
    let macs = tables
        .create_group(&group(first, 3, 4, &[headers::DMAC]))
        .unwrap();
    let other = [(headers::DMAC, 0x0200_0000_0003)];
    let here = [(headers::DMAC, 0x0200_0000_0002)];
    let to = [Destination::Table(second), Destination::Tir(9)];
    tables
        .set_entry(0, &entry(first, macs, 3, &other, &[]), tir)
        .unwrap();
    assert_eq!(lookup(&tables, &tcp4(b"")), [1]);
    tables
        .set_entry(0, &entry(first, macs, 4, &here, &to), tir)
        .unwrap();
    assert_eq!(lookup(&tables, &tcp4(b"")), [9, 1]);
    // It is changed to drop.
    tables
        .set_entry(1, &entry(first, macs, 4, &here, &[]), tir)
        .unwrap();
    assert!(lookup(&tables, &tcp4(b"")).is_empty());
    let delete = input(0x40, &[(flow::TABLE, first.into()), (flow::INDEX, 4)]);
    tables.delete_entry(&delete).unwrap();
    assert_eq!(tables.delete_entry(&delete), Err(Status::BadRes));
    assert_eq!(lookup(&tables, &tcp4(b"")), [1]);
}

/// Gives an entry a counter.
fn counted(mut entry: Vec<u8>, action: u64, counter: u32) -> Vec<u8> {
    let context = &mut entry[flow::CONTEXT..];
    flow::ACTION.set(context, action | kind::COUNT);
    flow::COUNTERS.set(context, 1);
    entry.extend_from_slice(&counter.to_be_bytes());
    entry.extend_from_slice(&[0; 4]);
    entry
}

#[test]
fn each_entry_that_matches_counts() {
    let (mut tables, first, second) = two();
    let mut counters = FlowCounters::default();
    let [of_first, of_second] = [1, 2].map(|_| counters.alloc().unwrap());
    let all = tables.create_group(&group(first, 0, 3, &[])).unwrap();
    let to = [Destination::Table(second)];
    let forward = counted(entry(first, all, 0, &[], &to), kind::FORWARD, of_first);
    let exists = |named| matches!(named, Named::Counter(1..=2) | Named::Tir(_));
    tables.set_entry(0, &forward, exists).unwrap();
    // Of TCP, which then goes nowhere.
    let tcp = [(headers::IP_PROTOCOL, 6)];
    let only = counted(entry(second, 1, 1, &tcp, &[]), 0, of_second);
    tables.set_entry(1, &only, exists).unwrap();
    assert!(tables.uses_counter(of_first) && tables.uses_counter(of_second));
    let mut count = |tables: &FlowTables, frame: &[u8]| {
        find(tables, frame).count(&mut counters, frame.len());
        [of_first, of_second].map(|counter| counters.query(counter, false).unwrap().frames)
    };
    assert_eq!(count(&tables, &tcp4(b"")), [1, 1]);
    assert!(lookup(&tables, &tcp4(b"")).is_empty());
    assert_eq!(count(&tables, &udp6(b"")), [2, 1]);
    assert_eq!(lookup(&tables, &udp6(b"")), [2]);
    let other = counted(entry(second, 1, 1, &tcp, &[]), 0, 3);
    assert_eq!(tables.set_entry(1, &other, exists), Err(Status::BadRes));
    assert!(tables.is_whole(exists) && !tables.is_whole(|named| named != Named::Counter(2)));
    // One that is gone counts no more.
    let delete = input(0x40, &[(flow::TABLE, second.into()), (flow::INDEX, 1)]);
    tables.delete_entry(&delete).unwrap();
    assert!(!tables.uses_counter(of_second));
    assert_eq!(count(&tables, &tcp4(b"")), [3, 1]);
}

#[test]
fn what_is_in_use_stays() {
    let (mut tables, first, second) = two();
    let destroy = |table: u32| input(0x40, &[(flow::TABLE, table.into())]);
    assert!(tables.uses_tir(1) && !tables.uses_tir(3));
    let busy = Err(Status::BadResState);
    assert_eq!(tables.destroy_table(&destroy(second)), busy);
    let group = input(0x40, &[(flow::TABLE, second.into()), (flow::GROUP, 1)]);
    assert_eq!(tables.destroy_group(&group), busy);
    let miss = input(
        0x40,
        &[(flow::TABLE, first.into()), (flow::TABLE_MODIFY, 1)],
    );
    tables.modify_table(&miss).unwrap();
    assert!(lookup(&tables, &tcp4(b"")).is_empty());
    tables.destroy_table(&destroy(first)).unwrap();
    assert_eq!(tables.root, None);
    assert_eq!(tables.destroy_table(&destroy(first)), Err(Status::BadRes));
    for index in [1, 8] {
        let delete = input(0x40, &[(flow::TABLE, second.into()), (flow::INDEX, index)]);
        tables.delete_entry(&delete).unwrap();
    }
    tables.destroy_group(&group).unwrap();
    assert_eq!(tables.destroy_group(&group), Err(Status::BadRes));
}

#[test]
fn packets_go_up_only() {
    let (mut tables, first, second) = two();
    let bad = Err(Status::BadParam);
    assert_eq!(tables.create_table(&table(5, Some(second))), bad);
    assert_eq!(tables.create_table(&table(6, Some(second))), bad);
    assert_eq!(
        tables.create_table(&table(1, Some(77))),
        Err(Status::BadRes)
    );
    let back = entry(second, 1, 2, &[], &[Destination::Table(first)]);
    assert_eq!(tables.set_entry(0, &back, |_| true), Err(Status::BadParam));
    let itself = entry(second, 1, 2, &[], &[Destination::Table(second)]);
    assert_eq!(
        tables.set_entry(0, &itself, |_| true),
        Err(Status::BadParam)
    );
}

#[test]
fn a_fork_at_each_level_ends() {
    let mut tables = FlowTables::default();
    let mut to = Destination::Tir(1);
    for level in (0..64).rev() {
        let id = tables.create_table(&table(level, None)).unwrap();
        let group = tables.create_group(&group(id, 0, 0, &[])).unwrap();
        let entry = entry(id, group, 0, &[], &[to, to]);
        tables.set_entry(0, &entry, |_| true).unwrap();
        to = Destination::Table(id);
    }
    let Destination::Table(root) = to else {
        panic!("no table");
    };
    let root = input(0x40, &[(flow::TABLE, root.into())]);
    tables.set_root(0, &root).unwrap();
    assert!(lookup(&tables, &tcp4(b"")).len() <= MAX_STEPS * 2);
}

#[test]
fn a_table_is_searched_once() {
    let mut tables = FlowTables::default();
    let mut to = vec![Destination::Tir(1)];
    for level in (0..2).rev() {
        let id = tables.create_table(&table(level, None)).unwrap();
        let group = tables.create_group(&group(id, 0, 0, &[])).unwrap();
        let entry = entry(id, group, 0, &[], &to);
        tables.set_entry(0, &entry, |_| true).unwrap();
        to = vec![Destination::Table(id); 255];
    }
    tables.root = tables.tables.keys().next_back().copied();
    let searches = std::cell::Cell::new(0);
    let key = [0; std::mem::size_of::<Key>()];
    let found = tables.walk(|table| {
        searches.set(searches.get() + 1);
        table.find(&key)
    });
    assert_eq!(searches.get(), 2);
    assert_eq!(found.entries.len(), 256);
    assert_eq!(lookup(&tables, &tcp4(b"")), [1; 255]);
}

/// A table with room for all groups and entries that there can be.
fn large(tables: &mut FlowTables) -> u32 {
    let mut input = table(6, None);
    flow::LOG_SIZE.set(&mut input[flow::TABLE_CONTEXT..], LOG_MAX_ENTRIES + 1);
    tables.create_table(&input).unwrap()
}

fn set_root(tables: &mut FlowTables, table: u32) {
    let root = input(0x40, &[(flow::TABLE, table.into())]);
    tables.set_root(0, &root).unwrap();
}

fn find<'a>(tables: &'a FlowTables, frame: &[u8]) -> Found<'a> {
    let packet = Packet::parse(frame).unwrap();
    tables.find(&packet.key(frame, 0))
}

#[test]
fn groups_have_an_end() {
    let (mut tables, first, _) = two();
    let large = large(&mut tables);
    // In all tables: there are two.
    let mut many = tables.tables[&large].clone();
    let one = Group::parse(Kind::default(), &group(large, 0, 0, &[])).unwrap();
    for first in 0..(1 << LOG_MAX_ENTRIES) - 2 {
        let last = first;
        let mask = one.mask;
        many.add_group(Group { first, last, mask }).unwrap();
    }
    tables.put(large, Some(many));
    assert!(tables.fit(1));
    let another = group(first, 1, 1, &[]);
    assert_eq!(tables.create_group(&another), Err(Status::Lim));
    let mut more = tables.tables[&large].clone();
    let group = input(0x40, &[(flow::TABLE, large.into()), (flow::GROUP, 1)]);
    tables.destroy_group(&group).unwrap();
    assert_eq!(tables.create_group(&another), Ok(1));
    more.groups.remove(&1);
    tables.put(large, Some(more.clone()));
    assert!(tables.fit(1));
    more.groups.insert(1, more.groups[&2].clone());
    tables.put(large, Some(more));
    assert!(!tables.fit(1));
}

#[test]
fn masks_have_an_end() {
    let mut tables = FlowTables::default();
    let large = large(&mut tables);
    let with_mask = |index: u64, mask: u64| {
        let mut group = group(large, index, index, &[headers::SMAC]);
        headers::SMAC.set(&mut group[flow::MASK..], mask);
        group
    };
    let most = MAX_MASKS as u64;
    for mask in 0..most {
        tables.create_group(&with_mask(mask, mask)).unwrap();
    }
    assert!(tables.fit(1));
    let lim = Err(Status::Lim);
    assert_eq!(tables.create_group(&with_mask(most, most)), lim);
    assert!(tables.create_group(&with_mask(most, 7)).is_ok());
    // In all tables.
    let other = tables.create_table(&table(7, None)).unwrap();
    assert_eq!(tables.create_group(&group(other, 0, 0, &[])), lim);
    let group = input(0x40, &[(flow::TABLE, large.into()), (flow::GROUP, 1)]);
    tables.destroy_group(&group).unwrap();
    assert!(tables.create_group(&with_mask(0, most)).is_ok());
    let image = tables.tables[&large].clone();
    tables.put(other, Some(image));
    assert!(!tables.fit(1));
}

#[test]
fn a_packet_is_looked_up_once_for_each_mask() {
    let mut tables = FlowTables::default();
    let large = large(&mut tables);
    set_root(&mut tables, large);
    let last = (1 << 12) - 1;
    let macs = group(large, 0, last, &[headers::DMAC]);
    let macs = tables.create_group(&macs).unwrap();
    let here = 0x0200_0000_0002;
    for index in 0..last {
        let other = [(headers::DMAC, here + 1 + index)];
        let entry = entry(large, macs, index, &other, &[Destination::Tir(1)]);
        tables.set_entry(0, &entry, |_| true).unwrap();
    }
    let found = find(&tables, &tcp4(b""));
    assert_eq!((found.entries.len(), found.looks), (0, 1));
    let all = tables
        .create_group(&group(large, last + 1, last + 1, &[]))
        .unwrap();
    for (group, index) in [(all, last + 1), (macs, last)] {
        let to = [Destination::Tir(index as u32)];
        let entry = entry(large, group, index, &[(headers::DMAC, here)], &to);
        tables.set_entry(0, &entry, |_| true).unwrap();
        assert_eq!(lookup(&tables, &tcp4(b"")), [index as u32]);
    }
    assert_eq!(find(&tables, &tcp4(b"")).looks, 2);
}

/// Its value changes from one that matches to one that does not, and back.
#[test]
fn an_entry_that_was_changed_matches_as_it_is_now() {
    let (mut tables, first, _) = two();
    let macs = tables
        .create_group(&group(first, 0, 3, &[headers::DMAC]))
        .unwrap();
    for (new, mac, expected) in [
        (0, 0x0200_0000_0002, 9),
        (1, 0x0200_0000_0003, 1),
        (1, 0x0200_0000_0002, 9),
    ] {
        let values = [(headers::DMAC, mac)];
        let entry = entry(first, macs, 2, &values, &[Destination::Tir(9)]);
        tables.set_entry(new, &entry, |_| true).unwrap();
        assert_eq!(lookup(&tables, &tcp4(b"")), [expected]);
    }
    // An image has no index.
    let table = tables.tables[&first].clone();
    let image = postcard::to_stdvec(&table).unwrap();
    let mut loaded: Table = postcard::from_bytes(&image).unwrap();
    loaded.arrange();
    tables.put(first, Some(loaded));
    assert_eq!(lookup(&tables, &tcp4(b"")), [9]);
}

type Groups = BTreeMap<u32, Group>;

/// Each is a change to a table that no command makes.
#[test]
fn a_table_of_an_image_is_one_that_commands_make() {
    let (tables, _, second) = two();
    let good = &tables.tables[&second];
    assert!(good.is_sound());
    let is_sound = |change: &dyn Fn(&mut Table)| {
        let mut table = good.clone();
        change(&mut table);
        table.is_sound()
    };
    let of_context =
        |field: Field, value| is_sound(&|table: &mut Table| field.set(&mut table.context, value));
    assert!(of_context(flow::MISS_ACTION, 1));
    for (field, value) in [
        (flow::MISS_ACTION, 2),
        (flow::TABLE_FLAGS, 1),
        (flow::LOG_SIZE, LOG_MAX_SIZE + 1),
        // Entry 8 is not within it.
        (flow::LOG_SIZE, 3),
    ] {
        assert!(!of_context(field, value), "{field:?}");
    }
    let of_groups =
        |change: &dyn Fn(&mut Groups)| is_sound(&|table: &mut Table| change(&mut table.groups));
    // 1 has the indices from 0 to 7, 2 has 8.
    assert!(of_groups(&|groups| groups.get_mut(&2).unwrap().last = 9));
    let bad: [&dyn Fn(&mut Groups); 7] = [
        &|groups| groups.get_mut(&1).unwrap().last = 8,
        &|groups| groups.get_mut(&2).unwrap().first = 7,
        &|groups| groups.get_mut(&1).unwrap().last = 0,
        &|groups| groups.get_mut(&2).unwrap().last = 16,
        &|groups| groups.get_mut(&2).unwrap().first = 9,
        &|groups| groups.get_mut(&1).unwrap().mask[headers::LEN] = 1,
        &|groups| {
            let mut group = groups[&1].clone();
            (group.first, group.last) = (9, 9);
            groups.insert(0, group);
        },
    ];
    for (number, change) in bad.into_iter().enumerate() {
        assert!(!of_groups(change), "{number}");
    }
    let of_entry = |change: &dyn Fn(&mut Entry)| {
        is_sound(&|table: &mut Table| change(table.entries.get_mut(&8).unwrap()))
    };
    assert!(of_entry(&|entry| flow::TAG.set(&mut entry.context, 5)));
    assert!(of_entry(&|entry| {
        flow::ACTION.set(&mut entry.context, kind::FORWARD | kind::COUNT);
        flow::COUNTERS.set(&mut entry.context, 1);
        entry.counters.push(1);
    }));
    let bad: [&dyn Fn(&mut Entry); 11] = [
        &|entry| entry.counters.push(1),
        &|entry| flow::COUNTERS.set(&mut entry.context, 1),
        &|entry| {
            let action = kind::FORWARD | kind::COUNT;
            flow::ACTION.set(&mut entry.context, action);
            flow::COUNTERS.set(&mut entry.context, 2);
            entry.counters = vec![1, 2];
        },
        &|entry| flow::CONTEXT_GROUP.set(&mut entry.context, 1),
        &|entry| flow::ACTION.set(&mut entry.context, kind::DROP),
        &|entry| flow::DESTINATIONS.set(&mut entry.context, 2),
        &|entry| flow::EXTENDED.set(&mut entry.context, 1),
        &|entry| entry.destinations.push(Destination::Tir(1)),
        &|entry| entry.destinations[0] = Destination::Vport(1),
        &|entry| entry.context[flow::VALUE + headers::LEN] = 1,
        &|entry| entry.context.truncate(flow::VALUE + flow::PARAM_LEN - 1),
    ];
    for (number, change) in bad.into_iter().enumerate() {
        assert!(!of_entry(change), "{number}");
    }
    // An entry that belongs to a group, and is elsewhere.
    assert!(!is_sound(&|table| {
        let entry = table.entries.remove(&8).unwrap();
        table.entries.insert(9, entry);
    }));
}

#[test]
fn what_there_is_not_is_refused() {
    let (mut tables, _, second) = two();
    let bad = Err(Status::BadParam);
    let refused = [
        group(second, 9, 16, &[]),
        group(second, 10, 9, &[]),
        group(second, 5, 9, &[]),
        {
            let mut unknown = group(second, 9, 9, &[]);
            flow::CRITERIA.set(&mut unknown, 1);
            // l4_type.
            unknown[flow::MASK + 0x18] = 0x80;
            unknown
        },
        {
            let mut misc = group(second, 9, 9, &[]);
            flow::CRITERIA.set(&mut misc, 2);
            misc
        },
        {
            let mut inner = group(second, 9, 9, &[]);
            inner[flow::MASK + 0x80] = 1;
            inner
        },
    ];
    for input in refused {
        assert_eq!(tables.create_group(&input), bad);
    }
    let tir = [Destination::Tir(1)];
    for (input, status) in [
        (entry(second, 1, 8, &[], &tir), Status::BadParam),
        (entry(second, 1, 1, &[], &tir), Status::BadParam),
        (entry(second, 5, 2, &[], &tir), Status::BadRes),
        (entry(77, 1, 2, &[], &tir), Status::BadRes),
    ] {
        assert_eq!(tables.set_entry(0, &input, |_| true), Err(status));
    }
    let gone = entry(second, 1, 2, &[], &tir);
    assert_eq!(tables.set_entry(0, &gone, |_| false), Err(Status::BadRes));
    let mut short = gone.clone();
    short.pop();
    assert_eq!(
        tables.set_entry(0, &short, |_| true),
        Err(Status::BadInputLen)
    );
    for (field, value) in [
        (flow::ACTION, 0),
        (flow::ACTION, kind::FORWARD | kind::DROP),
        (flow::ACTION, kind::ALLOW),
        (flow::ACTION, kind::FORWARD | kind::COUNT),
        (flow::ACTION, 8),
        (flow::EXTENDED, 1),
        (flow::COUNTERS, 1),
        (flow::DESTINATIONS, 0),
    ] {
        let mut other = gone.clone();
        field.set(&mut other[flow::CONTEXT..], value);
        assert_eq!(tables.set_entry(0, &other, |_| true), Err(Status::BadParam));
    }
    let mut sending = table(1, None);
    flow::TABLE_TYPE.set(&mut sending, 1);
    assert_eq!(tables.create_table(&sending), bad);
}

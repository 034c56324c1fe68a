// SPDX-License-Identifier: GPL-2.0

//! Flow tables that a driver makes, and packets that go through them. What the emulated NIC
//! takes is written down a second time, in its plainest form, and each packet must go where
//! that says.

use crate::frames;
use mlx5_emu::{
    ifc::ethernet::{
        flow,
        headers, //
    },
    packet::Packet,
    steering::{
        FlowTables,
        Hit,
        Named,
        MAX_HITS,
        MAX_STEPS, //
    },
};
use mlx5_rust_logic::fuzz::{
    Input,
    Seed, //
};
use std::{
    collections::BTreeMap,
    ops::RangeInclusive, //
};

/// Most steps of an input.
const STEPS: usize = 96;
/// TIRs that there are.
const TIRS: RangeInclusive<u32> = 1..=8;
/// Bytes of commands, but for the destinations of an entry.
const TABLE_LEN: usize = 0x40;
const GROUP_LEN: usize = 0x400;
const ENTRY_LEN: usize = flow::CONTEXT + flow::DESTINATION;

/// The lowest four bits of the byte that a step begins with. With the next one, the command
/// is changed at random before it is sent.
const CREATE_TABLE: u8 = 0;
const MODIFY_TABLE: u8 = 1;
const DESTROY_TABLE: u8 = 2;
const SET_ROOT: u8 = 3;
const CREATE_GROUP: u8 = 4;
const DESTROY_GROUP: u8 = 5;
const SET_ENTRY: u8 = 6;
const DELETE_ENTRY: u8 = 7;
const PACKET: u8 = 8;
const SPOILT: u8 = 1 << 4;
/// A table whose packets go to another one, unless an entry is for them.
const WITH_MISS: u8 = 1 << 5;
/// An entry that is changed, and a root that is taken away.
const OTHER: u8 = 1 << 6;

/// An entry, as it was set.
struct Entry {
    group: u32,
    value: [u8; headers::LEN],
    tag: u32,
    /// Each is a table, or else a TIR.
    destinations: Vec<(bool, u32)>,
}

/// A table, as it was made.
struct Table {
    level: u64,
    miss: Option<u32>,
    groups: BTreeMap<u32, (RangeInclusive<u32>, [u8; headers::LEN])>,
    entries: BTreeMap<u32, Entry>,
}

/// What was made.
#[derive(Default)]
struct Made {
    tables: BTreeMap<u32, Table>,
    root: Option<u32>,
}

/// Returns what a TIR is told of a packet, in any order.
fn sorted(hits: impl IntoIterator<Item = Hit>) -> Vec<(u32, u32)> {
    let mut sorted: Vec<_> = hits.into_iter().map(|hit| (hit.tir, hit.tag)).collect();
    sorted.sort_unstable();
    sorted
}

impl Made {
    /// Goes through a table. Returns whether that was all: `steps` are left.
    fn walk(
        &self,
        id: u32,
        set: &[u8; headers::LEN],
        steps: &mut usize,
        hits: &mut Vec<Hit>,
    ) -> bool {
        let Some(left) = steps.checked_sub(1) else {
            return false;
        };
        *steps = left;
        let table = &self.tables[&id];
        for entry in table.entries.values() {
            let (_, mask) = &table.groups[&entry.group];
            if (0..headers::LEN).any(|at| (set[at] ^ entry.value[at]) & mask[at] != 0) {
                continue;
            }
            for (is_table, number) in &entry.destinations {
                let hit = Hit {
                    tir: *number,
                    tag: entry.tag,
                };
                if !is_table {
                    hits.push(hit);
                } else if !self.walk(*number, set, steps, hits) {
                    return false;
                }
            }
            return true;
        }
        table
            .miss
            .is_none_or(|miss| self.walk(miss, set, steps, hits))
    }

    /// Checks where the NIC has a packet go.
    fn check(&self, tables: &FlowTables, frame: &[u8]) {
        let Some(packet) = Packet::parse(frame) else {
            return;
        };
        let set = packet.match_set(frame);
        let found = tables.lookup(&set);
        assert!(found.len() <= MAX_HITS);
        let (mut steps, mut hits) = (MAX_STEPS, Vec::new());
        let whole = match self.root {
            Some(root) => self.walk(root, &set, &mut steps, &mut hits),
            None => true,
        };
        if whole && hits.len() <= MAX_HITS {
            assert_eq!(sorted(found), sorted(hits));
        }
    }

    /// Checks that packets of a table may go to that one: so there is no way around.
    fn follows(&self, level: u64, id: u32) {
        assert!(self.tables[&id].level > level);
    }

    fn in_use(&self, id: u32) -> bool {
        self.tables.values().any(|table| {
            let mut entries = table.entries.values();
            table.miss == Some(id) || entries.any(|entry| entry.destinations.contains(&(true, id)))
        })
    }
}

/// The tables, what is known of them, and the frame that was last sent.
struct Model {
    tables: FlowTables,
    made: Made,
    frame: Vec<u8>,
}

/// Changes some words of a command.
fn spoil(command: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..input.byte() % 8 {
        let at = usize::from(input.byte()) * 4;
        let word = input.u32().to_be_bytes();
        if let Some(spoilt) = command.get_mut(at..at + 4) {
            spoilt.copy_from_slice(&word);
        }
    }
    if input.byte() == 0xff {
        command.truncate(usize::from(input.u16()));
    }
}

impl Model {
    /// Takes the steps of an input.
    fn run(input: &mut Input<'_>) -> Self {
        let mut model = Self {
            tables: FlowTables::default(),
            made: Made::default(),
            frame: frames::frames().swap_remove(0).1,
        };
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            model.step(input);
        }
        model
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let options = input.byte();
        let finish = |mut command: Vec<u8>, input: &mut Input<'_>| {
            if options & SPOILT != 0 {
                spoil(&mut command, input);
            }
            command
        };
        let about = |len: usize, table: u8| {
            let mut command = vec![0; len];
            flow::TABLE.set(&mut command, table.into());
            command
        };
        match options & 0xf {
            CREATE_TABLE | MODIFY_TABLE => {
                let (id, level) = (input.byte(), input.byte());
                let (log_size, miss) = (input.byte(), input.byte());
                let mut command = about(TABLE_LEN, id);
                let context = &mut command[flow::TABLE_CONTEXT..];
                for (field, value) in [
                    (flow::LEVEL, level),
                    (flow::LOG_SIZE, log_size),
                    (flow::MISS_ACTION, u8::from(options & WITH_MISS != 0)),
                    (flow::MISS_ID, miss),
                ] {
                    field.set(context, value.into());
                }
                if options & 0xf == MODIFY_TABLE {
                    flow::TABLE_MODIFY.set(&mut command, 1);
                }
                let command = finish(command, input);
                self.table(options & 0xf == CREATE_TABLE, &command);
            }
            DESTROY_TABLE => {
                let command = finish(about(TABLE_LEN, input.byte()), input);
                let id = flow::TABLE.get(&command) as u32;
                if self.tables.destroy_table(&command).is_ok() {
                    let gone = self.made.tables.remove(&id).expect("it was made");
                    assert!(gone.groups.is_empty() && !self.made.in_use(id));
                    self.made.root = self.made.root.filter(|root| *root != id);
                }
            }
            SET_ROOT => {
                let command = finish(about(TABLE_LEN, input.byte()), input);
                let op_mod = u64::from(options & OTHER != 0);
                if self.tables.set_root(op_mod, &command).is_ok() {
                    let id = flow::TABLE.get(&command) as u32;
                    assert!(self.made.tables.contains_key(&id));
                    self.made.root = (op_mod == 0).then_some(id);
                }
            }
            CREATE_GROUP => {
                let mut command = about(GROUP_LEN, input.byte());
                flow::GROUP_START.set(&mut command, input.byte().into());
                flow::GROUP_END.set(&mut command, input.byte().into());
                let selected = input.u16();
                if selected != 0 {
                    flow::CRITERIA.set(&mut command, 1);
                }
                for (bit, field) in headers::MATCHED.into_iter().enumerate() {
                    if (selected >> bit) & 1 == 1 {
                        field.set(&mut command[flow::MASK..], u64::MAX);
                    }
                }
                let command = finish(command, input);
                self.create_group(&command);
            }
            DESTROY_GROUP => {
                let mut command = about(TABLE_LEN, input.byte());
                flow::GROUP.set(&mut command, input.byte().into());
                let command = finish(command, input);
                let table = flow::TABLE.get(&command) as u32;
                let id = flow::GROUP.get(&command) as u32;
                if self.tables.destroy_group(&command).is_ok() {
                    let table = self.made.tables.get_mut(&table).expect("it was made");
                    table.groups.remove(&id).expect("it was made");
                    assert!(table.entries.values().all(|entry| entry.group != id));
                }
            }
            SET_ENTRY => {
                let mut command = about(ENTRY_LEN, input.byte());
                flow::INDEX.set(&mut command, input.byte().into());
                let context = &mut command[flow::CONTEXT..];
                flow::CONTEXT_GROUP.set(context, input.byte().into());
                flow::TAG.set(context, input.byte().into());
                let count = input.byte() % 8;
                flow::ACTION.set(context, if count == 0 { 2 } else { 4 });
                flow::DESTINATIONS.set(context, count.into());
                // It is for the frame that comes next, or for one like it.
                if let Some(packet) = Packet::parse(&self.frame) {
                    let set = packet.match_set(&self.frame);
                    context[flow::VALUE..][..headers::LEN].copy_from_slice(&set);
                }
                for _ in 0..count {
                    let (kind, number) = (input.byte(), input.byte());
                    command.extend([1 + kind % 2, 0, 0, number, 0, 0, 0, 0]);
                }
                let command = finish(command, input);
                self.set_entry(u64::from(options & OTHER != 0), &command);
            }
            DELETE_ENTRY => {
                let mut command = about(TABLE_LEN, input.byte());
                flow::INDEX.set(&mut command, input.byte().into());
                let command = finish(command, input);
                let table = flow::TABLE.get(&command) as u32;
                let index = flow::INDEX.get(&command) as u32;
                if self.tables.delete_entry(&command).is_ok() {
                    let table = self.made.tables.get_mut(&table).expect("it was made");
                    table.entries.remove(&index).expect("it was made");
                }
            }
            PACKET => self.frame = frames::take(input),
            _ => (),
        }
        self.made.check(&self.tables, &self.frame);
        assert_eq!(self.tables.len(), self.made.tables.len());
    }

    /// Creates a table, or has its packets go elsewhere.
    fn table(&mut self, create: bool, command: &[u8]) {
        let context = command.get(flow::TABLE_CONTEXT..).unwrap_or_default();
        let miss = flow::MISS_ID.get(context) as u32;
        let miss = (flow::MISS_ACTION.get(context) == 1).then_some(miss);
        if create {
            let Ok(id) = self.tables.create_table(command) else {
                return;
            };
            let table = Table {
                level: flow::LEVEL.get(context),
                miss,
                groups: BTreeMap::new(),
                entries: BTreeMap::new(),
            };
            if let Some(miss) = miss {
                self.made.follows(table.level, miss);
            }
            assert!(self.made.tables.insert(id, table).is_none());
        } else if self.tables.modify_table(command).is_ok() {
            let id = flow::TABLE.get(command) as u32;
            if let Some(miss) = miss {
                self.made.follows(self.made.tables[&id].level, miss);
            }
            let table = self.made.tables.get_mut(&id).expect("it was made");
            table.miss = miss;
        }
    }

    fn create_group(&mut self, command: &[u8]) {
        let Ok(id) = self.tables.create_group(command) else {
            return;
        };
        let table = flow::TABLE.get(command) as u32;
        let table = self.made.tables.get_mut(&table).expect("it was made");
        let start = flow::GROUP_START.get(command) as u32;
        let end = flow::GROUP_END.get(command) as u32;
        assert!(start <= end);
        for (other, _) in table.groups.values() {
            assert!(end < *other.start() || start > *other.end());
        }
        let mask = command[flow::MASK..].first_chunk().expect("a mask");
        let before = table.groups.insert(id, (start..=end, *mask));
        assert!(before.is_none());
    }

    fn set_entry(&mut self, op_mod: u64, command: &[u8]) {
        let exists = |named| matches!(named, Named::Tir(tir) if TIRS.contains(&tir));
        if self.tables.set_entry(op_mod, command, exists).is_err() {
            return;
        }
        let context = &command[flow::CONTEXT..];
        let index = flow::INDEX.get(command) as u32;
        let id = flow::TABLE.get(command) as u32;
        let count = flow::DESTINATIONS.get(context) as usize;
        let list = context[flow::DESTINATION..].chunks(8).take(count);
        let entry = Entry {
            group: flow::CONTEXT_GROUP.get(context) as u32,
            value: *context[flow::VALUE..].first_chunk().expect("a value"),
            tag: flow::TAG.get(context) as u32,
            destinations: list
                .map(|one| {
                    let number = flow::DESTINATION_ID.get(one) as u32;
                    (flow::DESTINATION_TYPE.get(one) == 1, number)
                })
                .collect(),
        };
        assert_eq!(entry.destinations.len(), count);
        let level = self.made.tables[&id].level;
        for (is_table, number) in &entry.destinations {
            match is_table {
                true => self.made.follows(level, *number),
                false => assert!(TIRS.contains(number)),
            }
        }
        let table = self.made.tables.get_mut(&id).expect("it was made");
        let (range, _) = &table.groups[&entry.group];
        assert!(range.contains(&index));
        let before = table.entries.insert(index, entry);
        assert_eq!(u64::from(before.is_some()), op_mod);
    }
}

/// Runs one input: commands about flow tables, and packets.
pub fn run(bytes: &[u8]) {
    Model::run(&mut Input::new(bytes));
}

/// The steps of a driver that breaks no rule: a table by the protocol behind the root, which
/// has packets of one address, and one for what neither wants.
fn proper() -> Vec<Vec<u8>> {
    vec![
        // Number 1, level 9; 2, level 5, whose packets go to 1; 3, level 1, whose go to 2.
        vec![CREATE_TABLE, 0, 9, 4, 0],
        vec![CREATE_TABLE | WITH_MISS, 0, 5, 4, 1],
        vec![CREATE_TABLE, 0, 1, 4, 0],
        vec![MODIFY_TABLE | WITH_MISS, 3, 0, 0, 2],
        vec![SET_ROOT, 3],
        // By nothing; by protocol; by address.
        vec![CREATE_GROUP, 1, 0, 3, 0, 0],
        vec![CREATE_GROUP, 2, 0, 3, 1 << 4, 0],
        vec![CREATE_GROUP, 3, 4, 15, 1 << 2, 0],
        vec![SET_ENTRY, 1, 0, 1, 7, 1, 1, 1],
        vec![SET_ENTRY, 2, 3, 1, 0, 2, 1, 2, 1, 3],
        vec![SET_ENTRY, 3, 4, 1, 5, 2, 0, 2, 1, 4],
        // UDP over IPv6, and with another address.
        vec![PACKET, 3, 0],
        vec![PACKET, 3, 1, 5, 9],
        vec![SET_ENTRY | OTHER, 3, 4, 1, 5, 0],
        vec![PACKET, 0, 0],
        vec![DELETE_ENTRY, 3, 4],
        vec![DESTROY_GROUP, 3, 1],
        vec![SET_ROOT | OTHER, 3],
        vec![DESTROY_TABLE, 3],
    ]
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let proper = proper();
    // Each entry has packets go through the next table several times.
    let mut many: Vec<Vec<u8>> = vec![vec![CREATE_TABLE, 0, 9, 4, 0]];
    for below in 1..=4 {
        many.push(vec![CREATE_TABLE, 0, 9 - below, 4, 0]);
        many.push(vec![CREATE_GROUP, below + 1, 0, 3, 0, 0]);
        let to = [0, below].repeat(7);
        many.push([&[SET_ENTRY, below + 1, 0, 1, 0, 7][..], &to].concat());
    }
    many.push(vec![CREATE_GROUP, 1, 0, 3, 0, 0]);
    many.push(vec![SET_ENTRY, 1, 0, 1, 0, 1, 1, 1]);
    many.push(vec![SET_ROOT, 5]);
    vec![
        ("tables", proper.concat()),
        ("more tables than steps", many.concat()),
        (
            "a loop",
            [
                vec![CREATE_TABLE, 0, 1, 4, 0],
                vec![MODIFY_TABLE | WITH_MISS, 1, 0, 0, 1],
                vec![SET_ROOT, 1],
            ]
            .concat(),
        ),
        (
            "a short command",
            vec![CREATE_TABLE | SPOILT, 0, 1, 4, 0, 0, 0xff, 0x20, 0],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the first steps of [`proper()`]. Returns where the last frame goes.
    fn hits(steps: usize) -> Vec<(u32, u32)> {
        let bytes = proper()[..steps].concat();
        let Model { tables, frame, .. } = Model::run(&mut Input::new(&bytes));
        let packet = Packet::parse(&frame).unwrap();
        sorted(tables.lookup(&packet.match_set(&frame)))
    }

    #[test]
    fn packets_go_where_they_are_to() {
        // All frames are of TCP over IPv4 at first.
        assert_eq!(hits(8), []);
        assert_eq!(hits(9), [(1, 7)]);
        assert_eq!(hits(10), [(2, 0), (3, 0)]);
        assert_eq!(hits(11), [(2, 0), (3, 0), (4, 5)]);
        assert_eq!(hits(12), [(1, 7), (4, 5)]);
        assert_eq!(hits(13), [(1, 7)]);
        assert_eq!(hits(14), []);
        assert_eq!(hits(15), [(2, 0), (3, 0)]);
        assert_eq!(hits(16), [(2, 0), (3, 0)]);
        let bytes = proper().concat();
        let model = Model::run(&mut Input::new(&bytes));
        assert_eq!((model.tables.len(), model.made.root), (2, None));
    }

    #[test]
    fn a_walk_ends() {
        let (_, many) = seeds().swap_remove(1);
        let Model { tables, frame, .. } = Model::run(&mut Input::new(&many));
        let packet = Packet::parse(&frame).unwrap();
        let hits = tables.lookup(&packet.match_set(&frame)).len();
        assert!((1..MAX_HITS).contains(&hits), "{hits}");
    }
}

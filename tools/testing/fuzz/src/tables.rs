// SPDX-License-Identifier: GPL-2.0

//! Flow tables that a driver makes, of each type, and packets that go through them. What the
//! emulated NIC takes is written down a second time, in its plainest form, and each packet must
//! go where that says.

use crate::frames;
use mlx5_emu::{
    ifc::{
        eswitch::{
            misc,
            UPLINK, //
        },
        ethernet::{
            flow,
            headers, //
        },
        flow_counter,
    },
    packet::{
        Key,
        Packet, //
    },
    steering::{
        kind::{
            Kind,
            ALLOW,
            COUNT,
            DROP,
            FORWARD, //
        },
        Destination,
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
/// Types of tables, for the first byte of an input.
const KINDS: [Kind; 4] = [
    Kind::NicReceive,
    Kind::EgressAcl,
    Kind::IngressAcl,
    Kind::Fdb,
];
/// TIRs, counters and ports that there are, and the port that packets come from.
const TIRS: RangeInclusive<u32> = 1..=8;
const COUNTERS: RangeInclusive<u32> = 1..=8;
const PORTS: RangeInclusive<u16> = 0..=3;
const PORT: u16 = 1;
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
/// An entry that is changed, a root that is taken away, and a group that asks for the port.
const OTHER: u8 = 1 << 6;

/// An entry, as it was set.
struct Entry {
    group: u32,
    value: Key,
    tag: u32,
    actions: u64,
    /// The type and the number of each.
    destinations: Vec<(u64, u32)>,
    counters: Vec<u32>,
}

/// Types of destinations.
const VPORT: u64 = 0;
const TABLE: u64 = 1;
const TIR: u64 = 2;

/// A table, as it was made.
struct Table {
    level: u64,
    miss: Option<u32>,
    groups: BTreeMap<u32, (RangeInclusive<u32>, Key)>,
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

/// What entries do, in any order: whether each drops packets, where they go, and what counts
/// them.
type Done = Vec<(bool, Vec<(u64, u32)>, Vec<u32>)>;

/// What is found on the way through the tables.
struct Walk<'a> {
    steps: usize,
    entries: Vec<&'a Entry>,
    missed: bool,
}

impl Made {
    /// Goes through a table. Returns whether that was all: there were steps left.
    fn walk<'a>(&'a self, id: u32, key: &Key, walk: &mut Walk<'a>) -> bool {
        let Some(left) = walk.steps.checked_sub(1) else {
            return false;
        };
        walk.steps = left;
        let table = &self.tables[&id];
        for entry in table.entries.values() {
            let (_, mask) = &table.groups[&entry.group];
            if (0..key.len()).any(|at| (key[at] ^ entry.value[at]) & mask[at] != 0) {
                continue;
            }
            walk.entries.push(entry);
            let mut tables = entry.destinations.iter();
            return tables.all(|(kind, number)| *kind != TABLE || self.walk(*number, key, walk));
        }
        match table.miss {
            Some(miss) => self.walk(miss, key, walk),
            None => {
                walk.missed = true;
                true
            }
        }
    }

    /// Checks where the NIC has a packet go.
    fn check(&self, tables: &FlowTables, frame: &[u8]) {
        let Some(packet) = Packet::parse(frame) else {
            return;
        };
        let key = packet.key(frame, PORT);
        let found = tables.find(&key);
        let told = tables.lookup(&packet.match_set(frame));
        assert!(found.entries.len() <= MAX_STEPS && told.len() <= MAX_HITS);
        let mut walk = Walk {
            steps: MAX_STEPS,
            entries: Vec::new(),
            missed: self.root.is_none(),
        };
        if !self
            .root
            .is_none_or(|root| self.walk(root, &key, &mut walk))
        {
            return;
        }
        let destination = |to: &Destination| match *to {
            Destination::Vport(number) => (VPORT, number.into()),
            Destination::Table(number) => (TABLE, number),
            Destination::Tir(number) => (TIR, number),
        };
        let mut done: Done = found
            .entries
            .iter()
            .map(|entry| {
                let to = entry.destinations.iter().map(destination).collect();
                (entry.drops(), to, entry.counters.clone())
            })
            .collect();
        let mut expected: Done = walk
            .entries
            .iter()
            .map(|entry| {
                let drops = entry.actions & DROP != 0;
                (drops, entry.destinations.clone(), entry.counters.clone())
            })
            .collect();
        done.sort_unstable();
        expected.sort_unstable();
        assert_eq!((done, found.missed), (expected, walk.missed));
        let hits = walk.entries.iter().flat_map(|entry| {
            let tirs = entry.destinations.iter().filter(|(kind, _)| *kind == TIR);
            tirs.map(|(_, tir)| Hit {
                tir: *tir,
                tag: entry.tag,
            })
        });
        let hits = sorted(hits);
        if hits.len() <= MAX_HITS {
            assert_eq!(sorted(told), hits);
        }
    }

    /// Checks that packets of a table may go to that one: so there is no way around.
    fn follows(&self, level: u64, id: u32) {
        assert!(self.tables[&id].level > level);
    }

    fn in_use(&self, id: u32) -> bool {
        self.tables.values().any(|table| {
            let mut entries = table.entries.values();
            table.miss == Some(id) || entries.any(|entry| entry.destinations.contains(&(TABLE, id)))
        })
    }
}

/// The tables, what is known of them, and the frame that was last sent.
struct Model {
    kind: Kind,
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
        let kind = KINDS[usize::from(input.byte()) % KINDS.len()];
        let mut model = Self {
            kind,
            tables: FlowTables::new(kind),
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
        let kind = self.kind;
        let about = |len: usize, table: u8| {
            let mut command = vec![0; len];
            flow::TABLE_TYPE.set(&mut command, kind as u64);
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
                let of_port = options & OTHER != 0;
                let criteria = u64::from(selected != 0) | (u64::from(of_port) << 1);
                flow::CRITERIA.set(&mut command, criteria);
                if of_port {
                    misc::SOURCE_PORT.set(&mut command[flow::MASK..], u64::MAX);
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
                let actions = match (input.byte(), count) {
                    (0, 0) => DROP,
                    (0, _) => FORWARD,
                    (actions, _) => actions.into(),
                };
                flow::ACTION.set(context, actions);
                flow::DESTINATIONS.set(context, count.into());
                // It is for the frame that comes next, or for one like it.
                if let Some(packet) = Packet::parse(&self.frame) {
                    let mut key = packet.key(&self.frame, PORT);
                    if kind != Kind::Fdb {
                        misc::SOURCE_PORT.set(&mut key, 0);
                    }
                    context[flow::VALUE..][..key.len()].copy_from_slice(&key);
                }
                for _ in 0..count {
                    let (kind, number) = (input.byte(), input.byte());
                    command.extend([kind % 3, 0, 0, number, 0, 0, 0, 0]);
                }
                if actions & COUNT != 0 {
                    flow::COUNTERS.set(&mut command[flow::CONTEXT..], 1);
                    command.extend([0, 0, 0, input.byte(), 0, 0, 0, 0]);
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
        let exists = |named| match named {
            Named::Tir(tir) => TIRS.contains(&tir),
            Named::Vport(port) => PORTS.contains(&port) || port == UPLINK,
            Named::Counter(counter) => COUNTERS.contains(&counter),
        };
        if self.tables.set_entry(op_mod, command, exists).is_err() {
            return;
        }
        let context = &command[flow::CONTEXT..];
        let index = flow::INDEX.get(command) as u32;
        let id = flow::TABLE.get(command) as u32;
        let counts = [flow::DESTINATIONS, flow::COUNTERS].map(|field| field.get(context) as usize);
        let mut list = context
            .get(flow::DESTINATION..)
            .unwrap_or_default()
            .chunks(8);
        let destinations = list.by_ref().take(counts[0]).map(|one| {
            let number = flow::DESTINATION_ID.get(one) as u32;
            (flow::DESTINATION_TYPE.get(one), number)
        });
        let destinations = destinations.collect();
        let counters = list.take(counts[1]);
        let counters = counters.map(|one| flow_counter::LISTED.get(one) as u32);
        let entry = Entry {
            group: flow::CONTEXT_GROUP.get(context) as u32,
            value: *context[flow::VALUE..].first_chunk().expect("a value"),
            tag: flow::TAG.get(context) as u32,
            actions: flow::ACTION.get(context),
            destinations,
            counters: counters.collect(),
        };
        assert_eq!([entry.destinations.len(), entry.counters.len()], counts);
        // One thing becomes of a packet. Only ACLs let it through, and only an FDB does not count
        // it. What is only counted has nowhere to go.
        let is_acl = matches!(self.kind, Kind::EgressAcl | Kind::IngressAcl);
        match entry.actions & !COUNT {
            DROP => assert!(entry.destinations.is_empty()),
            ALLOW => assert!(is_acl && entry.destinations.is_empty()),
            FORWARD => assert!(!is_acl && !entry.destinations.is_empty()),
            0 => assert!(self.kind == Kind::NicReceive && entry.destinations.is_empty()),
            actions => panic!("actions {actions:#x}"),
        }
        assert_eq!(entry.actions & COUNT != 0, !entry.counters.is_empty());
        assert!(self.kind != Kind::Fdb || entry.counters.is_empty());
        assert!(entry.counters.iter().all(|one| COUNTERS.contains(one)));
        let level = self.made.tables[&id].level;
        for (kind, number) in &entry.destinations {
            match *kind {
                TABLE => self.made.follows(level, *number),
                TIR => assert!(self.kind == Kind::NicReceive && TIRS.contains(number)),
                _ => {
                    let port = u16::try_from(*number).expect("a port");
                    assert!(self.kind == Kind::Fdb && exists(Named::Vport(port)));
                }
            }
        }
        let table = self.made.tables.get_mut(&id).expect("it was made");
        let (range, _) = &table.groups[&entry.group];
        assert!(range.contains(&index));
        let before = table.entries.insert(index, entry);
        assert_eq!(u64::from(before.is_some()), op_mod);
    }
}

/// Runs one input: a byte that chooses the type of the tables, commands about them, and
/// packets.
pub fn run(bytes: &[u8]) {
    Model::run(&mut Input::new(bytes));
}

/// The steps of a driver that breaks no rule: a table by the protocol behind the root, which
/// has packets of one address, and one for what neither wants.
fn proper() -> Vec<Vec<u8>> {
    vec![
        vec![0],
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
        vec![SET_ENTRY, 1, 0, 1, 7, 1, 0, 2, 1],
        vec![SET_ENTRY, 2, 3, 1, 0, 2, 0, 2, 2, 2, 3],
        vec![SET_ENTRY, 3, 4, 1, 5, 2, 0, 1, 2, 2, 4],
        // UDP over IPv6, and with another address.
        vec![PACKET, 3, 0],
        vec![PACKET, 3, 1, 5, 9],
        vec![SET_ENTRY | OTHER, 3, 4, 1, 5, 0, 0],
        vec![PACKET, 0, 0],
        vec![DELETE_ENTRY, 3, 4],
        vec![DESTROY_GROUP, 3, 1],
        vec![SET_ROOT | OTHER, 3],
        vec![DESTROY_TABLE, 3],
    ]
}

/// An ACL that lets one address through, and counts what it drops.
fn acl(kind: u8) -> Vec<u8> {
    [
        vec![kind],
        vec![CREATE_TABLE, 0, 0, 4, 0],
        vec![CREATE_GROUP, 1, 0, 0, 1 << 2, 0],
        vec![CREATE_GROUP, 1, 1, 1, 0, 0],
        vec![SET_ENTRY, 1, 0, 1, 0, 0, ALLOW as u8],
        vec![SET_ENTRY, 1, 1, 2, 0, 0, (DROP | COUNT) as u8, 3],
        vec![SET_ROOT, 1],
        vec![PACKET, 0, 0],
        vec![PACKET, 0, 1, 5, 9],
    ]
    .concat()
}

/// A table of a NIC that counts: what it forwards, what it drops, or nothing but that.
fn counting(action: u64) -> Vec<u8> {
    [
        vec![0],
        vec![CREATE_TABLE, 0, 0, 4, 0],
        vec![CREATE_GROUP, 1, 0, 0, 0, 0],
        vec![SET_ENTRY, 1, 0, 1, 0],
        match action {
            FORWARD => vec![1, (FORWARD | COUNT) as u8, TIR as u8, 4],
            _ => vec![0, (action | COUNT) as u8],
        },
        vec![3],
        vec![SET_ROOT, 1],
        vec![PACKET, 0, 0],
    ]
    .concat()
}

/// An FDB that sends what comes from one port to two others.
fn fdb() -> Vec<u8> {
    [
        vec![3],
        vec![CREATE_TABLE, 0, 0, 4, 0],
        vec![CREATE_GROUP | OTHER, 1, 0, 0, 0, 0],
        vec![SET_ENTRY, 1, 0, 1, 0, 2, 0, 0, 2, 0, 3],
        vec![SET_ROOT, 1],
        vec![PACKET, 0, 0],
    ]
    .concat()
}

/// Tables of this number of levels below the last one, in each of which an entry has packets go
/// to the next table seven times.
fn forks(levels: u8) -> Vec<u8> {
    let mut forks: Vec<Vec<u8>> = vec![vec![0], vec![CREATE_TABLE, 0, 9, 4, 0]];
    for below in 1..=levels {
        forks.push(vec![CREATE_TABLE, 0, 9 - below, 4, 0]);
        forks.push(vec![CREATE_GROUP, below + 1, 0, 3, 0, 0]);
        let to = [1, below].repeat(7);
        forks.push([&[SET_ENTRY, below + 1, 0, 1, 0, 7, 0][..], &to].concat());
    }
    forks.push(vec![CREATE_GROUP, 1, 0, 3, 0, 0]);
    forks.push(vec![SET_ENTRY, 1, 0, 1, 0, 1, 0, 2, 1]);
    forks.push(vec![SET_ROOT, levels + 1]);
    forks.concat()
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let proper = proper();
    vec![
        ("tables", proper.concat()),
        ("more tables than steps", forks(4)),
        ("a table several times", forks(2)),
        (
            "a loop",
            [
                vec![0],
                vec![CREATE_TABLE, 0, 1, 4, 0],
                vec![MODIFY_TABLE | WITH_MISS, 1, 0, 0, 1],
                vec![SET_ROOT, 1],
            ]
            .concat(),
        ),
        (
            "a short command",
            vec![0, CREATE_TABLE | SPOILT, 0, 1, 4, 0, 0, 0xff, 0x20, 0],
        ),
        ("an ACL", acl(1)),
        ("another ACL", acl(2)),
        ("the FDB", fdb()),
        ("counted and forwarded", counting(FORWARD)),
        ("counted and dropped", counting(DROP)),
        ("counted", counting(0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx5_emu::steering::Found;

    /// Runs the first steps of [`proper()`]. Returns where the last frame goes.
    fn hits(steps: usize) -> Vec<(u32, u32)> {
        let bytes = proper()[..=steps].concat();
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

    /// What the tables of an input have for its last frame.
    fn found<R>(bytes: &[u8], read: impl Fn(&Found<'_>) -> R) -> R {
        let Model { tables, frame, .. } = Model::run(&mut Input::new(bytes));
        let packet = Packet::parse(&frame).unwrap();
        read(&tables.find(&packet.key(&frame, PORT)))
    }

    #[test]
    fn tables_of_the_eswitch_are_reached() {
        for kind in 1..=2 {
            let bytes = acl(kind);
            let last = bytes.len() - 5;
            let drops = |found: &Found<'_>| found.entries[0].drops();
            assert!(!found(&bytes[..last], drops));
            assert!(found(&bytes, drops));
            assert_eq!(
                found(&bytes, |found| found.entries[0].counters.clone()),
                [3]
            );
        }
        let to = found(&fdb(), |found| found.entries[0].destinations.clone());
        assert_eq!(to, [Destination::Vport(2), Destination::Vport(3)]);
    }

    #[test]
    fn tables_of_a_nic_count() {
        for action in [FORWARD, DROP, 0] {
            let bytes = counting(action);
            let counters = found(&bytes, |found| found.entries[0].counters.clone());
            assert_eq!(counters, [3], "{action}");
            let to = found(&bytes, |found| found.entries[0].destinations.clone());
            let forwards = action == FORWARD;
            assert_eq!(to, vec![Destination::Tir(4); usize::from(forwards)]);
        }
    }

    #[test]
    fn a_walk_ends() {
        let hits = |levels| {
            let Model { tables, frame, .. } = Model::run(&mut Input::new(&forks(levels)));
            let packet = Packet::parse(&frame).unwrap();
            tables.lookup(&packet.match_set(&frame)).len()
        };
        assert_eq!(hits(2), 7 * 7);
        assert!((1..MAX_HITS).contains(&hits(4)));
    }
}

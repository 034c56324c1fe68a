// SPDX-License-Identifier: GPL-2.0

//! Flow tables: from the root table on, the first entry of a table that matches
//! says where a packet goes.

pub mod kind;

use crate::{
    ifc::{
        eswitch::flow_counter,
        ethernet::{
            flow,
            headers, //
        },
        Status, //
    },
    objects,
    packet::Key,
    resources::Saved, //
};
use kind::Kind;
use serde::{
    Deserialize,
    Serialize, //
};
use std::collections::BTreeMap;

/// Numbers of tables.
const TABLES: std::ops::Range<u32> = 1..1 << LOG_MAX_TABLES;
/// Numbers of groups, in each table.
const GROUPS: std::ops::Range<u32> = 1..1 << 16;
/// Most tables, as a shift.
pub const LOG_MAX_TABLES: u64 = 16;
/// Most entries of a table, as a shift.
pub const LOG_MAX_SIZE: u64 = 24;
/// Most destinations of an entry, as a shift.
pub const LOG_MAX_DESTINATIONS: u64 = 8;
/// Most entries of all tables, and most groups, as a shift.
pub const LOG_MAX_ENTRIES: u64 = 16;
/// Most tables that a packet goes through. They are of ever higher levels, but
/// an entry may have it go to several.
pub const MAX_STEPS: usize = 256;
/// Most TIRs that a packet goes to: as many as an entry can have.
pub const MAX_HITS: usize = 1 << LOG_MAX_DESTINATIONS;

/// MLX5_FLOW_TABLE_MISS_ACTION_FWD
const MISS_FORWARD: u64 = 1;
/// MLX5_MODIFY_FLOW_TABLE_MISS_TABLE_ID
const MODIFY_MISS: u64 = 1;

/// Where an entry has packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub enum Destination {
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_FLOW_TABLE
    Table(u32),
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_TIR
    Tir(u32),
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_VPORT
    Vport(u16),
}

/// What else than a table an entry can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// A TIR.
    Tir(u32),
    /// A virtual port, or the wire.
    Vport(u16),
    /// A flow counter.
    Counter(u32),
}

/// A TIR that a packet goes to, and the tag that it has from its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The TIR.
    pub tir: u32,
    /// `flow_tag`.
    pub tag: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Group {
    first: u32,
    last: u32,
    #[serde(with = "mask")]
    mask: Key,
}

/// What a record has of a mask: a list of bytes.
mod mask {
    use super::Key;
    use serde::{
        de::Error,
        Deserialize,
        Deserializer,
        Serialize,
        Serializer, //
    };

    pub fn serialize<S: Serializer>(mask: &Key, to: S) -> Result<S::Ok, S::Error> {
        mask.as_slice().serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Key, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        bytes.try_into().map_err(|_| D::Error::custom("a mask"))
    }
}

/// An entry of a table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    context: Vec<u8>,
    /// Where it has packets go.
    pub destinations: Vec<Destination>,
    /// What counts them.
    pub counters: Vec<u32>,
}

impl Entry {
    /// Whether it drops them.
    pub fn drops(&self) -> bool {
        flow::ACTION.get(&self.context) & kind::DROP != 0
    }
}

/// What tables have for a packet.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// The entries that match it.
    pub entries: Vec<&'a Entry>,
    /// Whether it went to a table without such an entry, or there is no table.
    pub missed: bool,
}

/// A table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Table {
    context: Vec<u8>,
    groups: BTreeMap<u32, Group>,
    entries: BTreeMap<u32, Entry>,
}

/// Tables of one type: those of a function, of a port, or of the e-switch.
#[derive(Clone, Default, Debug)]
pub struct FlowTables {
    kind: Kind,
    tables: BTreeMap<u32, Table>,
    root: Option<u32>,
}

/// A fte_match_param of which there is only what tables look at.
fn key(param: &[u8]) -> Result<Key, Status> {
    let param = param.get(..flow::PARAM_LEN).ok_or(Status::BadInputLen)?;
    let (key, rest) = param.split_first_chunk().ok_or(Status::BadInputLen)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Status::BadParam);
    }
    Ok(*key)
}

impl Saved for Table {
    fn is_sound(&self) -> bool {
        let groups = &self.groups;
        self.context.len() == flow::TABLE_CONTEXT_LEN
            && flow::LOG_SIZE.get(&self.context) <= LOG_MAX_SIZE
            && self.entries.values().all(|entry| {
                let group = flow::CONTEXT_GROUP.get(&entry.context) as u32;
                (flow::VALUE + flow::PARAM_LEN..=flow::DESTINATION).contains(&entry.context.len())
                    && groups.contains_key(&group)
                    && entry.destinations.len() <= 1 << LOG_MAX_DESTINATIONS
                    && entry.counters.is_empty()
            })
    }
}

impl Table {
    fn level(&self) -> u64 {
        flow::LEVEL.get(&self.context)
    }

    fn size(&self) -> u64 {
        1 << flow::LOG_SIZE.get(&self.context)
    }

    fn miss(&self) -> Option<u32> {
        let forwards = flow::MISS_ACTION.get(&self.context) == MISS_FORWARD;
        forwards.then_some(flow::MISS_ID.get(&self.context) as u32)
    }

    fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries.values().find(|entry| {
            let group = flow::CONTEXT_GROUP.get(&entry.context) as u32;
            let value = entry.context[flow::VALUE..].iter().zip(key);
            self.groups.get(&group).is_some_and(|group| {
                let mut bytes = value.zip(&group.mask);
                bytes.all(|((value, byte), mask)| value & mask == byte & mask)
            })
        })
    }
}

impl FlowTables {
    /// No tables yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    fn check_type(&self, input: &[u8]) -> Result<(), Status> {
        match flow::TABLE_TYPE.get(input) == self.kind as u64 {
            true => Ok(()),
            false => Err(Status::BadParam),
        }
    }

    fn table(&mut self, input: &[u8]) -> Result<&mut Table, Status> {
        self.check_type(input)?;
        let id = flow::TABLE.get(input) as u32;
        self.tables.get_mut(&id).ok_or(Status::BadRes)
    }

    /// Whether packets of a table of this level may go to that table.
    fn follows(&self, level: u64, id: u32) -> Result<(), Status> {
        match self.tables.get(&id) {
            Some(table) if table.level() > level => Ok(()),
            Some(_) => Err(Status::BadParam),
            None => Err(Status::BadRes),
        }
    }

    /// CREATE_FLOW_TABLE. Returns its number.
    pub fn create_table(&mut self, input: &[u8]) -> Result<u32, Status> {
        self.check_type(input)?;
        let context = input.get(flow::TABLE_CONTEXT..flow::TABLE_CONTEXT + flow::TABLE_CONTEXT_LEN);
        let table = Table {
            context: context.ok_or(Status::BadInputLen)?.to_vec(),
            groups: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        if flow::TABLE_FLAGS.get(&table.context) != 0
            || flow::MISS_ACTION.get(&table.context) > MISS_FORWARD
            || flow::LOG_SIZE.get(&table.context) > LOG_MAX_SIZE
        {
            return Err(Status::BadParam);
        }
        if let Some(miss) = table.miss() {
            self.follows(table.level(), miss)?;
        }
        objects::insert(&mut self.tables, TABLES, table).ok_or(Status::Lim)
    }

    /// MODIFY_FLOW_TABLE: where packets go that no entry is for.
    pub fn modify_table(&mut self, input: &[u8]) -> Result<(), Status> {
        if flow::TABLE_MODIFY.get(input) != MODIFY_MISS {
            return Err(Status::BadParam);
        }
        let level = self.table(input)?.level();
        let new = input.get(flow::TABLE_CONTEXT..).unwrap_or_default();
        let action = flow::MISS_ACTION.get(new);
        let miss = flow::MISS_ID.get(new);
        match action {
            0 => (),
            MISS_FORWARD => self.follows(level, miss as u32)?,
            _ => return Err(Status::BadParam),
        }
        let context = &mut self.table(input)?.context;
        flow::MISS_ACTION.set(context, action);
        flow::MISS_ID.set(context, miss);
        Ok(())
    }

    /// DESTROY_FLOW_TABLE. [`Status::BadResState`] while it has groups, or
    /// packets go there from another table.
    pub fn destroy_table(&mut self, input: &[u8]) -> Result<(), Status> {
        let in_use = !self.table(input)?.groups.is_empty();
        let id = flow::TABLE.get(input) as u32;
        let target = Destination::Table(id);
        let leads_here = |table: &Table| {
            let mut entries = table.entries.values();
            table.miss() == Some(id) || entries.any(|entry| entry.destinations.contains(&target))
        };
        if in_use || self.tables.values().any(leads_here) {
            return Err(Status::BadResState);
        }
        self.tables.remove(&id);
        if self.root == Some(id) {
            self.root = None;
        }
        Ok(())
    }

    /// SET_FLOW_TABLE_ROOT.
    pub fn set_root(&mut self, op_mod: u64, input: &[u8]) -> Result<(), Status> {
        self.table(input)?;
        let id = flow::TABLE.get(input) as u32;
        match op_mod {
            0 => self.root = Some(id),
            1 if self.root == Some(id) => self.root = None,
            _ => return Err(Status::BadParam),
        }
        Ok(())
    }

    /// CREATE_FLOW_GROUP. Returns its number.
    pub fn create_group(&mut self, input: &[u8]) -> Result<u32, Status> {
        let kind = self.kind;
        let count = self.count_groups();
        let table = self.table(input)?;
        let group = Group {
            first: flow::GROUP_START.get(input) as u32,
            last: flow::GROUP_END.get(input) as u32,
            mask: key(input.get(flow::MASK..).unwrap_or_default())?,
        };
        kind.check_mask(flow::CRITERIA.get(input), &group.mask)?;
        let overlaps = |other: &Group| group.first <= other.last && other.first <= group.last;
        if flow::GROUP_TYPE.get(input) != 0
            || group.first > group.last
            || u64::from(group.last) >= table.size()
            || table.groups.values().any(overlaps)
        {
            return Err(Status::BadParam);
        }
        if count >= 1 << LOG_MAX_ENTRIES {
            return Err(Status::Lim);
        }
        objects::insert(&mut table.groups, GROUPS, group).ok_or(Status::Lim)
    }

    /// DESTROY_FLOW_GROUP. [`Status::BadResState`] while it has entries.
    pub fn destroy_group(&mut self, input: &[u8]) -> Result<(), Status> {
        let table = self.table(input)?;
        let id = flow::GROUP.get(input) as u32;
        let mut entries = table.entries.values();
        if entries.any(|entry| flow::CONTEXT_GROUP.get(&entry.context) == u64::from(id)) {
            return Err(Status::BadResState);
        }
        table.groups.remove(&id).map(drop).ok_or(Status::BadRes)
    }

    /// SET_FLOW_TABLE_ENTRY; `exists` knows what is no table.
    pub fn set_entry(
        &mut self,
        op_mod: u64,
        input: &[u8],
        exists: impl Fn(Named) -> bool,
    ) -> Result<(), Status> {
        let kind = self.kind;
        let count = self.entries().count();
        let table = self.table(input)?;
        let level = table.level();
        let index = flow::INDEX.get(input) as u32;
        let context = input.get(flow::CONTEXT..).unwrap_or_default();
        kind.check_value(&key(context.get(flow::VALUE..).unwrap_or_default())?)?;
        let group = flow::CONTEXT_GROUP.get(context) as u32;
        let group = table.groups.get(&group).ok_or(Status::BadRes)?;
        // 0 makes one, 1 changes one.
        if op_mod != u64::from(table.entries.contains_key(&index))
            || !(group.first..=group.last).contains(&index)
        {
            return Err(Status::BadParam);
        }
        if op_mod == 0 && count >= 1 << LOG_MAX_ENTRIES {
            return Err(Status::Lim);
        }
        let entry = parse_entry(kind, context)?;
        let mut named: Vec<Named> = entry.counters.iter().copied().map(Named::Counter).collect();
        for destination in &entry.destinations {
            match *destination {
                Destination::Table(id) => self.follows(level, id)?,
                Destination::Tir(id) => named.push(Named::Tir(id)),
                Destination::Vport(number) => named.push(Named::Vport(number)),
            }
        }
        if !named.into_iter().all(exists) {
            return Err(Status::BadRes);
        }
        self.table(input)?.entries.insert(index, entry);
        Ok(())
    }

    /// DELETE_FLOW_TABLE_ENTRY.
    pub fn delete_entry(&mut self, input: &[u8]) -> Result<(), Status> {
        let index = flow::INDEX.get(input) as u32;
        let entry = self.table(input)?.entries.remove(&index);
        entry.map(drop).ok_or(Status::BadRes)
    }

    /// All tables.
    pub fn tables(&self) -> &BTreeMap<u32, Table> {
        &self.tables
    }

    /// All tables, to load some.
    pub fn tables_mut(&mut self) -> &mut BTreeMap<u32, Table> {
        &mut self.tables
    }

    /// The table that frames come to first.
    pub fn root(&self) -> Option<u32> {
        self.root
    }

    /// Loads which one that is.
    pub fn load_root(&mut self, root: Option<u32>) {
        self.root = root;
    }

    /// Whether what packets go to is there; `is_tir` knows TIRs.
    pub fn is_whole(&self, is_tir: impl Fn(u32) -> bool) -> bool {
        let root = self.root.is_none_or(|root| self.tables.contains_key(&root));
        let mut tables = self.tables.values();
        root && tables.all(|table| {
            let follows = |id| self.follows(table.level(), id).is_ok();
            let mut destinations = table.entries.values().flat_map(|entry| &entry.destinations);
            table.miss().is_none_or(follows)
                && destinations.all(|destination| match *destination {
                    Destination::Table(id) => follows(id),
                    Destination::Tir(tir) => is_tir(tir),
                    Destination::Vport(_) => false,
                })
        })
    }

    /// Whether there are no more than commands can make.
    pub fn fit(&self) -> bool {
        let counts = [self.entries().count(), self.count_groups()];
        counts.iter().all(|count| *count <= 1 << LOG_MAX_ENTRIES)
    }

    fn count_groups(&self) -> usize {
        self.tables.values().map(|table| table.groups.len()).sum()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let tables = self.tables.values();
        tables.flat_map(|table| table.entries.values())
    }

    /// Whether packets go to a TIR.
    pub fn uses_tir(&self, tir: u32) -> bool {
        self.entries()
            .any(|entry| entry.destinations.contains(&Destination::Tir(tir)))
    }

    /// Whether packets are counted by a flow counter.
    pub fn uses_counter(&self, counter: u32) -> bool {
        self.entries()
            .any(|entry| entry.counters.contains(&counter))
    }

    /// Whether packets go to a table.
    pub fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// How many tables there are.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The TIRs that a packet with these headers goes to.
    pub fn lookup(&self, set: &[u8; headers::LEN]) -> Vec<Hit> {
        let mut key = [0; std::mem::size_of::<Key>()];
        key[..headers::LEN].copy_from_slice(set);
        let entries = self.find(&key).entries.into_iter();
        let hits = entries.flat_map(|entry| {
            let tag = flow::TAG.get(&entry.context) as u32;
            let hit = move |destination: &Destination| match *destination {
                Destination::Tir(tir) => Some(Hit { tir, tag }),
                _ => None,
            };
            entry.destinations.iter().filter_map(hit)
        });
        hits.take(MAX_HITS).collect()
    }

    /// What there is for a packet.
    pub fn find(&self, key: &Key) -> Found<'_> {
        self.walk(|table| table.find(key))
    }

    /// Goes through the tables; `search` returns the entry of a table that matches. A table that
    /// a packet comes to several times is searched once: the same entry matches each time.
    fn walk<'a>(&'a self, search: impl Fn(&'a Table) -> Option<&'a Entry>) -> Found<'a> {
        let mut found = Found {
            entries: Vec::new(),
            missed: self.root.is_none(),
        };
        let mut searched = BTreeMap::new();
        let mut next: Vec<u32> = self.root.into_iter().collect();
        for _ in 0..MAX_STEPS {
            let Some((id, table)) = next.pop().and_then(|id| Some((id, self.tables.get(&id)?)))
            else {
                break;
            };
            let Some(entry) = *searched.entry(id).or_insert_with(|| search(table)) else {
                found.missed |= table.miss().is_none();
                next.extend(table.miss());
                continue;
            };
            for destination in &entry.destinations {
                if let Destination::Table(id) = *destination {
                    next.push(id);
                }
            }
            found.entries.push(entry);
        }
        found
    }
}

/// Makes an entry of a flow_context. Its list has destinations, none if packets are
/// dropped or allowed, and then counters.
fn parse_entry(kind: Kind, context: &[u8]) -> Result<Entry, Status> {
    let counts = [flow::DESTINATIONS, flow::COUNTERS].map(|field| field.get(context));
    let expected = kind.lists(flow::ACTION.get(context), 1 << LOG_MAX_DESTINATIONS)?;
    let mut expected = expected.iter().zip(&counts);
    if !expected.all(|(expected, count)| expected.contains(count))
        || flow::EXTENDED.get(context) != 0
    {
        return Err(Status::BadParam);
    }
    let [destinations, counters] = counts.map(|count| count as usize);
    let list = context.get(flow::DESTINATION..).unwrap_or_default();
    let list: Vec<&[u8]> = list.chunks_exact(8).take(destinations + counters).collect();
    if list.len() != destinations + counters {
        return Err(Status::BadInputLen);
    }
    let (to, counters) = list.split_at(destinations);
    let parse = |one: &&[u8]| {
        let id = flow::DESTINATION_ID.get(one) as u32;
        let destination = match flow::DESTINATION_TYPE.get(one) {
            0 => u16::try_from(id).map(Destination::Vport).ok(),
            1 => Some(Destination::Table(id)),
            2 => Some(Destination::Tir(id)),
            _ => None,
        };
        let possible = destination.filter(|destination| kind.leads_to(*destination));
        possible.ok_or(Status::BadParam)
    };
    let destinations = to.iter().map(parse).collect::<Result<_, _>>()?;
    let counters = counters
        .iter()
        .map(|one| flow_counter::LISTED.get(one) as u32);
    let counters = counters.collect();
    Ok(Entry {
        // Without the list, and whatever follows it.
        context: context[..flow::DESTINATION.min(context.len())].to_vec(),
        destinations,
        counters,
    })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn groups_have_an_end() {
        let (mut tables, first, second) = two();
        let (group_id, one) = tables.tables[&second].groups.last_key_value().unwrap();
        let (group_id, one) = (*group_id, one.clone());
        let many = (group_id..).take((1 << LOG_MAX_ENTRIES) - 2);
        let table = tables.tables.get_mut(&second).unwrap();
        table.groups.extend(many.map(|id| (id, one.clone())));
        // In all tables.
        tables.create_group(&group(first, 0, 0, &[])).unwrap();
        assert!(tables.fit());
        let another = group(first, 1, 1, &[]);
        assert_eq!(tables.create_group(&another), Err(Status::Lim));
        let table = tables.tables.get_mut(&second).unwrap();
        table.groups.insert(0, one);
        assert!(!tables.fit());
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
}

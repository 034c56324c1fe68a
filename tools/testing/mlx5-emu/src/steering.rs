// SPDX-License-Identifier: GPL-2.0

//! Flow tables: from the root table on, the first entry of a table that matches
//! says where a packet goes.

mod entry;
mod index;
pub mod kind;
mod table;

pub use entry::{
    Destination,
    Entry, //
};
pub use table::Table;

use crate::{
    flow_counter::FlowCounters,
    ifc::{
        ethernet::{
            flow,
            headers, //
        },
        Status, //
    },
    numbers::Lowest,
    objects::MAX_OBJECTS,
    packet::Key,
    pool::Numbered, //
};
use entry::key;
use kind::Kind;
use std::collections::BTreeMap;
use table::{
    Group,
    MISS_FORWARD, //
};

/// Numbers of tables.
pub const TABLES: std::ops::Range<u32> = 1..1 << LOG_MAX_TABLES;
/// Most tables, as a shift.
pub const LOG_MAX_TABLES: u64 = 16;
/// Most entries of a table, as a shift.
pub const LOG_MAX_SIZE: u64 = 24;
/// Most destinations of an entry, as a shift.
pub const LOG_MAX_DESTINATIONS: u64 = 8;
/// Most entries of all tables, and most groups, as a shift.
pub const LOG_MAX_ENTRIES: u64 = 16;
/// Most masks that the groups of all tables have, each counted once in a table: a packet is
/// looked up once for each.
pub const MAX_MASKS: usize = 1 << 10;
/// Most tables that a packet goes through. They are of ever higher levels, but
/// an entry may have it go to several.
pub const MAX_STEPS: usize = 256;
/// Most TIRs that a packet goes to: as many as an entry can have.
pub const MAX_HITS: usize = 1 << LOG_MAX_DESTINATIONS;

/// MLX5_MODIFY_FLOW_TABLE_MISS_TABLE_ID
const MODIFY_MISS: u64 = 1;

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

/// What tables have for a packet.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// The entries that match it.
    pub entries: Vec<&'a Entry>,
    /// Whether it went to a table without such an entry, or there is no table.
    pub missed: bool,
    /// How often something was looked up for it.
    pub looks: usize,
}

impl Found<'_> {
    /// The TIRs that it goes to.
    pub fn hits(&self) -> Vec<Hit> {
        let hits = self.entries.iter().flat_map(|entry| {
            let tag = entry.tag();
            let hit = move |destination: &Destination| match *destination {
                Destination::Tir(tir) => Some(Hit { tir, tag }),
                _ => None,
            };
            entry.destinations.iter().filter_map(hit)
        });
        hits.take(MAX_HITS).collect()
    }

    /// Counts it, of `len` bytes, once for each entry that matches and counts.
    pub fn count(&self, counters: &mut FlowCounters, len: usize) {
        for counter in self.entries.iter().flat_map(|entry| &entry.counters) {
            counters.count(*counter, len);
        }
    }
}

/// How much there is in tables.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sizes {
    groups: usize,
    entries: usize,
    masks: usize,
}

impl Sizes {
    fn of(table: &Table) -> Self {
        Self {
            groups: table.groups.len(),
            entries: table.entries.len(),
            masks: table.masks(),
        }
    }

    /// What there is if one table comes and another one goes.
    fn replaced(self, new: Self, old: Self) -> Self {
        Self {
            groups: self.groups + new.groups - old.groups,
            entries: self.entries + new.entries - old.entries,
            masks: self.masks + new.masks - old.masks,
        }
    }
}

/// Tables of one type: those of a function, of a port, or of the e-switch.
#[derive(Clone, Default, Debug)]
pub struct FlowTables {
    kind: Kind,
    tables: BTreeMap<u32, Table>,
    lowest: Lowest,
    /// Of all tables: a driver can have tens of thousands.
    sizes: Sizes,
    root: Option<u32>,
}

impl Numbered<u32, Table> for FlowTables {
    fn put(&mut self, number: u32, table: Option<Table>) -> Option<Table> {
        let new = table.as_ref().map_or_else(Sizes::default, Sizes::of);
        let before = match table {
            Some(table) => {
                self.lowest.taken(number);
                self.tables.insert(number, table)
            }
            None => self.tables.remove(&number),
        };
        if before.is_some() && !self.tables.contains_key(&number) {
            self.lowest.freed(number);
        }
        let old = before.as_ref().map_or_else(Sizes::default, Sizes::of);
        self.sizes = self.sizes.replaced(new, old);
        before
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

    fn table(&self, input: &[u8]) -> Result<&Table, Status> {
        self.check_type(input)?;
        let id = flow::TABLE.get(input) as u32;
        self.tables.get(&id).ok_or(Status::BadRes)
    }

    /// Changes a table.
    fn change<R>(
        &mut self,
        input: &[u8],
        change: impl FnOnce(&mut Table) -> Result<R, Status>,
    ) -> Result<R, Status> {
        self.check_type(input)?;
        let id = flow::TABLE.get(input) as u32;
        let table = self.tables.get_mut(&id).ok_or(Status::BadRes)?;
        let before = Sizes::of(table);
        let result = change(table);
        self.sizes = self.sizes.replaced(Sizes::of(table), before);
        result
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
        let table = Table::parse(input)?;
        if let Some(miss) = table.miss() {
            self.follows(table.level(), miss)?;
        }
        if self.tables.len() >= MAX_OBJECTS {
            return Err(Status::Lim);
        }
        let tables = &self.tables;
        let number = self.lowest.find(TABLES, |n| tables.contains_key(&n));
        let number = number.ok_or(Status::Lim)?;
        self.put(number, Some(table));
        Ok(number)
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
        self.change(input, |table| {
            flow::MISS_ACTION.set(&mut table.context, action);
            flow::MISS_ID.set(&mut table.context, miss);
            Ok(())
        })
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
        self.put(id, None);
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
        let table = self.table(input)?;
        let group = Group::parse(self.kind, input)?;
        table.check_group(&group)?;
        if self.sizes.groups >= 1 << LOG_MAX_ENTRIES
            || (self.sizes.masks >= MAX_MASKS && !table.has_mask(&group.mask))
        {
            return Err(Status::Lim);
        }
        self.change(input, |table| table.add_group(group).ok_or(Status::Lim))
    }

    /// DESTROY_FLOW_GROUP. [`Status::BadResState`] while it has entries.
    pub fn destroy_group(&mut self, input: &[u8]) -> Result<(), Status> {
        let id = flow::GROUP.get(input) as u32;
        self.change(input, |table| table.destroy_group(id))
    }

    /// SET_FLOW_TABLE_ENTRY; `exists` knows what is no table.
    pub fn set_entry(
        &mut self,
        op_mod: u64,
        input: &[u8],
        exists: impl Fn(Named) -> bool,
    ) -> Result<(), Status> {
        let kind = self.kind;
        let table = self.table(input)?;
        let level = table.level();
        let index = flow::INDEX.get(input) as u32;
        let context = input.get(flow::CONTEXT..).unwrap_or_default();
        kind.check_value(&key(context.get(flow::VALUE..).unwrap_or_default())?)?;
        // 0 makes one, 1 changes one.
        let is_new = match op_mod {
            0 => true,
            1 => false,
            _ => return Err(Status::BadParam),
        };
        let group = flow::CONTEXT_GROUP.get(context) as u32;
        table.check_entry(index, group, is_new)?;
        if is_new && self.sizes.entries >= 1 << LOG_MAX_ENTRIES {
            return Err(Status::Lim);
        }
        let entry = Entry::parse(kind, context)?;
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
        self.change(input, |table| {
            table.set_entry(index, entry);
            Ok(())
        })
    }

    /// DELETE_FLOW_TABLE_ENTRY.
    pub fn delete_entry(&mut self, input: &[u8]) -> Result<(), Status> {
        let index = flow::INDEX.get(input) as u32;
        match self.change(input, |table| Ok(table.delete_entry(index)))? {
            true => Ok(()),
            false => Err(Status::BadRes),
        }
    }

    /// All tables.
    pub fn tables(&self) -> &BTreeMap<u32, Table> {
        &self.tables
    }

    /// The table that frames come to first.
    pub fn root(&self) -> Option<u32> {
        self.root
    }

    /// Loads which one that is.
    pub fn load_root(&mut self, root: Option<u32>) {
        self.root = root;
    }

    /// Whether what packets go to, and what counts them, is there; `exists` knows what is no
    /// table.
    pub fn is_whole(&self, exists: impl Fn(Named) -> bool) -> bool {
        let root = self.root.is_none_or(|root| self.tables.contains_key(&root));
        let mut tables = self.tables.values();
        root && tables.all(|table| {
            let follows = |id| self.follows(table.level(), id).is_ok();
            let mut destinations = table.entries.values().flat_map(|entry| &entry.destinations);
            let mut counters = table.entries.values().flat_map(|entry| &entry.counters);
            table.miss().is_none_or(follows)
                && destinations.all(|destination| match *destination {
                    Destination::Table(id) => follows(id),
                    Destination::Tir(tir) => exists(Named::Tir(tir)),
                    Destination::Vport(port) => exists(Named::Vport(port)),
                })
                && counters.all(|counter| exists(Named::Counter(*counter)))
        })
    }

    /// Whether there are no more than commands can make in `states` states of a function.
    pub fn fit(&self, states: usize) -> bool {
        let counts = [self.sizes.entries, self.sizes.groups];
        self.sizes.masks <= MAX_MASKS * states
            && counts
                .iter()
                .all(|count| *count <= states << LOG_MAX_ENTRIES)
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
        self.find_headers(set).hits()
    }

    /// What there is for a packet with these headers.
    pub fn find_headers(&self, set: &[u8; headers::LEN]) -> Found<'_> {
        let mut key = [0; std::mem::size_of::<Key>()];
        key[..headers::LEN].copy_from_slice(set);
        self.find(&key)
    }

    /// How many different masks there are, counted in each table.
    pub fn masks(&self) -> usize {
        self.sizes.masks
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
            looks: 0,
        };
        let mut searched = BTreeMap::new();
        let mut next: Vec<u32> = self.root.into_iter().collect();
        for _ in 0..MAX_STEPS {
            let Some((id, table)) = next.pop().and_then(|id| Some((id, self.tables.get(&id)?)))
            else {
                break;
            };
            let matched = searched.entry(id).or_insert_with(|| {
                found.looks += table.masks();
                search(table)
            });
            let Some(entry) = *matched else {
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

#[cfg(test)]
mod tests;

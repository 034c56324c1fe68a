// SPDX-License-Identifier: GPL-2.0

//! A flow table: its groups, and their entries.

use super::{
    entry::{
        key,
        Entry, //
    },
    index::Index,
    kind::Kind,
    LOG_MAX_ENTRIES,
    LOG_MAX_SIZE, //
};
use crate::{
    encoded::{
        self,
        list_len,
        BYTE,
        U32, //
    },
    host::FunctionId,
    ifc::{
        ethernet::flow,
        Status, //
    },
    numbers::Lowest,
    packet::Key,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::{
    collections::BTreeMap,
    ops::RangeInclusive, //
};

/// Most entries, and most groups.
const MAX_ENTRIES: usize = 1 << LOG_MAX_ENTRIES;

/// Numbers of groups, in each table.
const GROUPS: std::ops::Range<u32> = 1..1 << 16;

/// MLX5_FLOW_TABLE_MISS_ACTION_FWD
pub const MISS_FORWARD: u64 = 1;

/// Entries of one mask.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    pub(super) first: u32,
    pub(super) last: u32,
    #[serde(with = "mask")]
    pub(super) mask: Key,
}

/// What a record has of a mask: a list of bytes.
mod mask {
    use super::Key;
    use crate::encoded;
    use serde::{
        de::Error,
        Deserializer,
        Serialize,
        Serializer, //
    };

    pub fn serialize<S: Serializer>(mask: &Key, to: S) -> Result<S::Ok, S::Error> {
        mask.as_slice().serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Key, D::Error> {
        let bytes = encoded::list::<D, u8, { size_of::<Key>() }>(from)?;
        bytes.try_into().map_err(|_| D::Error::custom("a mask"))
    }
}

impl Group {
    /// Most bytes in a record.
    const MAX_LEN: usize = 2 * U32 + list_len(size_of::<Key>(), BYTE);

    /// CREATE_FLOW_GROUP.
    pub fn parse(kind: Kind, input: &[u8]) -> Result<Self, Status> {
        let group = Self {
            first: flow::GROUP_START.get(input) as u32,
            last: flow::GROUP_END.get(input) as u32,
            mask: key(input.get(flow::MASK..).unwrap_or_default())?,
        };
        kind.check_mask(flow::CRITERIA.get(input), &group.mask)?;
        match flow::GROUP_TYPE.get(input) {
            0 => Ok(group),
            _ => Err(Status::BadParam),
        }
    }

    /// Whether one that was loaded is one that [`Self::parse`] could have made.
    fn is_sound(&self, kind: Kind) -> bool {
        self.first <= self.last && kind.check_mask(kind.criteria(), &self.mask).is_ok()
    }

    /// Indices that its entries can have.
    fn indices(&self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

/// A table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Table {
    pub(super) context: Vec<u8>,
    #[serde(deserialize_with = "encoded::map::<_, _, _, MAX_ENTRIES>")]
    pub(super) groups: BTreeMap<u32, Group>,
    #[serde(deserialize_with = "encoded::map::<_, _, _, MAX_ENTRIES>")]
    pub(super) entries: BTreeMap<u32, Entry>,
    /// Numbers of groups that are free.
    #[serde(skip)]
    lowest: Lowest,
    /// The last index of each group, by its first one.
    #[serde(skip)]
    ranges: BTreeMap<u32, u32>,
    #[serde(skip)]
    index: Index,
}

/// Checks a flow_table_context.
fn check(context: &[u8]) -> Result<(), Status> {
    if flow::TABLE_FLAGS.get(context) != 0
        || flow::MISS_ACTION.get(context) > MISS_FORWARD
        || flow::LOG_SIZE.get(context) > LOG_MAX_SIZE
    {
        return Err(Status::BadParam);
    }
    Ok(())
}

impl Saved for Table {
    const MAX_LEN: usize = list_len(flow::TABLE_CONTEXT_LEN, BYTE)
        + list_len(MAX_ENTRIES, U32 + Group::MAX_LEN)
        + list_len(MAX_ENTRIES, U32 + Entry::MAX_LEN);

    fn is_sound(&self) -> bool {
        let kind = Kind::NicReceive;
        self.context.len() == flow::TABLE_CONTEXT_LEN
            && check(&self.context).is_ok()
            && self.groups.keys().all(|number| GROUPS.contains(number))
            && self.groups.values().all(|group| group.is_sound(kind))
            && self.are_apart()
            && self.entries.iter().all(|(index, entry)| {
                let group = self.groups.get(&entry.group());
                group.is_some_and(|group| group.indices().contains(index)) && entry.is_sound(kind)
            })
    }

    fn belong(&mut self, _id: FunctionId) {
        self.arrange();
    }
}

impl Table {
    /// CREATE_FLOW_TABLE.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(flow::TABLE_CONTEXT..flow::TABLE_CONTEXT + flow::TABLE_CONTEXT_LEN);
        let table = Self {
            context: context.ok_or(Status::BadInputLen)?.to_vec(),
            groups: BTreeMap::new(),
            entries: BTreeMap::new(),
            lowest: Lowest::default(),
            ranges: BTreeMap::new(),
            index: Index::default(),
        };
        check(&table.context)?;
        Ok(table)
    }

    /// Whether its groups are within it, and do not overlap.
    fn are_apart(&self) -> bool {
        let groups = self.groups.values();
        let mut ranges: Vec<_> = groups.map(|group| (group.first, group.last)).collect();
        ranges.sort_unstable();
        let last = ranges.last();
        last.is_none_or(|(_, last)| u64::from(*last) < self.size())
            && ranges.is_sorted_by(|(_, last), (first, _)| last < first)
    }

    /// Makes all that follows from its groups and entries.
    pub(super) fn arrange(&mut self) {
        self.ranges.clear();
        self.index = Index::default();
        for group in self.groups.values() {
            self.ranges.insert(group.first, group.last);
            self.index.add_group(&group.mask);
        }
        for (index, entry) in &self.entries {
            if let Some(group) = self.groups.get(&entry.group()) {
                self.index.add_entry(&group.mask, &entry.value(), *index);
            }
        }
    }

    /// Its level: packets go to tables of higher ones.
    pub fn level(&self) -> u64 {
        flow::LEVEL.get(&self.context)
    }

    fn size(&self) -> u64 {
        1 << flow::LOG_SIZE.get(&self.context)
    }

    /// Where packets go that no entry is for.
    pub fn miss(&self) -> Option<u32> {
        let forwards = flow::MISS_ACTION.get(&self.context) == MISS_FORWARD;
        forwards.then_some(flow::MISS_ID.get(&self.context) as u32)
    }

    /// How many different masks its groups have.
    pub fn masks(&self) -> usize {
        self.index.masks()
    }

    /// Whether one of its groups has this mask.
    pub fn has_mask(&self, mask: &Key) -> bool {
        self.index.has(mask)
    }

    /// Checks that a group is within the table, and apart from all others.
    pub fn check_group(&self, group: &Group) -> Result<(), Status> {
        // Groups do not overlap: if one does not end before this one begins, the last one that
        // begins before its end does not.
        let before = self.ranges.range(..=group.last).next_back();
        let overlaps = before.is_some_and(|(_, last)| *last >= group.first);
        if group.first > group.last || u64::from(group.last) >= self.size() || overlaps {
            return Err(Status::BadParam);
        }
        Ok(())
    }

    /// Takes a group that was checked. Returns its number.
    pub fn add_group(&mut self, group: Group) -> Option<u32> {
        let groups = &self.groups;
        let number = self.lowest.find(GROUPS, |n| groups.contains_key(&n))?;
        self.lowest.taken(number);
        self.ranges.insert(group.first, group.last);
        self.index.add_group(&group.mask);
        self.groups.insert(number, group);
        Some(number)
    }

    /// DESTROY_FLOW_GROUP. [`Status::BadResState`] while it has entries.
    pub fn destroy_group(&mut self, number: u32) -> Result<(), Status> {
        let group = self.groups.get(&number).ok_or(Status::BadRes)?;
        if self.entries.range(group.indices()).next().is_some() {
            return Err(Status::BadResState);
        }
        self.index.remove_group(&group.mask);
        self.ranges.remove(&group.first);
        self.groups.remove(&number);
        self.lowest.freed(number);
        Ok(())
    }

    /// Checks that an entry can be at this index, and whether that is a new one.
    pub fn check_entry(&self, index: u32, entry_group: u32, is_new: bool) -> Result<(), Status> {
        let group = self.groups.get(&entry_group).ok_or(Status::BadRes)?;
        match is_new != self.entries.contains_key(&index) && group.indices().contains(&index) {
            true => Ok(()),
            false => Err(Status::BadParam),
        }
    }

    /// Takes an entry that was checked.
    pub fn set_entry(&mut self, index: u32, entry: Entry) {
        self.delete_entry(index);
        if let Some(group) = self.groups.get(&entry.group()) {
            self.index.add_entry(&group.mask, &entry.value(), index);
        }
        self.entries.insert(index, entry);
    }

    /// DELETE_FLOW_TABLE_ENTRY. Returns whether there was one.
    pub fn delete_entry(&mut self, index: u32) -> bool {
        let Some(entry) = self.entries.remove(&index) else {
            return false;
        };
        if let Some(group) = self.groups.get(&entry.group()) {
            self.index.remove_entry(&group.mask, &entry.value(), index);
        }
        true
    }

    /// The first entry that matches.
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(&self.index.find(key)?)
    }
}

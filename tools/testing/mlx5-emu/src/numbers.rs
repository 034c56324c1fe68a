// SPDX-License-Identifier: GPL-2.0

//! Numbers of objects: which there can be, and which are free.

use crate::{
    caps,
    commands::LOG_MAX_OBJECTS,
    encoded::{
        self,
        list_len,
        U32, //
    },
    flow_counter,
    objects::MAX_OBJECTS,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::{
    collections::BTreeSet,
    ops::Range, //
};

/// UAR pages of the PF, in the first 2 MiB of its BAR. The first one's number is that of a
/// ConnectX-4.
pub const PF_UARS: Range<u32> = 0x10..0x200;
/// UAR pages of a VF, in the first half of its BAR.
pub const VF_UARS: Range<u32> = 0x10..0x80;
/// Numbers of protection domains.
pub const PDS: Range<u32> = 1..1 << caps::LOG_MAX_PD;
/// Indices of mkeys.
pub const MKEYS: Range<u32> = 0x10..1 << caps::LOG_MAX_MKEY;
/// Numbers of event queues, from the first one of a ConnectX-4 on.
pub const EQS: Range<u32> = 0x10..0x100;
/// Numbers of completion queues.
pub const CQS: Range<u32> = 0x80..1 << caps::LOG_MAX_CQ;
/// First number of a queue pair.
pub const FIRST_QP: u32 = 0x40;
/// Numbers of queue pairs, whatever a driver has chosen.
pub const QPS: Range<u32> = FIRST_QP..1 << caps::LOG_MAX_QP;
/// Numbers of transport domains.
pub const DOMAINS: Range<u32> = 1..1 << LOG_MAX_OBJECTS;
/// Numbers of TISs.
pub const TISS: Range<u32> = 1..1 << LOG_MAX_OBJECTS;
/// Numbers of TIRs.
pub const TIRS: Range<u32> = 1..1 << LOG_MAX_OBJECTS;
/// Numbers of RQTs.
pub const RQTS: Range<u32> = 1..1 << LOG_MAX_OBJECTS;
/// Numbers of SQs: none that a QP can have.
pub const SQS: Range<u32> = 0x1_0000..0x1_0000 + (1 << LOG_MAX_OBJECTS);
/// Numbers of RQs: none that a QP can have.
pub const RQS: Range<u32> = 0x2_0000..0x2_0000 + (1 << LOG_MAX_OBJECTS);
/// Numbers of queue counters: 0 is none.
pub const Q_COUNTERS: Range<u32> = 1..0xff;
/// Numbers of flow counters.
pub const FLOW_COUNTERS: Range<u32> = 1..flow_counter::MAX + 1;

/// Finds the lowest free number without a look at each that is taken.
#[derive(Clone, Debug, Default)]
pub struct Lowest {
    /// No number of the range below this one is free but those in `free`.
    next: u32,
    free: BTreeSet<u32>,
}

impl Lowest {
    /// The lowest number of `range` that is not taken. The range of a kind always begins with
    /// the same number.
    pub fn find(&mut self, range: Range<u32>, is_taken: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(free) = self.free.range(range.clone()).next() {
            return Some(*free);
        }
        self.next = self.next.max(range.start);
        while self.next < range.end && is_taken(self.next) {
            self.next += 1;
        }
        (self.next < range.end).then_some(self.next)
    }

    /// A number is taken now.
    pub fn taken(&mut self, number: u32) {
        self.free.remove(&number);
    }

    /// A number that was taken is free.
    pub fn freed(&mut self, number: u32) {
        if number < self.next {
            self.free.insert(number);
        }
    }
}

/// Objects that are nothing but their numbers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Numbers {
    #[serde(deserialize_with = "encoded::set::<_, _, MAX_OBJECTS>")]
    taken: BTreeSet<u32>,
    #[serde(skip)]
    lowest: Lowest,
}

impl Saved for Numbers {
    const MAX_LEN: usize = list_len(MAX_OBJECTS, U32);

    fn is_sound(&self) -> bool {
        true
    }
}

impl Numbers {
    /// The lowest free number of `range`, now taken.
    pub fn alloc(&mut self, range: Range<u32>) -> Option<u32> {
        if self.taken.len() >= MAX_OBJECTS {
            return None;
        }
        let taken = &self.taken;
        let number = self.lowest.find(range, |n| taken.contains(&n))?;
        self.taken.insert(number);
        self.lowest.taken(number);
        Some(number)
    }

    /// Whether `number` is taken.
    pub fn has(&self, number: u32) -> bool {
        self.taken.contains(&number)
    }

    /// Gives a number back.
    pub fn free(&mut self, number: u32) -> bool {
        let was_taken = self.taken.remove(&number);
        if was_taken {
            self.lowest.freed(number);
        }
        was_taken
    }

    /// Whether none is taken that is not in `range`.
    pub fn are_within(&self, range: Range<u32>) -> bool {
        let ends = [self.taken.first(), self.taken.last()];
        ends.into_iter().flatten().all(|n| range.contains(n))
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_lowest_free_number_is_found_without_a_look_at_all() {
        let looks = Cell::new(0);
        let mut taken = BTreeSet::new();
        let mut lowest = Lowest::default();
        let mut alloc = |taken: &mut BTreeSet<u32>, freed: Option<u32>| {
            if let Some(freed) = freed {
                taken.remove(&freed);
                lowest.freed(freed);
            }
            let number = lowest.find(5..10_000, |n| {
                looks.set(looks.get() + 1);
                taken.contains(&n)
            });
            let number = number.unwrap();
            let before = taken.insert(number);
            assert!(before, "{number} is taken");
            lowest.taken(number);
            number
        };
        for number in 5..1005 {
            assert_eq!(alloc(&mut taken, None), number);
        }
        for _ in 0..1000 {
            assert_eq!(alloc(&mut taken, Some(7)), 7);
            assert_eq!(alloc(&mut taken, None), *taken.last().unwrap());
        }
        assert!(looks.get() <= 2 * taken.len(), "{looks:?}");
    }

    #[test]
    fn loaded_numbers_are_taken() {
        let mut numbers = Numbers {
            taken: [1, 2, 4].into(),
            lowest: Lowest::default(),
        };
        assert_eq!(numbers.alloc(1..6), Some(3));
        assert_eq!(numbers.alloc(1..6), Some(5));
        assert_eq!(numbers.alloc(1..6), None);
        assert!(numbers.free(2) && !numbers.free(2));
        assert_eq!(numbers.alloc(1..6), Some(2));
    }
}

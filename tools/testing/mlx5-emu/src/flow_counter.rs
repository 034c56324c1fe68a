// SPDX-License-Identifier: GPL-2.0

//! Flow counters of a function: what entries of flow tables count packets with.

use crate::{
    numbers,
    objects,
    pool::Numbered,
    vport::Traffic, //
};
use std::collections::BTreeMap;

/// Most counters (`max_flow_counter_15_0`).
pub const MAX: u32 = 1 << 12;
/// Most counters that one command reads, as a shift (`log_max_flow_counter_bulk`).
pub const LOG_MAX_BULK: u32 = 10;
/// The first number of several that one command reads is a multiple of this one.
const BULK_ALIGN: u32 = 4;

/// Counters by their numbers.
#[derive(Clone, Default, Debug)]
pub struct FlowCounters {
    counters: BTreeMap<u32, Traffic>,
}

impl Numbered<u32, Traffic> for FlowCounters {
    fn put(&mut self, number: u32, counter: Option<Traffic>) -> Option<Traffic> {
        self.counters.put(number, counter)
    }
}

impl FlowCounters {
    /// ALLOC_FLOW_COUNTER. Returns its number, or `None` if there are too many.
    pub fn alloc(&mut self) -> Option<u32> {
        let numbers = numbers::FLOW_COUNTERS;
        objects::insert(&mut self.counters, numbers, Traffic::default())
    }

    /// DEALLOC_FLOW_COUNTER. Returns whether there was one.
    pub fn dealloc(&mut self, number: u32) -> bool {
        self.counters.remove(&number).is_some()
    }

    /// Whether there is one.
    pub fn has(&self, number: u32) -> bool {
        self.counters.contains_key(&number)
    }

    /// QUERY_FLOW_COUNTER, which may start it anew.
    pub fn query(&mut self, number: u32, clear: bool) -> Option<Traffic> {
        let counter = self.counters.get_mut(&number)?;
        let traffic = *counter;
        if clear {
            *counter = Traffic::default();
        }
        Some(traffic)
    }

    /// QUERY_FLOW_COUNTER of `count` counters from `first` on. Where there is none, nothing was
    /// counted. Returns `None` if there cannot be such a query.
    pub fn query_bulk(&mut self, first: u32, count: u32, clear: bool) -> Option<Vec<Traffic>> {
        let is_possible = first % BULK_ALIGN == 0
            && first < numbers::FLOW_COUNTERS.end
            && count <= 1 << LOG_MAX_BULK;
        let numbers = is_possible.then(|| first..first + count)?;
        let query = |number| self.query(number, clear).unwrap_or_default();
        Some(numbers.map(query).collect())
    }

    /// Counts a packet of `len` bytes.
    pub fn count(&mut self, number: u32, len: usize) {
        if let Some(counter) = self.counters.get_mut(&number) {
            counter.count(len);
        }
    }

    /// All of them.
    pub fn all(&self) -> &BTreeMap<u32, Traffic> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_count_until_they_are_cleared() {
        let mut counters = FlowCounters::default();
        let (one, other) = (counters.alloc().unwrap(), counters.alloc().unwrap());
        assert_ne!(one, other);
        for len in [60, 100] {
            counters.count(one, len);
        }
        let counted = Traffic {
            frames: 2,
            octets: 160,
        };
        assert_eq!(counters.query(one, false), Some(counted));
        assert_eq!(counters.query(one, true), Some(counted));
        assert_eq!(counters.query(one, false), Some(Traffic::default()));
        assert_eq!(counters.query(other, false), Some(Traffic::default()));
        assert!(counters.dealloc(one) && !counters.dealloc(one));
        counters.count(one, 60);
        assert_eq!(counters.query(one, false), None);
        assert!(!counters.has(one) && counters.has(other));
        assert_eq!(counters.all().len(), 1);
    }

    #[test]
    fn several_are_read_at_once() {
        let mut counters = FlowCounters::default();
        let numbers = [1, 2, 3, 4, 5].map(|_| counters.alloc().unwrap());
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        for number in [1, 5, 5] {
            counters.count(number, 60);
        }
        counters.dealloc(3);
        let mut frames = |first, count, clear| {
            let counted = counters.query_bulk(first, count, clear)?;
            Some(counted.iter().map(|one| one.frames).collect::<Vec<_>>())
        };
        assert_eq!(frames(0, 8, false).unwrap(), [0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(frames(4, 2, true).unwrap(), [0, 2]);
        assert_eq!(frames(0, 6, false).unwrap(), [0, 1, 0, 0, 0, 0]);
        let most = 1 << LOG_MAX_BULK;
        assert_eq!(frames(MAX, most, false).unwrap().len(), most as usize);
        for (first, count) in [(1, 4), (0, most + 1), (MAX + 4, 1), (!3, 4)] {
            assert_eq!(frames(first, count, false), None);
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let mut counters = FlowCounters::default();
        assert!((0..MAX).all(|_| counters.alloc().is_some()));
        assert_eq!(counters.alloc(), None);
    }
}

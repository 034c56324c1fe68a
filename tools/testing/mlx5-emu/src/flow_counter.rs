// SPDX-License-Identifier: GPL-2.0

//! Flow counters: what entries of flow tables count packets with.

use crate::{
    objects,
    vport::Traffic, //
};
use std::collections::BTreeMap;

/// Most counters (`max_flow_counter_15_0`).
pub const MAX: u32 = 1 << 12;
/// Their numbers.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=MAX;

/// Counters by their numbers.
#[derive(Clone, Default, Debug)]
pub struct FlowCounters {
    counters: BTreeMap<u32, Traffic>,
}

impl FlowCounters {
    /// ALLOC_FLOW_COUNTER. Returns its number, or `None` if there are too many.
    pub fn alloc(&mut self) -> Option<u32> {
        objects::insert(&mut self.counters, NUMBERS, Traffic::default())
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

    /// Counts a packet of `len` bytes.
    pub fn count(&mut self, number: u32, len: usize) {
        if let Some(counter) = self.counters.get_mut(&number) {
            counter.count(len);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
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
        assert_eq!(counters.len(), 1);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut counters = FlowCounters::default();
        assert!((0..MAX).all(|_| counters.alloc().is_some()));
        assert_eq!(counters.alloc(), None);
    }
}

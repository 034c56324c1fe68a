// SPDX-License-Identifier: GPL-2.0

use crate::remainder::{
    tests::{
        piece,
        PAGE, //
    },
    Remainder, //
};
use proptest::{
    collection::vec,
    prelude::*, //
};
use std::collections::BTreeSet;

/// A tracker that forgets what it has reported, and reports whole pages.
#[derive(Default)]
struct Tracker(BTreeSet<u64>);

impl Tracker {
    fn report(&mut self, first: u64, last: u64) -> Vec<u64> {
        let (first, last) = (first / PAGE, last / PAGE);
        let reported: Vec<u64> = self.0.range(first..=last).copied().collect();
        self.0.retain(|page| !reported.contains(page));
        reported.into_iter().map(|page| page * PAGE).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Report(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..600u64).prop_map(Step::Write);
    let report = (0..600u64, 1..50u64).prop_map(|(first, len)| Step::Report(first, len));
    vec(prop_oneof![write, report], 1..200)
}

proptest! {
    /// Whatever was written is in the next report about it, however that cuts pages.
    #[test]
    fn nothing_dirty_is_lost(steps in steps()) {
        let (mut tracker, mut remainder) = (Tracker::default(), Remainder::new());
        let mut dirty = BTreeSet::new();
        for step in steps {
            match step {
                Step::Write(address) => {
                    tracker.0.insert(address / PAGE);
                    dirty.insert(address);
                }
                Step::Report(first, len) => {
                    let asked = piece(first, first + len - 1);
                    let mut reported = BTreeSet::new();
                    for kept in remainder.find(asked) {
                        reported.extend(kept.first..=kept.last);
                    }
                    remainder.forget(asked);
                    for page in tracker.report(asked.first, asked.last) {
                        reported.extend(page..page + PAGE);
                        remainder.keep(page, asked, PAGE);
                    }
                    for address in asked.first..=asked.last {
                        prop_assert!(!dirty.remove(&address) || reported.contains(&address));
                    }
                }
            }
        }
    }
}

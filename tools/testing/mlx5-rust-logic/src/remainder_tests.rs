// SPDX-License-Identifier: GPL-2.0

use crate::{
    remainder::{Piece, Remainder},
    report::{Batch, Run},
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

const PAGE: u64 = 16;

fn piece(first: u64, last: u64) -> Piece {
    Piece { first, last }
}

/// The page with a number, as the tracker reports it.
fn page(number: u64) -> Run {
    Run {
        start: number * PAGE,
        len: PAGE,
    }
}

fn taken(remainder: &mut Remainder, first: u64, last: u64) -> Vec<Piece> {
    let mut batch = Batch::new();
    remainder.find(piece(first, last), &mut batch);
    remainder.forget(piece(first, last));
    let run = |run: &Run| piece(run.start, run.start + (run.len - 1));
    batch.runs().iter().map(run).collect()
}

#[test]
fn the_rest_of_a_page_is_kept_until_it_is_asked_for() {
    let mut remainder = Remainder::new();
    remainder.keep(&[page(2)], piece(36, 39), PAGE);
    assert_eq!(taken(&mut remainder, 36, 39), []);
    assert_eq!(taken(&mut remainder, 0, 33), [piece(32, 33)]);
    assert_eq!(taken(&mut remainder, 40, 40), [piece(40, 40)]);
    assert_eq!(
        taken(&mut remainder, 0, u64::MAX),
        [piece(34, 35), piece(41, 47)]
    );
    assert_eq!(taken(&mut remainder, 0, u64::MAX), []);
}

#[test]
fn a_report_that_fails_takes_nothing() {
    let mut remainder = Remainder::new();
    remainder.keep(&[page(0)], piece(0, 3), PAGE);
    let mut batch = Batch::new();
    remainder.find(piece(0, 7), &mut batch);
    assert_eq!(batch.runs(), [Run { start: 4, len: 4 }]);
    assert_eq!(taken(&mut remainder, 0, u64::MAX), [piece(4, 15)]);
}

#[test]
fn whole_pages_leave_nothing() {
    let mut remainder = Remainder::new();
    let long = Run {
        start: 0,
        len: 100 * PAGE,
    };
    // A run of a report before this one is not this one's.
    remainder.keep(&[long], piece(2 * PAGE, 4 * PAGE - 1), PAGE);
    let empty = Run { start: 5, len: 0 };
    remainder.keep(&[empty], piece(0, 3), PAGE);
    assert_eq!(taken(&mut remainder, 0, u64::MAX), []);
}

#[test]
fn the_last_page_of_all() {
    let mut remainder = Remainder::new();
    remainder.keep(&[page(u64::MAX / PAGE)], piece(0, u64::MAX - 4), PAGE);
    assert_eq!(
        taken(&mut remainder, 0, u64::MAX),
        [piece(u64::MAX - 3, u64::MAX)]
    );
}

/// A tracker that forgets what it has reported, and reports whole pages.
#[derive(Default)]
struct Tracker(BTreeSet<u64>);

impl Tracker {
    fn report(&mut self, first: u64, last: u64) -> Vec<Run> {
        let (first, last) = (first / PAGE, last / PAGE);
        let reported: Vec<u64> = self.0.range(first..=last).copied().collect();
        self.0.retain(|page| !reported.contains(page));
        reported.into_iter().map(page).collect()
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
                    for kept in taken(&mut remainder, asked.first, asked.last) {
                        reported.extend(kept.first..=kept.last);
                    }
                    let runs = tracker.report(asked.first, asked.last);
                    for run in &runs {
                        reported.extend(run.start..run.start + run.len);
                    }
                    remainder.keep(&runs, asked, PAGE);
                    for address in asked.first..=asked.last {
                        prop_assert!(!dirty.remove(&address) || reported.contains(&address));
                    }
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

use crate::remainder::{Piece, Remainder};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

const PAGE: u64 = 16;

fn piece(first: u64, last: u64) -> Piece {
    Piece { first, last }
}

fn found(remainder: &Remainder, first: u64, last: u64) -> Vec<Piece> {
    remainder.find(piece(first, last)).collect()
}

fn taken(remainder: &mut Remainder, first: u64, last: u64) -> Vec<Piece> {
    let found = found(remainder, first, last);
    remainder.forget(piece(first, last));
    found
}

#[test]
fn the_rest_of_a_page_is_kept_until_it_is_asked_for() {
    let mut remainder = Remainder::new();
    remainder.keep(2 * PAGE, piece(36, 39), PAGE);
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
    remainder.keep(0, piece(0, 3), PAGE);
    assert_eq!(found(&remainder, 0, 7), [piece(4, 7)]);
    assert_eq!(taken(&mut remainder, 0, u64::MAX), [piece(4, 15)]);
}

#[test]
fn whole_pages_leave_nothing() {
    let mut remainder = Remainder::new();
    assert!(!Remainder::is_part(piece(2 * PAGE, 4 * PAGE - 1), PAGE));
    assert!(Remainder::is_part(piece(2 * PAGE, 4 * PAGE - 2), PAGE));
    assert!(Remainder::is_part(piece(2 * PAGE + 1, 4 * PAGE - 1), PAGE));
    // A page of a report before this one is not this one's.
    for page in 0..100 {
        remainder.keep(page * PAGE, piece(2 * PAGE, 4 * PAGE - 1), PAGE);
    }
    assert!(!remainder.is_used());
    remainder.keep(0, piece(0, 3), PAGE);
    assert!(remainder.is_used());
}

#[test]
fn the_last_page_of_all() {
    let mut remainder = Remainder::new();
    remainder.keep(u64::MAX / PAGE * PAGE, piece(0, u64::MAX - 4), PAGE);
    assert_eq!(
        taken(&mut remainder, 0, u64::MAX),
        [piece(u64::MAX - 3, u64::MAX)]
    );
}

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
                    for kept in taken(&mut remainder, asked.first, asked.last) {
                        reported.extend(kept.first..=kept.last);
                    }
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

// SPDX-License-Identifier: GPL-2.0

//! [`dirty_pages`](crate::dirty_pages): whatever a device reports, just that is set of what was
//! asked about, with few calls.

use crate::dirty_pages::{set_pages, Addresses, Span, BLOCK};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

const PAGE: u64 = 4096;

struct List<'a>(&'a [u64]);

impl Addresses for List<'_> {
    fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
        self.0.chunks_exact(BLOCK).nth(index)?.try_into().ok()
    }

    fn get(&self, index: usize) -> Option<u64> {
        self.0.get(index).copied()
    }
}

/// The calls for these addresses, each of which must be for a part of the span.
fn calls(addresses: &[u64], page_size: u64, span: Span) -> Vec<(u64, u64)> {
    let mut calls = Vec::new();
    set_pages(&List(addresses), page_size, span, |start, len| {
        let last = start.checked_add(len.checked_sub(1).expect("nothing is set"));
        let last = last.expect("around the address space");
        assert!(
            start >= span.start && last <= span.last,
            "{start:#x}+{len:#x}"
        );
        calls.push((start, len));
    });
    calls
}

/// The calls for the pages with these numbers, in pages.
fn page_calls(numbers: &[u64]) -> Vec<(u64, u64)> {
    let addresses: Vec<u64> = numbers.iter().map(|number| number * PAGE).collect();
    let all = Span {
        start: 0,
        last: (1 << 40) - 1,
    };
    let calls = calls(&addresses, PAGE, all);
    calls
        .iter()
        .map(|(start, len)| (start / PAGE, len / PAGE))
        .collect()
}

#[test]
fn pages_that_follow_each_other_are_set_together() {
    let all: Vec<u64> = (7..107).collect();
    assert_eq!(page_calls(&all), [(7, 100)]);
    assert_eq!(page_calls(&[3, 4, 5, 9]), [(3, 3), (9, 1)]);
    assert_eq!(page_calls(&[3, 4, 9]), [(3, 2), (9, 1)]);
    // Not across the border of two blocks that have lone pages.
    assert_eq!(
        page_calls(&[1, 2, 3, 5, 6, 8, 9, 12]),
        [(1, 3), (5, 1), (6, 1), (8, 2), (12, 1)]
    );
}

#[test]
fn lone_pages_are_set_one_by_one() {
    let lone: Vec<u64> = (0..100).map(|i| 3 * i).collect();
    let expected: Vec<(u64, u64)> = lone.iter().map(|page| (*page, 1)).collect();
    assert_eq!(page_calls(&lone), expected);
    let back: Vec<u64> = lone.into_iter().rev().collect();
    assert_eq!(page_calls(&back).len(), 100);
}

#[test]
fn a_run_goes_on_behind_lone_pages() {
    assert_eq!(
        page_calls(&[1, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 20, 22, 24, 26]),
        [
            (1, 1),
            (3, 1),
            (5, 1),
            (7, 1),
            (9, 8),
            (20, 1),
            (22, 1),
            (24, 1),
            (26, 1)
        ]
    );
    // The block behind a run begins with a page of the run, and is else one of lone pages.
    assert_eq!(
        page_calls(&[1, 2, 3, 4, 5, 7, 9, 11]),
        [(1, 5), (7, 1), (9, 1), (11, 1)]
    );
}

#[test]
fn what_is_outside_of_the_span_is_left_out() {
    let span = Span {
        start: 2 * PAGE + 16,
        last: 5 * PAGE + 15,
    };
    let addresses: Vec<u64> = (0..9).map(|page| page * PAGE).collect();
    assert_eq!(calls(&addresses, PAGE, span), [(span.start, 3 * PAGE)]);
    let lone: Vec<u64> = (0..8).map(|page| 2 * page * PAGE).collect();
    assert_eq!(
        calls(&lone, PAGE, span),
        [(span.start, PAGE - 16), (4 * PAGE, PAGE)]
    );
    assert_eq!(calls(&[0], 1 << 30, span), [(span.start, 3 * PAGE)]);
}

#[test]
fn pages_at_both_ends_of_the_address_space_are_no_run() {
    let top = u64::MAX - PAGE + 1;
    let all = Span {
        start: 0,
        last: u64::MAX - 1,
    };
    assert_eq!(
        calls(&[top - PAGE, top, 0, PAGE], PAGE, all),
        [(top - PAGE, 2 * PAGE - 1), (0, 2 * PAGE)]
    );
    assert_eq!(calls(&[top], PAGE, all), [(top, PAGE - 1)]);
}

#[test]
fn addresses_that_no_page_has_do_no_harm() {
    let top = u64::MAX - PAGE / 2;
    let all = Span {
        start: 0,
        last: u64::MAX - 1,
    };
    for block in [
        [top, 0, 2 * PAGE, 4 * PAGE],
        [0, top, 0, 2 * PAGE],
        [1, 2, 3, top],
    ] {
        calls(&block, PAGE, all);
    }
    for page_size in [0, 1, 1 << 63, u64::MAX] {
        calls(&[0, 1 << 20, 1 << 40, 1 << 62], page_size, all);
    }
}

proptest! {
    #[test]
    fn all_that_is_reported_is_set_and_nothing_else(
        mut numbers in vec(0u64..200, 0..200),
        ascending: bool,
        first in 0u64..100,
        count in 1u64..200,
    ) {
        if ascending {
            numbers.sort_unstable();
        }
        let span = Span { start: first * PAGE, last: (first + count) * PAGE - 1 };
        let addresses: Vec<u64> = numbers.iter().map(|number| number * PAGE).collect();
        let calls = calls(&addresses, PAGE, span);
        let set: BTreeSet<u64> = calls
            .iter()
            .flat_map(|(start, len)| start / PAGE..(start + len) / PAGE)
            .collect();
        let asked = |number: &u64| (first..first + count).contains(number);
        let expected: BTreeSet<u64> = numbers.iter().copied().filter(asked).collect();
        prop_assert_eq!(set, expected);
        prop_assert!(calls.len() <= numbers.len());
    }

    #[test]
    fn whatever_addresses_come_are_covered(
        addresses in vec(prop_oneof![any::<u64>(), 0u64..50_000, u64::MAX - 50_000..], 0..40),
    ) {
        let all = Span { start: 0, last: u64::MAX - 1 };
        let calls = calls(&addresses, PAGE, all);
        for address in addresses {
            for at in [address, address.saturating_add(PAGE - 1)] {
                let covered = calls.iter().any(|(start, len)| {
                    at.checked_sub(*start).is_some_and(|offset| offset < *len)
                });
                prop_assert!(covered || at == u64::MAX, "{at:#x}");
            }
        }
    }

    #[test]
    fn only_parts_of_the_span_are_set(
        addresses in vec(prop_oneof![any::<u64>(), 0u64..100_000], 0..40),
        page_size: u64,
        start: u64,
        last: u64,
    ) {
        let (start, last) = (start.min(last), start.max(last));
        prop_assume!((start, last) != (0, u64::MAX));
        calls(&addresses, page_size, Span { start, last });
        calls(&addresses, PAGE, Span { start, last });
    }
}

// SPDX-License-Identifier: GPL-2.0

//! [`dirty_pages`](crate::dirty_pages): the bits that are set are those of the reported
//! addresses within the range, and no others.

use crate::dirty_pages::{
    set_pages,
    tests::{
        List,
        ALL,
        PAGE, //
    },
    Span, //
};
use proptest::{
    collection::vec,
    prelude::*, //
};
use std::collections::BTreeSet;

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
        let calls = calls(&addresses, PAGE, ALL);
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

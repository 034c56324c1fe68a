// SPDX-License-Identifier: GPL-2.0

//! [`report`](crate::report): whatever a device sends, all messages are handed out, in
//! batches, before the device gets their memory back, and a report comes to an end.

use crate::{
    cqe::State,
    report::{
        tests::{
            finish,
            Ring,
            Sent, //
        },
        Report, //
    },
};
use proptest::prelude::*;

/// Cuts pages into the messages of a report.
fn messages(pages: usize, entries: usize) -> Vec<Sent> {
    let mut messages = vec![(entries, State::Reporting); pages / entries];
    messages.push((pages % entries, State::Tracking));
    messages
}

proptest! {
    #[test]
    fn all_messages_are_handed_out(
        pages in 0usize..600,
        entries in 1usize..100,
        slots in 1usize..20,
        slow: bool,
    ) {
        let messages = messages(pages, entries);
        let reports = [&messages[..]];
        let mut ring = Ring::new(&reports);
        (ring.slots, ring.slow) = (slots, slow);
        let mut report = Report::new();
        report.begin(0, 600, (entries * slots) as u64);
        let (seen, end) = finish(&mut report, &mut ring);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(seen.entries, pages);
        let all = messages.len();
        prop_assert_eq!((ring.sent, ring.released, ring.posted), (all, all, all));
        prop_assert!(ring.outgoing.is_empty());
        prop_assert_eq!(ring.faults.get(), 0);
    }
}

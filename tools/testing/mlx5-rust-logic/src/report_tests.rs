// SPDX-License-Identifier: GPL-2.0

//! [`report`](crate::report): whatever a device sends, all messages are handed out, in
//! batches, before the device gets their memory back, and a report comes to an end.

use crate::{
    cqe::{Message, State},
    report::{Batch, Failed, Fault, Progress, Report, Tracker},
};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

const PAGE: u64 = 4096;

/// A device with a ring of messages; what has room is sent before the driver looks.
#[derive(Default)]
struct Ring {
    /// Messages of the report after each request.
    reports: VecDeque<Vec<(Vec<u64>, State)>>,
    /// Messages that have no room yet.
    outgoing: VecDeque<(Vec<u64>, State)>,
    /// Sent, and not given back.
    sent: VecDeque<(Vec<u64>, State)>,
    /// Most messages that are sent.
    slots: usize,
    requests: Vec<u64>,
    /// Another message is sent only after a wait.
    slow: bool,
    released: usize,
    posted: usize,
    /// An event is raised for the next message.
    armed: bool,
    refuses: bool,
    fails: bool,
    /// The memory for messages is gone.
    forgotten: bool,
}

impl Ring {
    fn new(reports: impl IntoIterator<Item = Vec<(Vec<u64>, State)>>) -> Self {
        Self {
            reports: reports.into_iter().collect(),
            slots: 4,
            ..Self::default()
        }
    }

    fn send(&mut self) {
        while self.sent.len() < self.slots {
            let Some(message) = self.outgoing.pop_front() else {
                return;
            };
            self.sent.push_back(message);
            if self.slow {
                return;
            }
        }
    }
}

impl Tracker for Ring {
    type Range = u64;
    type Error = &'static str;

    fn request(&mut self, range: u64) -> Result<(), &'static str> {
        if self.refuses {
            return Err("refused");
        }
        assert!(
            self.outgoing.is_empty() && self.sent.is_empty(),
            "a report in a report"
        );
        self.requests.push(range);
        self.outgoing = self.reports.pop_front().unwrap_or_default().into();
        Ok(())
    }

    fn spare(&self) -> u32 {
        self.slots as u32
    }

    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed> {
        if self.fails && index == 0 {
            return Err(Failed);
        }
        if !self.slow {
            self.send();
        }
        let message = self.sent.get(index as usize);
        Ok(message.map(|(entries, state)| Message {
            slot: ((self.released + index as usize) % self.slots) as u32,
            len: entries.len() * 8,
            state: *state,
        }))
    }

    fn arm(&mut self) {
        self.armed = true;
    }

    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed> {
        assert!(!messages.is_empty());
        match self.forgotten {
            true => Err(Failed),
            false => Ok(()),
        }
    }

    fn release(&mut self, count: u32) {
        for _ in 0..count {
            self.sent.pop_front().expect("nothing to release");
        }
        self.released += count as usize;
    }

    fn post(&mut self) {
        assert!(
            self.posted < self.released,
            "the completion queue can overrun"
        );
        self.posted = self.released;
        if !self.slow {
            self.send();
        }
    }
}

/// Cuts entries into the messages of a report.
fn messages(pages: &[u64], entries: usize) -> Vec<(Vec<u64>, State)> {
    let mut messages: Vec<_> = pages
        .chunks(entries)
        .map(|chunk| {
            (
                chunk.iter().map(|page| page * PAGE).collect(),
                State::Reporting,
            )
        })
        .collect();
    if messages.is_empty() {
        messages.push((Vec::new(), State::Reporting));
    }
    messages.last_mut().unwrap().1 = State::Tracking;
    messages
}

/// What a report has said.
#[derive(Default, Debug, PartialEq)]
struct Seen {
    pages: Vec<u64>,
    batches: usize,
    waits: usize,
}

impl Seen {
    /// The pages, in order.
    fn pages(&self) -> BTreeSet<u64> {
        self.pages.iter().copied().collect()
    }

    /// Takes what the messages in a batch say, which the device must not have overwritten.
    fn take(&mut self, ring: &Ring, batch: &Batch) {
        let slot = |message: &Message| message.slot as usize;
        for message in batch.messages() {
            assert!(message.len > 0);
            let oldest = ring.released % ring.slots;
            let index = (slot(message) + ring.slots - oldest) % ring.slots;
            let (entries, _) = &ring.sent[index];
            assert_eq!(entries.len() * 8, message.len);
            self.pages
                .extend(entries.iter().map(|address| address / PAGE));
        }
        self.batches += 1;
    }
}

/// Takes all batches of a report.
fn finish(report: &mut Report<u64>, ring: &mut Ring) -> (Seen, Result<(), Fault<&'static str>>) {
    let mut seen = Seen::default();
    let mut batch = Batch::new();
    loop {
        let progress = report.next_batch(ring, &mut batch);
        let more = progress == Ok(Progress::More);
        assert!(more || batch.messages().is_empty(), "{progress:?}");
        match progress {
            Ok(Progress::Done) => return (seen, Ok(())),
            Ok(Progress::More) => seen.take(ring, &batch),
            Ok(Progress::Wait) => {
                assert!(std::mem::take(&mut ring.armed), "no event would come");
                seen.waits += 1;
                ring.send();
                assert!(!ring.sent.is_empty(), "nothing will ever come");
            }
            Err(fault) => return (seen, Err(fault)),
        }
    }
}

#[test]
fn nothing_is_reported_before_it_was_asked_for() {
    let mut ring = Ring::new([messages(&[1], 8)]);
    let (seen, end) = finish(&mut Report::new(), &mut ring);
    assert_eq!((seen, end), (Seen::default(), Ok(())));
    assert!(ring.requests.is_empty());
}

#[test]
fn an_empty_report_is_complete() {
    let mut ring = Ring::new([messages(&[], 8)]);
    let mut report = Report::new();
    report.begin(7, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen, end), (Seen::default(), Ok(())));
    assert_eq!((ring.requests, ring.released), (vec![7], 1));
}

#[test]
fn messages_are_handed_out_in_batches() {
    let pages: Vec<u64> = (0..100).collect();
    let mut ring = Ring::new([messages(&pages, 1)]);
    ring.slots = 32;
    let mut report = Report::new();
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!(end, Ok(()));
    assert_eq!(
        (seen.pages, seen.batches),
        (pages, 100_usize.div_ceil(Batch::ROOM))
    );
    assert_eq!((ring.released, ring.posted), (100, 100));
}

#[test]
fn the_device_keeps_what_it_cannot_spare() {
    let pages: Vec<u64> = (0..9).collect();
    let mut ring = Ring::new([messages(&pages, 1)]);
    ring.slots = 2;
    let mut report = Report::new();
    report.begin(0, 100, 2);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages, seen.batches, end), (pages, 5, Ok(())));
}

#[test]
fn empty_messages_are_not_handed_out() {
    let message = |pages: &[u64], state| (pages.iter().map(|p| p * PAGE).collect(), state);
    let mut ring = Ring::new([vec![
        message(&[], State::Reporting),
        message(&[3], State::Reporting),
        message(&[], State::Reporting),
        message(&[5, 6], State::Reporting),
        message(&[], State::Tracking),
    ]]);
    ring.slots = 8;
    let mut report = Report::new();
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages, seen.batches, end), (vec![3, 5, 6], 1, Ok(())));
    assert_eq!((ring.released, ring.posted), (5, 5));
}

#[test]
fn a_slow_device_is_waited_for() {
    let mut ring = Ring::new([messages(&[1, 3, 5, 7], 1)]);
    ring.slow = true;
    let mut report = Report::new();
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages(), end), (BTreeSet::from([1, 3, 5, 7]), Ok(())));
    assert_eq!(seen.waits, 4);
}

#[test]
fn a_request_that_is_refused_has_no_effect() {
    let mut ring = Ring::new([messages(&[1], 8)]);
    let mut report = Report::new();
    ring.refuses = true;
    report.begin(1, 100, 32);
    assert_eq!(
        finish(&mut report, &mut ring).1,
        Err(Fault::Refused("refused"))
    );
    ring.refuses = false;
    report.begin(2, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages(), end), (BTreeSet::from([1]), Ok(())));
    assert_eq!(ring.requests, [2]);
}

#[test]
fn a_tracker_that_fails_says_so_after_its_pages() {
    let mut ring = Ring::new([vec![
        (vec![PAGE], State::Reporting),
        (vec![5 * PAGE], State::Failed),
    ]]);
    let mut report = Report::new();
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!(seen.pages(), BTreeSet::from([1, 5]));
    assert_eq!(end, Err(Fault::Failed));
    ring.fails = true;
    report.begin(0, 100, 32);
    assert_eq!(finish(&mut report, &mut ring).1, Err(Fault::Failed));
}

#[test]
fn a_message_that_cannot_be_read_any_more_does_not_end_well() {
    let mut ring = Ring::new([messages(&[1, 2], 8)]);
    ring.forgotten = true;
    let mut report = Report::new();
    let mut batch = Batch::new();
    report.begin(0, 100, 32);
    assert_eq!(report.next_batch(&mut ring, &mut batch), Err(Fault::Failed));
    assert_eq!(ring.released, 0);
}

#[test]
fn a_page_that_comes_ten_times_is_no_error() {
    let pages: Vec<u64> = (0..10).flat_map(|_| 0..100).collect();
    let mut ring = Ring::new([messages(&pages, 8)]);
    let mut report = Report::new();
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages(), end), ((0..100).collect(), Ok(())));
}

#[test]
fn a_flood_ends_one_report_only() {
    // Two reports end while the first request is still being answered.
    let flood: Vec<u64> = (0..40).flat_map(|_| 0..100).collect();
    let mut ring = Ring::new([messages(&flood, 8), messages(&[1, 2], 8)]);
    let mut report = Report::new();
    let mut faults = 0;
    loop {
        report.begin(7, 100, 32);
        let (seen, end) = finish(&mut report, &mut ring);
        assert!(!seen.pages().is_empty());
        match end {
            Err(Fault::Flood) => faults += 1,
            end => {
                assert_eq!(end, Ok(()));
                break;
            }
        }
    }
    assert_eq!(faults, 1);
    assert_eq!(ring.requests, [7, 7]);
    assert!(ring.outgoing.is_empty() && ring.sent.is_empty());
}

#[test]
fn empty_messages_are_a_flood_too() {
    let mut ring = Ring::new([(0..100_000).map(|_| (vec![], State::Reporting)).collect()]);
    let mut report = Report::new();
    report.begin(0, 100, 32);
    assert_eq!(finish(&mut report, &mut ring).1, Err(Fault::Flood));
    assert!(ring.released < 10_000);
}

#[test]
fn a_report_that_was_left_is_finished_by_the_next_one() {
    let pages: Vec<u64> = (0..20).collect();
    let mut ring = Ring::new([messages(&pages, 2), messages(&[500], 8)]);
    let mut report = Report::new();
    let mut batch = Batch::new();
    let mut seen = Seen::default();
    report.begin(1, 400, 400);
    assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
    seen.take(&ring, &batch);
    report.begin(2, 400, 400);
    // The tracker keeps what is beyond the range that its messages are about.
    assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
    assert_eq!(report.asked(), Some(1));
    seen.take(&ring, &batch);
    let (rest, end) = finish(&mut report, &mut ring);
    assert_eq!((ring.requests, end), (vec![1, 2], Ok(())));
    seen.pages.extend(rest.pages);
    assert_eq!(seen.pages, (0..20).chain([500]).collect::<Vec<u64>>());
    assert_eq!(report.asked(), Some(2));
}

#[test]
fn whoever_reports_is_asked_between_empty_messages() {
    let mut ring = Ring::new([(0..100).map(|_| (vec![], State::Reporting)).collect()]);
    let mut report = Report::new();
    let mut batch = Batch::new();
    report.begin(0, 100, 32);
    for batches in 1..=100 / ring.slots {
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
        assert!(batch.messages().is_empty());
        assert!(ring.released < batches * ring.slots);
    }
}

proptest! {
    #[test]
    fn all_messages_are_handed_out(
        pages in prop::collection::vec(0u64..600, 0..600),
        entries in 1usize..100,
        slots in 1usize..20,
        slow: bool,
    ) {
        let mut ring = Ring { slots, slow, ..Ring::new([messages(&pages, entries)]) };
        let mut report = Report::new();
        report.begin(0, 600, (entries * slots) as u64);
        let (seen, end) = finish(&mut report, &mut ring);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(seen.pages, pages);
        prop_assert!(ring.sent.is_empty() && ring.outgoing.is_empty());
        prop_assert_eq!(ring.posted, ring.released);
    }
}

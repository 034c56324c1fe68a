// SPDX-License-Identifier: GPL-2.0

//! [`report`](crate::report): whatever a device sends, all dirty pages are
//! reported, in batches, and a report comes to an end.

use crate::{
    cqe::{Message, State},
    report::{Batch, Device, Failed, Fault, Progress, Report, Run},
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
    /// Most entries that are looked at together.
    piece: usize,
    requests: Vec<u64>,
    /// Another message is sent only after a wait.
    slow: bool,
    released: usize,
    posted: usize,
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
            piece: 8,
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

impl Device for Ring {
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

    fn message(&mut self) -> Result<Option<Message>, Failed> {
        if self.fails {
            return Err(Failed);
        }
        if !self.slow {
            self.send();
        }
        Ok(self.sent.front().map(|(entries, state)| Message {
            slot: (self.released % self.slots) as u32,
            len: entries.len() * 8,
            state: *state,
        }))
    }

    fn extend(
        &self,
        batch: &mut Batch,
        page_size: u64,
        message: &Message,
        from: usize,
    ) -> Result<usize, Failed> {
        if self.forgotten {
            return Err(Failed);
        }
        assert_eq!(message.slot as usize, self.released % self.slots);
        let entries = &self.sent[0].0;
        let end = entries.len().min((from / self.piece + 1) * self.piece);
        Ok(batch.extend(page_size, entries[from..end].iter().copied()))
    }

    fn release(&mut self) {
        self.sent.pop_front().expect("nothing to release");
        self.released += 1;
    }

    fn post(&mut self) {
        self.posted += 1;
        assert!(
            self.posted <= self.released,
            "the completion queue can overrun"
        );
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
    runs: Vec<Run>,
    batches: usize,
    waits: usize,
}

impl Seen {
    fn pages(&self) -> BTreeSet<u64> {
        let pages = |run: &Run| run.start / PAGE..(run.start + run.len) / PAGE;
        self.runs.iter().flat_map(pages).collect()
    }
}

/// Takes all batches of a report.
fn finish(report: &mut Report<u64>, ring: &mut Ring) -> (Seen, Result<(), Fault<&'static str>>) {
    let mut seen = Seen::default();
    let mut batch = Batch::new();
    loop {
        let progress = report.next_batch(ring, &mut batch);
        assert!(batch.runs().len() <= Batch::ROOM);
        seen.runs.extend(batch.runs());
        seen.batches += 1;
        match progress {
            Ok(Progress::Done) => return (seen, Ok(())),
            Ok(Progress::More) => assert_eq!(batch.runs().len(), Batch::ROOM),
            Ok(Progress::Wait) => {
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
    let (seen, end) = finish(&mut Report::new(PAGE), &mut ring);
    assert_eq!((seen.runs, end), (vec![], Ok(())));
    assert!(ring.requests.is_empty());
}

#[test]
fn an_empty_report_is_complete() {
    let mut ring = Ring::new([messages(&[], 8)]);
    let mut report = Report::new(PAGE);
    report.begin(7, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.runs, end), (vec![], Ok(())));
    assert_eq!((ring.requests, ring.released), (vec![7], 1));
}

#[test]
fn pages_that_follow_each_other_or_come_again_are_one_run() {
    let pages = [3, 4, 5, 5, 4, 6, 9, 8, 8, 20];
    let mut ring = Ring::new([messages(&pages, 3)]);
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    let run = |start: u64, pages: u64| Run {
        start: start * PAGE,
        len: pages * PAGE,
    };
    assert_eq!(seen.runs, [run(3, 4), run(9, 1), run(8, 1), run(20, 1)]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_run_does_not_go_around_the_address_space() {
    let last = u64::MAX / PAGE;
    let mut ring = Ring::new([messages(&[last - 1, last, 0, 1], 8)]);
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    let (seen, _) = finish(&mut report, &mut ring);
    let run = |start, len| Run { start, len };
    assert_eq!(
        seen.runs,
        [run((last - 1) * PAGE, 2 * PAGE), run(0, 2 * PAGE)]
    );
}

#[test]
fn a_message_that_has_more_runs_than_a_batch_is_gone_on_with() {
    let pages: Vec<u64> = (0..1000).map(|i| 2 * i).collect();
    let mut ring = Ring::new([messages(&pages, 1000)]);
    let mut report = Report::new(PAGE);
    report.begin(0, 2000, 4000);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!(end, Ok(()));
    assert_eq!(seen.runs.len(), 1000);
    assert_eq!(seen.batches, 1000_usize.div_ceil(Batch::ROOM));
    assert_eq!(ring.released, 1);
}

#[test]
fn a_slow_device_is_waited_for() {
    let mut ring = Ring::new([messages(&[1, 3, 5, 7], 1)]);
    ring.slow = true;
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages(), end), (BTreeSet::from([1, 3, 5, 7]), Ok(())));
    assert_eq!(seen.waits, 4);
}

#[test]
fn a_request_that_is_refused_has_no_effect() {
    let mut ring = Ring::new([messages(&[1], 8)]);
    let mut report = Report::new(PAGE);
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
    let mut report = Report::new(PAGE);
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
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    assert_eq!(finish(&mut report, &mut ring).1, Err(Fault::Failed));
    assert_eq!(ring.released, 0);
}

#[test]
fn a_page_that_comes_ten_times_is_no_error() {
    let pages: Vec<u64> = (0..10).flat_map(|_| 0..100).collect();
    let mut ring = Ring::new([messages(&pages, 8)]);
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((seen.pages(), end), ((0..100).collect(), Ok(())));
}

#[test]
fn a_flood_ends_one_report_only() {
    // Two reports end while the first request is still being answered.
    let flood: Vec<u64> = (0..40).flat_map(|_| 0..100).collect();
    let mut ring = Ring::new([messages(&flood, 8), messages(&[1, 2], 8)]);
    let mut report = Report::new(PAGE);
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
    let mut report = Report::new(PAGE);
    report.begin(0, 100, 32);
    assert_eq!(finish(&mut report, &mut ring).1, Err(Fault::Flood));
    assert!(ring.released < 10_000);
}

#[test]
fn a_report_that_was_left_is_finished_by_the_next_one() {
    let pages: Vec<u64> = (0..200).map(|i| 2 * i).collect();
    let mut ring = Ring::new([messages(&pages, 100), messages(&[500], 8)]);
    let mut report = Report::new(PAGE);
    let mut batch = Batch::new();
    report.begin(1, 400, 400);
    assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
    let mut reported: BTreeSet<u64> = batch.runs().iter().map(|run| run.start / PAGE).collect();
    report.begin(2, 400, 400);
    let (seen, end) = finish(&mut report, &mut ring);
    assert_eq!((ring.requests, end), (vec![1, 2], Ok(())));
    reported.extend(seen.pages());
    assert_eq!(reported, pages.into_iter().chain([500]).collect());
}

proptest! {
    #[test]
    fn all_pages_are_reported_and_no_other(
        pages in prop::collection::vec(0u64..600, 0..600),
        entries in 1usize..100,
        slots in 1usize..10,
        piece in 1usize..64,
        slow: bool,
    ) {
        let mut ring = Ring { slots, piece, slow, ..Ring::new([messages(&pages, entries)]) };
        let mut report = Report::new(PAGE);
        report.begin(0, 600, (entries * slots) as u64);
        let (seen, end) = finish(&mut report, &mut ring);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(seen.pages(), pages.into_iter().collect());
        prop_assert!(ring.sent.is_empty() && ring.outgoing.is_empty());
    }

    #[test]
    fn whatever_addresses_come_are_covered(addresses in prop::collection::vec(any::<u64>(), 1..300)) {
        let mut ring = Ring::new([vec![(addresses.clone(), State::Tracking)]]);
        let mut report = Report::new(PAGE);
        report.begin(0, 300, 300);
        let (seen, end) = finish(&mut report, &mut ring);
        prop_assert_eq!(end, Ok(()));
        for address in addresses {
            let covered = seen.runs.iter().any(|run| {
                address.checked_sub(run.start).is_some_and(|at| run.len - at.min(run.len) >= PAGE)
            });
            prop_assert!(covered, "{address:#x}");
        }
    }
}

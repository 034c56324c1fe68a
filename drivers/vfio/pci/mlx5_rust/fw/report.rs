// SPDX-License-Identifier: GPL-2.0

//! A report of the page tracker, made of messages of the device.
//!
//! A report is made in batches of messages, so that no lock is held while a bitmap in user
//! memory is written. The device gets the memory of a batch back when the next one is
//! asked for.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

use super::{
    cqe::{
        Message,
        State, //
    },
    track_limits::LOG_ENTRY, //
};

/// Bounds the entries of a report: at most this many times the sum of the pages in the range and
/// the entries in the ring. A report with more ends with an error: a page may come more than once,
/// but a report must end.
const MAX_REPORT_FACTOR: u64 = 16;

/// Messages whose pages are reported without a lock.
pub(crate) struct Batch {
    messages: [Message; Self::MAX],
    count: usize,
}

impl Batch {
    /// Largest number of messages. It is small, since a batch is on the stack.
    pub(crate) const MAX: usize = 8;

    /// Returns an empty batch.
    pub(crate) const fn new() -> Self {
        const NONE: Message = Message {
            slot: 0,
            len: 0,
            state: State::Reporting,
        };
        Self {
            messages: [NONE; Self::MAX],
            count: 0,
        }
    }

    /// Returns the messages, in the order of the device.
    pub(crate) fn messages(&self) -> &[Message] {
        self.messages.get(..self.count).unwrap_or_default()
    }

    /// Adds a message, if there is room.
    fn push(&mut self, message: Message) {
        if let Some(free) = self.messages.get_mut(self.count) {
            *free = message;
            self.count += 1;
        }
    }
}

/// What the caller does after a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Report the batch, which may be empty, then ask for the next one.
    More,
    /// Wait for an event, then ask for the next batch.
    Wait,
    /// Nothing: the report is complete.
    Done,
}

/// Why a report ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault<E> {
    /// The device sends more than [`MAX_REPORT_FACTOR`] allows. The next report may succeed.
    Flood,
    /// The request has failed. If the device has answered it, nothing else has happened.
    Refused(E),
    /// The tracker has failed, for good.
    Failed,
}

/// The tracker has failed, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failed;

impl<E> From<Failed> for Fault<E> {
    fn from(_: Failed) -> Self {
        Self::Failed
    }
}

/// The tracker of a device, as a report uses it.
pub(crate) trait Tracker {
    /// A range that can be reported.
    type Range: Copy;
    /// Error of a request.
    type Error;

    /// Requests a report of a range.
    fn request(&mut self, range: Self::Range) -> Result<(), Self::Error>;

    /// Returns the number of messages that may be kept from the device at a time.
    fn spare(&self) -> u32;

    /// Returns message number `index`, counted from the oldest one that was not given back,
    /// if it has come.
    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed>;

    /// Has an event raised when message 0 comes.
    fn arm(&mut self);

    /// Makes messages readable.
    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed>;

    /// Gives the completion queue entries of the oldest `count` messages back to the device.
    fn release(&mut self, count: u32);

    /// Posts the memory of the messages that were released. The device may send others at once.
    fn post(&mut self);
}

/// The report that a tracker is making.
pub(crate) struct Report<R> {
    /// The range to request when the device has ended its report.
    wanted: Option<R>,
    /// The range that was requested last, which messages are about.
    asked: Option<R>,
    /// Whether the device has not ended its report.
    running: bool,
    /// Number of messages taken for the last batch, including empty ones. They go back to the
    /// device.
    taken: u32,
    /// State in the last of them.
    state: State,
    /// Number of entries that may still come.
    left: u64,
}

impl<R: Copy> Report<R> {
    /// Returns the state of a tracker that was not asked for a report yet.
    pub(crate) const fn new() -> Self {
        Self {
            wanted: None,
            asked: None,
            running: false,
            taken: 0,
            state: State::Reporting,
            left: 0,
        }
    }

    /// Begins to report a range that has `pages` pages, into a ring that has room
    /// for `ring` entries.
    ///
    /// If the previous report was left early, the rest of that comes first.
    pub(crate) fn begin(&mut self, range: R, pages: u64, ring: u64) {
        self.wanted = Some(range);
        self.left = pages.saturating_add(ring).saturating_mul(MAX_REPORT_FACTOR);
    }

    /// Replaces the messages in `batch` by the next ones; the device gets the old ones back.
    /// The new ones are to be reported if this returns [`Progress::More`].
    ///
    /// A batch may be empty: the caller holds a lock, and a device that sends empty messages for
    /// ever must not keep this from returning.
    pub(crate) fn next_batch<D: Tracker<Range = R>>(
        &mut self,
        device: &mut D,
        batch: &mut Batch,
    ) -> Result<Progress, Fault<D::Error>> {
        batch.count = 0;
        loop {
            self.give_back(device)?;
            if !self.running {
                let Some(range) = self.wanted.take() else {
                    return Ok(Progress::Done);
                };
                device.request(range).map_err(Fault::Refused)?;
                self.asked = Some(range);
                self.running = true;
            }
            if !self.fill(device, batch)? {
                // A message that came before the event was asked for raises none.
                device.arm();
                if !self.fill(device, batch)? {
                    return Ok(Progress::Wait);
                }
            }
            if batch.count > 0 {
                device.make_readable(batch.messages())?;
            }
            // The last message is often empty. If it is that of a report that was left early, the
            // caller must learn that the device was not silent before the next request.
            if batch.count > 0 || self.state == State::Reporting || self.wanted.is_some() {
                return Ok(Progress::More);
            }
        }
    }

    /// Returns the range that the messages of the last batch are about: not that of the present
    /// report, if the previous one was left early.
    pub(crate) fn asked(&self) -> Option<R> {
        self.asked
    }

    /// Gives the messages of the last batch back to the device.
    fn give_back<D: Tracker>(&mut self, device: &mut D) -> Result<(), Failed> {
        if self.taken == 0 {
            return Ok(());
        }
        // Release first: the two queues have the same size, so a message that comes after the post
        // needs a free completion queue entry.
        device.release(self.taken);
        device.post();
        self.taken = 0;
        match self.state {
            State::Tracking => self.running = false,
            State::Reporting => (),
            State::Failed => return Err(Failed),
        }
        Ok(())
    }

    /// Takes the messages that have come, as many as `batch` has room for, and adds those that are
    /// not empty to `batch`. Returns whether any were taken.
    fn fill<D: Tracker<Range = R>>(
        &mut self,
        device: &mut D,
        batch: &mut Batch,
    ) -> Result<bool, Fault<D::Error>> {
        // CAST: A small constant.
        let most = device.spare().min(Batch::MAX as u32);
        while self.taken < most {
            let message = match self.next_message(device) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // Report the messages before the fault first.
                Err(_) if self.taken > 0 => break,
                Err(fault) => return Err(fault),
            };
            self.taken += 1;
            self.state = message.state;
            if message.len > 0 {
                batch.push(message);
            }
            if message.state != State::Reporting {
                break;
            }
        }
        Ok(self.taken > 0)
    }

    /// Returns the next message, if it has come.
    fn next_message<D: Tracker<Range = R>>(
        &mut self,
        device: &mut D,
    ) -> Result<Option<Message>, Fault<D::Error>> {
        let Some(message) = device.message(self.taken)? else {
            return Ok(None);
        };
        // An empty message counts as well.
        let entries = (message.len >> LOG_ENTRY).max(1) as u64;
        self.left = self.left.checked_sub(entries).ok_or(Fault::Flood)?;
        Ok(Some(message))
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_report)
)]
pub(crate) mod tests {
    use super::*;
    use core::cell::Cell;

    /// Largest number of messages in a ring.
    const MOST_SLOTS: usize = 32;

    /// A message: its number of entries, and its state.
    pub(crate) type Sent = (usize, State);

    /// A device with a ring of messages. Before the driver looks, it sends as many as there is room
    /// for.
    pub(crate) struct Ring<'a> {
        /// Messages of the report after each request.
        reports: &'a [&'a [Sent]],
        /// Messages that were not sent yet.
        pub(crate) outgoing: &'a [Sent],
        /// Whether the last of them is sent again and again.
        for_ever: bool,
        memory: [Sent; MOST_SLOTS],
        /// Number of messages that there is room for.
        pub(crate) slots: usize,
        /// Another message is sent only after a wait.
        pub(crate) slow: bool,
        requests: usize,
        last_request: Option<u64>,
        pub(crate) sent: usize,
        pub(crate) released: usize,
        pub(crate) posted: usize,
        /// An event is raised for the next message.
        armed: bool,
        refuses: bool,
        fails: bool,
        /// The memory for messages is gone.
        forgotten: bool,
        /// Number of times that the driver has broken a rule.
        pub(crate) faults: Cell<u32>,
    }

    impl<'a> Ring<'a> {
        pub(crate) fn new(reports: &'a [&'a [Sent]]) -> Self {
            Self {
                reports,
                outgoing: &[],
                for_ever: false,
                memory: [(0, State::Failed); MOST_SLOTS],
                slots: 4,
                slow: false,
                requests: 0,
                last_request: None,
                sent: 0,
                released: 0,
                posted: 0,
                armed: false,
                refuses: false,
                fails: false,
                forgotten: false,
                faults: Cell::new(0),
            }
        }

        /// Counts a fault, unless `promise` was kept.
        fn require(&self, promise: bool) {
            self.faults.set(self.faults.get() + u32::from(!promise));
        }

        fn send(&mut self) {
            while self.sent - self.released < self.slots {
                let Some((message, more)) = self.outgoing.split_first() else {
                    return;
                };
                self.memory[self.sent % self.slots] = *message;
                self.sent += 1;
                if !self.for_ever || !more.is_empty() {
                    self.outgoing = more;
                }
                if self.slow {
                    return;
                }
            }
        }

        /// Requires that the messages of a batch were sent, in this order, and that the device has
        /// not got their memory back.
        fn check(&self, batch: &Batch) {
            let mut from = self.released;
            for message in batch.messages() {
                let slot = message.slot as usize;
                let at = (from..self.sent).find(|number| number % self.slots == slot);
                self.require(at.is_some());
                let (entries, state) = self.memory[slot % self.slots];
                self.require(entries > 0 && message.len == entries * 8 && message.state == state);
                from = at.map_or(from, |number| number + 1);
            }
        }
    }

    impl Tracker for Ring<'_> {
        type Range = u64;
        type Error = &'static str;

        fn request(&mut self, range: u64) -> Result<(), &'static str> {
            if self.refuses {
                return Err("refused");
            }
            // The previous report must have ended.
            self.require(self.outgoing.is_empty() && self.sent == self.released);
            self.outgoing = self.reports.get(self.requests).copied().unwrap_or_default();
            self.requests += 1;
            self.last_request = Some(range);
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
            let number = self.released + index as usize;
            let slot = number % self.slots;
            let (entries, state) = self.memory[slot];
            Ok((number < self.sent).then_some(Message {
                slot: slot as u32,
                len: entries * 8,
                state,
            }))
        }

        fn arm(&mut self) {
            self.armed = true;
        }

        fn make_readable(&self, messages: &[Message]) -> Result<(), Failed> {
            self.require(!messages.is_empty());
            match self.forgotten {
                true => Err(Failed),
                false => Ok(()),
            }
        }

        fn release(&mut self, count: u32) {
            self.released += count as usize;
            self.require(self.released <= self.sent);
        }

        fn post(&mut self) {
            // Otherwise the completion queue can overrun.
            self.require(self.posted < self.released);
            self.posted = self.released;
            if !self.slow {
                self.send();
            }
        }
    }

    /// Totals of a report.
    #[derive(Clone, Copy, Default, Debug, PartialEq)]
    pub(crate) struct Seen {
        pub(crate) entries: usize,
        pub(crate) batches: usize,
        pub(crate) waits: usize,
    }

    impl Seen {
        /// Adds the messages of a batch.
        fn take(&mut self, ring: &Ring<'_>, batch: &Batch) {
            ring.check(batch);
            let entries = batch.messages().iter().map(|message| message.len / 8);
            self.entries += entries.sum::<usize>();
            self.batches += 1;
        }
    }

    /// Takes all batches of a report, up to its end.
    pub(crate) fn finish(
        report: &mut Report<u64>,
        ring: &mut Ring<'_>,
    ) -> (Seen, Result<(), Fault<&'static str>>) {
        let mut seen = Seen::default();
        let mut batch = Batch::new();
        loop {
            let progress = report.next_batch(ring, &mut batch);
            ring.require(progress == Ok(Progress::More) || batch.messages().is_empty());
            match progress {
                Ok(Progress::Done) => return (seen, Ok(())),
                Ok(Progress::More) => seen.take(ring, &batch),
                Ok(Progress::Wait) => {
                    // An event must have been asked for, and the device must have something to
                    // send.
                    let armed = core::mem::take(&mut ring.armed);
                    ring.require(armed);
                    seen.waits += 1;
                    let before = ring.sent;
                    ring.send();
                    if ring.sent == before {
                        ring.require(false);
                        return (seen, Ok(()));
                    }
                }
                Err(fault) => return (seen, Err(fault)),
            }
        }
    }

    fn seen(entries: usize, batches: usize, waits: usize) -> Seen {
        Seen {
            entries,
            batches,
            waits,
        }
    }

    const MORE: State = State::Reporting;
    const LAST: State = State::Tracking;

    /// A report of one page in each of `N` messages.
    const fn lone<const N: usize>() -> [Sent; N] {
        let mut messages = [(1, MORE); N];
        messages[N - 1].1 = LAST;
        messages
    }

    #[test]
    fn nothing_is_reported_before_it_was_asked_for() {
        let mut ring = Ring::new(&[&[(1, LAST)]]);
        let end = finish(&mut Report::new(), &mut ring);
        assert_eq!(end, (Seen::default(), Ok(())));
        assert_eq!((ring.requests, ring.faults.get()), (0, 0));
    }

    #[test]
    fn an_empty_report_is_complete() {
        let mut ring = Ring::new(&[&[(0, LAST)]]);
        let mut report = Report::new();
        report.begin(7, 100, 32);
        assert_eq!(finish(&mut report, &mut ring), (Seen::default(), Ok(())));
        assert_eq!((ring.last_request, ring.released), (Some(7), 1));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn messages_are_handed_out_in_batches() {
        let messages = lone::<100>();
        let reports = [&messages[..]];
        let mut ring = Ring::new(&reports);
        ring.slots = 32;
        let mut report = Report::new();
        report.begin(0, 100, 32);
        let batches = 100_usize.div_ceil(Batch::MAX);
        assert_eq!(
            finish(&mut report, &mut ring),
            (seen(100, batches, 0), Ok(()))
        );
        assert_eq!((ring.released, ring.posted), (100, 100));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn the_device_keeps_what_it_cannot_spare() {
        let messages = lone::<9>();
        let reports = [&messages[..]];
        let mut ring = Ring::new(&reports);
        ring.slots = 2;
        let mut report = Report::new();
        report.begin(0, 100, 2);
        assert_eq!(finish(&mut report, &mut ring), (seen(9, 5, 0), Ok(())));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn empty_messages_are_not_handed_out() {
        let mut ring = Ring::new(&[&[(0, MORE), (1, MORE), (0, MORE), (2, MORE), (0, LAST)]]);
        ring.slots = 8;
        let mut report = Report::new();
        report.begin(0, 100, 32);
        assert_eq!(finish(&mut report, &mut ring), (seen(3, 1, 0), Ok(())));
        assert_eq!((ring.released, ring.posted), (5, 5));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_slow_device_is_waited_for() {
        let messages = lone::<4>();
        let reports = [&messages[..]];
        let mut ring = Ring::new(&reports);
        ring.slow = true;
        let mut report = Report::new();
        report.begin(0, 100, 32);
        assert_eq!(finish(&mut report, &mut ring), (seen(4, 4, 4), Ok(())));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_request_that_is_refused_has_no_effect() {
        let mut ring = Ring::new(&[&[(1, LAST)]]);
        let mut report = Report::new();
        ring.refuses = true;
        report.begin(1, 100, 32);
        let (_, end) = finish(&mut report, &mut ring);
        assert_eq!(end, Err(Fault::Refused("refused")));
        ring.refuses = false;
        report.begin(2, 100, 32);
        assert_eq!(finish(&mut report, &mut ring), (seen(1, 1, 0), Ok(())));
        assert_eq!((ring.requests, ring.last_request), (1, Some(2)));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_tracker_that_fails_says_so_after_its_pages() {
        let mut ring = Ring::new(&[&[(1, MORE), (1, State::Failed)]]);
        let mut report = Report::new();
        report.begin(0, 100, 32);
        let end = Err(Fault::Failed);
        assert_eq!(finish(&mut report, &mut ring), (seen(2, 1, 0), end));
        ring.fails = true;
        report.begin(0, 100, 32);
        assert_eq!(finish(&mut report, &mut ring).1, end);
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_message_that_cannot_be_read_any_more_does_not_end_well() {
        let mut ring = Ring::new(&[&[(2, LAST)]]);
        ring.forgotten = true;
        let mut report = Report::new();
        let mut batch = Batch::new();
        report.begin(0, 100, 32);
        let end = report.next_batch(&mut ring, &mut batch);
        assert_eq!(end, Err(Fault::Failed));
        assert_eq!((ring.released, ring.faults.get()), (0, 0));
    }

    #[test]
    fn a_page_that_comes_ten_times_is_no_error() {
        let mut messages = [(8, MORE); 125];
        messages[124].1 = LAST;
        let reports = [&messages[..]];
        let mut ring = Ring::new(&reports);
        let mut report = Report::new();
        report.begin(0, 100, 32);
        let (seen, end) = finish(&mut report, &mut ring);
        assert_eq!((seen.entries, end), (1000, Ok(())));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_flood_ends_one_report_only() {
        // Two reports end while the first request is still being answered.
        static FLOOD: [Sent; 500] = {
            let mut messages = [(8, MORE); 500];
            messages[499].1 = LAST;
            messages
        };
        let reports = [&FLOOD[..], &[(2, LAST)]];
        let mut ring = Ring::new(&reports);
        let mut report = Report::new();
        let mut faults = 0;
        loop {
            report.begin(7, 100, 32);
            let (seen, end) = finish(&mut report, &mut ring);
            assert!(seen.entries > 0);
            if end != Err(Fault::Flood) {
                assert_eq!(end, Ok(()));
                break;
            }
            faults += 1;
        }
        assert_eq!(faults, 1);
        assert_eq!((ring.requests, ring.last_request), (2, Some(7)));
        assert!(ring.outgoing.is_empty() && ring.sent == ring.released);
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn empty_messages_are_a_flood_too() {
        let mut ring = Ring::new(&[&[(0, MORE)]]);
        ring.for_ever = true;
        let mut report = Report::new();
        report.begin(0, 100, 32);
        assert_eq!(finish(&mut report, &mut ring).1, Err(Fault::Flood));
        assert!(ring.released < 10_000);
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn a_report_that_was_left_is_finished_by_the_next_one() {
        let mut messages = [(2, MORE); 10];
        messages[9].1 = LAST;
        let reports = [&messages[..], &[(1, LAST)]];
        let mut ring = Ring::new(&reports);
        let mut report = Report::new();
        let mut batch = Batch::new();
        let mut seen = Seen::default();
        report.begin(1, 400, 400);
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
        seen.take(&ring, &batch);
        report.begin(2, 400, 400);
        // These messages are about the first range.
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
        assert_eq!(report.asked(), Some(1));
        seen.take(&ring, &batch);
        let (rest, end) = finish(&mut report, &mut ring);
        assert_eq!((ring.requests, end), (2, Ok(())));
        assert_eq!(seen.entries + rest.entries, 20 + 1);
        assert_eq!((report.asked(), ring.last_request), (Some(2), Some(2)));
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn whoever_reports_is_asked_between_empty_messages() {
        let mut ring = Ring::new(&[&[(0, MORE)]]);
        ring.for_ever = true;
        let mut report = Report::new();
        let mut batch = Batch::new();
        report.begin(0, 100, 32);
        for batches in 1..=25 {
            assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
            assert!(batch.messages().is_empty());
            assert!(ring.released < batches * ring.slots);
        }
        assert_eq!(ring.faults.get(), 0);
    }

    #[test]
    fn the_end_of_a_report_that_was_left_is_no_silence() {
        let mut ring = Ring::new(&[&[(1, MORE), (0, LAST)], &[(1, LAST)]]);
        ring.slow = true;
        let mut report = Report::new();
        let mut batch = Batch::new();
        report.begin(1, 100, 32);
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::Wait));
        ring.send();
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
        report.begin(2, 100, 32);
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::Wait));
        ring.send();
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::More));
        assert!(batch.messages().is_empty());
        assert_eq!(report.next_batch(&mut ring, &mut batch), Ok(Progress::Wait));
        assert_eq!((ring.last_request, ring.faults.get()), (Some(2), 0));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A report of the page tracker: from messages of the device to runs of pages.
//!
//! A report is made in batches, so that no lock is held while a bitmap in user
//! memory is written. Between two batches the place in the device's message is
//! kept.
//!
//! No kernel types: the file is also compiled and tested on the host.

use super::{
    cqe::{Message, State},
    track_limits::LOG_ENTRY,
};

/// How many times the entries that a report can have, if each page comes once
/// and all messages of the ring were sent for nothing, end it with an error.
///
/// A page may come more than once, but a report must come to an end.
const PATIENCE: u64 = 16;

/// Dirty memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Address of the first byte.
    pub(crate) start: u64,
    /// Number of bytes.
    pub(crate) len: u64,
}

/// Runs of dirty pages, as many as are reported with one hold of the lock.
pub(crate) struct Batch {
    runs: [Run; Self::ROOM],
    count: usize,
}

impl Batch {
    /// Most runs. A batch is meant for the stack: this many have 1 KiB.
    pub(crate) const ROOM: usize = 64;

    /// Returns an empty batch.
    pub(crate) const fn new() -> Self {
        Self {
            runs: [Run { start: 0, len: 0 }; Self::ROOM],
            count: 0,
        }
    }

    /// Returns the runs, in the order of the device.
    pub(crate) fn runs(&self) -> &[Run] {
        self.runs.get(..self.count).unwrap_or_default()
    }

    fn is_full(&self) -> bool {
        self.count == Self::ROOM
    }

    /// Removes all runs.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds pages of `page_size` bytes while there is room. Returns how many were
    /// added.
    ///
    /// Pages that follow each other, or come again, become one run.
    pub(crate) fn extend(&mut self, page_size: u64, pages: impl IntoIterator<Item = u64>) -> usize {
        let mut pages = pages.into_iter();
        let mut added = 0;
        let mut last = match self.runs().last() {
            Some(run) => *run,
            None => {
                let Some(start) = pages.next() else {
                    return 0;
                };
                self.count = 1;
                added = 1;
                Run {
                    start,
                    len: page_size,
                }
            }
        };
        for page in pages {
            let offset = page.wrapping_sub(last.start);
            if offset <= last.len && page >= last.start {
                last.len = last.len.max(offset.saturating_add(page_size));
            } else if !self.is_full() {
                self.set_last(last);
                self.count += 1;
                last = Run {
                    start: page,
                    len: page_size,
                };
            } else {
                break;
            }
            added += 1;
        }
        self.set_last(last);
        added
    }

    fn set_last(&mut self, run: Run) {
        if let Some(last) = self.runs.get_mut(self.count.wrapping_sub(1)) {
            *last = run;
        }
    }
}

/// What is to be done after a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Ask for the next batch.
    More,
    /// Wait for an event, then ask for the next batch.
    Wait,
    /// Nothing: the report is complete.
    Done,
}

/// Why a report ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault<E> {
    /// The device does not come to an end. The next report may.
    Flood,
    /// The request could not be made. Nothing else has happened, if the device has
    /// answered.
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

/// The device's side of a report.
pub(crate) trait Device {
    /// What can be reported.
    type Range;
    /// How a request fails.
    type Error;

    /// Has the device report a range.
    fn request(&mut self, range: Self::Range) -> Result<(), Self::Error>;

    /// Returns the oldest message that was not released. If there is none, has
    /// an event raised when there is.
    fn message(&mut self) -> Result<Option<Message>, Failed>;

    /// Adds entries of a message to `batch`, from the one with number `from` on, by
    /// [`Batch::extend`]: at least one, if there are any and there is room. Returns
    /// how many were added.
    fn extend(
        &self,
        batch: &mut Batch,
        page_size: u64,
        message: &Message,
        from: usize,
    ) -> Result<usize, Failed>;

    /// Gives the completion queue entry of the oldest message back to the device.
    fn release(&mut self);

    /// Posts the memory of the message that was released last: the device may send
    /// another one at once.
    fn post(&mut self);
}

/// The report that a tracker is making.
pub(crate) struct Report<R> {
    page_size: u64,
    /// What is to be requested when the device has ended its report.
    wanted: Option<R>,
    /// Whether the device has not ended its report.
    running: bool,
    /// The message that was taken apart in part, and the entry to go on with.
    position: Option<(Message, usize)>,
    /// Entries that may still come.
    left: u64,
}

impl<R> Report<R> {
    /// Returns the state of a tracker that was not asked for a report yet.
    pub(crate) fn new(page_size: u64) -> Self {
        Self {
            page_size,
            wanted: None,
            running: false,
            position: None,
            left: 0,
        }
    }

    /// Begins to report a range that has `pages` pages, into a ring that has room
    /// for `ring` entries.
    ///
    /// If the report before it was left early, the rest of that comes first.
    pub(crate) fn begin(&mut self, range: R, pages: u64, ring: u64) {
        self.wanted = Some(range);
        self.left = pages.saturating_add(ring).saturating_mul(PATIENCE);
    }

    /// Replaces the runs in `batch` by the next ones. What is there after an
    /// error was reported, too.
    pub(crate) fn next_batch<D: Device<Range = R>>(
        &mut self,
        device: &mut D,
        batch: &mut Batch,
    ) -> Result<Progress, Fault<D::Error>> {
        batch.clear();
        loop {
            let Some((message, from)) = self.position else {
                if !self.running {
                    let Some(range) = self.wanted.take() else {
                        return Ok(Progress::Done);
                    };
                    device.request(range).map_err(Fault::Refused)?;
                    self.running = true;
                }
                let Some(message) = device.message()? else {
                    return Ok(Progress::Wait);
                };
                self.position = Some((message, 0));
                // An empty message counts as well.
                let entries = (message.len >> LOG_ENTRY).max(1) as u64;
                self.left = self.left.checked_sub(entries).ok_or(Fault::Flood)?;
                continue;
            };
            if !self.take_apart(device, batch, message, from)? {
                return Ok(Progress::More);
            }
            self.position = None;
            // In this order: the two queues have the same size, so that a message
            // could come before its completion has room.
            device.release();
            device.post();
            match message.state {
                State::Tracking => self.running = false,
                State::Reporting => (),
                State::Failed => return Err(Fault::Failed),
            }
        }
    }

    /// Adds the entries of a message to `batch`. Returns whether there was room
    /// for all of them.
    fn take_apart<D: Device<Range = R>>(
        &mut self,
        device: &D,
        batch: &mut Batch,
        message: Message,
        mut from: usize,
    ) -> Result<bool, Failed> {
        let entries = message.len >> LOG_ENTRY;
        while from < entries {
            let added = device.extend(batch, self.page_size, &message, from)?;
            if added == 0 {
                return Ok(!batch.is_full());
            }
            from += added;
            self.position = Some((message, from));
        }
        Ok(true)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A report of the page tracker: from messages of the device to runs of pages.
//!
//! A report is made in batches of messages, so that no lock is held while a bitmap in user
//! memory is written. The device gets the memory of a batch back when the next one is
//! asked for.
//!
//! No kernel types: the file is also compiled and tested on the host.

use super::{
    cqe::{
        Message,
        State, //
    },
    track_limits::LOG_ENTRY, //
};

/// How many times the entries that a report can have, if each page comes once
/// and all messages of the ring were sent for nothing, end it with an error.
///
/// A page may come more than once, but a report must come to an end.
const PATIENCE: u64 = 16;

/// Messages whose pages are reported without a lock.
pub(crate) struct Batch {
    messages: [Message; Self::ROOM],
    count: usize,
}

impl Batch {
    /// Most messages. A batch is meant for the stack.
    pub(crate) const ROOM: usize = 8;

    /// Returns an empty batch.
    pub(crate) const fn new() -> Self {
        const NONE: Message = Message {
            slot: 0,
            len: 0,
            state: State::Reporting,
        };
        Self {
            messages: [NONE; Self::ROOM],
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

/// What is to be done after a batch.
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
pub(crate) trait Tracker {
    /// What can be reported.
    type Range: Copy;
    /// How a request fails.
    type Error;

    /// Has the device report a range.
    fn request(&mut self, range: Self::Range) -> Result<(), Self::Error>;

    /// Returns how many messages the device can be without.
    fn spare(&self) -> u32;

    /// Returns message number `index`, counted from the oldest one that was not given back,
    /// if it has come.
    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed>;

    /// Has an event raised when the first one comes.
    fn arm(&mut self);

    /// Makes messages readable.
    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed>;

    /// Gives the completion queue entries of the oldest `count` messages back to the device.
    fn release(&mut self, count: u32);

    /// Posts the memory of the messages that were released: the device may send others at
    /// once.
    fn post(&mut self);
}

/// The report that a tracker is making.
pub(crate) struct Report<R> {
    /// What is to be requested when the device has ended its report.
    wanted: Option<R>,
    /// What was requested last, which messages are about.
    asked: Option<R>,
    /// Whether the device has not ended its report.
    running: bool,
    /// Messages of the last batch, and empty ones: they go back to the device.
    taken: u32,
    /// What the last one of them says that comes next.
    state: State,
    /// Entries that may still come.
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
    /// If the report before it was left early, the rest of that comes first.
    pub(crate) fn begin(&mut self, range: R, pages: u64, ring: u64) {
        self.wanted = Some(range);
        self.left = pages.saturating_add(ring).saturating_mul(PATIENCE);
    }

    /// Replaces the messages in `batch` by the next ones; the device gets the old ones back.
    /// The new ones are to be reported if this returns [`Progress::More`].
    ///
    /// A batch may be empty: the caller holds a lock, which a device that sends empty messages
    /// for ever must not make it keep.
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
                // What comes before an event is asked for raises none.
                device.arm();
                if !self.fill(device, batch)? {
                    return Ok(Progress::Wait);
                }
            }
            if batch.count > 0 {
                device.make_readable(batch.messages())?;
            }
            // The last message is often empty.
            if batch.count > 0 || self.state == State::Reporting {
                return Ok(Progress::More);
            }
        }
    }

    /// Returns the range that the messages of the last batch are about: not the one of the
    /// report at hand, if the report before it was left early.
    pub(crate) fn asked(&self) -> Option<R> {
        self.asked
    }

    /// Gives the messages of the last batch back to the device.
    fn give_back<D: Tracker>(&mut self, device: &mut D) -> Result<(), Failed> {
        if self.taken == 0 {
            return Ok(());
        }
        // In this order: the two queues have the same size, so that a message could come
        // before its completion has room.
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

    /// Takes the messages that have come, as far as there is room in `batch`, and puts those
    /// into it that are not empty. Returns whether there were any.
    fn fill<D: Tracker<Range = R>>(
        &mut self,
        device: &mut D,
        batch: &mut Batch,
    ) -> Result<bool, Fault<D::Error>> {
        // CAST: A small constant.
        let most = device.spare().min(Batch::ROOM as u32);
        while self.taken < most {
            let message = match self.next_message(device) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // Those before it are reported first.
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

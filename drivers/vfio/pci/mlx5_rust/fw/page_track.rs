// SPDX-License-Identifier: GPL-2.0

//! The page tracker: firmware that notes where a VF writes to, and reports it in
//! messages through a connection within the device.
//!
//! [`PageTracker`] is used by one thread at a time; [`tracking`](super::tracking)
//! shares it.

use super::{
    cq::CompletionQueue,
    cqe::Message,
    device::Device,
    mkey::Mkey,
    pd::Pd,
    qp::{
        QueuePair,
        Receive, //
    },
    registry::Owned,
    remainder::{
        Piece,
        Remainder, //
    },
    report::{
        self,
        Batch,
        Failed,
        Fault,
        Progress,
        Report, //
    },
    track_events::TrackEvents,
    track_limits::Ring,
    track_memory::TrackMemory,
    track_notifier::{
        Subjects,
        TrackNotifier, //
    },
    track_object::{
        self,
        TrackContext,
        TrackObject, //
    },
    uar::Uar, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    sync::Arc, //
};
use vfio_rust::{
    dirty_log::{
        IovaRange,
        IovaRanges, //
    },
    kernel::{
        dma::streaming::DmaMapping,
        page::runs::Pages, //
    }, //
};

/// A tracker, and the objects through which it reports.
///
/// Fields are dropped in declaration order: the receiver of events, the object, the
/// QPs, the mkey with the memory, the completion queue.
struct Tracked {
    _notifier: Owned<TrackNotifier>,
    object: Owned<TrackObject>,
    _sender: QueuePair,
    receiver: QueuePair,
    mkey: Owned<Mkey<DmaMapping<Arc<Pages>>>>,
    cq: CompletionQueue,
    _pd: Pd,
    _uar: Uar,
    ring: Ring,
    /// Messages that were released.
    seen: u32,
}

/// A tracker that runs.
pub(super) struct PageTracker {
    tracked: Tracked,
    report: Report<IovaRange>,
    remainder: Remainder,
    events: Arc<TrackEvents>,
    log_page: u32,
}

impl From<IovaRange> for Piece {
    fn from(range: IovaRange) -> Self {
        Self {
            first: range.start,
            last: range.last,
        }
    }
}

impl PageTracker {
    /// Begins to track `ranges` in pages of about `page_size` bytes, with `memory` that was
    /// allocated for `device`.
    ///
    /// Returns `EOPNOTSUPP` if the ranges are larger or smaller than the device can track. If
    /// firmware has no tracker left, returns the error of mlx5_core for that: `ENOMEM`.
    pub(super) fn new(
        device: &Arc<Device>,
        memory: TrackMemory,
        mut ranges: IovaRanges<'_>,
        page_size: u64,
    ) -> Result<Self> {
        let TrackMemory {
            limits,
            max_ranges,
            ring,
            pages,
        } = memory;
        let log_page = limits.log_page(page_size);
        ranges.combine(max_ranges);

        let pf = &Device::enter(device)?;
        let events = Arc::pin_init(TrackEvents::new(), GFP_KERNEL)?;
        let uar = Uar::new(pf)?;
        let pd = Pd::new(pf)?;
        let cq = CompletionQueue::new(pf, events.clone(), ring.log_slots)?;
        // SAFETY: The mapping belongs to the mkey, whose `release` drops it; or it is
        // dropped before this returns.
        let dma = unsafe { pf.dma_device() }?;
        let mapping = DmaMapping::new(&dma, pages, ring.len(), DataDirection::FromDevice)?;
        let mkey = Mkey::new(pf, &pd, mapping)?;
        let receive = Receive {
            cq: &cq,
            log_size: ring.log_slots,
            lkey: mkey.on(pf)?.number(),
            // CAST: A message has at most 4 MiB (`TrackLimits::ring()`).
            room: ring.message_len() as u32,
        };
        let receiver = QueuePair::new(pf, &pd, &uar, Some(receive))?;
        let sender = QueuePair::new(pf, &pd, &uar, None)?;
        receiver.init(pf)?;
        receiver.post(ring.slots());
        receiver.connect(pf, sender.number())?;
        sender.init(pf)?;
        sender.connect(pf, receiver.number())?;
        sender.start(pf)?;
        let context = TrackContext {
            log_page,
            log_message: ring.log_message,
            sender: &sender,
        };
        let object = track_object::create(pf, &limits, &ranges, context)?;
        let subjects = Subjects {
            qpns: [receiver.number(), sender.number()],
            object: object.id,
        };
        let notifier = TrackNotifier::new(pf, events.clone(), subjects)?;
        cq.arm(0);
        let tracked = Tracked {
            _notifier: notifier,
            object,
            _sender: sender,
            receiver,
            mkey,
            cq,
            _pd: pd,
            _uar: uar,
            ring,
            seen: 0,
        };
        Ok(Self {
            tracked,
            report: Report::new(),
            remainder: Remainder::new(),
            events,
            log_page,
        })
    }

    /// Returns the size of the pages that are tracked.
    pub(super) fn page_size(&self) -> u64 {
        1 << self.log_page
    }

    /// Returns the events of the tracker.
    pub(super) fn events(&self) -> &Arc<TrackEvents> {
        &self.events
    }

    /// Returns the size of the largest message.
    pub(super) fn message_len(&self) -> usize {
        self.tracked.ring.message_len()
    }

    /// Begins to report the pages in `range` that the VF has written to since the last report about
    /// them. Returns the memory of messages, or `EIO` if the tracker is being destroyed.
    pub(super) fn begin(&mut self, range: IovaRange) -> Result<Arc<Pages>> {
        let pages = self.tracked.mkey.with(|mapping| mapping.pages().clone());
        // Firmware refuses a range without a length.
        let count = range.len().unwrap_or(u64::MAX) >> self.log_page;
        self.report.begin(range, count, self.tracked.ring.entries());
        pages.map_err(|_| EIO)
    }

    /// Returns the parts of pages that earlier reports have left.
    pub(super) fn remainder(&self) -> &Remainder {
        &self.remainder
    }

    /// Replaces the messages in `batch` by the next ones of the report about `range`. Waits for at
    /// most one firmware command.
    ///
    /// Returns `EIO` if the tracker has failed, which is final, or if the device reports without
    /// end.
    pub(super) fn next_batch(&mut self, range: IovaRange, batch: &mut Batch) -> Result<Progress> {
        self.check()?;
        let next = self.report.next_batch(&mut self.tracked, batch);
        match next {
            Ok(Progress::More) => self.keep_rest(batch)?,
            Ok(Progress::Done) => self.remainder.forget(range.into()),
            _ => (),
        }
        next.map_err(|fault| match fault {
            Fault::Flood => EIO,
            Fault::Refused(err) => {
                // Messages about this request may still come. They would be taken for messages
                // about the next request, whose messages would be taken for those of the one after
                // it.
                self.unanswered(err);
                err
            }
            Fault::Failed => {
                self.events.fail();
                EIO
            }
        })
    }

    /// Keeps the parts of the pages in `batch` that are beyond the range that firmware was
    /// asked for.
    fn keep_rest(&mut self, batch: &Batch) -> Result {
        let Some(asked) = self.report.asked().map(Piece::from) else {
            return Ok(());
        };
        let page_size = 1 << self.log_page;
        if !Remainder::is_part(asked, page_size) {
            return Ok(());
        }
        let pages = self.tracked.mkey.with(|mapping| mapping.pages().clone());
        let pages = pages.map_err(|_| EIO)?;
        for message in batch.messages() {
            let (offset, len) = message.place(self.message_len());
            pages.for_words(offset, len, |words| {
                for page in (0..).map_while(|index| words.get(index)) {
                    self.remainder.keep(page, asked, page_size);
                }
            })?;
        }
        Ok(())
    }

    /// Notes that the tracker has failed, if firmware did not answer.
    fn unanswered(&self, err: Error) {
        if err == ETIMEDOUT {
            self.events.fail();
        }
    }

    /// Returns `EIO` if the tracker has failed.
    fn check(&self) -> Result {
        if self.events.take_changed() {
            let in_error = self.tracked.object.is_in_error().inspect_err(|err| {
                // The object could not be queried, so query it again next time.
                self.events.change();
                self.unanswered(*err);
            })?;
            if in_error {
                self.events.fail();
            }
        }
        if self.events.has_failed() {
            return Err(EIO);
        }
        Ok(())
    }
}

impl report::Tracker for Tracked {
    type Range = IovaRange;
    type Error = Error;

    fn request(&mut self, range: IovaRange) -> Result {
        self.object.request(range)
    }

    fn spare(&self) -> u32 {
        self.ring.slots() / 2
    }

    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed> {
        let index = self.seen.wrapping_add(index);
        let (slots, room) = (self.ring.slots(), self.ring.message_len());
        self.cq.entry(index, slots, room).map_err(|_| Failed)
    }

    fn arm(&mut self) {
        self.cq.arm(self.seen);
    }

    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed> {
        let place = |message: &Message| message.place(self.ring.message_len());
        let readable = self.mkey.with(|mapping| {
            for run in messages.chunk_by(|one, next| one.slot + 1 == next.slot) {
                if let [first, ..] = run {
                    let (start, _) = place(first);
                    let (last, len) = run.last().map_or((start, 0), place);
                    mapping.sync_part_for_cpu(start, last + len - start);
                }
            }
        });
        // The memory is gone: the tracker is being destroyed.
        readable.map_err(|_| Failed)
    }

    fn release(&mut self, count: u32) {
        self.seen = self.seen.wrapping_add(count);
        self.cq.release(self.seen);
    }

    fn post(&mut self) {
        self.receiver
            .post(self.seen.wrapping_add(self.ring.slots()));
    }
}

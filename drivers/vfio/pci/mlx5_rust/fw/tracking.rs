// SPDX-License-Identifier: GPL-2.0

//! Page tracking that was started, shared by the threads that report and that end it.
//!
//! A report writes to a bitmap in user memory, which may take arbitrarily long, for example with a
//! userfaultfd. So a report holds the tracker's lock only while it takes a batch of messages from
//! the device, and no lock while it writes their pages to the bitmap, or waits for the device. The
//! memory of messages stays as long as a thread reports from it, even if the tracker is destroyed.
//!
//! Lock order: the VF's state, then `tracker`. `reporting` is taken with neither held, and only by
//! reporters.

use super::{
    device::Device,
    page_track::PageTracker,
    report::{
        Batch,
        Progress, //
    },
    track_events::TrackEvents,
    track_limits::LOG_ENTRY, //
};
use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vfio_rust::{
    dirty_log::{
        DirtyBitmap,
        IovaRanges, //
    },
    kernel::{
        page::runs::Pages,
        task, //
    }, //
};

pub(crate) use super::track_memory::TrackMemory;

/// Page tracking.
#[pin_data]
pub(crate) struct Tracking {
    page_size: u64,
    message_len: usize,
    events: Arc<TrackEvents>,
    /// `None` after [`Self::stop`].
    #[pin]
    tracker: Mutex<Option<PageTracker>>,
    #[pin]
    reporting: Mutex<Reporting>,
    /// Notified when a report ends.
    #[pin]
    ended: CondVar,
}

/// Which thread may report.
struct Reporting {
    /// A report is being made.
    busy: bool,
    /// Number of threads that wait for its end.
    waiting: u32,
}

/// The time for which the device has sent nothing.
///
/// A command for which firmware takes long is not silence of the tracker. Only the longest command
/// is left out: a tracker that changes without end is queried without end, and is silent.
struct Silence {
    /// When the device was first waited for, if it has sent nothing since.
    since: Option<Instant<Monotonic>>,
    /// How long the longest command since then has taken.
    longest: Delta,
}

impl Silence {
    /// The device has just sent something, or was not waited for yet.
    const NONE: Self = Self {
        since: None,
        longest: Delta::ZERO,
    };

    /// Returns when the device became silent, put off by the longest command. That is now if the
    /// device was not waited for yet.
    fn begin(&mut self) -> Instant<Monotonic> {
        *self.since.get_or_insert_with(Instant::now) + self.longest
    }

    /// Calls `f`, which sends at most one command.
    fn time_command<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let begin = Instant::<Monotonic>::now();
        let result = f();
        if self.since.is_some() {
            self.longest = self.longest.max(begin.elapsed());
        }
        result
    }
}

/// The right to report. It is passed on when this is dropped.
struct ReportTurn<'a>(&'a Tracking);

impl Drop for ReportTurn<'_> {
    fn drop(&mut self) {
        let mut reporting = self.0.reporting.lock();
        reporting.busy = false;
        if reporting.waiting > 0 {
            self.0.ended.notify_one();
        }
    }
}

impl Tracking {
    /// Begins to track `ranges` in pages of about `page_size` bytes.
    pub(crate) fn start(
        device: &Arc<Device>,
        memory: TrackMemory,
        ranges: IovaRanges<'_>,
        page_size: u64,
    ) -> Result<Arc<Self>> {
        let tracker = PageTracker::new(device, memory, ranges, page_size)?;
        Arc::pin_init(
            pin_init!(Self {
                page_size: tracker.page_size(),
                message_len: tracker.message_len(),
                events: tracker.events().clone(),
                tracker <- new_mutex!(Some(tracker)),
                reporting <- new_mutex!(Reporting {
                    busy: false,
                    waiting: 0,
                }),
                ended <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the size of the pages that are tracked.
    pub(crate) fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Returns whether tracking has ended: it was stopped, or the PF is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.events.has_ended()
    }

    /// Ends tracking. A report that is being made fails with `EIO`.
    ///
    /// Waits for at most one firmware command.
    pub(crate) fn stop(&self) {
        self.events.fail();
        let tracker = self.tracker.lock().take();
        drop(tracker);
    }

    /// Sets the bits of all memory that the VF has written to since the last report, or of
    /// more than that, and adds its length to `bytes`.
    ///
    /// The caller must hold no lock that a fault in user memory may depend on. One report is made
    /// at a time. Others wait, and return `ERESTARTSYS` if a signal comes.
    ///
    /// Returns `EIO` if the tracker has failed or was stopped, or if the device reports without
    /// end; `ETIMEDOUT` if the device does not answer, or sends nothing for the report timeout,
    /// after which the tracker has failed; `EINTR` if the process is killed. After an error every
    /// page of the range may be dirty.
    pub(crate) fn report(&self, dirty: &mut DirtyBitmap<'_>, bytes: &mut u64) -> Result {
        let range = dirty.range();
        let _turn = self.turn()?;
        let mut batch = Batch::new();
        let (pages, first) = self.with_tracker(|tracker| {
            let pages = tracker.begin(range)?;
            // If earlier reports have left anything, that is reported first: the end of this report
            // forgets it.
            let first = !tracker.remainder().is_used();
            let first = first.then(|| tracker.next_batch(range, &mut batch));
            Ok((pages, first))
        })?;
        let mut progress = match first {
            Some(progress) => progress,
            None => {
                *bytes = self.report_rest(dirty)?;
                self.with_tracker(|tracker| tracker.next_batch(range, &mut batch))
            }
        };
        let mut silence = Silence::NONE;
        loop {
            match progress? {
                Progress::More => {
                    let reported = self.report_batch(&batch, &pages, dirty)?;
                    *bytes = bytes.saturating_add(reported);
                    silence = Silence::NONE;
                    // If the device always has more, this loop never waits.
                    task::check_killed()?;
                }
                Progress::Wait => self.wait(silence.begin())?,
                Progress::Done => return Ok(()),
            }
            progress = silence.time_command(|| {
                self.with_tracker(|tracker| tracker.next_batch(range, &mut batch))
            });
        }
    }

    /// Sets the bits of the memory that earlier reports have left. Returns its length in bytes.
    fn report_rest(&self, dirty: &mut DirtyBitmap<'_>) -> Result<u64> {
        let range = dirty.range().into();
        let found = self.with_tracker(|tracker| Ok(tracker.remainder().find(range)))?;
        let mut bytes = 0u64;
        for piece in found {
            dirty.set(piece.first, piece.len());
            bytes = bytes.saturating_add(piece.len());
        }
        Ok(bytes)
    }

    /// Sets the bits of the pages in a batch. Returns their length in bytes.
    fn report_batch(
        &self,
        batch: &Batch,
        pages: &Pages,
        dirty: &mut DirtyBitmap<'_>,
    ) -> Result<u64> {
        let mut bytes = 0;
        for message in batch.messages() {
            let (offset, len) = message.place(self.message_len);
            pages.for_words(offset, len, |words| dirty.set_pages(self.page_size, words))?;
            bytes += (len >> LOG_ENTRY) as u64 * self.page_size;
        }
        Ok(bytes)
    }

    /// Waits for an event of a device that has been silent since `silent`.
    fn wait(&self, silent: Instant<Monotonic>) -> Result {
        self.events.wait(silent).inspect_err(|err| {
            if *err == ETIMEDOUT {
                self.events.fail();
            }
        })
    }

    /// Waits until no report is being made.
    fn turn(&self) -> Result<ReportTurn<'_>> {
        let mut reporting = self.reporting.lock();
        while reporting.busy {
            reporting.waiting += 1;
            let interrupted = self.ended.wait_interruptible(&mut reporting);
            reporting.waiting -= 1;
            if interrupted {
                // This thread may have been notified: notify another one.
                self.ended.notify_one();
                return Err(ERESTARTSYS);
            }
        }
        reporting.busy = true;
        Ok(ReportTurn(self))
    }

    /// Calls `f` with the tracker. Returns `EIO` if tracking was stopped.
    fn with_tracker<R>(&self, f: impl FnOnce(&mut PageTracker) -> Result<R>) -> Result<R> {
        let mut tracker = self.tracker.lock();
        f((*tracker).as_mut().ok_or(EIO)?)
    }
}

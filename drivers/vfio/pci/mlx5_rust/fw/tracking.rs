// SPDX-License-Identifier: GPL-2.0

//! Page tracking that was started, shared by reporters and whoever ends it.
//!
//! A report writes to a bitmap in user memory, which may take as long as user
//! space likes: it can wait for a userfaultfd. So a report holds the tracker's
//! lock only while it takes a batch of dirty runs from the device, and no lock
//! while it writes them to the bitmap, or waits for the device.
//!
//! Lock order: the VF's state, then `tracker`. `reporting` is inside of neither;
//! only reporters take it.

use super::{
    device::Device,
    events::TrackEvents,
    page_track::PageTracker,
    report::{Batch, Progress},
};
use crate::vfio::dirty_log::{IovaRange, IovaRanges};
use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    sync::{Arc, CondVar, Mutex},
};

/// Page tracking.
#[pin_data]
pub(crate) struct Tracking {
    page_size: u64,
    events: Arc<TrackEvents>,
    /// `None` after [`Self::stop`].
    #[pin]
    tracker: Mutex<Option<PageTracker>>,
    /// Whether a report is being made.
    #[pin]
    reporting: Mutex<bool>,
    /// Notified when a report ends.
    #[pin]
    ended: CondVar,
}

/// The right to report; handed on when it is dropped.
struct Turn<'a>(&'a Tracking);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.reporting.lock() = false;
        self.0.ended.notify_one();
    }
}

impl Tracking {
    /// Begins to track `ranges` in pages of about `page_size` bytes.
    pub(crate) fn start(
        device: &Arc<Device>,
        ranges: IovaRanges<'_>,
        page_size: u64,
    ) -> Result<Arc<Self>> {
        let tracker = PageTracker::new(device, ranges, page_size)?;
        Arc::pin_init(
            pin_init!(Self {
                page_size: tracker.page_size(),
                events: tracker.events().clone(),
                tracker <- new_mutex!(Some(tracker)),
                reporting <- new_mutex!(false),
                ended <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the size of the pages that are told apart.
    pub(crate) fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Returns whether tracking has ended: it was stopped, or the PF is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.events.has_ended()
    }

    /// Ends tracking, and a report that is being made, with `EIO`.
    ///
    /// Waits for a firmware command at most.
    pub(crate) fn stop(&self) {
        self.events.fail();
        let tracker = self.tracker.lock().take();
        drop(tracker);
    }

    /// Calls `each` with address and length of all memory in `range` that the VF
    /// has written to since that was asked last, or of more than that.
    ///
    /// The caller must hold no lock that a fault in user memory may depend on. One
    /// report is made at a time; others wait, `ERESTARTSYS` if a signal comes.
    ///
    /// `EIO` if the tracker has failed or was stopped, or if the device does not
    /// come to an end; `ETIMEDOUT` if it does not answer, or sends nothing for the report
    /// timeout, after which the tracker has failed; `EINTR` if the process is killed.
    /// After an error every page of the range may be dirty.
    pub(crate) fn report(&self, range: IovaRange, mut each: impl FnMut(u64, u64)) -> Result {
        let _turn = self.turn()?;
        let mut batch = Batch::new();
        let mut progress = self.with_tracker(|tracker| {
            tracker.begin(range, &mut batch);
            Ok(Progress::More)
        });
        loop {
            for run in batch.runs() {
                each(run.start, run.len);
            }
            match progress? {
                Progress::More => (),
                Progress::Wait => self.wait()?,
                Progress::Done => return Ok(()),
            }
            batch.clear();
            progress = self.with_tracker(|tracker| tracker.next_batch(range, &mut batch));
        }
    }

    /// Waits for an event.
    fn wait(&self) -> Result {
        self.events.wait().inspect_err(|err| {
            if *err == ETIMEDOUT {
                self.events.fail();
            }
        })
    }

    /// Waits until no report is being made.
    fn turn(&self) -> Result<Turn<'_>> {
        let mut reporting = self.reporting.lock();
        while *reporting {
            if self.ended.wait_interruptible(&mut reporting) {
                // It may have been notified instead of another one.
                self.ended.notify_one();
                return Err(ERESTARTSYS);
            }
        }
        *reporting = true;
        Ok(Turn(self))
    }

    /// `EIO` if tracking was stopped.
    fn with_tracker<R>(&self, f: impl FnOnce(&mut PageTracker) -> Result<R>) -> Result<R> {
        let mut tracker = self.tracker.lock();
        f((*tracker).as_mut().ok_or(EIO)?)
    }
}

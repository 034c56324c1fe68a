// SPDX-License-Identifier: GPL-2.0

//! Events about a page tracker.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        AtomicFlag,
        Relaxed,
        Release, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};
use vfio_rust::kernel::{
    sync::completion::Completion,
    task, //
};

/// Report timeout, in milliseconds.
const SILENCE_MS: u32 = 10_000;

/// The events of one tracker so far.
#[pin_data]
pub(crate) struct TrackEvents {
    /// Completed for each event: a message, a failure, or a change of the object.
    #[pin]
    any: Completion,
    failed: AtomicFlag,
    gone: AtomicFlag,
    changed: AtomicFlag,
}

impl TrackEvents {
    /// Makes the events of a tracker that has none yet.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            any <- Completion::new(),
            failed: AtomicFlag::new(false),
            gone: AtomicFlag::new(false),
            changed: AtomicFlag::new(false),
        })
    }

    /// Notes that a message has come. May be called from an interrupt.
    pub(super) fn message(&self) {
        self.any.complete();
    }

    /// Notes that the tracker has failed. May be called from an interrupt.
    pub(crate) fn fail(&self) {
        // What `end()` has noted before is seen by whoever sees this.
        self.failed.store(true, Release);
        self.any.complete();
    }

    /// Notes that the tracker was destroyed.
    pub(super) fn end(&self) {
        self.gone.store(true, Relaxed);
        self.fail();
    }

    /// Returns whether the tracker was destroyed.
    pub(crate) fn has_ended(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Returns whether the tracker has failed, or was destroyed. If it was destroyed, and did not
    /// fail before, [`Self::has_ended`] says so from now on.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Acquire)
    }

    /// Notes that the object has changed. May be called from an interrupt.
    pub(super) fn change(&self) {
        self.changed.store(true, Relaxed);
        self.any.complete();
    }

    /// Returns whether the object has changed since the last call. A caller that cannot query the
    /// object must call [`Self::change`], so that the change is not lost.
    pub(super) fn take_changed(&self) -> bool {
        // Read and clear in one step, or an event in between would be lost.
        self.changed.xchg(false, Relaxed)
    }

    /// Waits, without a lock, for an event. Returns `ETIMEDOUT` if the report timeout has passed
    /// since `silent`, `EINTR` if the process is killed first.
    ///
    /// A device may raise events without end that tell of nothing. They must neither prolong the
    /// timeout, nor keep the process from being killed: an event that has come lets the wait return
    /// at once, without a look at signals.
    pub(super) fn wait(&self, silent: Instant<Monotonic>) -> Result {
        task::check_killed()?;
        let passed = u32::try_from(silent.elapsed().as_millis()).unwrap_or(u32::MAX);
        match SILENCE_MS.saturating_sub(passed) {
            0 => Err(ETIMEDOUT),
            left => self.any.wait_killable_timeout(left),
        }
    }
}

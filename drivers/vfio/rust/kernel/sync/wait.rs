// SPDX-License-Identifier: GPL-2.0

//! A number that threads wait on, and that an interrupt may change.
//!
//! The kernel crate's condition variables need a lock, which an interrupt cannot
//! take, and a completion cannot be used again while others still wait for it.

use crate::bindings;
use kernel::{
    error::to_result,
    fs::File,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Release, //
    },
    types::Opaque, //
};

/// A number, and the threads that wait until it changes.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::Arc, //
/// };
/// use vfio_rust::kernel::sync::wait::Phase;
///
/// const BUSY: u32 = 0;
/// const DONE: u32 = 1;
///
/// let phase = Arc::pin_init(Phase::new(BUSY), GFP_KERNEL)?;
/// // Of several callers, only one changes the value.
/// assert!(phase.advance(BUSY, DONE));
/// assert!(!phase.advance(BUSY, DONE));
/// // Returns at once: the value is not `BUSY`.
/// phase.wait_while(BUSY);
/// assert_eq!(phase.get(), DONE);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `queue` is initialised, and pinned.
#[pin_data]
pub struct Phase {
    now: Atomic<u32>,
    #[pin]
    queue: Opaque<kernel::bindings::wait_queue_head>,
}

// SAFETY: A wait queue does not belong to a thread.
unsafe impl Send for Phase {}
// SAFETY: `now` is atomic, and the wait queue's lock protects the wait queue.
unsafe impl Sync for Phase {}

impl Phase {
    /// Makes a number with the value `now`.
    pub fn new(now: u32) -> impl PinInit<Self> {
        // INVARIANT: `init_waitqueue_head()` initialises it in its pinned place.
        pin_init!(Self {
            now: Atomic::new(now),
            queue <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of a `wait_queue_head`, and is
                // not moved afterwards.
                unsafe { bindings::vfio_rust_init_waitqueue_head(slot) }
            }),
        })
    }

    /// Returns the value. Writes made before the value was set are visible after this call.
    #[inline]
    pub fn get(&self) -> u32 {
        self.now.load(Acquire)
    }

    /// Sets the value to `to` if it is `from`. Returns whether it was.
    #[inline]
    pub fn advance(&self, from: u32, to: u32) -> bool {
        let was = self.now.cmpxchg(from, to, Full).is_ok();
        if was {
            self.wake();
        }
        was
    }

    /// Sets the value to `to`. May be called from an interrupt.
    #[inline]
    pub fn set(&self, to: u32) {
        self.now.store(to, Release);
        self.wake();
    }

    /// Increments the value. May be called from an interrupt.
    #[inline]
    pub(super) fn next(&self) {
        self.now.fetch_add(1, Full);
        self.wake();
    }

    #[inline]
    fn wake(&self) {
        // SAFETY: `queue` is initialised by the type invariant.
        unsafe { bindings::vfio_rust_wake_up_waiters(self.queue.get()) }
    }

    /// Waits until the value is not `value`, and ignores signals. For a change that is sure to come
    /// soon.
    #[inline]
    pub fn wait_while(&self, value: u32) {
        // SAFETY: `queue` is initialised by the type invariant. `now` stays for as
        // long as `self` is borrowed, and is only written atomically.
        unsafe { bindings::vfio_rust_wait_while(self.queue.get(), self.now.as_ptr(), value) }
    }

    /// Waits until the value is not `value`. Returns `ERESTARTSYS` if a signal comes first.
    #[inline]
    pub fn wait_while_interruptible(&self, value: u32) -> Result {
        // SAFETY: `queue` is initialised by the type invariant. `now` stays for as
        // long as `self` is borrowed, and is only written atomically.
        to_result(unsafe {
            bindings::vfio_rust_wait_while_interruptible(self.queue.get(), self.now.as_ptr(), value)
        })
    }

    /// Adds the number to a poll table.
    ///
    /// # Safety
    ///
    /// `table` must be null or valid until this returns, and be for `file`. The context
    /// of `file` must keep this object.
    #[inline]
    pub(super) unsafe fn register(
        &self,
        file: &File,
        table: *mut kernel::bindings::poll_table_struct,
    ) {
        // SAFETY: `table` is null or valid, and `file` is (requirements of this function). `queue`
        // is initialised by the type invariant; it exists until the file is released, and no poll
        // table refers to the file after that.
        unsafe { kernel::bindings::poll_wait(file.as_ptr(), self.queue.get(), table) }
    }
}

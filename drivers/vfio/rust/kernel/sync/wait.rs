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
/// // Of several that try, one does it.
/// assert!(phase.advance(BUSY, DONE));
/// assert!(!phase.advance(BUSY, DONE));
/// // Returns at once: it is done.
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

// SAFETY: A wait queue has no thread that it belongs to.
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

    /// Returns the value. Writes that were made before it was set are seen after this.
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
        unsafe { bindings::vfio_rust_wake_up_all(self.queue.get()) }
    }

    /// Waits until the value is not `value`, without regard for signals: for a change that
    /// comes soon in any case.
    #[inline]
    pub fn wait_while(&self, value: u32) {
        // SAFETY: `queue` is initialised by the type invariant. `now` stays for as
        // long as `self` is borrowed, and is only written atomically.
        unsafe { bindings::vfio_rust_wait_while(self.queue.get(), self.now.as_ptr(), value) }
    }

    /// Waits until the value is not `value`. `ERESTARTSYS` if a signal comes first.
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
        // SAFETY: `table` is null or valid, and `file` is (requirements of this
        // function). `queue` is initialised by the type invariant; it stays until the
        // file is released, which the table is not for any more then.
        unsafe { kernel::bindings::poll_wait(file.as_ptr(), self.queue.get(), table) }
    }
}

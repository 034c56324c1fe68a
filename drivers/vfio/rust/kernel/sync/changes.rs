// SPDX-License-Identifier: GPL-2.0

//! Waiting for a change: in a call, and by poll().
//!
//! The kernel crate's condition variables belong to a lock, and its `PollCondVar` waits for an RCU
//! grace period when it is dropped, since epoll may still access it when its owner is gone.
//! [`Changes`] belong to the context of a data file, which exists until the file is released.
//! Nothing accesses them after that: poll() and select() hold a reference to the file, and epoll
//! forgets a file before it is released (`eventpoll_release()` in `__fput()`).

use super::wait::Phase;
use kernel::{
    fs::File,
    prelude::*, //
};

/// A count of changes, and the threads that wait for the next one.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::Arc, //
/// };
/// use vfio_rust::kernel::sync::changes::Changes;
///
/// let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
/// let seen = changes.seen();
/// // The caller finds that it has to wait. Then another thread, or an interrupt, announces a
/// // change.
/// changes.notify_all();
/// // Returns at once: there was a change since `seen`.
/// changes.wait(seen)?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// Poll tables that have an entry in `count` are for files whose contexts keep this object.
#[pin_data]
pub struct Changes {
    #[pin]
    count: Phase,
}

/// The number of changes that a caller knows of.
#[derive(Clone, Copy)]
pub struct Seen(u32);

impl Changes {
    /// Makes a count that no thread waits on.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: There are no entries.
        pin_init!(Self { count <- Phase::new(0) })
    }

    /// Announces a change. May be called from an interrupt.
    #[inline]
    pub fn notify_all(&self) {
        self.count.next();
    }

    /// Returns the argument of [`Self::wait`]. The caller must call this before it looks at
    /// the state that may change: then no change is missed.
    #[inline]
    pub fn seen(&self) -> Seen {
        Seen(self.count.get())
    }

    /// Waits until there was a change since `seen`. Returns `ERESTARTSYS` if a signal comes first.
    #[inline]
    pub fn wait(&self, seen: Seen) -> Result {
        self.count.wait_while_interruptible(seen.0)
    }

    /// Waits as [`Self::wait`] does, but ignores signals. For a change that is sure to come soon.
    #[inline]
    pub fn wait_uninterruptible(&self, seen: Seen) {
        self.count.wait_while(seen.0);
    }

    /// Adds the count to a poll table.
    ///
    /// # Safety
    ///
    /// `table` must be null or valid until this returns, and be for `file`. The context
    /// of `file` must keep this object.
    #[inline]
    pub(crate) unsafe fn register(
        &self,
        file: &File,
        table: *mut kernel::bindings::poll_table_struct,
    ) {
        // INVARIANT: By the requirements of this function.
        //
        // SAFETY: `table` is null or valid until this returns, and for `file`, whose context
        // keeps `count` (requirements of this function).
        unsafe { self.count.register(file, table) }
    }
}

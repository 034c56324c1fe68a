// SPDX-License-Identifier: GPL-2.0

//! Waiting for a change of a data file: in a call, and by poll().
//!
//! The kernel crate's `PollCondVar` waits for an RCU grace period when it is dropped,
//! since epoll may find it for longer than what it belongs to. This one belongs to the
//! context of a data file, which stays until the file is released. By then nothing finds
//! it any more: poll() and its like hold a reference to the file, and epoll forgets a
//! file before that is released (`eventpoll_release()` in `__fput()`).

use super::bindings;
use kernel::{
    fs::File,
    new_condvar,
    prelude::*,
    sync::{lock::mutex::MutexBackend, lock::Guard, CondVar},
    types::Opaque,
};

/// Those who wait for a change.
///
/// # Invariants
///
/// `polls` is initialised, and pinned. It only has entries of poll tables for files
/// whose contexts keep this object.
#[pin_data]
pub(crate) struct Changes {
    #[pin]
    calls: CondVar,
    #[pin]
    polls: Opaque<kernel::bindings::wait_queue_head>,
}

// SAFETY: Neither part has a thread that it belongs to.
unsafe impl Send for Changes {}
// SAFETY: `calls` is Sync, and the wait queue's lock protects `polls`.
unsafe impl Sync for Changes {}

impl Changes {
    /// Makes one that nobody waits on.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: `init_waitqueue_head()` initialises `polls` in its pinned place.
        pin_init!(Self {
            calls <- new_condvar!("vfio_rust_changes"),
            polls <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of a `wait_queue_head`, and is
                // not moved afterwards.
                unsafe { bindings::vfio_rust_init_waitqueue_head(slot) }
            }),
        })
    }

    /// There was a change. May be called from an interrupt.
    pub(crate) fn notify_all(&self) {
        self.calls.notify_all();
        // SAFETY: `polls` is initialised by the type invariant.
        unsafe { bindings::vfio_rust_wake_up_all(self.polls.get()) }
    }

    /// Waits for a change, without the lock meanwhile. Returns whether a signal is
    /// pending. May return without a change.
    #[must_use]
    pub(crate) fn wait_interruptible<T>(&self, guard: &mut Guard<'_, T, MutexBackend>) -> bool {
        self.calls.wait_interruptible(guard)
    }

    /// Has a poll table hear of changes.
    ///
    /// # Safety
    ///
    /// `table` must be null or valid until this returns, and be for `file`. The context
    /// of `file` must keep this object.
    pub(super) unsafe fn register(
        &self,
        file: &File,
        table: *mut kernel::bindings::poll_table_struct,
    ) {
        // SAFETY: `table` is null or valid, and `file` is (requirements of this
        // function). `polls` is initialised by the type invariant; it stays until the
        // file is released, which the table is not for any more then.
        unsafe { kernel::bindings::poll_wait(file.as_ptr(), self.polls.get(), table) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A work queue of one's own.
//!
//! Work of a module must have ended before the module goes; a queue that the
//! module owns can be flushed for that, one of the system cannot.

use super::bindings;
use core::{ops::Deref, ptr::NonNull};
use kernel::{prelude::*, workqueue::Queue};

/// A queue that runs its work in order, one item at a time.
///
/// # Invariants
///
/// The pointer is valid and owned.
pub(crate) struct OrderedQueue(NonNull<kernel::bindings::workqueue_struct>);

// SAFETY: Work queues may be used from any thread.
unsafe impl Send for OrderedQueue {}
// SAFETY: As above.
unsafe impl Sync for OrderedQueue {}

impl OrderedQueue {
    /// A new queue.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is a C string, and is copied.
        let queue = unsafe { bindings::vfio_rust_alloc_ordered_workqueue(name.as_char_ptr()) };
        // INVARIANT: Just made for us.
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// Waits for all work that was enqueued so far.
    pub(crate) fn flush(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::vfio_rust_flush_workqueue(self.0.as_ptr()) }
    }
}

impl Deref for OrderedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariant, for as long as `self` is borrowed.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OrderedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; waits for its work.
        unsafe { bindings::vfio_rust_destroy_workqueue(self.0.as_ptr()) }
    }
}

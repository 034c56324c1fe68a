// SPDX-License-Identifier: GPL-2.0

//! Work that is done outside of interrupts, and owned.
//!
//! The kernel crate's work items are counted references, which a queue gives
//! back from a worker: such an item may be the last user of its object, and of
//! the module's code. The work here is part of its object, and has ended when the
//! object is dropped.

use super::bindings;
use core::{mem::offset_of, ops::Deref, ptr::NonNull};
use kernel::{prelude::*, sync::LockClassKey, types::Opaque, workqueue::Queue};

/// Work on an object.
pub(crate) trait RunWork: Send + Sync + 'static {
    /// Does the work, in a worker of the kernel. Never runs twice at the same
    /// time for one object.
    ///
    /// Must not drop the last owner of the [`DeferredWork`] that it runs for:
    /// dropping that waits for this.
    fn run(&self);
}

/// An object with work that can be queued from an interrupt.
///
/// Queuing takes no reference, and so drops none in a worker. Dropping the object
/// cancels the work, waits for it if it runs, and then drops `data`.
///
/// # Invariants
///
/// - `work` is initialised, with `Self::work_fn` as its function, and pinned.
/// - It is queued or runs only while the object exists, and only as part of it.
#[pin_data(PinnedDrop)]
pub(crate) struct DeferredWork<T: RunWork> {
    #[pin]
    work: Opaque<kernel::bindings::work_struct>,
    #[pin]
    data: T,
}

// SAFETY: A `struct work_struct` has no thread that it belongs to, and `data` may
// be dropped on another thread since `RunWork` is `Send`.
unsafe impl<T: RunWork> Send for DeferredWork<T> {}
// SAFETY: The functions that take `work` may be called from several threads at
// once, and `&data` may be used on them since `RunWork` is `Sync`.
unsafe impl<T: RunWork> Sync for DeferredWork<T> {}

impl<T: RunWork> DeferredWork<T> {
    /// Makes an object around `data`, with nothing queued.
    ///
    /// `name` and `class` are for lockdep, which learns what locks the work
    /// takes: `kernel::static_lock_class!()` for each kind of object.
    pub(crate) fn new<E>(
        data: impl PinInit<T, E>,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        // INVARIANT: The work is initialised in its pinned place, which is part
        // of a `Self`.
        try_pin_init!(Self {
            work <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of a `struct work_struct`,
                // and is not moved afterwards. `name` and `class` are static.
                // `work_fn` gets the pointer to this work, which is part of a
                // `Self`.
                unsafe {
                    kernel::bindings::init_work_with_key(
                        slot,
                        Some(Self::work_fn),
                        false,
                        name.as_char_ptr(),
                        class.as_ptr(),
                    )
                }
            }),
            data <- data,
        })
    }

    /// Has the work done soon. Once, if it is queued and has not begun to run.
    /// May be called from an interrupt.
    pub(crate) fn queue(&self) {
        // INVARIANT: The object exists, and dropping it will cancel the work.
        //
        // SAFETY: `work` is initialised and pinned by the type invariant. It
        // stays valid until the work has ended: `drop` waits for that.
        unsafe { bindings::vfio_rust_queue_work(self.work.get()) }
    }

    /// Waits until the work has ended, if it was queued before this.
    pub(crate) fn flush(&self) {
        // SAFETY: `work` is initialised by the type invariant, and borrowed
        // until this returns.
        unsafe { bindings::flush_work(self.work.get()) };
    }

    /// Unqueues the work, and waits until it has ended if it runs. It may be
    /// queued again afterwards, or by another thread at the same time.
    pub(crate) fn cancel(&self) {
        // SAFETY: `work` is initialised by the type invariant, and borrowed
        // until this returns.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
    }

    /// # Safety
    ///
    /// Only called by the workqueue, with the `work` of a `Self`.
    unsafe extern "C" fn work_fn(work: *mut kernel::bindings::work_struct) {
        // SAFETY: By the requirements of this function `work` is at this offset
        // in a `Self`, which exists while its work runs (type invariant). The
        // object is not `Unpin`, so that a `Pin<&mut Self>` in `drop`, which
        // waits for this function, may exist beside this reference.
        let this = unsafe { &*work.byte_sub(offset_of!(Self, work)).cast::<Self>() };
        this.data.run();
    }
}

impl<T: RunWork> Deref for DeferredWork<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

#[pinned_drop]
impl<T: RunWork> PinnedDrop for DeferredWork<T> {
    fn drop(self: Pin<&mut Self>) {
        // `data` is dropped after this: nobody has a reference to the object any
        // more, so nobody queues the work again.
        self.cancel();
    }
}

/// A queue that runs its work in order, one item at a time.
///
/// # Invariants
///
/// The pointer is valid and owned.
pub(crate) struct OrderedQueue(NonNull<kernel::bindings::workqueue_struct>);

// SAFETY: A `struct workqueue_struct` may be used and destroyed on any thread.
unsafe impl Send for OrderedQueue {}
// SAFETY: Queuing and flushing may be done from several threads at once.
unsafe impl Sync for OrderedQueue {}

impl OrderedQueue {
    /// A new queue.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: `name` ends with a NUL, and is copied.
        let queue = unsafe { bindings::vfio_rust_alloc_ordered_workqueue(name.as_char_ptr()) };
        // INVARIANT: Made just now, for this object.
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// Waits for all work that was enqueued so far.
    pub(crate) fn flush(&self) {
        // SAFETY: The queue is valid by the type invariant.
        unsafe { bindings::vfio_rust_flush_workqueue(self.0.as_ptr()) }
    }
}

impl Deref for OrderedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: The queue is valid by the type invariant, as long as `self` is
        // borrowed.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OrderedQueue {
    fn drop(&mut self) {
        // SAFETY: The queue is owned by the type invariant, and not used after
        // this, which waits for its work.
        unsafe { bindings::vfio_rust_destroy_workqueue(self.0.as_ptr()) }
    }
}

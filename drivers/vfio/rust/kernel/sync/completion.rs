// SPDX-License-Identifier: GPL-2.0

//! Waiting for an event that an interrupt announces.
//!
//! The kernel crate's `Completion` has no wait with a timeout, and cannot wake only one waiter.

use kernel::{
    bindings,
    prelude::*,
    time::msecs_to_jiffies,
    types::Opaque, //
};

/// A `struct completion`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::Arc, //
/// };
/// use vfio_rust::kernel::sync::completion::Completion;
///
/// let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
/// // An interrupt handler would call this.
/// done.complete();
/// assert_eq!(done.wait_killable_timeout(1000), Ok(()));
/// // One waiter goes on for each call of `complete()`.
/// assert_eq!(done.wait_killable_timeout(1), Err(ETIMEDOUT));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `completion` is initialised, and pinned.
#[pin_data]
pub struct Completion {
    #[pin]
    completion: Opaque<bindings::completion>,
}

// SAFETY: A `struct completion` does not belong to a thread.
unsafe impl Send for Completion {}
// SAFETY: All functions that get a `&Completion` may be called from several threads at once: the
// wait queue's lock protects `done`.
unsafe impl Sync for Completion {}

impl Completion {
    /// Makes a completion that is not complete.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: `init_completion()` initialises it in its pinned place.
        pin_init!(Self {
            completion <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes of a `struct completion`,
                // and is not moved afterwards.
                unsafe { bindings::init_completion(slot) }
            }),
        })
    }

    /// Lets one waiter go on: one that waits already, or the next one. May be called from an
    /// interrupt.
    #[inline]
    pub fn complete(&self) {
        // SAFETY: `completion` is initialised by the type invariant.
        unsafe { bindings::complete(self.completion.get()) }
    }

    /// Waits for at most `ms` milliseconds. Returns `ETIMEDOUT` after that, or `EINTR` if the
    /// process is killed first.
    #[inline]
    pub fn wait_killable_timeout(&self, ms: u32) -> Result {
        let (completion, jiffies) = (self.completion.get(), msecs_to_jiffies(ms));
        // SAFETY: `completion` is initialised by the type invariant.
        match unsafe { bindings::wait_for_completion_killable_timeout(completion, jiffies) } {
            0 => Err(ETIMEDOUT),
            left if left > 0 => Ok(()),
            _ => Err(EINTR),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The lock of a migration state, with deferred reset built into its guard.
//!
//! `vfio_pci_core` calls `reset_done` with locks held that nest with `mm` locks
//! in ways that taking the state lock there would invert. So a reset that finds
//! the lock taken only leaves a note, and whoever holds the lock carries it out
//! when letting go. Doing that in the guard's `Drop` means that no path can
//! forget it.

use core::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{lock::mutex::MutexBackend, lock::Guard, Mutex, SpinLock},
};

/// What a reset of the device does to the state behind a [`StateLock`].
pub(crate) trait Reset: Unpin {
    /// The device has been reset.
    fn reset(&mut self);
}

/// A mutex around `T` that can also be reset by someone who must not wait.
#[pin_data]
pub(crate) struct StateLock<T: Reset> {
    #[pin]
    state: Mutex<T>,
    /// A reset happened and `T::reset` was not called yet. Set before the
    /// mutex is tried, looked at before it is released: either the resetting
    /// thread gets the mutex, or its holder sees the note.
    #[pin]
    deferred: SpinLock<bool>,
}

impl<T: Reset> StateLock<T> {
    /// A lock around `state`.
    pub(crate) fn new(state: T) -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(state, "vfio_rust_state"),
            deferred <- new_spinlock!(false, "vfio_rust_deferred_reset"),
        })
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> StateGuard<'_, T> {
        StateGuard {
            guard: ManuallyDrop::new(self.state.lock()),
            deferred: &self.deferred,
        }
    }

    /// Has the state reset: now, or by whoever holds the lock.
    pub(crate) fn reset(&self) {
        let mut deferred = self.deferred.lock();
        *deferred = true;
        let guard = self.state.try_lock();
        drop(deferred);
        // Dropping the guard carries the reset out.
        drop(guard.map(|guard| StateGuard {
            guard: ManuallyDrop::new(guard),
            deferred: &self.deferred,
        }));
    }
}

/// Access to the state; resets it on release if that is due.
pub(crate) struct StateGuard<'a, T: Reset> {
    guard: ManuallyDrop<Guard<'a, T, MutexBackend>>,
    deferred: &'a SpinLock<bool>,
}

impl<T: Reset> Deref for StateGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: Reset> DerefMut for StateGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: Reset> Drop for StateGuard<'_, T> {
    fn drop(&mut self) {
        loop {
            let mut deferred = self.deferred.lock();
            if !*deferred {
                // SAFETY: Not used after this: the loop ends here, and so
                // does `self`.
                unsafe { ManuallyDrop::drop(&mut self.guard) };
                return;
            }
            *deferred = false;
            drop(deferred);
            self.guard.reset();
        }
    }
}

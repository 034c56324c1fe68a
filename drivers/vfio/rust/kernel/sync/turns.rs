// SPDX-License-Identifier: GPL-2.0

//! A value that callers take in turns.
//!
//! The caller that has it may access user memory, which can take arbitrarily long. So others do not
//! wait for a lock, but are told that the value is taken, and when it is given back.

use super::changes::Changes;
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::sync::{
    atomic::{
        Acquire,
        Atomic,
        Full, //
    },
    Arc, //
};

/// Nobody has the value.
const FREE: u32 = 0;
/// A caller has the value. The other bits are only set together with this one.
const TAKEN: u32 = 1 << 0;
/// Others have found the value taken.
const WANTED: u32 = 1 << 1;
/// The value is replaced by the default when it is given back.
const VOID: u32 = 1 << 2;

/// A value, and whether a caller has it.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::Arc, //
/// };
/// use vfio_rust::kernel::sync::{
///     changes::Changes,
///     turns::{
///         GivenBack,
///         Turns, //
///     }, //
/// };
///
/// let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
/// let turns = Turns::new(7, changes.clone());
///
/// let mut turn = turns.take().ok_or(EBUSY)?;
/// *turn += 1;
/// // Others do not wait for a lock: they are told to wait for a change.
/// let seen = changes.seen();
/// assert!(turns.take().is_none());
/// assert!(turn.give_back() == GivenBack::Kept);
/// changes.wait(seen)?;
///
/// // clear() does not wait until the value is given back.
/// let turn = turns.take().ok_or(EBUSY)?;
/// assert_eq!(*turn, 8);
/// turns.clear();
/// assert!(turn.give_back() == GivenBack::Cleared);
/// assert!(turns.take().is_some_and(|turn| *turn == 0));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `value` belongs to the [`Turn`] that has changed `state` from `FREE`, until that changes
/// it back to `FREE`: there is one at a time.
pub struct Turns<T> {
    state: Atomic<u32>,
    value: UnsafeCell<T>,
    changes: Arc<Changes>,
}

// SAFETY: The value is a part of the object, and is Send.
unsafe impl<T: Send> Send for Turns<T> {}
// SAFETY: By the type invariants there is one `Turn` at a time. Each may be on another thread, so
// the value must be Send, and may be shared by threads, so the value must be Sync.
unsafe impl<T: Send + Sync> Sync for Turns<T> {}

/// The value, while it is taken. It is given back when this is dropped.
///
/// # Invariants
///
/// This object has changed the state of its `Turns` from `FREE`.
pub struct Turn<'a, T: Default>(&'a Turns<T>);

impl<T: Default> Turns<T> {
    /// Makes turns of `value`. `changes` are notified when it is given back, if others have found
    /// it taken.
    pub fn new(value: T, changes: Arc<Changes>) -> Self {
        Self {
            state: Atomic::new(FREE),
            value: UnsafeCell::new(value),
            changes,
        }
    }

    /// Takes the value, or returns `None` if it is taken: then a change is announced when it is
    /// given back.
    pub fn take(&self) -> Option<Turn<'_, T>> {
        loop {
            match self.state.cmpxchg(FREE, TAKEN, Full) {
                // INVARIANT: The state was `FREE` until this call.
                Ok(_) => return Some(Turn(self)),
                Err(now) if self.mark(now, WANTED) => return None,
                Err(_) => (),
            }
        }
    }

    /// Returns whether the value is taken. If so, a change is announced when it is given back.
    pub fn is_taken(&self) -> bool {
        loop {
            match self.state.load(Acquire) {
                FREE => return false,
                now if self.mark(now, WANTED) => return true,
                _ => (),
            }
        }
    }

    /// Replaces the value by the default: now, or when it is given back.
    pub fn clear(&self) {
        loop {
            match self.state.cmpxchg(FREE, TAKEN, Full) {
                Ok(_) => {
                    // INVARIANT: The state was `FREE` until this call.
                    *Turn(self) = T::default();
                    return;
                }
                Err(now) if self.mark(now, VOID) => return,
                Err(_) => (),
            }
        }
    }

    /// Sets a bit, if the state is `now`, which is not `FREE`.
    fn mark(&self, now: u32, bit: u32) -> bool {
        self.state.cmpxchg(now, now | bit, Full).is_ok()
    }
}

/// What became of a value that was given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// The value was kept.
    Kept,
    /// The value was replaced by the default.
    Cleared,
}

impl<T: Default> Turn<'_, T> {
    /// Gives the value back.
    pub fn give_back(self) -> GivenBack {
        // Replaces drop(), which has no result.
        ManuallyDrop::new(self).end()
    }

    /// Ends the turn, after which this object must not be used.
    fn end(&mut self) -> GivenBack {
        match self.0.state.cmpxchg(TAKEN, FREE, Full) {
            Ok(_) => GivenBack::Kept,
            Err(now) => self.end_marked(now),
        }
    }

    /// Does what [`Self::end`] does, if bits other than `TAKEN` are set.
    #[cold]
    fn end_marked(&mut self, mut now: u32) -> GivenBack {
        loop {
            if now & VOID != 0 {
                **self = T::default();
            }
            match self.0.state.cmpxchg(now, FREE, Full) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        if now & WANTED != 0 {
            self.0.changes.notify_all();
        }
        match now & VOID {
            0 => GivenBack::Kept,
            _ => GivenBack::Cleared,
        }
    }
}

impl<T: Default> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The value belongs to this object (type invariants).
        unsafe { &*self.0.value.get() }
    }
}

impl<T: Default> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The value belongs to this object (type invariants), which is borrowed
        // mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T: Default> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.end();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Migration of one device: its state, the lock of its sessions, and resets.
//!
//! There are two locks. The *state lock* is a mutex around the sessions; its holder may carry out
//! arcs. A spinlock, taken inside of the state lock, protects the state itself and the mark of a
//! pending reset, so that the state can be read while an arc waits for the device.
//!
//! `vfio_pci_core` calls `reset_done` with locks held that nest with `mm` locks: taking the state
//! lock there would invert the order of locks. So a reset that finds the state lock taken only
//! marks itself pending, and the holder carries it out when it releases the lock. The guard does
//! that, so no path can forget it.

use crate::{
    kernel::{
        device::DeviceExt,
        error,
        fs::anon_inode::OpenFile, //
    },
    migration::{
        Migration,
        VfioDevice, //
    },
    trace::{
        self,
        Event,
        Stopwatch, //
    },
    walk::{
        walk,
        State,
        StateArc,
        StepError,
        WalkError,
        Walker, //
    },
};
use core::{
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        LockClassKey,
        Mutex,
        SpinLock, //
    },
};

/// The state of a device, as GET_STATE reports it.
struct Current {
    state: State,
    /// The device is being reset: an arc does not change the state.
    resetting: bool,
    /// The device has been reset, and its sessions were not ended yet. The
    /// state is `RUNNING` as long as this is set.
    ///
    /// Set before the resetting thread tries to take the state lock, and checked in the critical
    /// section that releases the state lock. So either the resetting thread gets the lock, or its
    /// holder sees the mark.
    reset_pending: bool,
}

/// A device that can be migrated: the driver's part, its sessions and its state.
#[pin_data]
pub struct Migratable<T: Migration> {
    #[pin]
    driver: T,
    #[pin]
    sessions: Mutex<T::Sessions>,
    #[pin]
    current: SpinLock<Current>,
}

/// Name and class of a lock, for lockdep.
type LockClass = (&'static CStr, Pin<&'static LockClassKey>);

// Lockdep wants a class to have one name, at one address. A generic function uses one class in
// all drivers, but each driver has a copy of the name that the function gives it. So these are
// not generic, and are compiled once, into this module.

/// Returns the class of the state lock.
#[inline(never)]
fn state_lock_class() -> LockClass {
    (c"vfio_rust_state", static_lock_class!())
}

/// Returns the class of the lock of the state itself.
#[inline(never)]
fn current_lock_class() -> LockClass {
    (c"vfio_rust_current_state", static_lock_class!())
}

impl Current {
    /// Returns whether the device is being reset, or was reset and its sessions were
    /// not ended.
    #[inline]
    fn is_reset(&self) -> bool {
        self.resetting || self.reset_pending
    }
}

impl<T: Migration> Migratable<T> {
    /// Makes a device in `RUNNING`. `sessions` must be none, since `RUNNING` has none.
    pub fn new(driver: impl PinInit<T>, sessions: T::Sessions) -> impl PinInit<Self> {
        pin_init!(Self {
            driver <- driver,
            sessions <- {
                let (name, class) = state_lock_class();
                Mutex::new(sessions, name, class)
            },
            current <- {
                let (name, class) = current_lock_class();
                let current = Current {
                    state: State::Running,
                    resetting: false,
                    reset_pending: false,
                };
                SpinLock::new(current, name, class)
            },
        })
    }

    /// Takes the state lock, and carries out a pending reset.
    pub fn lock(&self) -> StateGuard<'_, T> {
        let mut guard = StateGuard {
            migratable: self,
            sessions: ManuallyDrop::new(self.sessions.lock()),
        };
        while self.take_reset() {
            guard.end_sessions();
        }
        guard
    }

    /// Returns the state. Never waits for the state lock: it is `RUNNING` as
    /// soon as a reset is over, even if an arc is under way.
    pub fn state(&self) -> State {
        self.current.lock().state
    }

    /// Clears the mark of a pending reset. Returns whether it was set.
    fn take_reset(&self) -> bool {
        core::mem::take(&mut self.current.lock().reset_pending)
    }

    /// Sets the state, unless the device is being reset, or was reset: then `RUNNING` is the new
    /// state.
    fn set_state(&self, state: State) {
        let mut current = self.current.lock();
        if !current.is_reset() {
            current.state = state;
        }
    }

    /// Sets the state to `RUNNING`: user space has opened the device, which its last user may
    /// have left in any state.
    pub(super) fn opened(&self) {
        let _guard = self.lock();
        self.set_state(State::Running);
    }

    /// Ends the sessions: user space is closing the device. Its state stays.
    pub(super) fn closing(&self) {
        self.lock().end_sessions();
    }

    /// The device is about to be reset.
    pub(super) fn reset_prepare(&self) {
        // Set this before the driver is called: an arc that fails because of that returns
        // `ECANCELED`.
        self.current.lock().resetting = true;
        self.driver.reset_prepare();
    }

    /// The device has been reset.
    pub(super) fn reset_done(&self) {
        let mut current = self.current.lock();
        *current = Current {
            state: State::Running,
            resetting: false,
            reset_pending: true,
        };
        let sessions = self.sessions.try_lock();
        drop(current);
        self.driver.reset_done();
        // Dropping the guard carries the reset out.
        drop(sessions.map(|sessions| StateGuard {
            migratable: self,
            sessions: ManuallyDrop::new(sessions),
        }));
    }

    /// Carries out VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE with VFIO_DEVICE_FEATURE_SET.
    pub(super) fn set_target(
        &self,
        vdev: &VfioDevice<'_>,
        target: u32,
    ) -> Result<Option<OpenFile>> {
        let guard = self.lock();
        // Get the epoch with the lock held, and before the walk checks the mark of a reset: either
        // the walk sees a reset, or the reset changes the epoch after this.
        let epoch = self.driver.epoch();
        let mut device = OnTheWay { vdev, guard, epoch };
        walk(&mut device, target).map_err(|err| match err {
            WalkError::NoArc => EINVAL,
            WalkError::Reset => error::ecanceled(),
            WalkError::WrongFile(arc) => {
                vdev.parent().warn_ratelimited(if arc.begins_session() {
                    c"driver bug: an arc that begins a session opened no data file"
                } else {
                    c"driver bug: an arc that begins no session opened a data file"
                });
                EIO
            }
            WalkError::Failed(_) if self.current.lock().is_reset() => error::ecanceled(),
            WalkError::Failed(err) => err,
        })
    }
}

impl<T: Migration> Deref for Migratable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.driver
    }
}

/// The held state lock. It gives access to the sessions, and carries out a pending reset when it is
/// dropped.
///
/// # Invariants
///
/// `sessions` is initialised until `drop` releases it.
pub struct StateGuard<'a, T: Migration> {
    migratable: &'a Migratable<T>,
    sessions: ManuallyDrop<Guard<'a, T::Sessions, MutexBackend>>,
}

impl<T: Migration> StateGuard<'_, T> {
    fn end_sessions(&mut self) {
        self.migratable.driver.end_sessions(&mut self.sessions);
    }
}

impl<T: Migration> Deref for StateGuard<'_, T> {
    type Target = T::Sessions;

    fn deref(&self) -> &T::Sessions {
        &self.sessions
    }
}

impl<T: Migration> DerefMut for StateGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T::Sessions {
        &mut self.sessions
    }
}

impl<T: Migration> Drop for StateGuard<'_, T> {
    fn drop(&mut self) {
        loop {
            let mut current = self.migratable.current.lock();
            if !current.reset_pending {
                // SAFETY: `self.sessions` is initialised by the type invariant.
                // `drop` returns right after this, and nothing else is called on
                // `self` once it has.
                unsafe { ManuallyDrop::drop(&mut self.sessions) };
                return;
            }
            current.reset_pending = false;
            drop(current);
            self.end_sessions();
        }
    }
}

/// A device that carries out SET_STATE.
struct OnTheWay<'a, T: Migration> {
    vdev: &'a VfioDevice<'a>,
    guard: StateGuard<'a, T>,
    epoch: T::Epoch,
}

impl<T: Migration> Walker for OnTheWay<'_, T> {
    type File = OpenFile;
    type Error = Error;

    fn state(&self) -> Option<State> {
        let current = self.guard.migratable.current.lock();
        (!current.is_reset()).then_some(current.state)
    }

    fn next_state(&self, from: State, target: u32) -> Result<u32> {
        self.vdev.next_state(from, target)
    }

    fn step(&mut self, arc: StateArc) -> Result<Option<OpenFile>, StepError<Error>> {
        let time = Stopwatch::start(Event::Arc);
        let driver = &self.guard.migratable.driver;
        let done = driver.step(self.vdev, &mut self.guard.sessions, arc, self.epoch);
        trace::arc(self.vdev, arc, &done, time);
        done
    }

    fn set_state(&mut self, state: State) {
        self.guard.migratable.set_state(state);
    }

    fn end_sessions(&mut self) {
        self.guard.end_sessions();
    }
}

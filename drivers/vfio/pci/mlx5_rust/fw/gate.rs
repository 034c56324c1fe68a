// SPDX-License-Identifier: GPL-2.0

//! The command gate: it tells whether commands may be sent now, and counts the guards of
//! their senders.
//!
//! Two things can happen while commands are under way. If the PF goes, nothing may be created or
//! destroyed on it any more. If the VF is reset, no command from before the reset may reach it any
//! more. There are guards for each of the two, and closing the gate waits for those that are out.
//!
//! Guards are counted, and are no locks: a command that is answered in an interrupt must not keep a
//! lock, and closing the gate must not keep others from asking whether it is open. No guard is held
//! while user memory is accessed, nor during mlx5_vf_get_core_dev(), which takes a lock under which
//! the PF's notifications are sent.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        SpinLock, //
    }, //
};
use vfio_rust::kernel::sync::changes::Changes;

/// The time between two resets of a VF, or two notifications of its PF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Epoch(u64);

/// Why there is no guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closed {
    /// The PF takes no commands.
    Pf,
    /// The VF is being reset, or was reset since the epoch.
    Reset,
}

struct State {
    /// The PF takes commands.
    pf_open: bool,
    /// The gate will not be opened for the PF again.
    ended: bool,
    /// The VF is not being reset.
    vf_open: bool,
    /// Guards that are out, including those of the VF.
    pf_guards: usize,
    /// Guards of the VF that are out.
    vf_guards: usize,
    /// Threads that wait for guards.
    waiters: usize,
}

/// The gate of one VF.
///
/// # Invariants
///
/// - A thread that waits has called [`Changes::seen`] of `idle`, has then found guards with `state`
///   locked, and has added itself to `waiters` before it unlocked `state`. So if another thread
///   takes back the last guard after that, or the last one besides that of the closing thread, the
///   waiting thread does not miss the change of `idle`.
/// - The thread that closes the gate for the PF takes a guard of the PF in the critical section in
///   which `pf_open` becomes false.
/// - `epoch` only changes with `state` locked.
#[pin_data]
pub(super) struct Gate {
    #[pin]
    state: SpinLock<State>,
    epoch: Atomic<u64>,
    /// Notified when the last guard of a kind was taken back.
    #[pin]
    idle: Changes,
}

impl Gate {
    /// Makes a gate that is open.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_spinlock!(
                State {
                    pf_open: true,
                    ended: false,
                    vf_open: true,
                    pf_guards: 0,
                    vf_guards: 0,
                    waiters: 0,
                },
                "mlx5_vfio_rust_gate"
            ),
            epoch: Atomic::new(0),
            idle <- Changes::new(),
        })
    }

    /// Returns the current epoch.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Acquire))
    }

    /// Begins another epoch.
    fn advance(&self, _state: &mut State) {
        // INVARIANT: `state` is locked: the caller has it mutably.
        self.epoch.store(self.epoch.load(Relaxed) + 1, Release);
    }

    /// Counts a guard of the PF.
    pub(super) fn enter_pf(&self) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if !state.pf_open {
            return Err(Closed::Pf);
        }
        state.pf_guards += 1;
        Ok(())
    }

    /// Takes a guard of the PF back.
    pub(super) fn leave_pf(&self) {
        let mut state = self.state.lock();
        state.pf_guards -= 1;
        self.left(&state);
    }

    /// Counts a guard of the VF, which is one of the PF as well.
    pub(super) fn enter_vf(&self, epoch: Epoch) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if !state.pf_open {
            return Err(Closed::Pf);
        }
        if !state.vf_open || self.epoch() != epoch {
            return Err(Closed::Reset);
        }
        state.pf_guards += 1;
        state.vf_guards += 1;
        Ok(())
    }

    /// Takes a guard of the VF back.
    pub(super) fn leave_vf(&self) {
        let mut state = self.state.lock();
        state.pf_guards -= 1;
        state.vf_guards -= 1;
        self.left(&state);
    }

    /// Wakes the threads that may wait for the guard that was just taken back. No wait can end
    /// while guards of the VF are out, since these are guards of the PF as well.
    fn left(&self, state: &State) {
        if state.waiters > 0 && state.vf_guards == 0 {
            self.idle.notify_all();
        }
    }

    /// Admits no more guards of the PF, ends the epoch, and waits for the guards that are out.
    /// Counts a guard for the caller, which then has the only one, and returns true. If the gate
    /// was closed already, waits for the guard of the thread that closed it, too, and returns
    /// false.
    pub(super) fn close_pf(&self) -> bool {
        let own = {
            let mut state = self.state.lock();
            self.advance(&mut state);
            let own = usize::from(core::mem::take(&mut state.pf_open));
            // INVARIANT: The guard is counted in this critical section. So a thread that finds the
            // gate closed waits for it, even if all other guards are back.
            state.pf_guards += own;
            own
        };
        self.wait(|state| state.pf_guards - own);
        own > 0
    }

    /// Admits guards of the PF again, unless the gate has ended. Ends the epoch.
    pub(super) fn open_pf(&self) {
        let mut state = self.state.lock();
        state.pf_open = !state.ended;
        self.advance(&mut state);
    }

    /// Keeps the gate from being opened for the PF again.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
    }

    /// Admits no more guards of the VF, ends the epoch, and waits for the guards that are out.
    pub(super) fn close_vf(&self) {
        {
            let mut state = self.state.lock();
            state.vf_open = false;
            self.advance(&mut state);
        }
        self.wait(|state| state.vf_guards);
    }

    /// Admits guards of the VF again, for a new epoch.
    pub(super) fn open_vf(&self) {
        let mut state = self.state.lock();
        state.vf_open = true;
        self.advance(&mut state);
    }

    /// Waits until `guards` returns 0. A guard is held for a few commands at most, each of which
    /// mlx5_core ends after a minute. A leaked guard is waited for without an end.
    fn wait(&self, guards: impl Fn(&State) -> usize) {
        let mut waits = false;
        loop {
            let seen = self.idle.seen();
            {
                let mut state = self.state.lock();
                if guards(&state) == 0 {
                    state.waiters -= usize::from(waits);
                    return;
                }
                state.waiters += usize::from(!waits);
                waits = true;
            }
            self.idle.wait_uninterruptible(seen);
        }
    }
}

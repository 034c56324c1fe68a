// SPDX-License-Identifier: GPL-2.0

//! A saving session: its parts, its beginning and its end.
//!
//! The VF's state and the data file share a session. It ends when the VF leaves the state. Locks
//! nest in this order: `sending`, then `outgoing`. Neither is held while user memory is accessed.
//!
//! The result of a SAVE is taken by the next caller of [`SavingSession::lock`]: a reader,
//! poll(), VFIO_MIG_GET_PRECOPY_INFO, an arc.

use super::{
    buffers::Buffers,
    chunks::Chunks,
    outgoing::{
        Outgoing,
        Stage, //
    },
    precopy::Ledger,
    record::Record, //
};
use crate::{
    fw::{
        gate::Epoch,
        pd::Pd,
        save::SaveCommand, //
    },
    vf::{
        Sending,
        Vf, //
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::Atomic,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    }, //
};
use vfio_rust::{
    file,
    kernel::{
        fs::anon_inode::OpenFile,
        sync::{
            changes::Changes,
            turns::Turns, //
        }, //
    },
    migration::VfioDevice, //
};

/// The device when a session begins to save it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The device runs.
    Running,
    /// The device runs, but firmware can save no changes for now.
    RunningP2p,
    /// The device is stopped.
    Stopped,
}

/// A saving session, and its data file.
#[pin_data]
pub(crate) struct SavingSession {
    pub(super) vf: Arc<Vf>,
    pub(super) epoch: Epoch,
    /// Notified when anything in `outgoing` changes, and at the end of a SAVE.
    pub(super) changes: Arc<Changes>,
    pub(super) command: SaveCommand,
    pub(super) pd: Pd,
    /// Held while commands are sent for the session.
    #[pin]
    pub(super) sending: Mutex<Sending>,
    #[pin]
    pub(super) outgoing: Mutex<Outgoing>,
    /// The next record of the stream, for readers in turns. A reader copies without a lock:
    /// user memory can take arbitrarily long, and closing must not wait for it.
    pub(super) reader: Turns<Option<Record>>,
    /// Bytes of the stream that were read. Only written by the thread that has `reader`.
    pub(super) read: Atomic<u64>,
}

/// The right to send commands for a session while no SAVE is under way, and nobody else
/// can start one.
pub(crate) struct Idle<'a> {
    pub(super) session: &'a SavingSession,
    _sending: Guard<'a, Sending, MutexBackend>,
}

/// A saving session that the VF is in. Dropping it ends the session, waits for the SAVE that
/// firmware is executing, and frees memory. No command is sent after that.
pub(crate) struct Saving(Arc<SavingSession>);

impl core::ops::Deref for Saving {
    type Target = SavingSession;

    fn deref(&self) -> &SavingSession {
        &self.0
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Saving {
    /// Begins to save the device.
    pub(crate) fn new(
        vf: &Arc<Vf>,
        vdev: &VfioDevice<'_>,
        epoch: Epoch,
        begin: Begin,
    ) -> Result<(Self, OpenFile)> {
        let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
        let (command, pd) = {
            let guard = vf.enter(epoch)?;
            let command = SaveCommand::new(&guard, changes.clone())?;
            (command, Pd::new(&guard)?)
        };
        let stage = match begin {
            Begin::Stopped => Stage::StopCopy,
            _ => Stage::InitialSave,
        };
        let session = Arc::pin_init(
            pin_init!(SavingSession {
                vf: vf.clone(),
                epoch,
                reader: Turns::new(None, changes.clone()),
                read: Atomic::new(0),
                changes,
                command,
                pd,
                sending <- new_mutex!(Sending::Allowed, "mlx5_vfio_rust_save_commands"),
                outgoing <- new_mutex!(
                    Outgoing {
                        stage,
                        suspended: begin == Begin::RunningP2p,
                        records: KVec::new(),
                        in_flight: None,
                        awaited: false,
                        tracked: false,
                        unknown: false,
                        buffers: Buffers::new(),
                        ledger: Ledger::default(),
                        chunks: Chunks::default(),
                    },
                    "mlx5_vfio_rust_outgoing"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // From here on an error ends the session.
        let saving = Self(session.clone());
        let file = file::open(vdev, session)?;
        saving.begin(begin)?;
        Ok((saving, file))
    }
}

impl SavingSession {
    /// Locks the stream, and takes the result of a SAVE.
    pub(super) fn lock(&self) -> Guard<'_, Outgoing, MutexBackend> {
        let mut outgoing = self.outgoing.lock();
        if let Some(in_flight) = outgoing.in_flight {
            if let Some((saved, took)) = self.command.take() {
                outgoing.in_flight = None;
                let bytes = match &saved {
                    Ok(image) => Ok(image.len as u64),
                    Err(_) => Err(EIO),
                };
                self.vf.tracer.save_ends(&bytes, took);
                if outgoing.finish(in_flight, saved).is_err() {
                    self.fail_locked(&mut outgoing);
                }
                self.changes.notify_all();
            }
        }
        if outgoing.stage != Stage::Failed && !self.is_current() {
            // The VF was reset, or the PF is gone: unread images are not valid any more.
            self.fail_locked(&mut outgoing);
        }
        if self.command.has_ended() {
            outgoing.in_flight = None;
        }
        outgoing
    }

    /// Returns whether the VF was not reset, and its PF was not away, since the session began.
    pub(super) fn is_current(&self) -> bool {
        self.vf.device.is_current(self.epoch)
    }

    /// Ends the stream early.
    pub(super) fn fail(&self) {
        self.fail_locked(&mut self.outgoing.lock());
        self.changes.notify_all();
    }

    /// Does what [`Self::fail`] does, for a caller that has locked the stream.
    fn fail_locked(&self, outgoing: &mut Outgoing) {
        outgoing.fail();
        self.reader.clear();
    }

    /// Ends the session. See [`Saving`].
    fn end(&self) {
        {
            // Nobody starts a SAVE after this. Fail the session with the lock held, or a reader
            // might find that the next chunk is due, and try to save it in vain until the session
            // has failed.
            let mut sending = self.sending.lock();
            *sending = Sending::Ended;
            self.fail();
        }
        self.command.end();
        let buffers = {
            let mut outgoing = self.outgoing.lock();
            outgoing.in_flight = None;
            core::mem::replace(&mut outgoing.buffers, Buffers::new())
        };
        // Drop the buffers without the lock, since that sends firmware commands.
        drop(buffers);
        self.pd.end();
    }

    /// Waits until no SAVE is under way, and lets nobody start one. Returns `ERESTARTSYS` if a
    /// signal comes first.
    ///
    /// Arcs need this, since firmware does one thing at a time.
    pub(crate) fn idle(&self) -> Result<Idle<'_>> {
        self.outgoing.lock().awaited = true;
        let idle = self.wait_idle();
        self.outgoing.lock().awaited = false;
        idle
    }

    fn wait_idle(&self) -> Result<Idle<'_>> {
        loop {
            let sending = self.sending.lock();
            if self.lock().in_flight.is_none() {
                return Ok(Idle {
                    session: self,
                    _sending: sending,
                });
            }
            drop(sending);
            self.command.wait()?;
        }
    }

    /// Returns `ENODEV` if the session has failed.
    pub(super) fn check(&self) -> Result {
        match self.lock().stage {
            Stage::Failed => Err(ENODEV),
            _ => Ok(()),
        }
    }
}

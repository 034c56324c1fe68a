// SPDX-License-Identifier: GPL-2.0

//! A resuming session: its parts, its beginning and its end.
//!
//! Locks nest in this order: `sending`, then `incoming`. Neither is held while user memory is
//! accessed, and `incoming` is not held while a command is executed.

use super::intake::Intake;
use crate::{
    fw::{
        gate::Epoch,
        image::ImageBuffer,
        load::LoadCommand,
        pd::Pd, //
    },
    stream::Parser,
    vf::{
        Sending,
        Vf, //
    }, //
};
use core::mem;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
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
        sync::changes::Changes, //
    },
    migration::VfioDevice, //
};

/// Where the [`Intake`] is.
pub(super) enum Writer {
    /// No writer has it.
    Idle(Intake),
    /// A writer has it, and copies without the lock: user memory can take arbitrarily
    /// long, and closing must not wait for it.
    Busy,
    /// The session has ended.
    Gone,
}

/// Why nothing is taken in any more.
#[derive(Clone, Copy)]
pub(super) enum Stopped {
    /// The stream was wrong, or firmware did not load an image. `told` is whether a writer got the
    /// error.
    Failed { err: Error, told: bool },
    /// The session has ended, or the PF is gone.
    Closed,
}

/// Returns the error of a session that has failed with `err`, which may be what mlx5_core makes of
/// a command's status: `EAGAIN` and `EBUSY` would promise that the same call may succeed later.
pub(super) fn final_error(err: Error) -> Error {
    if err == EAGAIN || err == EBUSY {
        EIO
    } else {
        err
    }
}

pub(super) struct Incoming {
    pub(super) writer: Writer,
    /// Firmware is loading an image, or the result was not taken.
    pub(super) loading: bool,
    /// The buffer of the last image that was loaded.
    pub(super) loaded: Option<ImageBuffer>,
    pub(super) stopped: Option<Stopped>,
}

impl Incoming {
    /// Returns an error if nothing is taken in any more: the first writer gets the error that has
    /// stopped the stream, all others get `ENODEV`.
    pub(super) fn check(&mut self) -> Result {
        match &mut self.stopped {
            None => Ok(()),
            Some(Stopped::Failed {
                err,
                told: told @ false,
            }) => {
                *told = true;
                Err(*err)
            }
            Some(_) => Err(ENODEV),
        }
    }

    pub(super) fn fail(&mut self, err: Error, told: bool) {
        if self.stopped.is_none() {
            self.stopped = Some(Stopped::Failed { err, told });
        }
    }
}

/// A resuming session, and its data file.
#[pin_data]
pub(crate) struct ResumingSession {
    pub(super) vf: Arc<Vf>,
    pub(super) epoch: Epoch,
    /// Notified when anything in `incoming` changes, and at the end of a LOAD.
    pub(super) changes: Arc<Changes>,
    #[pin]
    pub(super) command: LoadCommand,
    pub(super) pd: Pd,
    /// Held while commands are sent for the session.
    #[pin]
    pub(super) sending: Mutex<Sending>,
    #[pin]
    pub(super) incoming: Mutex<Incoming>,
}

/// Why a session could not be finished.
pub(crate) enum NotFinished {
    /// The session goes on: the writer can finish, or the caller can try again.
    GoesOn(Error),
    /// The state is incomplete, or was not loaded.
    Failed(Error),
}

/// A resuming session that the VF is in. Dropping it ends the session, waits for the LOAD that
/// firmware is executing, and frees memory. No command is sent after that.
pub(crate) struct Resuming(Arc<ResumingSession>);

impl Drop for Resuming {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Resuming {
    /// Begins to load a state into the stopped device.
    pub(crate) fn new(
        vf: &Arc<Vf>,
        vdev: &VfioDevice<'_>,
        epoch: Epoch,
    ) -> Result<(Self, OpenFile)> {
        let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
        let (command, pd) = {
            let guard = vf.enter(epoch)?;
            let command = LoadCommand::new(&guard, changes.clone())?;
            (command, Pd::new(&guard)?)
        };
        let intake = Intake {
            parser: Parser::new(),
            image: ImageBuffer::new(),
            spare: Some(ImageBuffer::new()),
            outgrown: None,
            owed: None,
        };
        let session = Arc::pin_init(
            pin_init!(ResumingSession {
                vf: vf.clone(),
                epoch,
                changes,
                command <- command,
                pd,
                sending <- new_mutex!(Sending::Allowed, "mlx5_vfio_rust_load_commands"),
                incoming <- new_mutex!(
                    Incoming {
                        writer: Writer::Idle(intake),
                        loading: false,
                        loaded: None,
                        stopped: None,
                    },
                    "mlx5_vfio_rust_incoming"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // From here on an error ends the session.
        let resuming = Self(session.clone());
        let file = file::open(vdev, session)?;
        Ok((resuming, file))
    }

    /// Waits until firmware has loaded everything, and checks that the stream may end here. Nothing
    /// is taken in after success.
    ///
    /// Returns `EBUSY` while a writer copies, or `ERESTARTSYS` if a signal comes first: the session
    /// goes on. Returns `EINVAL` in the middle of a record, if a byte is owed, or before the first
    /// image. If the stream has failed, returns its error, or `EIO` if a writer has got that
    /// already.
    pub(crate) fn finish(&self) -> Result<(), NotFinished> {
        loop {
            let mut incoming = self.0.lock();
            return match (&incoming.stopped, &incoming.writer) {
                (Some(Stopped::Failed { err, told: false }), _) => Err(NotFinished::Failed(*err)),
                (Some(_), _) | (None, Writer::Gone) => Err(NotFinished::Failed(EIO)),
                (None, Writer::Busy) => Err(NotFinished::GoesOn(EBUSY)),
                (None, Writer::Idle(_)) if incoming.loading => {
                    drop(incoming);
                    self.0.command.wait().map_err(NotFinished::GoesOn)?;
                    continue;
                }
                (None, Writer::Idle(intake)) => {
                    if intake.owed.is_none() && intake.parser.is_complete() {
                        // Set this before the lock is released: otherwise a writer could have more
                        // loaded, and nobody would get the error.
                        incoming.stopped = Some(Stopped::Closed);
                        Ok(())
                    } else {
                        Err(NotFinished::Failed(EINVAL))
                    }
                }
            };
        }
    }
}

impl ResumingSession {
    /// Locks `incoming`, and takes the result of a LOAD.
    pub(super) fn lock(&self) -> Guard<'_, Incoming, MutexBackend> {
        let mut incoming = self.incoming.lock();
        if incoming.loading {
            if let Some(ended) = self.command.take() {
                let tracer = &self.vf.tracer;
                tracer.load_ends(ended.len as u64, &ended.result, ended.took);
                incoming.loading = false;
                match ended.result {
                    Ok(buffer) => incoming.loaded = Some(buffer),
                    Err(err) => incoming.fail(final_error(err), false),
                }
                self.changes.notify_all();
            }
        }
        if incoming.stopped.is_none() && !self.vf.device.is_current(self.epoch) {
            // The VF was reset, or the PF is gone.
            incoming.stopped = Some(Stopped::Closed);
        }
        incoming
    }

    /// Ends the session. See [`Resuming`].
    fn end(&self) {
        // Nobody starts a LOAD after this.
        *self.sending.lock() = Sending::Ended;
        self.incoming.lock().stopped = Some(Stopped::Closed);
        self.changes.notify_all();
        self.command.end();
        let loaded = self.incoming.lock().loaded.take();
        // Drop the buffer without the lock, since that sends firmware commands and frees memory.
        // Drop it before a writer can end the PD, which the mkey of the buffer uses.
        drop(loaded);
        let writer = mem::replace(&mut self.incoming.lock().writer, Writer::Gone);
        match writer {
            // The writer ends the rest: it has the intake, whose mkeys use the PD.
            Writer::Busy => (),
            Writer::Idle(_) | Writer::Gone => {
                drop(writer);
                self.pd.end();
            }
        }
    }
}

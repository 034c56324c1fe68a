// SPDX-License-Identifier: GPL-2.0

//! The data file of a resuming session.
//!
//! A valid stream ends at a record boundary, and user space takes "write() returned" for "loaded".
//! So a write that ends at a record boundary returns when every LOAD has ended, with its result. A
//! write that ends inside a record may return while the previous record is being loaded.
//!
//! If that wait is broken off (a signal, the freezer), or not allowed (`O_NONBLOCK`),
//! the last byte of the record is not counted: it is *owed*. The next write begins
//! with it, and waits again.

use super::{
    intake::{
        Intake,
        Interrupted, //
    },
    session::{
        final_error,
        ResumingSession,
        Stopped,
        Writer, //
    }, //
};
use core::mem;
use kernel::{
    prelude::*,
    sync::ArcBorrow,
    ThisModule, //
};
use vfio_rust::{
    file::DataFile,
    kernel::{
        fs::anon_inode::{
            Access,
            Readiness,
            Wait, //
        },
        sync::changes::Changes,
        uaccess::cursor::UserReader, //
    },
    this_module, //
};

impl ResumingSession {
    /// Waits for the intake and takes it out.
    fn take(&self, wait: Wait) -> Result<Intake> {
        loop {
            let seen = self.changes.seen();
            // Check each time: the PF may have gone.
            let mut incoming = self.lock();
            incoming.check()?;
            match mem::replace(&mut incoming.writer, Writer::Busy) {
                Writer::Idle(intake) => return Ok(intake),
                Writer::Gone => {
                    incoming.writer = Writer::Gone;
                    return Err(ENODEV);
                }
                Writer::Busy if wait == Wait::Never => return Err(EAGAIN),
                Writer::Busy => {
                    drop(incoming);
                    self.changes.wait(seen)?;
                }
            }
        }
    }

    /// Ends a turn that [`Self::take`] began. Returns `ENODEV` if the session has ended in between.
    fn put_back(&self, intake: Intake, failed: Option<Error>) -> Result {
        let mut incoming = self.lock();
        if let Some(err) = failed {
            incoming.fail(err, true);
        }
        self.changes.notify_all();
        if matches!(incoming.writer, Writer::Gone) {
            drop(incoming);
            // Drop the intake without the lock: that sends firmware commands, and frees memory.
            drop(intake);
            self.pd.end();
            return Err(ENODEV);
        }
        incoming.writer = Writer::Idle(intake);
        match incoming.stopped {
            Some(Stopped::Closed) => Err(ENODEV),
            _ => Ok(()),
        }
    }

    /// Waits until no LOAD is under way, and returns the error of the last one.
    pub(super) fn wait_loaded(&self, wait: Wait) -> Result<(), Interrupted> {
        loop {
            let mut incoming = self.lock();
            incoming.check()?;
            if !incoming.loading {
                return Ok(());
            }
            drop(incoming);
            if wait == Wait::Never {
                return Err(Interrupted::Wait(EAGAIN));
            }
            self.command.wait().map_err(Interrupted::Wait)?;
        }
    }

    /// Makes the last byte that was taken in the owed byte, which is not counted.
    fn owe(intake: &mut Intake, from: &mut UserReader) -> Result {
        from.rewind(1)?;
        intake.owed = Some(from.peek_byte()?);
        Ok(())
    }
}

impl DataFile for ResumingSession {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Write;

    /// Reports EPOLLOUT only while no LOAD is queued or running, and nobody writes: then
    /// a write does not wait, unless it completes an image.
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        let incoming = self.lock();
        let ready = match (&incoming.stopped, &incoming.writer) {
            (Some(_), _) => Readiness::Failed,
            (None, Writer::Idle(_)) if !incoming.loading => Readiness::Ready,
            _ => Readiness::Pending,
        };
        Some((&self.changes, ready))
    }

    fn write(this: ArcBorrow<'_, Self>, wait: Wait, from: &mut UserReader) -> Result<usize> {
        let mut intake = this.take(wait)?;
        let total = from.left();
        let mut result = this.take_in(&mut intake, wait, from);
        if let Err(Interrupted::Wait(_)) = result {
            if let Err(err) = Self::owe(&mut intake, from) {
                result = Err(Interrupted::Failed(err));
            }
        }
        let taken = total - from.left();
        match result {
            Ok(()) => this.put_back(intake, None)?,
            Err(Interrupted::Wait(err)) => {
                this.put_back(intake, None)?;
                if taken == 0 {
                    return Err(err);
                }
            }
            Err(Interrupted::WrongByte) => {
                this.put_back(intake, None)?;
                return Err(EINVAL);
            }
            Err(Interrupted::Failed(err)) => {
                let err = final_error(err);
                this.put_back(intake, Some(err))?;
                return Err(err);
            }
        }
        Ok(taken)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The data file of a saving session.
//!
//! Readers take turns. The reader that has the turn owns the next record of the stream, and reads
//! from that record without a lock, until it ends.

use super::{
    outgoing::Stage,
    record::Record,
    session::SavingSession, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        ArcBorrow, //
    },
    ThisModule, //
};
use vfio_rust::{
    file::{
        DataFile,
        PrecopyInfo,
        Reinit, //
    },
    kernel::{
        error,
        fs::anon_inode::{
            Access,
            Readiness,
            Wait, //
        },
        sync::{
            changes::Changes,
            turns::{
                GivenBack,
                Turn, //
            }, //
        },
        uaccess::cursor::UserWriter, //
    },
    this_module, //
};

impl SavingSession {
    /// Waits until no other reader has the next record, and takes it.
    #[inline(never)]
    fn take_turn(&self, wait: Wait) -> Result<Turn<'_, Option<Record>>> {
        loop {
            let seen = self.changes.seen();
            if let Some(record) = self.reader.take() {
                return Ok(record);
            }
            self.check()?;
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            self.changes.wait(seen)?;
        }
    }

    /// Reads from the middle of an image, without a lock. Returns `None` if that is not possible,
    /// or if the read would reach the end of the image.
    #[inline]
    fn read_on(&self, record: &mut Option<Record>, out: &mut UserWriter) -> Option<Result<usize>> {
        let record = record.as_mut()?;
        let offset = record.at.checked_sub(record.head_len)?;
        let n = out.left();
        if n == 0 || n >= record.left || !self.is_current() {
            return None;
        }
        // Data that could not be copied stay unread.
        if let Err(err) = record.image.as_ref()?.pages.read(offset, n, out) {
            return Some(Err(err));
        }
        self.read.store(record.consume(n), Relaxed);
        Some(Ok(n))
    }

    /// Reads all data that are ready, and waits for the first byte if none are.
    #[inline(never)]
    fn read_records(
        &self,
        record: &mut Option<Record>,
        wait: Wait,
        out: &mut UserWriter,
    ) -> Result<usize> {
        if out.left() == 0 {
            return self.check().map(|()| 0);
        }
        if !self.next_record(record, wait)? {
            return Ok(0);
        }
        let mut done = 0;
        let mut copied = Ok(());
        while let (Some(next), Ok(())) = (&*record, copied) {
            let n = next.piece().min(out.left());
            if n == 0 {
                break;
            }
            copied = next.copy(n, out);
            // Data that could not be copied stay unread.
            if copied.is_ok() {
                self.consume(record, n)?;
                done += n;
            }
        }
        if done == 0 {
            copied?;
        }
        Ok(done)
    }

    /// Waits for the next record, if `record` is `None`. Returns false at the end of the stream.
    fn next_record(&self, record: &mut Option<Record>, wait: Wait) -> Result<bool> {
        loop {
            let seen = self.changes.seen();
            let mut outgoing = self.lock();
            if outgoing.stage == Stage::Failed {
                return Err(ENODEV);
            }
            if record.is_none() {
                *record = outgoing.records.pop();
            }
            let due = outgoing.chunk_is_due();
            let in_flight = outgoing.in_flight.is_some();
            if record.is_none() {
                if outgoing.stage == Stage::Complete {
                    return Ok(false);
                }
                if outgoing.is_at_temporary_end() {
                    return Err(error::enomsg());
                }
            }
            drop(outgoing);
            if due {
                self.save_next_chunk();
            }
            if record.is_some() {
                return Ok(true);
            }
            if due {
                continue;
            }
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            if in_flight {
                self.command.wait()?;
            } else {
                self.changes.wait(seen)?;
            }
        }
    }

    /// Removes the `n` bytes that a reader has copied from its record. If they were the last ones,
    /// the reader gets the next record, if there is one.
    fn consume(&self, record: &mut Option<Record>, n: usize) -> Result {
        let Some(next) = record else {
            return Ok(());
        };
        let read = next.consume(n);
        if next.left > 0 {
            self.read.store(read, Relaxed);
            return Ok(());
        }
        let mut outgoing = self.lock();
        if outgoing.stage == Stage::Failed {
            return Err(ENODEV);
        }
        self.read.store(read, Relaxed);
        outgoing.release(next);
        let end = core::mem::replace(record, outgoing.records.pop());
        let due = outgoing.chunk_is_due();
        drop(outgoing);
        // Drop the record without the lock: it may have the last reference to its pages.
        drop(end);
        if due {
            self.save_next_chunk();
        }
        Ok(())
    }
}

impl DataFile for SavingSession {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Read;

    // Inlined, since only the file operation calls this.
    #[inline]
    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        let mut record = match this.reader.take() {
            Some(record) => record,
            None => this.take_turn(wait)?,
        };
        let read = match this.read_on(&mut record, out) {
            Some(read) => read,
            None => this.read_records(&mut record, wait, out),
        };
        // The session may have failed during the read.
        match record.give_back() {
            GivenBack::Kept => read,
            GivenBack::Cleared => Err(ENODEV),
        }
    }

    fn precopy_info(&self, reinit: Reinit) -> Result<PrecopyInfo> {
        self.report(reinit)
            .inspect(|info| self.vf.tracer.precopy_info(info))
    }

    fn poll(&self) -> Option<(&Changes, Readiness)> {
        let taken = self.reader.is_taken();
        let outgoing = self.lock();
        let ready = match outgoing.stage {
            Stage::Failed => Readiness::Failed,
            // Another reader has the record, and may leave a part of it unread.
            _ if taken => Readiness::Pending,
            Stage::Complete => Readiness::Ready,
            // At the temporary end, a read would only return ENOMSG: "Userspace can wait for more
            // data [...] by using poll".
            _ if outgoing.ledger.unread(self.read.load(Relaxed)) > 0 => Readiness::Ready,
            _ => Readiness::Pending,
        };
        let due = outgoing.chunk_is_due();
        drop(outgoing);
        if due {
            self.save_next_chunk();
        }
        Some((&self.changes, ready))
    }
}

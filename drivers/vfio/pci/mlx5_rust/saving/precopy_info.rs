// SPDX-License-Identifier: GPL-2.0

//! VFIO_MIG_GET_PRECOPY_INFO of a saving session.

use super::{
    buffers::Urgency,
    commands::CHUNK,
    outgoing::Stage,
    precopy::{
        Info,
        Pending, //
    },
    session::SavingSession, //
};
use crate::{
    fw::{
        save::Request,
        vhca::Extent, //
    },
    stream::HEADER_LEN,
    vf::Sending, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use vfio_rust::file::{
    PrecopyInfo,
    Reinit, //
};

impl SavingSession {
    /// Returns the error of VFIO_MIG_GET_PRECOPY_INFO for a session that has ended.
    ///
    /// "This ioctl is valid only in PRE_COPY states and kernel driver should
    /// return -EINVAL from any other migration state"
    /// (include/uapi/linux/vfio.h).
    fn gone(&self) -> Error {
        if self.vf.in_precopy() {
            ENODEV
        } else {
            EINVAL
        }
    }

    /// Answers VFIO_MIG_GET_PRECOPY_INFO. Starts to save the changes, once everything before them
    /// was read.
    pub(super) fn report(&self, reinit: Reinit) -> Result<PrecopyInfo> {
        let (sending, suspended) = loop {
            let sending = self.sending.lock();
            let outgoing = self.lock();
            if outgoing.in_flight.is_some() {
                drop(outgoing);
                drop(sending);
                self.command.wait()?;
                continue;
            }
            match outgoing.stage {
                Stage::Failed => return Err(self.gone()),
                Stage::StopCopy | Stage::Complete => return Err(EINVAL),
                // Firmware is only asked while it can tell what has changed.
                stage => break (sending, outgoing.suspended || stage != Stage::PreCopy),
            }
        };
        if *sending == Sending::Ended {
            return Err(self.gone());
        }
        let guard = self.vf.enter(self.epoch).map_err(|_| ENODEV)?;
        let (pending, need) = if suspended {
            (Pending::default(), 0)
        } else {
            let info = guard.query_state(Extent::Changes)?;
            let pending = Pending {
                bytes: info.required as u64,
                new_initial: reinit == Reinit::Allowed && info.new_initial,
            };
            // As with the first image, firmware gets more than it needs if it saves in
            // chunks.
            let total = usize::try_from(info.total).unwrap_or(CHUNK);
            (pending, info.required.max(total.min(CHUNK)))
        };
        let (info, save, taken) = {
            let mut outgoing = self.lock();
            let read = self.read.load(Relaxed);
            let (info, save) = outgoing.ledger.report(read, pending, HEADER_LEN as u64);
            // If a reader leaves too many images unread, the next one is saved when there is room
            // again: firmware still has the changes.
            let possible =
                |_: &_| !outgoing.awaited && outgoing.buffers.can_grow(Urgency::Deferrable);
            let save = save.filter(possible);
            let taken = match save {
                Some(_) => outgoing.take_buffer(need, Urgency::Deferrable),
                None => Ok(None),
            };
            (info, save, taken)
        };
        if let Some(kind) = save {
            let request = Request {
                extent: Extent::Changes,
                track: true,
            };
            let started = match taken {
                Ok(Some(taken)) => self.send(&guard, need, taken, request, kind),
                Ok(None) => {
                    // Drop the guard before memory is allocated: that takes a while, and a reset
                    // waits for guards.
                    drop(guard);
                    self.start(need, Urgency::Deferrable, request, kind)
                }
                Err(err) => Err(err),
            };
            started.map_err(|err| {
                self.fail();
                match self.is_current() {
                    true => err,
                    false => ENODEV,
                }
            })?;
        }
        let Info {
            initial_bytes,
            dirty_bytes,
            reinit,
        } = info;
        Ok(PrecopyInfo {
            initial_bytes,
            dirty_bytes,
            reinit,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What arcs do with a saving session, while nobody else sends its commands.

use super::{
    buffers::Urgency,
    outgoing::{
        Outgoing,
        Stage, //
    },
    precopy::Kind,
    session::Idle, //
};
use crate::{
    fw::{
        save::Request,
        vhca::Extent, //
    },
    vf::unknown_is_lost, //
};
use kernel::prelude::*;
use vfio_rust::migration::StepError;

impl Idle<'_> {
    /// Returns `ENODEV` if the session has failed.
    pub(crate) fn check(&self) -> Result {
        self.session.check()
    }

    /// Notes that the initiator was suspended, or resumed.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.session.outgoing.lock().suspended = suspended;
    }

    /// Saves the rest of the state of the device, which was stopped.
    pub(crate) fn save_stopped(&self) -> Result {
        let session = self.session;
        let extent = match session.lock().stage {
            Stage::PreCopyFailed => Extent::Whole,
            _ => Extent::Changes,
        };
        let guard = session.vf.enter(session.epoch);
        let info = guard.and_then(|guard| guard.query_state(extent));
        let saved = info.and_then(|info| {
            session.outgoing.lock().stage = Stage::StopCopy;
            let request = Request {
                extent,
                track: false,
            };
            session.start(info.required, Urgency::Urgent, request, Kind::Dirty)
        });
        saved.inspect_err(|_| session.fail())
    }

    /// Stops tracking the running device, which ends the session. The device is lost, with
    /// `ETIMEDOUT`, if firmware may still begin to track it.
    pub(crate) fn end_tracking(&self) -> Result<(), StepError> {
        let session = self.session;
        let Outgoing {
            tracked, unknown, ..
        } = *session.lock();
        if session.command.has_ended() {
            return Ok(());
        }
        if unknown {
            return Err(StepError::Lost(ETIMEDOUT));
        }
        if !tracked {
            return Ok(());
        }
        let enter = || session.vf.enter(session.epoch);
        let need = enter()?.query_state(Extent::Changes)?.required;
        let (index, buffer) = session.buffer_for(need, Urgency::Urgent).or_else(|_| {
            // The images are not needed any more, since the device is not migrated: use the memory
            // of one.
            session.fail();
            session.buffer_for(need, Urgency::Urgent)
        })?;
        let ended = enter().map_err(StepError::Unchanged).and_then(|guard| {
            let ended = guard.end_tracking(&buffer);
            ended.map_err(unknown_is_lost)
        });
        // If the device is lost, firmware may still write to the buffer.
        if !matches!(ended, Err(StepError::Lost(_))) {
            session.outgoing.lock().buffers.release(index);
        }
        ended?;
        session.outgoing.lock().tracked = false;
        // Fail the session before another thread can send commands: firmware cannot tell any more
        // what has changed.
        session.fail();
        Ok(())
    }
}

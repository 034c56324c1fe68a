// SPDX-License-Identifier: GPL-2.0

//! A VHCA that can be suspended, saved and loaded.

use crate::{ifc::Status, image, state::VfState};

/// Half of a VHCA that can be stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// What it starts by itself.
    Initiator,
    /// What it does when accessed.
    Responder,
}

/// How far a VHCA is stopped. The initiator stops first and starts last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Running {
    /// Not at all.
    Fully,
    /// Its initiator is suspended.
    InitiatorSuspended,
    /// Both sides are.
    Suspended,
}

/// The VHCA of a VF.
#[derive(Clone, Debug)]
pub struct Vhca {
    /// How far it is stopped.
    pub running: Running,
    /// What it remembers.
    pub state: VfState,
    /// It was reset, and not suspended since. Who resets a VF (user space,
    /// through its configuration space) and who migrates it (the PF's driver)
    /// do not wait for each other, so a command that comes too late is no
    /// fault of the driver.
    pub was_reset: bool,
}

/// What a SAVE is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Save {
    /// Only what has changed since the last image.
    pub incremental: bool,
    /// Track changes from now on.
    pub set_track: bool,
}

impl Vhca {
    /// A VHCA at power-on.
    pub fn new(state_size: u64) -> Self {
        Self {
            running: Running::Fully,
            state: VfState::new(state_size),
            was_reset: false,
        }
    }

    /// A VHCA after a reset.
    pub fn after_reset(state_size: u64) -> Self {
        Self {
            was_reset: true,
            ..Self::new(state_size)
        }
    }

    /// SUSPEND_VHCA.
    pub fn suspend(&mut self, side: Side) -> Result<(), Status> {
        self.running = match (side, self.running) {
            (Side::Initiator, Running::Fully) => Running::InitiatorSuspended,
            (Side::Responder, Running::InitiatorSuspended) => Running::Suspended,
            _ => return Err(Status::BadResState),
        };
        self.was_reset = false;
        Ok(())
    }

    /// RESUME_VHCA.
    pub fn resume(&mut self, side: Side) -> Result<(), Status> {
        self.running = match (side, self.running) {
            (Side::Responder, Running::Suspended) => Running::InitiatorSuspended,
            (Side::Initiator, Running::InitiatorSuspended) => Running::Fully,
            _ => return Err(Status::BadResState),
        };
        Ok(())
    }

    /// QUERY_VHCA_MIGRATION_STATE: bytes that a SAVE would write.
    pub fn query(&self, incremental: bool) -> Result<u64, Status> {
        match incremental {
            true if self.state.dirty().is_none() => Err(Status::BadResState),
            true => Ok(image::incremental_len(&self.state)),
            false => Ok(image::full_len(&self.state)),
        }
    }

    /// SAVE_VHCA_STATE, into at most `room` bytes.
    ///
    /// A VHCA that is not suspended changes while it is saved, so the image is
    /// only of use with what changes later: it must track. Or it ends tracking,
    /// and then the image is of no use, and of no more than what has changed.
    /// One that is suspended does not change, so there is nothing to track.
    pub fn save(&mut self, save: Save, room: u64) -> Result<Vec<u8>, Status> {
        let tracked = self.state.dirty().is_some();
        let ends_tracking = tracked && !save.set_track && self.running != Running::Suspended;
        let incremental = save.incremental || ends_tracking;
        let allowed = match self.running {
            Running::Suspended => !save.set_track,
            Running::Fully | Running::InitiatorSuspended => save.set_track || tracked,
        };
        if !allowed || (save.incremental && !tracked) {
            return Err(Status::BadResState);
        }
        if self.query(incremental)? > room {
            return Err(Status::BadParam);
        }
        let image = image::save(&self.state, incremental);
        self.state.track(save.set_track);
        Ok(image)
    }

    /// Whether LOAD_VHCA_STATE is possible.
    pub fn check_load(&self) -> Result<(), Status> {
        match self.running {
            Running::Suspended => Ok(()),
            _ => Err(Status::BadResState),
        }
    }
}

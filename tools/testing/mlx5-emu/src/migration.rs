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
    /// Largest piece that it is saved in, where the driver asked for that.
    pub chunk: Option<u64>,
    /// It was reset, and not suspended since. Who resets a VF (user space,
    /// through its configuration space) and who migrates it (the PF's driver)
    /// do not wait for each other, so a command that comes too late is no
    /// fault of the driver.
    pub was_reset: bool,
}

/// What QUERY_VHCA_MIGRATION_STATE tells, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// For the next SAVE.
    pub next: u64,
    /// For all of them.
    pub total: u64,
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
            chunk: None,
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

    /// QUERY_VHCA_MIGRATION_STATE: bytes that the next SAVE needs, and all of
    /// them.
    pub fn query(&self, incremental: bool) -> Result<Sizes, Status> {
        let dirty = self.state.dirty().map(|dirty| dirty.len() as u64);
        let total = match (incremental, self.chunk) {
            (true, _) => image::partial_len(dirty.ok_or(Status::BadResState)?),
            (false, None) => image::full_len(&self.state),
            (false, Some(_)) => image::partial_len(self.state.pages()),
        };
        Ok(Sizes {
            next: self.chunk.map_or(total, |chunk| total.min(chunk)),
            total,
        })
    }

    /// SAVE_VHCA_STATE, into at most `room` bytes. Returns the image, and how
    /// many bytes the next piece of it needs; 0 after the last.
    ///
    /// A VHCA that is not suspended changes while it is saved, so the image is
    /// only of use with what changes later: it must track. Or it ends tracking,
    /// and then the image is of no use, and of no more than what has changed.
    /// One that is suspended does not change, so there is nothing to track.
    pub fn save(&mut self, save: Save, room: u64) -> Result<(Vec<u8>, u64), Status> {
        let tracked = self.state.dirty().is_some();
        let suspended = self.running == Running::Suspended;
        let allowed = match suspended {
            true => !save.set_track,
            false => save.set_track || tracked,
        };
        if !allowed || (save.incremental && !tracked) {
            return Err(Status::BadResState);
        }
        let incremental = save.incremental || (tracked && !save.set_track && !suspended);
        if self.query(incremental)?.next > room {
            return Err(Status::BadParam);
        }
        let Some(chunk) = self.chunk else {
            let image = if incremental {
                image::save_pages(
                    &self.state,
                    self.state.dirty().into_iter().flatten().copied(),
                )
            } else {
                image::save(&self.state)
            };
            self.state.track(save.set_track);
            return Ok((image, 0));
        };
        if !incremental {
            self.state.track_all();
        }
        // While it is tracked, what does not fit is as good as changed later.
        let room = if save.set_track {
            room
        } else {
            room.min(chunk)
        };
        let pages = self.state.take_dirty(image::pages_in(room));
        let image = image::save_pages(&self.state, pages);
        let left = self.state.dirty().map_or(0, |dirty| dirty.len() as u64);
        let more = suspended && left > 0;
        if !save.set_track && !more {
            self.state.track(false);
        }
        let next = if more {
            image::partial_len(left).min(chunk)
        } else {
            0
        };
        Ok((image, next))
    }

    /// Whether LOAD_VHCA_STATE is possible.
    pub fn check_load(&self) -> Result<(), Status> {
        match self.running {
            Running::Suspended => Ok(()),
            _ => Err(Status::BadResState),
        }
    }
}

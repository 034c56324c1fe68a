// SPDX-License-Identifier: GPL-2.0

//! A VHCA that can be suspended, saved and loaded.

use crate::{
    ifc::Status,
    image::{
        self,
        Content, //
    },
    objects::Objects,
    records::{
        Part,
        Records,
        Sent, //
    },
    state::VfState,
    suspended::Half, //
};
use std::collections::BTreeSet;

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
    /// Largest chunk that it is saved in, if the driver asked for chunks.
    pub chunk: Option<u64>,
    /// Each of these chunks is twice as large as the one before.
    pub chunks_grow: bool,
    /// A SAVE has begun to track, and since then none has ended it and the VHCA
    /// was not stopped.
    tracking: bool,
    /// It was reset, and not suspended since. User space, which resets a VF through its
    /// configuration space, and the PF's driver, which migrates it, do not wait for each
    /// other, so a command that comes too late is no fault of the driver.
    pub was_reset: bool,
    /// Pages of objects that were created since the VHCA is tracked, and not
    /// saved yet: what a destination should have before it takes over.
    initial: BTreeSet<u64>,
    /// What of its driver's records was sent since it is tracked.
    sent: Sent,
    /// What it is saved from in chunks: it is stopped, and the last chunk was not saved yet.
    pub saving: Option<Records>,
    /// What was loaded, and is of no use without an image that follows.
    pub half: Option<Box<Half>>,
    /// Tracking broke off.
    lost: bool,
}

/// What a SAVE finds of the function, beside its registers.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// What its driver has made of it.
    pub records: &'a Records,
    /// A digest of what its driver was told that it can do.
    pub capabilities: u64,
}

/// `migration_state` of QUERY_VHCA_MIGRATION_STATE
/// (`MLX5_QUERY_VHCA_MIG_STATE_OPER_MIGRATION_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MigrationState {
    /// Not tracked.
    Idle = 1,
    /// All was saved.
    Ready = 2,
    /// Something has changed since.
    Dirty = 3,
    /// Something has been created since.
    Init = 4,
}

/// Why a SAVE fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The driver should not have asked.
    Misuse(Status),
    /// The VHCA has changed in a way that the driver could not know of.
    Changed,
    /// What was loaded lacks something: the stream of user space ended too early.
    Half,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Misuse(status)
    }
}

/// What QUERY_VHCA_MIGRATION_STATE tells, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// For the next SAVE.
    pub next: u64,
    /// For all of them, at most.
    pub total: u64,
    /// How many there are, at most.
    pub saves: u64,
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
            chunks_grow: false,
            tracking: false,
            was_reset: false,
            initial: BTreeSet::new(),
            sent: Sent::default(),
            saving: None,
            half: None,
            lost: false,
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
            (Side::Responder, Running::InitiatorSuspended) => {
                // The last SAVE may fail, or never be sent: that must not be in
                // the way of the next ones.
                self.tracking = false;
                Running::Suspended
            }
            _ => return Err(Status::BadResState),
        };
        self.was_reset = false;
        Ok(())
    }

    /// RESUME_VHCA.
    pub fn resume(&mut self, side: Side) -> Result<(), Refusal> {
        if self.half.is_some() {
            return Err(Refusal::Half);
        }
        self.running = match (side, self.running) {
            (Side::Responder, Running::Suspended) => Running::InitiatorSuspended,
            (Side::Initiator, Running::InitiatorSuspended) => Running::Fully,
            _ => return Err(Status::BadResState.into()),
        };
        self.loaded();
        Ok(())
    }

    /// It is not as it was when a chunk of it was saved.
    pub fn loaded(&mut self) {
        self.saving = None;
        self.sent.thaw();
    }

    /// Something was created in pages of the state table.
    pub fn created(&mut self, pages: impl Iterator<Item = u64>) {
        if self.state.dirty().is_some() {
            self.initial.extend(pages);
        }
    }

    /// The VF's driver has destroyed something.
    pub fn destroyed(&mut self, left: &Objects) {
        self.sent.forget(|key| left.has(key));
    }

    /// Whether changes are tracked.
    pub fn is_tracked(&self) -> bool {
        self.state.dirty().is_some()
    }

    /// Stops to track, without having been told to.
    pub fn lose_tracking(&mut self) {
        if self.state.dirty().is_some() {
            self.track(None);
            self.lost = true;
        }
    }

    /// Begins to track, from what was `sent` on; or stops.
    fn track(&mut self, sent: Option<Sent>) {
        self.state.track(sent.is_some());
        self.tracking = sent.is_some();
        self.sent = sent.unwrap_or_default();
        self.initial.clear();
        self.lost = false;
    }

    /// QUERY_VHCA_MIGRATION_STATE: `migration_state`.
    pub fn migration_state(&self, now: &Records) -> MigrationState {
        match self.state.dirty() {
            None => MigrationState::Idle,
            Some(_) if !self.initial.is_empty() || self.sent.lacks_new(now) => MigrationState::Init,
            Some(dirty) if dirty.is_empty() && self.sent.is_all(now) => MigrationState::Ready,
            Some(_) => MigrationState::Dirty,
        }
    }

    /// QUERY_VHCA_MIGRATION_STATE: bytes that the next SAVE needs, and all of
    /// them. Where nothing has changed, an image that says so: the C driver has
    /// one saved when PRE_COPY is left, and would find no room for it otherwise.
    pub fn query(&self, incremental: bool, now: &Records) -> Result<Sizes, Status> {
        let missing =
            |dirty: &BTreeSet<u64>| image::partial_len(dirty.len() as u64) + self.sent.missing(now);
        // What is lost is not known, but a SAVE that ends tracking is possible.
        let missing = match self.state.dirty() {
            Some(dirty) => Some(missing(dirty)),
            None => self.lost.then(|| image::partial_len(0)),
        };
        let records = || Sent::none(now).missing(now);
        let total = match (incremental, self.chunk) {
            (true, _) => missing.ok_or(Status::BadResState)?,
            (false, None) => image::full_len(&self.state) + records(),
            (false, Some(_)) => image::partial_len(self.state.pages()) + records(),
        };
        let Some(chunk) = self.chunk.filter(|chunk| *chunk < total) else {
            return Ok(Sizes {
                next: total,
                total,
                saves: 1,
            });
        };
        // Each chunk has a header, and a record that is cut has one more. In a chunk without
        // pages, the end may have no room for a byte of the next record.
        let header = image::partial_len(0);
        let part = Part::HEADER as u64;
        let pages = match (incremental, self.state.dirty()) {
            (true, dirty) => dirty.map_or(0, |dirty| dirty.len() as u64),
            (false, _) => self.state.pages(),
        };
        let rest = total - image::partial_len(pages);
        let saves = pages.div_ceil(image::pages_in(chunk))
            + rest.div_ceil(chunk.saturating_sub(header + 2 * part).max(1));
        Ok(Sizes {
            next: chunk,
            total: total + saves * (header + part),
            saves,
        })
    }

    /// SAVE_VHCA_STATE, into at most `room` bytes. Returns the image, and the bytes that its
    /// next chunk needs: 0 after the last.
    ///
    /// A VHCA that is not suspended changes while it is saved, so the image is
    /// only of use with what changes later: it must track. Or it ends tracking,
    /// and then the image is of no use, and of no more than what has changed.
    /// One that is suspended does not change, so there is nothing to track.
    pub fn save(&mut self, save: Save, room: u64, now: Now<'_>) -> Result<(Vec<u8>, u64), Refusal> {
        let tracked = self.state.dirty().is_some();
        let suspended = self.running == Running::Suspended;
        let ends_tracking = !suspended && !save.set_track;
        if save.incremental && self.lost {
            return Err(Refusal::Changed);
        }
        let allowed = match suspended {
            true => !save.set_track,
            false => save.set_track || tracked || self.lost,
        };
        // From the beginning again, though the driver has not ended what it began.
        let begins_twice = !save.incremental && save.set_track && self.tracking;
        if !allowed || begins_twice || (save.incremental && !tracked) {
            return Err(Status::BadResState.into());
        }
        if ends_tracking {
            // What a driver gives has room for an image that says that nothing has changed.
            if image::partial_len(0) > room {
                return Err(Refusal::Changed);
            }
            let image = self.save_changes(false, room, now);
            self.track(None);
            return Ok((image, 0));
        }
        if self.half.is_some() {
            return Err(Refusal::Half);
        }
        // It may have changed since the driver asked. What does not fit is as good as
        // changed later: the C driver gives a session up when such a SAVE fails.
        let need = match (suspended, save.incremental, self.chunk) {
            (true, ..) => self.query(save.incremental, now.records)?.next,
            (false, false, None) => image::full_len(&self.state),
            (false, ..) => image::partial_len(0),
        };
        if need > room {
            return Err(match suspended {
                true => Status::BadParam.into(),
                false => Refusal::Changed,
            });
        }
        if save.incremental && !suspended {
            return Ok((self.save_changes(false, room, now), 0));
        }
        let Some(chunk) = self.chunk else {
            let (image, sent) = match save.incremental {
                true => (self.save_changes(false, room, now), None),
                false => self.save_all(room, now),
            };
            self.track(sent.filter(|_| save.set_track));
            return Ok((image, 0));
        };
        if !save.incremental {
            self.track(Some(Sent::none(now.records)));
            self.tracking = save.set_track;
            self.state.track_all();
        }
        if suspended {
            self.sent.freeze(now.records);
        }
        // While it is tracked, what does not fit stays.
        let room = if save.set_track {
            room
        } else {
            room.min(chunk)
        };
        let image = self.save_changes(!save.incremental, room, now);
        let left = self.query(true, now.records)?;
        let more = suspended && !self.is_all_sent(now.records);
        if !save.set_track && !more {
            self.track(None);
        }
        if !more {
            return Ok((image, 0));
        }
        let chunk = match self.chunks_grow {
            true => chunk * 2,
            false => chunk,
        };
        self.chunk = Some(chunk);
        Ok((image, left.total.min(chunk)))
    }

    fn is_all_sent(&self, now: &Records) -> bool {
        self.state.dirty().is_none_or(BTreeSet::is_empty) && self.sent.is_all(now)
    }

    /// An image of the whole table, and of as many records as fit into `room` bytes. Returns
    /// what was sent, too.
    fn save_all(&self, room: u64, now: Now<'_>) -> (Vec<u8>, Option<Sent>) {
        let mut sent = Sent::none(now.records);
        let room = room.saturating_sub(image::full_len(&self.state));
        let content = Content {
            capabilities: now.capabilities,
            pages: None,
            begins: true,
            parts: sent.take(now.records, room),
            more: !sent.is_all(now.records),
        };
        (image::save(&self.state, &content), Some(sent))
    }

    /// An image of what has changed, as much as fits into `room` bytes; `begins` if it is the
    /// first of several that have all.
    fn save_changes(&mut self, begins: bool, room: u64, now: Now<'_>) -> Vec<u8> {
        let pages = self.state.take_dirty(image::pages_in(room));
        for page in &pages {
            self.initial.remove(page);
        }
        let room = room.saturating_sub(image::partial_len(pages.len() as u64));
        let parts = match self.lost {
            true => Vec::new(),
            false => self.sent.take(now.records, room),
        };
        let content = Content {
            capabilities: now.capabilities,
            pages: Some(pages),
            begins,
            parts,
            more: !self.is_all_sent(now.records),
        };
        image::save(&self.state, &content)
    }

    /// Whether LOAD_VHCA_STATE is possible.
    pub fn check_load(&self) -> Result<(), Status> {
        match self.running {
            Running::Suspended => Ok(()),
            _ => Err(Status::BadResState),
        }
    }
}

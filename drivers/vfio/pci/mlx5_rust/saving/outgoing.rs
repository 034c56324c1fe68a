// SPDX-License-Identifier: GPL-2.0

//! The stream of a saving session that was not read: what SAVE has written, and what is
//! still to come.

use super::{
    buffers::{
        Buffers,
        Capacity,
        Index,
        Urgency, //
    },
    chunks::Chunks,
    part::{
        Part,
        StoredImage, //
    },
    precopy::{
        Kind,
        Ledger, //
    },
};
use crate::{
    fw::{
        mkey::DmaBuffer,
        save::{
            Image,
            SaveError,
            Saved, //
        },
    },
    stream::{
        self,
        Tag,
        HEADER_LEN, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Where a saving session is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first image of the running device is being saved.
    InitialSave,
    /// The device runs, and is tracked.
    PreCopy,
    /// The device runs, but firmware cannot tell any more what has changed:
    /// once it is stopped, it is saved as a whole.
    PreCopyFailed,
    /// The device is stopped and being saved.
    StopCopy,
    /// All that there will be is there.
    Complete,
    /// There will be nothing more, and what there was is gone.
    Failed,
}

impl Capacity for Arc<DmaBuffer> {
    fn capacity(&self) -> usize {
        self.pages().len()
    }
}

/// A SAVE that is under way, or whose end was not taken in.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) buffer: Index,
    pub(super) kind: Kind,
}

/// The unread stream.
pub(super) struct Outgoing {
    pub(super) phase: Phase,
    /// Firmware can save no changes for now: the initiator is suspended.
    pub(super) suspended: bool,
    /// Unread parts behind the one that readers have. The next one is the last of the
    /// vector, so new parts are inserted at the front.
    pub(super) parts: KVec<Part>,
    pub(super) in_flight: Option<InFlight>,
    /// An arc waits for the SAVE that is under way: no other is to start.
    pub(super) awaited: bool,
    /// Firmware tracks what changes.
    pub(super) tracked: bool,
    /// Firmware may still carry out a SAVE that mlx5_core has stopped to wait for.
    pub(super) unknown: bool,
    pub(super) buffers: Buffers<Arc<DmaBuffer>>,
    pub(super) ledger: Ledger,
    pub(super) chunks: Chunks,
}

impl Outgoing {
    /// Ends the stream early.
    pub(super) fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.parts = KVec::new();
        // A reader may still copy from one of them. The reader has a reference to the pages,
        // and its read() fails with ENODEV.
        self.buffers.release_unread();
    }

    /// A part was read to its end.
    pub(super) fn release(&mut self, part: &Part) {
        if let Some(image) = &part.image {
            self.buffers.release(image.buffer);
            if image.chunk {
                self.chunks.consumed();
            }
        }
    }

    /// Returns whether the next chunk is to be saved now. It waits if images of the device
    /// when it ran have all buffers but one.
    pub(super) fn chunk_is_due(&self) -> bool {
        let possible = self.in_flight.is_none() && self.buffers.can_grow(Urgency::Urgent);
        self.chunks.is_due() && possible
    }

    /// Returns whether all that was saved of the running device was read, for a reader that
    /// has no part: there will be more only once user space asks for it, or stops the
    /// device.
    pub(super) fn is_at_temporary_end(&self) -> bool {
        matches!(self.phase, Phase::PreCopy | Phase::PreCopyFailed)
            && self.in_flight.is_none()
            && self.parts.is_empty()
    }

    /// Takes the end of a SAVE in.
    pub(super) fn finish(&mut self, save: InFlight, saved: Saved) -> Result {
        let image = match saved {
            Ok(image) => image,
            Err(SaveError::BadState)
                if matches!(self.phase, Phase::InitialSave | Phase::PreCopy) =>
            {
                self.buffers.release(save.buffer);
                self.phase = Phase::PreCopyFailed;
                return Ok(());
            }
            Err(SaveError::Unknown) => {
                // Firmware may write to the buffer yet.
                self.unknown = true;
                return Err(EIO);
            }
            Err(_) => {
                self.buffers.release(save.buffer);
                return Err(EIO);
            }
        };
        // Whatever becomes of the image.
        self.tracked |= self.phase == Phase::InitialSave;
        let buffer = save.buffer;
        if let Err(err) = self.append(save, image) {
            self.buffers.release(buffer);
            return Err(err);
        }
        self.phase = match self.phase {
            Phase::StopCopy if self.chunks.saved(image.next) => Phase::Complete,
            Phase::InitialSave => Phase::PreCopy,
            phase => phase,
        };
        Ok(())
    }

    /// Appends the record of an image.
    fn append(&mut self, save: InFlight, image: Image) -> Result {
        let buffer = self.buffers.get(save.buffer).ok_or(ENODEV)?;
        let pages = buffer.pages().clone();
        // One without a byte would look like the end of the stream to a reader.
        if image.len == 0 || image.len > pages.len() {
            return Err(EIO);
        }
        buffer.sync_for_cpu(image.len)?;
        let header = stream::header(Tag::FwData, image.len as u64);
        self.buffers.saved(save.buffer);
        let stored = StoredImage {
            pages,
            buffer: save.buffer,
            chunk: self.phase == Phase::StopCopy,
        };
        let len = (HEADER_LEN + image.len) as u64;
        let end = self.ledger.append(save.kind, len);
        self.push(Part::new(header, end).with_image(stored, image.len))
    }

    /// Takes a buffer of at least `need` bytes, if there is one, for an image for whose
    /// record there is room then.
    pub(super) fn take_buffer(
        &mut self,
        need: usize,
        urgency: Urgency,
    ) -> Result<Option<(Index, Arc<DmaBuffer>)>> {
        self.reserve(1)?;
        let index = self.buffers.take(need, urgency);
        let taken = index.and_then(|index| Some((index, self.buffers.get(index)?.clone())));
        Ok(taken)
    }

    /// Makes room for more parts, so that there is no error when they come.
    pub(super) fn reserve(&mut self, parts: usize) -> Result {
        Ok(self.parts.reserve(parts, GFP_KERNEL_ACCOUNT)?)
    }

    /// Appends a part, at the front of the vector. There must be room for it.
    pub(super) fn push(&mut self, part: Part) -> Result {
        self.parts
            .insert_within_capacity(0, part)
            .map_err(|_| ENOMEM)
    }
}

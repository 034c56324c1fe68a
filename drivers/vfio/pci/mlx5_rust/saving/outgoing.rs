// SPDX-License-Identifier: GPL-2.0

//! The unread stream of a saving session: the images that were saved, and those to come.

use super::{
    buffers::{
        Buffers,
        Capacity,
        Index,
        Urgency, //
    },
    chunks::Chunks,
    precopy::{
        Kind,
        Ledger, //
    },
    record::{
        Record,
        StoredImage, //
    },
};
use crate::{
    fw::{
        mkey::DmaBuffer,
        save::{
            SaveError,
            Saved, //
            SavedImage,
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

/// Stage of a saving session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The first image of the running device is being saved.
    InitialSave,
    /// The device runs, and is tracked.
    PreCopy,
    /// The device runs, but firmware cannot tell any more what has changed:
    /// once it is stopped, it is saved as a whole.
    PreCopyFailed,
    /// The device is stopped and being saved.
    StopCopy,
    /// All images were saved.
    Complete,
    /// The session has failed, and its images are gone.
    Failed,
}

impl Capacity for Arc<DmaBuffer> {
    fn capacity(&self) -> usize {
        self.pages().len()
    }
}

/// A SAVE that is under way, or whose result was not taken.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) buffer: Index,
    pub(super) kind: Kind,
}

/// The unread stream.
pub(super) struct Outgoing {
    pub(super) stage: Stage,
    /// Firmware can save no changes for now: the initiator is suspended.
    pub(super) suspended: bool,
    /// Unread records behind the one that readers have. The next one is the last of the
    /// vector, so new records are inserted at the front.
    pub(super) records: KVec<Record>,
    pub(super) in_flight: Option<InFlight>,
    /// An arc waits for the SAVE that is under way: no other may start.
    pub(super) awaited: bool,
    /// Firmware tracks the changes of the device.
    pub(super) tracked: bool,
    /// Firmware may still carry out a SAVE that mlx5_core has stopped waiting for.
    pub(super) unknown: bool,
    pub(super) buffers: Buffers<Arc<DmaBuffer>>,
    pub(super) ledger: Ledger,
    pub(super) chunks: Chunks,
}

impl Outgoing {
    /// Ends the stream early.
    pub(super) fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.records = KVec::new();
        // A reader may still copy from one of these buffers. It has a reference to the pages, and
        // its read() fails with ENODEV.
        self.buffers.release_unread();
    }

    /// Releases the buffer of a record that was read to its end.
    pub(super) fn release(&mut self, record: &Record) {
        if let Some(image) = &record.image {
            self.buffers.release(image.buffer);
            if image.chunk {
                self.chunks.consumed();
            }
        }
    }

    /// Returns whether the next chunk is to be saved now. A chunk has to wait if there is no buffer
    /// for it: unread images of the running device may have all others.
    pub(super) fn chunk_is_due(&self) -> bool {
        let possible = self.in_flight.is_none() && self.buffers.can_grow(Urgency::Urgent);
        self.chunks.is_due() && possible
    }

    /// Returns whether a reader that has no record has read all that was saved of the running
    /// device. More is saved only once user space calls VFIO_MIG_GET_PRECOPY_INFO, or stops the
    /// device.
    pub(super) fn is_at_temporary_end(&self) -> bool {
        matches!(self.stage, Stage::PreCopy | Stage::PreCopyFailed)
            && self.in_flight.is_none()
            && self.records.is_empty()
    }

    /// Takes the result of a SAVE.
    pub(super) fn finish(&mut self, save: InFlight, saved: Saved) -> Result {
        let image = match saved {
            Ok(image) => image,
            Err(SaveError::BadState)
                if matches!(self.stage, Stage::InitialSave | Stage::PreCopy) =>
            {
                self.buffers.release(save.buffer);
                self.stage = Stage::PreCopyFailed;
                return Ok(());
            }
            Err(SaveError::Unknown) => {
                // Firmware may still write to the buffer.
                self.unknown = true;
                return Err(EIO);
            }
            Err(_) => {
                self.buffers.release(save.buffer);
                return Err(EIO);
            }
        };
        // Set this even if the image is not appended.
        self.tracked |= self.stage == Stage::InitialSave;
        let buffer = save.buffer;
        if let Err(err) = self.append(save, image) {
            self.buffers.release(buffer);
            return Err(err);
        }
        self.stage = match self.stage {
            Stage::StopCopy if self.chunks.saved(image.next) => Stage::Complete,
            Stage::InitialSave => Stage::PreCopy,
            stage => stage,
        };
        Ok(())
    }

    /// Appends the record of an image.
    fn append(&mut self, save: InFlight, image: SavedImage) -> Result {
        let buffer = self.buffers.get(save.buffer).ok_or(ENODEV)?;
        let pages = buffer.pages().clone();
        // An image without a byte would look like the end of the stream to a reader.
        if image.len == 0 || image.len > pages.len() {
            return Err(EIO);
        }
        buffer.sync_for_cpu(image.len)?;
        let header = stream::header(Tag::FwData, image.len as u64);
        self.buffers.saved(save.buffer);
        let stored = StoredImage {
            pages,
            buffer: save.buffer,
            chunk: self.stage == Stage::StopCopy,
        };
        let len = (HEADER_LEN + image.len) as u64;
        let end = self.ledger.append(save.kind, len);
        self.push(Record::new(header, end).with_image(stored, image.len))
    }

    /// Takes a buffer of at least `need` bytes for an image, if there is one, and reserves room for
    /// the record of the image.
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

    /// Reserves room for more records, so that [`push`](Self::push) does not fail later.
    pub(super) fn reserve(&mut self, records: usize) -> Result {
        Ok(self.records.reserve(records, GFP_KERNEL_ACCOUNT)?)
    }

    /// Appends a record, at the front of the vector. There must be room for it.
    pub(super) fn push(&mut self, record: Record) -> Result {
        self.records
            .insert_within_capacity(0, record)
            .map_err(|_| ENOMEM)
    }
}

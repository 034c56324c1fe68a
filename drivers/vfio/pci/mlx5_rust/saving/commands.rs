// SPDX-License-Identifier: GPL-2.0

//! The SAVEs of a saving session, and the buffers for them.

use super::{
    buffers::{
        Index,
        Urgency, //
    },
    chunks,
    outgoing::{
        InFlight,
        Stage, //
    },
    precopy::Kind,
    record::Record,
    session::{
        Begin,
        SavingSession, //
    }, //
};
use crate::{
    fw::{
        device::VfGuard,
        mkey::DmaBuffer,
        save::Request,
        vhca::Extent, //
    },
    stream,
    vf::Sending, //
};
use kernel::{
    dma::DataDirection,
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_8M,
    sync::Arc, //
};
use vfio_rust::kernel::page::runs::{
    Fill,
    Pages, //
};

/// Longest SAVE: its `size` field has 32 bits, and buffers are whole pages.
const MAX_SAVE: usize = u32::MAX as usize + 1 - PAGE_SIZE;

/// Size of a chunk of a stopped device, if firmware leaves the choice.
pub(super) const CHUNK: usize = SZ_8M;

impl SavingSession {
    pub(super) fn begin(&self, begin: Begin) -> Result {
        let running = begin != Begin::Stopped;
        let in_chunks = self.vf.device.in_chunks();
        let info = self.vf.enter(self.epoch)?.query_state(Extent::Whole)?;
        let whole = whole_len(info.required, info.total, in_chunks, running)?;
        self.add(self.buffer(whole)?, Urgency::Urgent)?;
        if running {
            let changes = changes_len(whole, in_chunks);
            self.add(self.buffer(changes)?, Urgency::Deferrable)?;
        } else if in_chunks {
            for _ in 1..chunks::BUFFERS {
                self.add(self.buffer(whole)?, Urgency::Urgent)?;
            }
        }
        let kind = match running {
            true => Kind::Initial,
            false => Kind::Dirty,
        };
        {
            let mut outgoing = self.outgoing.lock();
            // Round up to whole pages, as the C driver does.
            let record = stream::size_record(whole.next_multiple_of(PAGE_SIZE) as u64);
            outgoing.reserve(1)?;
            let end = outgoing.ledger.append(kind, record.len() as u64);
            outgoing.push(Record::new(record, end))?;
        }
        let request = Request {
            extent: Extent::Whole,
            track: running,
        };
        // The first image goes to the larger buffer. Firmware may fill it, even if it needs less.
        let need = if running { whole } else { info.required };
        self.start(need, Urgency::Urgent, request, kind)
    }

    fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        if len > MAX_SAVE {
            return Err(EOVERFLOW);
        }
        // Allocate without a guard: a reset waits for guards, and gigabytes take a while. Allocate
        // at least a page, even if firmware needs no memory: an empty buffer cannot be mapped.
        let pages = Arc::new(Pages::with_len(len.max(1), Fill::Zero)?, GFP_KERNEL_ACCOUNT)?;
        let len = pages.len();
        let guard = self.vf.enter(self.epoch)?;
        let buffer = DmaBuffer::new(&guard, &self.pd, pages, len, DataDirection::FromDevice)?;
        Ok(Arc::new(buffer, GFP_KERNEL_ACCOUNT)?)
    }

    fn add(&self, buffer: Arc<DmaBuffer>, urgency: Urgency) -> Result {
        let added = self.outgoing.lock().buffers.add(buffer, urgency);
        // If there is no slot, the buffer is dropped here, without the lock.
        added.map_err(|_| EBUSY)
    }

    /// Takes a buffer of at least `need` bytes for an image, and reserves room for the record of
    /// the image. Called with `sending` held, or by the arc that begins the session, so that nobody
    /// else adds or takes buffers.
    pub(super) fn buffer_for(
        &self,
        need: usize,
        urgency: Urgency,
    ) -> Result<(Index, Arc<DmaBuffer>)> {
        if let Some(taken) = self.outgoing.lock().take_buffer(need, urgency)? {
            return Ok(taken);
        }
        // Free and allocate buffers without the lock of the stream, since that sends firmware
        // commands.
        let small = || self.outgoing.lock().buffers.remove_small(need, urgency);
        while let Some(buffer) = small() {
            drop(buffer);
        }
        self.add(self.buffer(need)?, urgency)?;
        let taken = self.outgoing.lock().take_buffer(need, urgency)?;
        taken.ok_or(ENOMEM)
    }

    /// Starts a SAVE. No SAVE may be under way. The requirements of
    /// [`buffer_for`](Self::buffer_for) apply.
    pub(super) fn start(
        &self,
        need: usize,
        urgency: Urgency,
        request: Request,
        kind: Kind,
    ) -> Result {
        let taken = self.buffer_for(need, urgency)?;
        match self.vf.enter(self.epoch) {
            Ok(guard) => self.send(&guard, need, taken, request, kind),
            Err(err) => {
                self.outgoing.lock().buffers.release(taken.0);
                Err(err)
            }
        }
    }

    /// Sends a SAVE into a buffer that was taken. The requirements of
    /// [`buffer_for`](Self::buffer_for) apply.
    pub(super) fn send(
        &self,
        guard: &VfGuard<'_>,
        need: usize,
        (index, buffer): (Index, Arc<DmaBuffer>),
        request: Request,
        kind: Kind,
    ) -> Result {
        self.vf.tracer.save_begins(need as u64);
        // Send without the lock: this waits if the SAVE has to be sent as a synchronous command.
        let sent = self.command.start(guard, &buffer, request);
        let mut outgoing = self.outgoing.lock();
        if sent.is_err() {
            outgoing.buffers.release(index);
            return sent;
        }
        outgoing.in_flight = Some(InFlight {
            buffer: index,
            kind,
        });
        drop(outgoing);
        // A reader may wait for the SAVE to begin, or even to end.
        self.changes.notify_all();
        Ok(())
    }

    /// Saves the next chunk of the stopped device, if that is due.
    pub(super) fn save_next_chunk(&self) {
        let sending = self.sending.lock();
        if *sending == Sending::Ended {
            return;
        }
        let need = {
            let mut outgoing = self.lock();
            if outgoing.stage != Stage::StopCopy || !outgoing.chunk_is_due() {
                return;
            }
            outgoing.chunks.take_due()
        };
        let Some(need) = need else { return };
        let request = Request {
            extent: Extent::Changes,
            track: false,
        };
        let started = self.start(need, Urgency::Urgent, request, Kind::Dirty);
        if started.is_err() {
            self.fail();
        }
    }
}

/// Returns the length of a buffer for a whole state, of which `required` bytes are to be
/// saved at once, and `total` in all.
fn whole_len(required: usize, total: u64, in_chunks: bool, running: bool) -> Result<usize> {
    if required > MAX_SAVE {
        return Err(EOVERFLOW);
    }
    let len = if in_chunks {
        required.max(usize::try_from(total).unwrap_or(CHUNK).min(CHUNK))
    } else if running {
        // Add a tenth: the state may grow until the device is stopped.
        required.saturating_add(required / 10)
    } else {
        required
    };
    Ok(len.min(MAX_SAVE))
}

/// Returns the length of the first buffer for incremental images; `whole` is that for the
/// whole state. Once the device is stopped, the buffer is for every other chunk.
fn changes_len(whole: usize, in_chunks: bool) -> usize {
    let chunk = match in_chunks {
        true => CHUNK.min(whole / 2),
        false => 0,
    };
    chunk.max(whole / 16).max(PAGE_SIZE)
}

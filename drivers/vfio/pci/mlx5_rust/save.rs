// SPDX-License-Identifier: GPL-2.0

//! Saving: the file that the state is read from, and the session behind it.

use crate::{
    mlx5::{
        core_dev::CoreDev,
        dma_buffer::DmaBuffer,
        pd::Pd,
        save::{SaveCommand, SaveDone, Saved},
    },
    stream::{self, Tag, HEADER_LEN, SIZE_LEN},
    vfio::{
        dma::Direction,
        file::{Access, DataFile, OpenFile, Readiness, UserWriter, Wait},
        pages::{Fill, Pages},
        workqueue::OrderedQueue,
    },
};
use kernel::{
    new_mutex, new_poll_condvar,
    page::PAGE_SIZE,
    prelude::*,
    sync::{lock::mutex::MutexBackend, lock::Guard, poll::PollCondVar, Arc, Mutex},
};

/// Longest SAVE: its `size` field has 32 bits, and buffers are whole pages.
const MAX_SAVE: usize = u32::MAX as usize + 1 - PAGE_SIZE;

/// Where a saving session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A SAVE of the stopped device is under way.
    StopCopy,
    /// All that there will be is there.
    Complete,
    /// There will be nothing more, and what there was is gone.
    Failed,
}

/// A piece of the stream that user space has not read yet.
enum Part {
    Bytes {
        bytes: [u8; HEADER_LEN + SIZE_LEN],
        at: usize,
        end: usize,
    },
    Image {
        pages: Arc<Pages>,
        at: usize,
        end: usize,
    },
}

impl Part {
    fn bytes(from: &[u8]) -> Self {
        let mut bytes = [0; HEADER_LEN + SIZE_LEN];
        let end = from.len().min(bytes.len());
        bytes[..end].copy_from_slice(&from[..end]);
        Self::Bytes { bytes, at: 0, end }
    }

    fn left(&self) -> usize {
        match self {
            Self::Bytes { at, end, .. } | Self::Image { at, end, .. } => end - at,
        }
    }

    /// Moves as much as fits to user space, and returns how much it was.
    fn read(&mut self, out: &mut UserWriter) -> Result<usize> {
        let n = self.left().min(out.left());
        match self {
            Self::Bytes { bytes, at, .. } => {
                out.write(&bytes[*at..*at + n])?;
                *at += n;
            }
            Self::Image { pages, at, .. } => {
                pages.read(*at, n, out)?;
                *at += n;
            }
        }
        Ok(n)
    }
}

/// The unread stream, and who is at it.
struct Outgoing {
    phase: Phase,
    /// Unread parts, the next one last.
    parts: KVec<Part>,
    /// A reader has taken the next part out. It copies without the lock: user
    /// memory can take arbitrarily long, and closing must not wait for it.
    reading: bool,
    /// Where the SAVE writes, and then what the image is read from.
    buffer: Option<DmaBuffer<Arc<Pages>>>,
}

/// A saving data file.
///
/// The file outlives the session where user space keeps it open, and then
/// fails; the session outlives the file where user space closes it early.
#[pin_data]
pub(crate) struct SaveFile {
    #[pin]
    outgoing: Mutex<Outgoing>,
    /// Notified when anything in `outgoing` changes.
    #[pin]
    changed: PollCondVar,
}

impl SaveFile {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                outgoing <- new_mutex!(Outgoing {
                    phase: Phase::StopCopy,
                    parts: KVec::new(),
                    reading: false,
                    buffer: None,
                }),
                changed <- new_poll_condvar!("mlx5_vfio_rust_save"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Ends the stream early. Returns the buffer, which firmware must not be
    /// using any more.
    fn close(&self) -> Option<DmaBuffer<Arc<Pages>>> {
        let mut outgoing = self.outgoing.lock();
        outgoing.phase = Phase::Failed;
        outgoing.parts = KVec::new();
        self.changed.notify_all();
        outgoing.buffer.take()
    }

    /// Waits for the next part and takes it out. `None` at the end.
    fn next_part<'a>(
        &'a self,
        outgoing: &mut Guard<'a, Outgoing, MutexBackend>,
        wait: Wait,
    ) -> Result<Option<Part>> {
        loop {
            if outgoing.phase == Phase::Failed {
                return Err(ENODEV);
            }
            if !outgoing.reading {
                if let Some(part) = outgoing.parts.pop() {
                    outgoing.reading = true;
                    return Ok(Some(part));
                }
                if outgoing.phase == Phase::Complete {
                    return Ok(None);
                }
            }
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            if self.changed.wait_interruptible(outgoing) {
                return Err(ERESTARTSYS);
            }
        }
    }

    /// Puts back what is left of a part.
    fn put_back(&self, outgoing: &mut Outgoing, part: Part) -> Result {
        outgoing.reading = false;
        self.changed.notify_all();
        if outgoing.phase == Phase::Failed {
            return Err(ENODEV);
        }
        if part.left() > 0 {
            // There is room: it was taken from there.
            outgoing.parts.push(part, GFP_KERNEL)?;
        }
        Ok(())
    }
}

impl DataFile for SaveFile {
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Saving;

    fn read(&self, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        let mut done = 0;
        let mut outgoing = self.outgoing.lock();
        if outgoing.phase == Phase::Failed {
            return Err(ENODEV);
        }
        while out.left() > 0 {
            // Only the first part is waited for.
            let wait = if done == 0 { wait } else { Wait::Never };
            let mut part = match self.next_part(&mut outgoing, wait) {
                Ok(Some(part)) => part,
                Ok(None) => break,
                Err(EAGAIN) if done > 0 => break,
                Err(err) => return Err(err),
            };
            drop(outgoing);
            let copied = part.read(out);
            outgoing = self.outgoing.lock();
            self.put_back(&mut outgoing, part)?;
            match copied {
                Ok(n) => done += n,
                // What could not be copied is still there to be read.
                Err(_) if done > 0 => break,
                Err(err) => return Err(err),
            }
        }
        Ok(done)
    }

    fn poll(&self) -> Option<(&PollCondVar, Readiness)> {
        let outgoing = self.outgoing.lock();
        let ready = match outgoing.phase {
            Phase::Failed => Readiness::Failed,
            // Another reader has the part, and may put some of it back.
            _ if outgoing.reading => Readiness::Pending,
            Phase::Complete => Readiness::Readable,
            Phase::StopCopy if !outgoing.parts.is_empty() => Readiness::Readable,
            Phase::StopCopy => Readiness::Pending,
        };
        Some((&self.changed, ready))
    }
}

impl SaveDone for SaveFile {
    fn save_done(&self, saved: Saved) {
        let mut outgoing = self.outgoing.lock();
        if outgoing.phase != Phase::StopCopy {
            return;
        }
        outgoing.phase = match outgoing.finish(saved) {
            Ok(()) => Phase::Complete,
            Err(_) => Phase::Failed,
        };
        self.changed.notify_all();
    }
}

impl Outgoing {
    /// Appends the record of the image that was saved.
    fn finish(&mut self, saved: Saved) -> Result {
        let len = saved?;
        let buffer = self.buffer.as_ref().ok_or(ENODEV)?;
        let pages = buffer.pages().clone();
        if len > pages.len() {
            return Err(EIO);
        }
        buffer.sync_for_cpu();
        let header = Part::bytes(&stream::header(Tag::FwData, len as u64));
        let image = Part::Image {
            pages,
            at: 0,
            end: len,
        };
        // Room was made in `SavingSession::new`. What is unread goes first,
        // that is: last.
        for part in [header, image] {
            self.parts
                .insert_within_capacity(0, part)
                .map_err(|_| ENOMEM)?;
        }
        Ok(())
    }
}

/// The resources of a session. Lives in the device's state, under its lock.
pub(crate) struct SavingSession {
    file: Arc<SaveFile>,
    command: Arc<SaveCommand<SaveFile>>,
    /// Goes after the buffer, whose mkey belongs to it.
    _pd: Pd,
}

impl SavingSession {
    /// Begins to save the stopped device.
    pub(crate) fn new(core: &Arc<CoreDev>, queue: &Arc<OrderedQueue>) -> Result<(Self, OpenFile)> {
        let file = SaveFile::new()?;
        let open = OpenFile::new(file.clone())?;
        let pd = Pd::new(core)?;
        let size = core.query_state_size()?;
        if size > MAX_SAVE {
            return Err(EOVERFLOW);
        }
        let pages = Arc::new(Pages::with_len(size, Fill::Zero)?, GFP_KERNEL_ACCOUNT)?;
        let buffer = DmaBuffer::new(core, &pd, pages, Direction::FromDevice)?;
        let command = SaveCommand::new(core, queue, file.clone())?;
        let session = Self {
            file,
            command,
            _pd: pd,
        };
        session.start(buffer)?;
        Ok((session, open))
    }

    fn start(&self, buffer: DmaBuffer<Arc<Pages>>) -> Result {
        let mut outgoing = self.file.outgoing.lock();
        // The size record, and what `Outgoing::finish` adds.
        outgoing.parts.reserve(3, GFP_KERNEL_ACCOUNT)?;
        let size = stream::size_record(buffer.pages().len() as u64);
        outgoing
            .parts
            .push(Part::bytes(&size), GFP_KERNEL_ACCOUNT)?;
        let buffer = outgoing.buffer.insert(buffer);
        self.command.start(buffer)
    }
}

impl Drop for SavingSession {
    fn drop(&mut self) {
        // Firmware first, then the memory that it was writing to.
        self.command.quiesce();
        drop(self.file.close());
    }
}

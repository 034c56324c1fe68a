// SPDX-License-Identifier: GPL-2.0

//! Saving: the file that the state is read from, and the session behind it.

use crate::{
    buffers::{Buffers, Device, Index, Room},
    chunks::{self, Chunks},
    mlx5::{
        core_dev::CoreDev,
        dma_buffer::DmaBuffer,
        pd::Pd,
        save::{Image, Request, SaveCommand, SaveDone, SaveError, Saved},
        vhca::Extent,
    },
    precopy::{Info, Kind, Ledger, Pending},
    stream::{self, Tag, HEADER_LEN, SIZE_LEN},
    vf::VfMigration,
    vfio::{
        dma::Direction,
        errno,
        file::{Access, DataFile, OpenFile, PrecopyInfo, Readiness, UserWriter, Wait},
        migration::DeviceRef,
        pages::{Fill, Pages},
        trace::Since,
    },
};
use kernel::{
    impl_has_work, new_mutex, new_poll_condvar, new_work,
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_8M,
    sync::{lock::mutex::MutexBackend, lock::Guard, poll::PollCondVar, Arc, ArcBorrow, Mutex},
    workqueue::{Work, WorkItem},
};

/// Longest SAVE: its `size` field has 32 bits, and buffers are whole pages.
const MAX_SAVE: usize = u32::MAX as usize + 1 - PAGE_SIZE;

/// Piece that a stopped device is saved in, where firmware leaves the choice.
const CHUNK: usize = SZ_8M;

/// Where a saving session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
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
        /// The buffer to release at the end.
        buffer: Index,
        /// It is one of the pieces that [`Chunks`] counts.
        piece: bool,
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

impl Room for DmaBuffer<Arc<Pages>> {
    fn room(&self) -> usize {
        self.pages().len()
    }
}

/// A SAVE that is under way.
#[derive(Clone, Copy)]
struct InFlight {
    buffer: Index,
    kind: Kind,
    since: Since,
}

/// The unread stream, and who is at it.
struct Outgoing {
    phase: Phase,
    /// Unread parts, the next one last.
    parts: KVec<Part>,
    /// A reader has taken the next part out. It copies without the lock: user
    /// memory can take arbitrarily long, and closing must not wait for it.
    reading: bool,
    in_flight: Option<InFlight>,
    /// Firmware tracks what changes.
    tracked: bool,
    buffers: Buffers<DmaBuffer<Arc<Pages>>>,
    ledger: Ledger,
    chunks: Chunks,
}

/// A saving data file.
///
/// The file outlives the session where user space keeps it open, and then
/// fails; the session outlives the file where user space closes it early.
#[pin_data]
pub(crate) struct SaveFile {
    migration: Arc<VfMigration>,
    #[pin]
    outgoing: Mutex<Outgoing>,
    /// Notified when anything in `outgoing` changes.
    #[pin]
    changed: PollCondVar,
    /// Saves the next piece, when a reader has made room for it.
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for SaveFile { self.work }
}

impl WorkItem for SaveFile {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.migration.save_next_piece(&this);
    }
}

impl SaveFile {
    fn new(migration: Arc<VfMigration>, phase: Phase) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                migration,
                outgoing <- new_mutex!(Outgoing {
                    phase,
                    parts: KVec::new(),
                    reading: false,
                    in_flight: None,
                    tracked: false,
                    buffers: Buffers::new(),
                    ledger: Ledger::default(),
                    chunks: Chunks::default(),
                }),
                changed <- new_poll_condvar!("mlx5_vfio_rust_save"),
                work <- new_work!("mlx5_vfio_rust_piece"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Ends the stream early. How a SAVE ends that is under way is of no
    /// interest any more.
    fn close(&self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.in_flight = None;
        self.fail(&mut outgoing);
    }

    /// All buffers, which firmware must not be using any more.
    fn take_buffers(&self) -> Buffers<DmaBuffer<Arc<Pages>>> {
        core::mem::replace(&mut self.outgoing.lock().buffers, Buffers::new())
    }

    fn fail(&self, outgoing: &mut Outgoing) {
        outgoing.phase = Phase::Failed;
        outgoing.parts = KVec::new();
        self.changed.notify_all();
    }

    /// Whether a SAVE is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.outgoing.lock().in_flight.is_some()
    }

    /// Waits until no SAVE is under way.
    pub(crate) fn wait_idle(&self) -> Result {
        let mut outgoing = self.outgoing.lock();
        while outgoing.in_flight.is_some() {
            if self.changed.wait_interruptible(&mut outgoing) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
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
                if outgoing.is_at_temporary_end() {
                    return Err(errno::enomsg());
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

    /// Puts back what is left of a part of which `read` bytes were read.
    fn put_back(
        this: ArcBorrow<'_, Self>,
        outgoing: &mut Outgoing,
        part: Part,
        read: usize,
    ) -> Result {
        outgoing.reading = false;
        this.changed.notify_all();
        if outgoing.phase == Phase::Failed {
            return Err(ENODEV);
        }
        outgoing.ledger.consume(read as u64);
        if part.left() > 0 {
            // There is room: it was taken from there.
            outgoing.parts.push(part, GFP_KERNEL)?;
        } else if let Part::Image { buffer, piece, .. } = part {
            outgoing.buffers.release(buffer);
            if piece {
                outgoing.chunks.consumed();
                if outgoing.chunks.is_due() {
                    // Fails where it is queued already.
                    let _ = this.migration.queue().enqueue(Arc::from(this));
                }
            }
        }
        Ok(())
    }
}

impl DataFile for SaveFile {
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Saving;

    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        let mut done = 0;
        let file = &*this;
        let mut outgoing = file.outgoing.lock();
        if outgoing.phase == Phase::Failed {
            return Err(ENODEV);
        }
        while out.left() > 0 {
            // Only the first part is waited for.
            let wait = if done == 0 { wait } else { Wait::Never };
            let mut part = match file.next_part(&mut outgoing, wait) {
                Ok(Some(part)) => part,
                Ok(None) => break,
                Err(err) if done == 0 || err == ENODEV => return Err(err),
                Err(_) => break,
            };
            drop(outgoing);
            let copied = part.read(out);
            outgoing = file.outgoing.lock();
            Self::put_back(this, &mut outgoing, part, copied.unwrap_or(0))?;
            match copied {
                Ok(n) => done += n,
                // What could not be copied is still there to be read.
                Err(_) if done > 0 => break,
                Err(err) => return Err(err),
            }
        }
        Ok(done)
    }

    fn precopy_info(&self) -> Result<PrecopyInfo> {
        self.migration.precopy_info(self)
    }

    fn poll(&self) -> Option<(&PollCondVar, Readiness)> {
        let outgoing = self.outgoing.lock();
        let ready = match outgoing.phase {
            Phase::Failed => Readiness::Failed,
            // Another reader has the part, and may put some of it back.
            _ if outgoing.reading => Readiness::Pending,
            Phase::Complete => Readiness::Ready,
            // At the temporary end there is nothing but ENOMSG to be read:
            // "Userspace can wait for more data [...] by using poll".
            _ if !outgoing.parts.is_empty() => Readiness::Ready,
            _ => Readiness::Pending,
        };
        Some((&self.changed, ready))
    }
}

impl SaveDone for SaveFile {
    fn save_done(&self, saved: Saved) {
        let mut outgoing = self.outgoing.lock();
        // Where the session has ended, nobody waits for it.
        let Some(in_flight) = outgoing.in_flight.take() else {
            return;
        };
        let bytes = match &saved {
            Ok(image) => Ok(image.len as u64),
            Err(_) => Err(EIO),
        };
        self.migration.tracer.save_ends(&bytes, in_flight.since);
        if outgoing.finish(in_flight, saved).is_err() {
            self.fail(&mut outgoing);
        }
        self.changed.notify_all();
        let due = outgoing.chunks.is_due();
        drop(outgoing);
        if due {
            self.migration.save_next_piece(self);
        }
    }
}

impl Outgoing {
    /// Whether all that was saved of the running device was read: there will
    /// be more only once user space asks for it, or stops the device.
    fn is_at_temporary_end(&self) -> bool {
        matches!(self.phase, Phase::PreCopy | Phase::PreCopyFailed)
            && self.in_flight.is_none()
            && self.parts.is_empty()
    }

    /// Takes the end of a SAVE in.
    fn finish(&mut self, save: InFlight, saved: Saved) -> Result {
        let image = match saved {
            Ok(image) => image,
            Err(SaveError::BadState)
                if matches!(self.phase, Phase::InitialSave | Phase::PreCopy) =>
            {
                self.buffers.release(save.buffer);
                self.phase = Phase::PreCopyFailed;
                return Ok(());
            }
            Err(_) => return Err(EIO),
        };
        self.append(save, image)?;
        self.tracked |= self.phase == Phase::InitialSave;
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
        if image.len > pages.len() {
            return Err(EIO);
        }
        buffer.sync_for_cpu();
        let header = stream::header(Tag::FwData, image.len as u64);
        let part = Part::Image {
            pages,
            at: 0,
            end: image.len,
            buffer: save.buffer,
            piece: self.phase == Phase::StopCopy,
        };
        self.buffers.saved(save.buffer);
        self.push(Part::bytes(&header))?;
        self.push(part)?;
        self.ledger
            .append(save.kind, (HEADER_LEN + image.len) as u64);
        Ok(())
    }

    /// Appends a part: what is unread goes first, that is, last.
    fn push(&mut self, part: Part) -> Result {
        self.parts.reserve(1, GFP_KERNEL_ACCOUNT)?;
        self.parts
            .insert_within_capacity(0, part)
            .map_err(|_| ENOMEM)
    }
}

/// The resources of a session. Lives in the device's state, under its lock.
pub(crate) struct SavingSession {
    file: Arc<SaveFile>,
    command: Arc<SaveCommand<SaveFile>>,
    device: DeviceRef,
    /// Goes after the buffers, whose mkeys belong to it.
    pd: Pd,
}

impl SavingSession {
    /// Begins to save the device.
    pub(crate) fn new(
        core: &Arc<CoreDev>,
        migration: &Arc<VfMigration>,
        device: DeviceRef,
        running: Device,
    ) -> Result<(Self, OpenFile)> {
        let phase = match running {
            Device::Running => Phase::InitialSave,
            Device::Stopped => Phase::StopCopy,
        };
        let file = SaveFile::new(migration.clone(), phase)?;
        let open = OpenFile::new(file.clone())?;
        let pd = Pd::new(core)?;
        let command = SaveCommand::new(core, migration.queue(), file.clone())?;
        let session = Self {
            file,
            command,
            device,
            pd,
        };
        session.begin(core, running)?;
        Ok((session, open))
    }

    fn begin(&self, core: &Arc<CoreDev>, running: Device) -> Result {
        let info = core.query_state(Extent::Whole)?;
        let room = stopped_room(info.required, info.total, core.in_chunks(), running)?;
        let kept = if core.in_chunks() { chunks::BUFFERS } else { 1 };
        let mut size = 0;
        for _ in 0..kept {
            let buffer = self.buffer(core, room)?;
            size = buffer.room();
            self.add(buffer, Device::Stopped)?;
        }
        let kind = match running {
            Device::Running => {
                self.add(self.buffer(core, room)?, Device::Running)?;
                Kind::Initial
            }
            Device::Stopped => Kind::Dirty,
        };
        {
            let mut outgoing = self.file.outgoing.lock();
            let record = stream::size_record(size as u64);
            outgoing.push(Part::bytes(&record))?;
            outgoing.ledger.append(kind, record.len() as u64);
        }
        let request = Request {
            extent: Extent::Whole,
            track: running == Device::Running,
        };
        self.start(core, info.required, running, request, kind)?;
        Ok(())
    }

    fn buffer(&self, core: &Arc<CoreDev>, len: usize) -> Result<DmaBuffer<Arc<Pages>>> {
        if len > MAX_SAVE {
            return Err(EOVERFLOW);
        }
        let pages = Arc::new(Pages::with_len(len, Fill::Zero)?, GFP_KERNEL_ACCOUNT)?;
        let len = pages.len();
        DmaBuffer::new(core, &self.pd, pages, len, Direction::FromDevice)
    }

    fn add(&self, buffer: DmaBuffer<Arc<Pages>>, device: Device) -> Result {
        let added = self.file.outgoing.lock().buffers.add(buffer, device);
        // A buffer that there is no room for is dropped without the lock.
        added.map_err(|_| EBUSY)
    }

    /// Makes a buffer of at least `need` bytes available.
    fn provide(&self, core: &Arc<CoreDev>, need: usize, device: Device) -> Result<Index> {
        if let Some(index) = self.file.outgoing.lock().buffers.take(need, device) {
            return Ok(index);
        }
        // Firmware commands, and memory, without the lock. Nobody else adds
        // buffers, or takes any: that is done under the state lock.
        let mut small = self.take_small(need, device);
        while small.is_some() {
            small = self.take_small(need, device);
        }
        self.add(self.buffer(core, need)?, device)?;
        let index = self.file.outgoing.lock().buffers.take(need, device);
        index.ok_or(ENOMEM)
    }

    fn take_small(&self, need: usize, device: Device) -> Option<DmaBuffer<Arc<Pages>>> {
        self.file.outgoing.lock().buffers.remove_small(need, device)
    }

    /// Starts a SAVE. None may be under way.
    fn start(
        &self,
        core: &Arc<CoreDev>,
        need: usize,
        device: Device,
        request: Request,
        kind: Kind,
    ) -> Result {
        let index = self.provide(core, need, device)?;
        let mut outgoing = self.file.outgoing.lock();
        let buffer = outgoing.buffers.get(index).ok_or(ENODEV)?;
        self.file.migration.tracer.save_begins(need as u64);
        let since = Since::now();
        let started = self.command.start(buffer, request);
        match started {
            Ok(()) => {
                outgoing.in_flight = Some(InFlight {
                    buffer: index,
                    kind,
                    since,
                })
            }
            Err(_) => outgoing.buffers.release(index),
        }
        started
    }

    /// Whether `file` is this session's.
    pub(crate) fn is_of(&self, file: &SaveFile) -> bool {
        core::ptr::eq(&*self.file, file)
    }

    /// The file, while a SAVE is under way.
    pub(crate) fn busy_file(&self) -> Option<&Arc<SaveFile>> {
        self.file.is_busy().then_some(&self.file)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO, while no SAVE is under way. `suspended` is
    /// whether firmware can save nothing for now.
    ///
    /// Starts to save what has changed, once all before it was read.
    pub(crate) fn precopy_info(&self, core: &Arc<CoreDev>, suspended: bool) -> Result<PrecopyInfo> {
        let v2 = self.device.precopy_info_v2();
        let pending = match self.phase() {
            Phase::Failed => return Err(ENODEV),
            Phase::PreCopy if !suspended => {
                let info = core.query_state(Extent::Changes)?;
                Pending {
                    bytes: info.required as u64,
                    // "VFIO_PRECOPY_INFO_REINIT can be reported only after
                    // userspace opts in": it would not be understood.
                    new_initial: v2 && info.new_initial,
                }
            }
            _ => Pending::default(),
        };
        let (
            Info {
                initial_bytes,
                dirty_bytes,
                reinit,
            },
            save,
        ) = {
            let mut outgoing = self.file.outgoing.lock();
            let (info, save) = outgoing.ledger.report(pending, HEADER_LEN as u64);
            // A reader who lets image after image come up unread gets the next
            // one when there is room again: firmware still has it.
            (
                info,
                save.filter(|_| outgoing.buffers.can_grow(Device::Running)),
            )
        };
        if let Some(kind) = save {
            let request = Request {
                extent: Extent::Changes,
                track: true,
            };
            self.start(core, pending.bytes as usize, Device::Running, request, kind)
                .inspect_err(|_| self.fail())?;
        }
        Ok(PrecopyInfo {
            v2,
            initial_bytes,
            dirty_bytes,
            reinit,
        })
    }

    fn phase(&self) -> Phase {
        self.file.outgoing.lock().phase
    }

    fn fail(&self) {
        self.file.fail(&mut self.file.outgoing.lock());
    }

    /// `ENODEV` where the session has failed.
    pub(crate) fn check(&self) -> Result {
        match self.phase() {
            Phase::Failed => Err(ENODEV),
            _ => Ok(()),
        }
    }

    /// The device was stopped: saves the rest of its state.
    pub(crate) fn save_stopped(&self, core: &Arc<CoreDev>) -> Result {
        let extent = match self.phase() {
            Phase::PreCopyFailed => Extent::Whole,
            _ => Extent::Changes,
        };
        let saved = core.query_state(extent).and_then(|info| {
            self.file.outgoing.lock().phase = Phase::StopCopy;
            let request = Request {
                extent,
                track: false,
            };
            self.start(core, info.required, Device::Stopped, request, Kind::Dirty)
        });
        saved.inspect_err(|_| self.fail())
    }

    /// Saves the next piece of the stopped device, if that is due.
    pub(crate) fn save_next_piece(&self, core: &Arc<CoreDev>) {
        let due = self.file.outgoing.lock().chunks.take_due();
        let Some(need) = due else { return };
        let request = Request {
            extent: Extent::Changes,
            track: false,
        };
        if self
            .start(core, need, Device::Stopped, request, Kind::Dirty)
            .is_err()
        {
            self.fail();
        }
    }

    /// Has firmware stop to track the running device. No SAVE may be under way.
    pub(crate) fn end_tracking(&self, core: &Arc<CoreDev>) -> Result {
        if !self.file.outgoing.lock().tracked {
            return Ok(());
        }
        let need = core.query_state(Extent::Changes)?.required;
        let index = self.provide(core, need, Device::Stopped)?;
        let buffer = self.file.outgoing.lock().buffers.remove(index);
        let buffer = buffer.ok_or(ENODEV)?;
        core.end_tracking(&buffer)?;
        self.file.outgoing.lock().tracked = false;
        Ok(())
    }
}

/// Bytes of the buffers for the stopped device, which needs `required` of them
/// now, and `total` in all.
fn stopped_room(required: usize, total: u64, in_chunks: bool, device: Device) -> Result<usize> {
    if required > MAX_SAVE {
        return Err(EOVERFLOW);
    }
    let room = if in_chunks {
        required.max(usize::try_from(total).unwrap_or(CHUNK).min(CHUNK))
    } else if device == Device::Running {
        // It may grow until it is stopped, by a tenth, say.
        required.saturating_add(required / 10)
    } else {
        required
    };
    Ok(room.min(MAX_SAVE))
}

impl Drop for SavingSession {
    fn drop(&mut self) {
        self.file.close();
        // Firmware first, then the memory that it was writing to.
        self.command.quiesce();
        drop(self.file.take_buffers());
    }
}

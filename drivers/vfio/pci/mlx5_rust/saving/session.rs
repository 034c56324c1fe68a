// SPDX-License-Identifier: GPL-2.0

//! Saving: a session and the file that its state is read from.
//!
//! A session belongs to the VF's state, and to the file; the VF's state ends it.
//! Locks nest in this order: `commands`, then `outgoing`. Neither is held over an
//! access to user memory.
//!
//! The end of a SAVE is taken in by whoever takes `outgoing` next, and wants
//! something of it: a reader, poll(), VFIO_MIG_GET_PRECOPY_INFO, an arc.

use super::{
    buffers::{Buffers, Device, Index, Room},
    chunks::{self, Chunks},
    precopy::{Info, Kind, Ledger, Pending},
};
use crate::{
    fw::{
        gate::Epoch,
        mkey::DmaBuffer,
        pd::Pd,
        save::{Image, Request, SaveCommand, SaveError, Saved},
        vhca::Extent,
    },
    stream::{self, Tag, HEADER_LEN, SIZE_LEN},
    vf::{unknown_is_lost, Vf},
    vfio::{
        changes::Changes,
        dma::Direction,
        errno,
        file::{Access, DataFile, OpenFile, PrecopyInfo, Readiness, UserWriter, Wait},
        migration::{DeviceRef, StepError, VfioDevice},
        pages::{Fill, Pages},
    },
};
use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_8M,
    sync::{lock::mutex::MutexBackend, lock::Guard, Arc, ArcBorrow, Mutex},
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

/// The device of which a session begins to save the state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It runs.
    Running,
    /// It runs, but firmware can save no changes for now.
    RunningP2p,
    /// It is stopped.
    Stopped,
}

/// Parts of an image's record: its header, and the image.
const RECORD_PARTS: usize = 2;

/// Bytes of a part that is no image, at most.
const SMALL: usize = HEADER_LEN + SIZE_LEN;

/// Where the bytes of a part are.
#[derive(Clone)]
enum Source {
    Bytes([u8; SMALL]),
    Image {
        pages: Arc<Pages>,
        /// The buffer to release at the end.
        buffer: Index,
        /// It is one of the chunks that [`Chunks`] counts.
        chunk: bool,
    },
}

/// A piece of the stream that user space has not read to its end.
#[derive(Clone)]
struct Part {
    source: Source,
    at: usize,
    end: usize,
}

impl Part {
    fn bytes<const N: usize>(from: [u8; N]) -> Self {
        const { assert!(N <= SMALL) };
        let mut bytes = [0; SMALL];
        bytes[..N].copy_from_slice(&from);
        Self {
            source: Source::Bytes(bytes),
            at: 0,
            end: N,
        }
    }

    fn left(&self) -> usize {
        self.end - self.at
    }

    /// Copies the next `n` bytes to user space. They stay unread.
    fn copy(&self, n: usize, out: &mut UserWriter) -> Result {
        match &self.source {
            Source::Bytes(bytes) => out.write(&bytes[self.at..self.at + n]),
            Source::Image { pages, .. } => pages.read(self.at, n, out),
        }
    }
}

impl Room for Arc<DmaBuffer> {
    fn room(&self) -> usize {
        self.pages().len()
    }
}

/// A SAVE that is under way, or whose end was not taken in.
#[derive(Clone, Copy)]
struct InFlight {
    buffer: Index,
    kind: Kind,
}

/// The unread stream, and whether a reader copies from it.
struct Outgoing {
    phase: Phase,
    /// Firmware can save no changes for now: the initiator is suspended.
    suspended: bool,
    /// Unread parts. The next one is the last of the vector, so new parts are
    /// inserted at the front.
    parts: KVec<Part>,
    /// A reader is copying from the next part, which stays where it is. It copies
    /// without the lock: user memory can take arbitrarily long, and closing must not
    /// wait for it.
    reading: bool,
    /// Somebody waits for that reader.
    awaits_reader: bool,
    in_flight: Option<InFlight>,
    /// An arc waits for the SAVE that is under way: no other is to start.
    awaited: bool,
    /// Firmware tracks what changes.
    tracked: bool,
    /// Firmware may still carry out a SAVE that mlx5_core has stopped to wait for.
    unknown: bool,
    buffers: Buffers<Arc<DmaBuffer>>,
    ledger: Ledger,
    chunks: Chunks,
}

/// Proof of the right to send commands for the session.
struct Commands {
    /// `None` once the session has ended.
    device: Option<DeviceRef>,
}

/// A saving session, and its data file.
#[pin_data]
pub(crate) struct SavingSession {
    vf: Arc<Vf>,
    epoch: Epoch,
    /// Notified when anything in `outgoing` changes, and at the end of a SAVE.
    changes: Arc<Changes>,
    command: SaveCommand,
    pd: Pd,
    #[pin]
    commands: Mutex<Commands>,
    #[pin]
    outgoing: Mutex<Outgoing>,
}

/// The right to send commands for a session while no SAVE is under way, and nobody else
/// can start one.
pub(crate) struct Idle<'a> {
    session: &'a SavingSession,
    _commands: Guard<'a, Commands, MutexBackend>,
}

/// A saving session that the VF is in. Dropping it ends the session: nothing is sent
/// any more, the SAVE that firmware is executing is waited for, and memory is freed.
pub(crate) struct Saving(Arc<SavingSession>);

impl core::ops::Deref for Saving {
    type Target = SavingSession;

    fn deref(&self) -> &SavingSession {
        &self.0
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Saving {
    /// Begins to save the device.
    pub(crate) fn new(
        vf: &Arc<Vf>,
        vdev: &VfioDevice<'_>,
        epoch: Epoch,
        begin: Begin,
    ) -> Result<(Self, OpenFile)> {
        let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
        let (command, pd) = {
            let guard = vf.enter(epoch)?;
            let command = SaveCommand::new(&guard, changes.clone())?;
            (command, Pd::new(&guard)?)
        };
        let device = vdev.to_ref();
        let phase = match begin {
            Begin::Stopped => Phase::StopCopy,
            _ => Phase::InitialSave,
        };
        let session = Arc::pin_init(
            pin_init!(SavingSession {
                vf: vf.clone(),
                epoch,
                changes,
                command,
                pd,
                commands <- new_mutex!(
                    Commands { device: Some(device) },
                    "mlx5_vfio_rust_save_commands"
                ),
                outgoing <- new_mutex!(
                    Outgoing {
                        phase,
                        suspended: begin == Begin::RunningP2p,
                        parts: KVec::new(),
                        reading: false,
                        awaits_reader: false,
                        in_flight: None,
                        awaited: false,
                        tracked: false,
                        unknown: false,
                        buffers: Buffers::new(),
                        ledger: Ledger::default(),
                        chunks: Chunks::default(),
                    },
                    "mlx5_vfio_rust_outgoing"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // From here on an error ends the session.
        let saving = Self(session.clone());
        let file = OpenFile::new(session)?;
        saving.begin(begin)?;
        Ok((saving, file))
    }
}

impl SavingSession {
    /// Locks the stream, and takes the end of a SAVE in.
    fn lock(&self) -> Guard<'_, Outgoing, MutexBackend> {
        let mut outgoing = self.outgoing.lock();
        if let Some(in_flight) = outgoing.in_flight {
            if let Some((saved, took)) = self.command.take() {
                outgoing.in_flight = None;
                let bytes = match &saved {
                    Ok(image) => Ok(image.len as u64),
                    Err(_) => Err(EIO),
                };
                self.vf.tracer.save_ends(&bytes, took);
                if outgoing.finish(in_flight, saved).is_err() {
                    outgoing.fail();
                }
                self.changes.notify_all();
            }
        }
        if outgoing.phase != Phase::Failed && !self.vf.device.is_current(self.epoch) {
            // The VF was reset, or the PF is gone: what is unread is void.
            outgoing.fail();
        }
        if self.command.has_ended() {
            outgoing.in_flight = None;
        }
        outgoing
    }

    fn fail(&self) {
        self.outgoing.lock().fail();
        self.changes.notify_all();
    }

    /// Ends the session. See [`Saving`].
    fn end(&self) {
        // Nobody starts a SAVE after this.
        self.commands.lock().device = None;
        self.fail();
        self.command.end();
        let buffers = {
            let mut outgoing = self.outgoing.lock();
            outgoing.in_flight = None;
            core::mem::replace(&mut outgoing.buffers, Buffers::new())
        };
        // Without the lock: firmware commands.
        drop(buffers);
        self.pd.end();
    }

    /// Waits until no SAVE is under way, and lets nobody start one. `ERESTARTSYS` if a
    /// signal comes first.
    ///
    /// Firmware does one thing at a time.
    pub(crate) fn idle(&self) -> Result<Idle<'_>> {
        self.outgoing.lock().awaited = true;
        let idle = self.wait_idle();
        self.outgoing.lock().awaited = false;
        idle
    }

    fn wait_idle(&self) -> Result<Idle<'_>> {
        loop {
            let commands = self.commands.lock();
            if self.lock().in_flight.is_none() {
                return Ok(Idle {
                    session: self,
                    _commands: commands,
                });
            }
            drop(commands);
            self.command.wait()?;
        }
    }

    /// `ENODEV` if the session has failed.
    fn check(&self) -> Result {
        match self.lock().phase {
            Phase::Failed => Err(ENODEV),
            _ => Ok(()),
        }
    }

    /// Waits for the next part, and lets nobody else read it. `None` at the end.
    fn next_part(&self, wait: Wait) -> Result<Option<Part>> {
        loop {
            let seen = self.changes.seen();
            let mut outgoing = self.lock();
            if outgoing.phase == Phase::Failed {
                return Err(ENODEV);
            }
            if !outgoing.reading {
                if let Some(part) = outgoing.take_part() {
                    let due = outgoing.chunks.is_due() && outgoing.in_flight.is_none();
                    drop(outgoing);
                    if due {
                        self.save_next_chunk();
                    }
                    return Ok(Some(part));
                }
                if outgoing.phase == Phase::Complete {
                    return Ok(None);
                }
                if outgoing.is_at_temporary_end() {
                    return Err(errno::enomsg());
                }
                if outgoing.in_flight.is_none() && outgoing.chunks.is_due() {
                    drop(outgoing);
                    self.save_next_chunk();
                    continue;
                }
            }
            outgoing.awaits_reader |= outgoing.reading;
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            let in_flight = outgoing.in_flight.is_some() && !outgoing.reading;
            drop(outgoing);
            if in_flight {
                self.command.wait()?;
            } else {
                self.changes.wait(seen)?;
            }
        }
    }

    /// Takes `n` bytes out of the part that a reader has copied them from. If it has room
    /// for `more`, it gets the next part, if that is there; or else others may read.
    /// `ENODEV` if the session has failed in between.
    fn consume(&self, n: usize, more: bool) -> Result<Option<Part>> {
        let mut outgoing = self.lock();
        outgoing.reading = false;
        if outgoing.phase == Phase::Failed {
            self.changes.notify_all();
            return Err(ENODEV);
        }
        outgoing.consume(n);
        let next = match more {
            true => outgoing.take_part(),
            false => None,
        };
        if !outgoing.reading && core::mem::take(&mut outgoing.awaits_reader) {
            self.changes.notify_all();
        }
        let due = outgoing.chunks.is_due() && outgoing.in_flight.is_none();
        drop(outgoing);
        if due {
            self.save_next_chunk();
        }
        Ok(next)
    }

    fn begin(&self, begin: Begin) -> Result {
        let running = match begin {
            Begin::Stopped => Device::Stopped,
            _ => Device::Running,
        };
        let in_chunks = self.vf.device.in_chunks();
        let info = self.vf.enter(self.epoch)?.query_state(Extent::Whole)?;
        let room = stopped_room(info.required, info.total, in_chunks, running)?;
        let kept = if in_chunks { chunks::BUFFERS } else { 1 };
        for _ in 0..kept {
            self.add(self.buffer(room)?, Device::Stopped)?;
        }
        let kind = match running {
            Device::Running => {
                self.add(self.buffer(room)?, Device::Running)?;
                Kind::Initial
            }
            Device::Stopped => Kind::Dirty,
        };
        {
            let mut outgoing = self.outgoing.lock();
            // As with the C driver, whose buffer has as many pages.
            let record = stream::size_record(room.next_multiple_of(PAGE_SIZE) as u64);
            outgoing.reserve(1)?;
            outgoing.push(Part::bytes(record))?;
            outgoing.ledger.append(kind, record.len() as u64);
        }
        let request = Request {
            extent: Extent::Whole,
            track: running == Device::Running,
        };
        self.start(info.required, running, request, kind)
    }

    fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        if len > MAX_SAVE {
            return Err(EOVERFLOW);
        }
        // Without a guard, for which a reset waits: gigabytes take a while.
        let pages = Arc::new(Pages::with_len(len, Fill::Zero)?, GFP_KERNEL_ACCOUNT)?;
        let len = pages.len();
        let guard = self.vf.enter(self.epoch)?;
        let buffer = DmaBuffer::new(&guard, &self.pd, pages, len, Direction::FromDevice)?;
        Ok(Arc::new(buffer, GFP_KERNEL_ACCOUNT)?)
    }

    fn add(&self, buffer: Arc<DmaBuffer>, device: Device) -> Result {
        let added = self.outgoing.lock().buffers.add(buffer, device);
        // A buffer that there is no room for is dropped without the lock.
        added.map_err(|_| EBUSY)
    }

    /// Makes a buffer of at least `need` bytes available. Called with `commands`
    /// held, or by the arc that begins the session: nobody else adds or takes any.
    fn provide(&self, need: usize, device: Device) -> Result<Index> {
        if let Some(index) = self.outgoing.lock().buffers.take(need, device) {
            return Ok(index);
        }
        // Firmware commands, and memory, without the lock of the stream.
        let small = || self.outgoing.lock().buffers.remove_small(need, device);
        while let Some(buffer) = small() {
            drop(buffer);
        }
        self.add(self.buffer(need)?, device)?;
        let index = self.outgoing.lock().buffers.take(need, device);
        index.ok_or(ENOMEM)
    }

    /// Starts a SAVE. None may be under way. Called as [`provide`](Self::provide).
    fn start(&self, need: usize, device: Device, request: Request, kind: Kind) -> Result {
        let buffer = self.provide(need, device)?;
        let started = self.send(need, request, InFlight { buffer, kind });
        started.inspect_err(|_| self.outgoing.lock().buffers.release(buffer))
    }

    /// Sends a SAVE into a buffer that was taken. Called as [`provide`](Self::provide).
    fn send(&self, need: usize, request: Request, in_flight: InFlight) -> Result {
        let buffer = {
            let mut outgoing = self.outgoing.lock();
            outgoing.reserve(RECORD_PARTS)?;
            let buffer = outgoing.buffers.get(in_flight.buffer);
            buffer.cloned().ok_or(ENODEV)?
        };
        let guard = self.vf.enter(self.epoch)?;
        self.vf.tracer.save_begins(need as u64);
        // Without the lock: this waits if it has to be sent as a synchronous command.
        self.command.start(&guard, &buffer, request)?;
        self.outgoing.lock().in_flight = Some(in_flight);
        // A reader may wait for it to begin, or even to end.
        self.changes.notify_all();
        Ok(())
    }

    /// Saves the next chunk of the stopped device, if that is due.
    fn save_next_chunk(&self) {
        let commands = self.commands.lock();
        if commands.device.is_none() {
            return;
        }
        let need = {
            let mut outgoing = self.lock();
            if outgoing.phase != Phase::StopCopy || outgoing.in_flight.is_some() {
                return;
            }
            outgoing.chunks.take_due()
        };
        let Some(need) = need else { return };
        let request = Request {
            extent: Extent::Changes,
            track: false,
        };
        let started = self.start(need, Device::Stopped, request, Kind::Dirty);
        if started.is_err() {
            self.fail();
        }
    }

    /// The errno of VFIO_MIG_GET_PRECOPY_INFO for a session that has ended.
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

    /// Answers VFIO_MIG_GET_PRECOPY_INFO. Starts to save what has changed, once all
    /// before it was read.
    fn report(&self) -> Result<PrecopyInfo> {
        let (commands, suspended) = loop {
            let commands = self.commands.lock();
            let outgoing = self.lock();
            if outgoing.in_flight.is_some() {
                drop(outgoing);
                drop(commands);
                self.command.wait()?;
                continue;
            }
            match outgoing.phase {
                Phase::Failed => return Err(self.gone()),
                Phase::StopCopy | Phase::Complete => return Err(EINVAL),
                // Firmware is only asked while it can tell what has changed.
                phase => break (commands, outgoing.suspended || phase != Phase::PreCopy),
            }
        };
        let device = commands.device.as_ref().ok_or_else(|| self.gone())?;
        let v2 = device.precopy_info_v2();
        let guard = self.vf.enter(self.epoch).map_err(|_| ENODEV)?;
        let pending = if suspended {
            Pending::default()
        } else {
            let info = guard.query_state(Extent::Changes)?;
            Pending {
                bytes: info.required as u64,
                // "VFIO_PRECOPY_INFO_REINIT can be reported only after userspace
                // opts in": it would not be understood.
                new_initial: v2 && info.new_initial,
            }
        };
        drop(guard);
        let (info, save) = {
            let mut outgoing = self.lock();
            let (info, save) = outgoing.ledger.report(pending, HEADER_LEN as u64);
            // A reader that leaves one image after the other unread gets the next
            // one when there is room again: firmware still has it.
            let possible = !outgoing.awaited && outgoing.buffers.can_grow(Device::Running);
            let save = save.filter(|_| possible);
            (info, save)
        };
        if let Some(kind) = save {
            let request = Request {
                extent: Extent::Changes,
                track: true,
            };
            let need = pending.bytes as usize;
            self.start(need, Device::Running, request, kind)
                .map_err(|err| {
                    self.fail();
                    match self.vf.device.is_current(self.epoch) {
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
            v2,
            initial_bytes,
            dirty_bytes,
            reinit,
        })
    }
}

impl Idle<'_> {
    /// `ENODEV` if the session has failed.
    pub(crate) fn check(&self) -> Result {
        self.session.check()
    }

    /// The initiator was suspended, or resumed.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.session.outgoing.lock().suspended = suspended;
    }

    /// The device was stopped: saves the rest of its state.
    pub(crate) fn save_stopped(&self) -> Result {
        let session = self.session;
        let extent = match session.lock().phase {
            Phase::PreCopyFailed => Extent::Whole,
            _ => Extent::Changes,
        };
        let guard = session.vf.enter(session.epoch);
        let info = guard.and_then(|guard| guard.query_state(extent));
        let saved = info.and_then(|info| {
            session.outgoing.lock().phase = Phase::StopCopy;
            let request = Request {
                extent,
                track: false,
            };
            session.start(info.required, Device::Stopped, request, Kind::Dirty)
        });
        saved.inspect_err(|_| session.fail())
    }

    /// Has firmware stop to track the running device, which is the end of the session.
    /// The device is lost, with `ETIMEDOUT`, if firmware may begin to track it yet.
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
        let index = session.provide(need, Device::Stopped)?;
        let buffer = session.outgoing.lock().buffers.remove(index);
        enter()?
            .end_tracking(&*buffer.ok_or(ENODEV)?)
            .map_err(unknown_is_lost)?;
        session.outgoing.lock().tracked = false;
        // Before another thread may send commands: firmware cannot tell any more what
        // has changed.
        session.fail();
        Ok(())
    }
}

impl DataFile for SavingSession {
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Saving;

    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        if out.left() == 0 {
            this.check()?;
            return Ok(0);
        }
        let mut done = 0;
        // Only the first part is waited for.
        let mut next = this.next_part(wait)?;
        while let Some(part) = next {
            let n = part.left().min(out.left());
            let copied = part.copy(n, out);
            // What could not be copied is still there to be read.
            let taken = if copied.is_ok() { n } else { 0 };
            next = this.consume(taken, copied.is_ok() && out.left() > 0)?;
            done += taken;
            if done == 0 {
                copied?;
            }
        }
        Ok(done)
    }

    fn precopy_info(&self) -> Result<PrecopyInfo> {
        self.report()
            .inspect(|info| self.vf.tracer.precopy_info(info))
    }

    fn poll(&self) -> Option<(&Changes, Readiness)> {
        let mut outgoing = self.lock();
        outgoing.awaits_reader |= outgoing.reading;
        let ready = match outgoing.phase {
            Phase::Failed => Readiness::Failed,
            // Another reader has the part, and may leave some of it.
            _ if outgoing.reading => Readiness::Pending,
            Phase::Complete => Readiness::Ready,
            // At the temporary end there is nothing but ENOMSG to be read:
            // "Userspace can wait for more data [...] by using poll".
            _ if !outgoing.parts.is_empty() => Readiness::Ready,
            _ => Readiness::Pending,
        };
        let due = outgoing.chunks.is_due() && outgoing.in_flight.is_none();
        drop(outgoing);
        if due {
            self.save_next_chunk();
        }
        Some((&self.changes, ready))
    }
}

impl Outgoing {
    /// Ends the stream early.
    fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.parts = KVec::new();
    }

    /// Has a reader read the next part, and nobody else.
    fn take_part(&mut self) -> Option<Part> {
        let part = self.parts.last().cloned()?;
        self.reading = true;
        Some(part)
    }

    /// Takes `n` bytes out of the next part.
    fn consume(&mut self, n: usize) {
        self.ledger.consume(n as u64);
        let Some(part) = self.parts.last_mut() else {
            return;
        };
        part.at += n;
        if part.left() > 0 {
            return;
        }
        if let Some(Part {
            source: Source::Image { buffer, chunk, .. },
            ..
        }) = self.parts.pop()
        {
            self.buffers.release(buffer);
            if chunk {
                self.chunks.consumed();
            }
        }
    }

    /// Returns whether all that was saved of the running device was read: there will
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
            Err(err) => {
                self.unknown |= err == SaveError::Unknown;
                return Err(EIO);
            }
        };
        // Whatever becomes of the image.
        self.tracked |= self.phase == Phase::InitialSave;
        self.append(save, image)?;
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
        let part = Part {
            source: Source::Image {
                pages,
                buffer: save.buffer,
                chunk: self.phase == Phase::StopCopy,
            },
            at: 0,
            end: image.len,
        };
        self.buffers.saved(save.buffer);
        self.push(Part::bytes(header))?;
        self.push(part)?;
        self.ledger
            .append(save.kind, (HEADER_LEN + image.len) as u64);
        Ok(())
    }

    /// Makes room for more parts, so that there is no error when they come.
    fn reserve(&mut self, parts: usize) -> Result {
        Ok(self.parts.reserve(parts, GFP_KERNEL_ACCOUNT)?)
    }

    /// Appends a part, at the front of the vector. There must be room for it.
    fn push(&mut self, part: Part) -> Result {
        self.parts
            .insert_within_capacity(0, part)
            .map_err(|_| ENOMEM)
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

// SPDX-License-Identifier: GPL-2.0

//! Saving: a session and the file that its state is read from.
//!
//! A session belongs to the VF's state, and to the file; the VF's state ends it.
//! Locks nest in this order: `commands`, then `outgoing`. Neither is held over an
//! access to user memory. Readers take turns: whoever has the turn has the next part of
//! the stream, and reads on in it without a lock until it ends.
//!
//! The end of a SAVE is taken in by whoever takes `outgoing` next, and wants
//! something of it: a reader, poll(), VFIO_MIG_GET_PRECOPY_INFO, an arc.

use super::{
    buffers::{
        Buffers,
        Index,
        Urgency, //
    },
    chunks::{
        self,
        Chunks, //
    },
    outgoing::{
        InFlight,
        Outgoing,
        Phase, //
    },
    part::Part,
    precopy::{
        Info,
        Kind,
        Ledger,
        Pending, //
    },
};
use crate::{
    fw::{
        device::VfGuard,
        gate::Epoch,
        mkey::DmaBuffer,
        pd::Pd,
        save::{
            Request,
            SaveCommand, //
        },
        vhca::Extent, //
    },
    stream::{
        self,
        HEADER_LEN, //
    },
    vf::{
        unknown_is_lost,
        Vf, //
    },
};
use kernel::{
    dma::DataDirection,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_8M,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        ArcBorrow,
        Mutex, //
    },
    ThisModule, //
};
use vfio_rust::{
    file::{
        self,
        DataFile,
        PrecopyInfo,
        Reinit, //
    },
    kernel::{
        error,
        fs::anon_inode::{
            Access,
            OpenFile,
            Readiness,
            Wait, //
        },
        page::{
            Fill,
            Pages, //
        },
        sync::{
            poll::Changes,
            turns::{
                GivenBack,
                Turn,
                Turns, //
            },
        },
        uaccess::UserWriter, //
    },
    migration::{
        StepError,
        VfioDevice, //
    },
    this_module, //
};

/// Longest SAVE: its `size` field has 32 bits, and buffers are whole pages.
const MAX_SAVE: usize = u32::MAX as usize + 1 - PAGE_SIZE;

/// Piece that a stopped device is saved in, where firmware leaves the choice.
const CHUNK: usize = SZ_8M;

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

/// A saving session, and its data file.
#[pin_data]
pub(crate) struct SavingSession {
    vf: Arc<Vf>,
    epoch: Epoch,
    /// Notified when anything in `outgoing` changes, and at the end of a SAVE.
    changes: Arc<Changes>,
    command: SaveCommand,
    pd: Pd,
    /// The right to send commands for the session: false once it has ended.
    #[pin]
    commands: Mutex<bool>,
    #[pin]
    outgoing: Mutex<Outgoing>,
    /// The next part of the stream, for readers in turns. A reader copies without a lock:
    /// user memory can take arbitrarily long, and closing must not wait for it.
    reader: Turns<Option<Part>>,
    /// Bytes of the stream that were read. Only written by whoever has `reader`.
    read: Atomic<u64>,
}

/// The right to send commands for a session while no SAVE is under way, and nobody else
/// can start one.
pub(crate) struct Idle<'a> {
    session: &'a SavingSession,
    _commands: Guard<'a, bool, MutexBackend>,
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
        let phase = match begin {
            Begin::Stopped => Phase::StopCopy,
            _ => Phase::InitialSave,
        };
        let session = Arc::pin_init(
            pin_init!(SavingSession {
                vf: vf.clone(),
                epoch,
                reader: Turns::new(None, changes.clone()),
                read: Atomic::new(0),
                changes,
                command,
                pd,
                commands <- new_mutex!(true, "mlx5_vfio_rust_save_commands"),
                outgoing <- new_mutex!(
                    Outgoing {
                        phase,
                        suspended: begin == Begin::RunningP2p,
                        parts: KVec::new(),
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
        let file = file::open(vdev, session)?;
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
                    self.fail_locked(&mut outgoing);
                }
                self.changes.notify_all();
            }
        }
        if outgoing.phase != Phase::Failed && !self.is_current() {
            // The VF was reset, or the PF is gone: what is unread is void.
            self.fail_locked(&mut outgoing);
        }
        if self.command.has_ended() {
            outgoing.in_flight = None;
        }
        outgoing
    }

    /// Returns whether the VF was not reset, and its PF not away, since the session began.
    fn is_current(&self) -> bool {
        self.vf.device.is_current(self.epoch)
    }

    /// Ends the stream early.
    fn fail(&self) {
        self.fail_locked(&mut self.outgoing.lock());
        self.changes.notify_all();
    }

    /// As [`Self::fail`], for whoever has locked the stream.
    fn fail_locked(&self, outgoing: &mut Outgoing) {
        outgoing.fail();
        self.reader.clear();
    }

    /// Ends the session. See [`Saving`].
    fn end(&self) {
        {
            // Nobody starts a SAVE after this. At once, or a reader would be told that the
            // next chunk is due, and would ask for it in vain until the session has failed.
            let mut commands = self.commands.lock();
            *commands = false;
            self.fail();
        }
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

    /// Waits until no other reader has the next part, and takes it.
    #[inline(never)]
    fn take_turn(&self, wait: Wait) -> Result<Turn<'_, Option<Part>>> {
        loop {
            let seen = self.changes.seen();
            if let Some(part) = self.reader.take() {
                return Ok(part);
            }
            self.check()?;
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            self.changes.wait(seen)?;
        }
    }

    /// Reads from the middle of an image, without a lock. `None` if that is not possible,
    /// or would come to the end of the image.
    #[inline]
    fn read_on(&self, part: &mut Option<Part>, out: &mut UserWriter) -> Option<Result<usize>> {
        let part = part.as_mut()?;
        let offset = part.at.checked_sub(part.head_len)?;
        let n = out.left();
        if n == 0 || n >= part.left || !self.is_current() {
            return None;
        }
        // What could not be copied is still there to be read.
        if let Err(err) = part.image.as_ref()?.pages.read(offset, n, out) {
            return Some(Err(err));
        }
        self.read.store(part.consume(n), Relaxed);
        Some(Ok(n))
    }

    /// Reads whatever is there. Waits for the first byte.
    #[inline(never)]
    fn read_parts(
        &self,
        part: &mut Option<Part>,
        wait: Wait,
        out: &mut UserWriter,
    ) -> Result<usize> {
        if out.left() == 0 {
            return self.check().map(|()| 0);
        }
        if !self.next_part(part, wait)? {
            return Ok(0);
        }
        let mut done = 0;
        let mut copied = Ok(());
        while let (Some(next), Ok(())) = (&*part, copied) {
            let n = next.piece().min(out.left());
            if n == 0 {
                break;
            }
            copied = next.copy(n, out);
            // What could not be copied is still there to be read.
            if copied.is_ok() {
                self.consume(part, n)?;
                done += n;
            }
        }
        if done == 0 {
            copied?;
        }
        Ok(done)
    }

    /// Waits for the next part, if a reader has none. Returns false at the end.
    fn next_part(&self, part: &mut Option<Part>, wait: Wait) -> Result<bool> {
        loop {
            let seen = self.changes.seen();
            let mut outgoing = self.lock();
            if outgoing.phase == Phase::Failed {
                return Err(ENODEV);
            }
            if part.is_none() {
                *part = outgoing.parts.pop();
            }
            let due = outgoing.chunk_is_due();
            let in_flight = outgoing.in_flight.is_some();
            if part.is_none() {
                if outgoing.phase == Phase::Complete {
                    return Ok(false);
                }
                if outgoing.is_at_temporary_end() {
                    return Err(error::enomsg());
                }
            }
            drop(outgoing);
            if due {
                self.save_next_chunk();
            }
            if part.is_some() {
                return Ok(true);
            }
            if due {
                continue;
            }
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            if in_flight {
                self.command.wait()?;
            } else {
                self.changes.wait(seen)?;
            }
        }
    }

    /// Takes `n` bytes out of the part that a reader has copied them from. If those were
    /// the last, the reader gets the next part, if that is there.
    fn consume(&self, part: &mut Option<Part>, n: usize) -> Result {
        let Some(next) = part else {
            return Ok(());
        };
        let read = next.consume(n);
        if next.left > 0 {
            self.read.store(read, Relaxed);
            return Ok(());
        }
        let mut outgoing = self.lock();
        if outgoing.phase == Phase::Failed {
            return Err(ENODEV);
        }
        self.read.store(read, Relaxed);
        outgoing.release(next);
        let end = core::mem::replace(part, outgoing.parts.pop());
        let due = outgoing.chunk_is_due();
        drop(outgoing);
        // Without the lock: it may be the last user of its pages.
        drop(end);
        if due {
            self.save_next_chunk();
        }
        Ok(())
    }

    fn begin(&self, begin: Begin) -> Result {
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
            // As with the C driver, whose buffer has as many pages.
            let record = stream::size_record(whole.next_multiple_of(PAGE_SIZE) as u64);
            outgoing.reserve(1)?;
            let end = outgoing.ledger.append(kind, record.len() as u64);
            outgoing.push(Part::new(record, end))?;
        }
        let request = Request {
            extent: Extent::Whole,
            track: running,
        };
        // The first image is for the larger buffer. Firmware may fill it, even if it needs
        // less.
        let need = if running { whole } else { info.required };
        self.start(need, Urgency::Urgent, request, kind)
    }

    fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        if len > MAX_SAVE {
            return Err(EOVERFLOW);
        }
        // Without a guard, for which a reset waits: gigabytes take a while.
        // No memory cannot be mapped, even if firmware needs none.
        let pages = Arc::new(Pages::with_len(len.max(1), Fill::Zero)?, GFP_KERNEL_ACCOUNT)?;
        let len = pages.len();
        let guard = self.vf.enter(self.epoch)?;
        let buffer = DmaBuffer::new(&guard, &self.pd, pages, len, DataDirection::FromDevice)?;
        Ok(Arc::new(buffer, GFP_KERNEL_ACCOUNT)?)
    }

    fn add(&self, buffer: Arc<DmaBuffer>, urgency: Urgency) -> Result {
        let added = self.outgoing.lock().buffers.add(buffer, urgency);
        // A buffer that there is no room for is dropped without the lock.
        added.map_err(|_| EBUSY)
    }

    /// Takes a buffer of at least `need` bytes, for an image for whose record there is
    /// room then. Called with `commands` held, or by the arc that begins the session:
    /// nobody else adds or takes any.
    fn buffer_for(&self, need: usize, urgency: Urgency) -> Result<(Index, Arc<DmaBuffer>)> {
        if let Some(taken) = self.outgoing.lock().take_buffer(need, urgency)? {
            return Ok(taken);
        }
        // Firmware commands, and memory, without the lock of the stream.
        let small = || self.outgoing.lock().buffers.remove_small(need, urgency);
        while let Some(buffer) = small() {
            drop(buffer);
        }
        self.add(self.buffer(need)?, urgency)?;
        let taken = self.outgoing.lock().take_buffer(need, urgency)?;
        taken.ok_or(ENOMEM)
    }

    /// Starts a SAVE. None may be under way. Called as [`buffer_for`](Self::buffer_for).
    fn start(&self, need: usize, urgency: Urgency, request: Request, kind: Kind) -> Result {
        let taken = self.buffer_for(need, urgency)?;
        match self.vf.enter(self.epoch) {
            Ok(guard) => self.send(&guard, need, taken, request, kind),
            Err(err) => {
                self.outgoing.lock().buffers.release(taken.0);
                Err(err)
            }
        }
    }

    /// Sends a SAVE into a buffer that was taken. Called as [`buffer_for`](Self::buffer_for).
    fn send(
        &self,
        guard: &VfGuard<'_>,
        need: usize,
        (index, buffer): (Index, Arc<DmaBuffer>),
        request: Request,
        kind: Kind,
    ) -> Result {
        self.vf.tracer.save_begins(need as u64);
        // Without the lock: this waits if it has to be sent as a synchronous command.
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
        // A reader may wait for it to begin, or even to end.
        self.changes.notify_all();
        Ok(())
    }

    /// Saves the next chunk of the stopped device, if that is due.
    fn save_next_chunk(&self) {
        let commands = self.commands.lock();
        if !*commands {
            return;
        }
        let need = {
            let mut outgoing = self.lock();
            if outgoing.phase != Phase::StopCopy || !outgoing.chunk_is_due() {
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
    fn report(&self, reinit: Reinit) -> Result<PrecopyInfo> {
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
        if !*commands {
            return Err(self.gone());
        }
        let guard = self.vf.enter(self.epoch).map_err(|_| ENODEV)?;
        let (pending, need) = if suspended {
            (Pending::default(), 0)
        } else {
            let info = guard.query_state(Extent::Changes)?;
            let pending = Pending {
                bytes: info.required as u64,
                new_initial: reinit == Reinit::Allowed && info.new_initial,
            };
            // As with the first image, firmware gets more than it needs if it saves in
            // chunks.
            let total = usize::try_from(info.total).unwrap_or(CHUNK);
            (pending, info.required.max(total.min(CHUNK)))
        };
        let (info, save, taken) = {
            let mut outgoing = self.lock();
            let read = self.read.load(Relaxed);
            let (info, save) = outgoing.ledger.report(read, pending, HEADER_LEN as u64);
            // A reader that leaves one image after the other unread gets the next
            // one when there is room again: firmware still has it.
            let possible =
                |_: &_| !outgoing.awaited && outgoing.buffers.can_grow(Urgency::Deferrable);
            let save = save.filter(possible);
            let taken = match save {
                Some(_) => outgoing.take_buffer(need, Urgency::Deferrable),
                None => Ok(None),
            };
            (info, save, taken)
        };
        if let Some(kind) = save {
            let request = Request {
                extent: Extent::Changes,
                track: true,
            };
            let started = match taken {
                Ok(Some(taken)) => self.send(&guard, need, taken, request, kind),
                Ok(None) => {
                    // A reset waits for it, and memory takes a while.
                    drop(guard);
                    self.start(need, Urgency::Deferrable, request, kind)
                }
                Err(err) => Err(err),
            };
            started.map_err(|err| {
                self.fail();
                match self.is_current() {
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
            session.start(info.required, Urgency::Urgent, request, Kind::Dirty)
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
        let (index, buffer) = session.buffer_for(need, Urgency::Urgent).or_else(|_| {
            // Nobody wants the images of a device that is not to be moved: their memory will
            // do.
            session.fail();
            session.buffer_for(need, Urgency::Urgent)
        })?;
        let ended = enter().map_err(StepError::Unchanged).and_then(|guard| {
            let ended = guard.end_tracking(&buffer);
            ended.map_err(unknown_is_lost)
        });
        // Else firmware may write to it yet.
        if !matches!(ended, Err(StepError::Lost(_))) {
            session.outgoing.lock().buffers.release(index);
        }
        ended?;
        session.outgoing.lock().tracked = false;
        // Before another thread may send commands: firmware cannot tell any more what
        // has changed.
        session.fail();
        Ok(())
    }
}

impl DataFile for SavingSession {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Read;

    // Only called by the operation of the file.
    #[inline]
    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        let mut part = match this.reader.take() {
            Some(part) => part,
            None => this.take_turn(wait)?,
        };
        let read = match this.read_on(&mut part, out) {
            Some(read) => read,
            None => this.read_parts(&mut part, wait, out),
        };
        // The session may have failed in between.
        match part.give_back() {
            GivenBack::Kept => read,
            GivenBack::Cleared => Err(ENODEV),
        }
    }

    fn precopy_info(&self, reinit: Reinit) -> Result<PrecopyInfo> {
        self.report(reinit)
            .inspect(|info| self.vf.tracer.precopy_info(info))
    }

    fn poll(&self) -> Option<(&Changes, Readiness)> {
        let taken = self.reader.is_taken();
        let outgoing = self.lock();
        let ready = match outgoing.phase {
            Phase::Failed => Readiness::Failed,
            // Another reader has the part, and may leave some of it.
            _ if taken => Readiness::Pending,
            Phase::Complete => Readiness::Ready,
            // At the temporary end there is nothing but ENOMSG to be read:
            // "Userspace can wait for more data [...] by using poll".
            _ if outgoing.ledger.unread(self.read.load(Relaxed)) > 0 => Readiness::Ready,
            _ => Readiness::Pending,
        };
        let due = outgoing.chunk_is_due();
        drop(outgoing);
        if due {
            self.save_next_chunk();
        }
        Some((&self.changes, ready))
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
        // It may grow until it is stopped, by a tenth, say.
        required.saturating_add(required / 10)
    } else {
        required
    };
    Ok(len.min(MAX_SAVE))
}

/// Returns the length of the first buffer for what changes in a state that a buffer of
/// `whole` bytes is for. Once the device is stopped, it is for every other chunk.
fn changes_len(whole: usize, in_chunks: bool) -> usize {
    let chunk = match in_chunks {
        true => CHUNK.min(whole / 2),
        false => 0,
    };
    chunk.max(whole / 16).max(PAGE_SIZE)
}

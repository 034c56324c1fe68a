// SPDX-License-Identifier: GPL-2.0

//! Resuming: a session and the file that a state is written to.
//!
//! A valid stream ends at a record boundary, and clients take "write() returned" for
//! "loaded". So a write that ends at a record boundary returns when every LOAD has
//! ended, with its result. One that ends inside a record may return while the record
//! before it is being loaded.
//!
//! If that wait is broken off (a signal, the freezer), or not allowed (`O_NONBLOCK`),
//! the last byte of the record is not counted: it is *owed*. The next write begins
//! with it, and waits again.
//!
//! Locks nest in this order: `commands`, then `incoming`. Neither is held over an
//! access to user memory, nor is `incoming` over a command.

use crate::{
    fw::{
        gate::Epoch,
        image::ImageBuffer,
        load::LoadCommand,
        pd::Pd, //
    },
    stream::{
        Malformed,
        Parser,
        Step,
        HEADER_LEN, //
    },
    vf::Vf, //
};
use core::mem;
use kernel::{
    new_mutex,
    prelude::*,
    sizes::SZ_4M,
    sync::{
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
        DataFile, //
    },
    kernel::{
        device::DeviceExt,
        error,
        fs::anon_inode::{
            Access,
            OpenFile,
            Readiness,
            Wait, //
        },
        sync::poll::Changes,
        task,
        uaccess::UserReader, //
    },
    migration::VfioDevice,
    this_module, //
};

impl From<Malformed> for Error {
    /// Returns the error of the C driver, if it has one.
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooLarge => ENOMEM,
            Malformed::UnknownTag => error::eopnotsupp(),
            Malformed::TooSmall => EINVAL,
        }
    }
}

/// Describes what is wrong, for the kernel log.
fn complaint(malformed: Malformed) -> &'static CStr {
    match malformed {
        Malformed::TooLarge => c"migration stream: a record of 4 GiB or more",
        Malformed::UnknownTag => c"migration stream: an unknown record that must not be skipped",
        Malformed::TooSmall => c"migration stream: a record too small for what is in it",
    }
}

/// Bytes that memory is had for before they are taken in.
const AT_ONCE: usize = SZ_4M;

/// A stream that is being taken in.
///
/// There are two buffers: one is filled while firmware loads from the other. What firmware
/// can reach stays so for the next image that has room there.
struct Intake {
    parser: Parser,
    /// The image of the record at hand.
    image: ImageBuffer,
    /// The other buffer, unless it is in [`LoadCommand`] or [`Incoming::loaded`].
    spare: Option<ImageBuffer>,
    /// One that is too small for the image at hand. It goes when that is complete: the
    /// first byte of an image must not wait for firmware.
    outgrown: Option<ImageBuffer>,
    /// The last byte of a record that was taken in but not counted.
    owed: Option<u8>,
}

/// Who has the [`Intake`].
enum Writer {
    /// Nobody.
    Idle(Intake),
    /// A writer. It copies without the lock: user memory can take arbitrarily
    /// long, and closing must not wait for it.
    Busy,
    /// The session has ended.
    Gone,
}

/// Why nothing is taken in any more.
#[derive(Clone, Copy)]
enum Stopped {
    /// Something was wrong with the stream, or firmware did not load it; and
    /// whether a writer was told.
    Failed { err: Error, told: bool },
    /// The session has ended, or the PF is gone.
    Closed,
}

struct Incoming {
    writer: Writer,
    /// Firmware is loading an image, or nobody has taken the result.
    loading: bool,
    /// What the last image was loaded from.
    loaded: Option<ImageBuffer>,
    stopped: Option<Stopped>,
}

impl Incoming {
    /// Fails if nothing is taken in any more. The first writer to hear of an error
    /// gets that error.
    fn check(&mut self) -> Result {
        match &mut self.stopped {
            None => Ok(()),
            Some(Stopped::Failed {
                err,
                told: told @ false,
            }) => {
                *told = true;
                Err(*err)
            }
            Some(_) => Err(ENODEV),
        }
    }

    fn fail(&mut self, err: Error, told: bool) {
        if self.stopped.is_none() {
            self.stopped = Some(Stopped::Failed { err, told });
        }
    }
}

/// Why a turn ended.
enum Interrupted {
    /// The wait for a LOAD was broken off, or not allowed.
    Wait(Error),
    /// The first byte is not the one that is owed.
    WrongByte,
    /// The stream is of no more use.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

/// A resuming session, and its data file.
#[pin_data]
pub(crate) struct ResumingSession {
    vf: Arc<Vf>,
    epoch: Epoch,
    /// Notified when anything in `incoming` changes, and at the end of a LOAD.
    changes: Arc<Changes>,
    #[pin]
    command: LoadCommand,
    pd: Pd,
    /// The right to send commands for the session: false once it has ended.
    #[pin]
    commands: Mutex<bool>,
    #[pin]
    incoming: Mutex<Incoming>,
}

/// Why a session is not at its end.
pub(crate) enum NotFinished {
    /// Nothing is lost: the writer can finish, or the caller try again.
    GoesOn(Error),
    /// The state is incomplete, or was not loaded.
    Failed(Error),
}

/// A resuming session that the VF is in. Dropping it ends the session: nothing is
/// sent any more, the LOAD that firmware is executing is waited for, and memory is
/// freed.
pub(crate) struct Resuming(Arc<ResumingSession>);

impl Drop for Resuming {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Resuming {
    /// Begins to load a state into the stopped device.
    pub(crate) fn new(
        vf: &Arc<Vf>,
        vdev: &VfioDevice<'_>,
        epoch: Epoch,
    ) -> Result<(Self, OpenFile)> {
        let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
        let (command, pd) = {
            let guard = vf.enter(epoch)?;
            let command = LoadCommand::new(&guard, changes.clone())?;
            (command, Pd::new(&guard)?)
        };
        let intake = Intake {
            parser: Parser::new(),
            image: ImageBuffer::new(),
            spare: Some(ImageBuffer::new()),
            outgrown: None,
            owed: None,
        };
        let session = Arc::pin_init(
            pin_init!(ResumingSession {
                vf: vf.clone(),
                epoch,
                changes,
                command <- command,
                pd,
                commands <- new_mutex!(true, "mlx5_vfio_rust_load_commands"),
                incoming <- new_mutex!(
                    Incoming {
                        writer: Writer::Idle(intake),
                        loading: false,
                        loaded: None,
                        stopped: None,
                    },
                    "mlx5_vfio_rust_incoming"
                ),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // From here on an error ends the session.
        let resuming = Self(session.clone());
        let file = file::open(vdev, session)?;
        Ok((resuming, file))
    }

    /// Waits until firmware has loaded everything, and returns whether the stream may
    /// end here. Nothing is taken in after that.
    ///
    /// `EBUSY` while a writer is at it, `ERESTARTSYS` if a signal comes first: the
    /// session goes on. `EINVAL` in the middle of a record, with a byte owed, or
    /// before the first image. After an error it is that error, or `EIO` if a writer
    /// has got it.
    pub(crate) fn finish(&self) -> Result<(), NotFinished> {
        loop {
            let mut incoming = self.0.lock();
            return match (&incoming.stopped, &incoming.writer) {
                (Some(Stopped::Failed { err, told: false }), _) => Err(NotFinished::Failed(*err)),
                (Some(_), _) | (None, Writer::Gone) => Err(NotFinished::Failed(EIO)),
                (None, Writer::Busy) => Err(NotFinished::GoesOn(EBUSY)),
                (None, Writer::Idle(_)) if incoming.loading => {
                    drop(incoming);
                    self.0.command.wait().map_err(NotFinished::GoesOn)?;
                    continue;
                }
                (None, Writer::Idle(intake)) => {
                    if intake.owed.is_none() && intake.parser.is_complete() {
                        // Before the lock goes: a writer would have more loaded, and
                        // nobody would hear of an error.
                        incoming.stopped = Some(Stopped::Closed);
                        Ok(())
                    } else {
                        Err(NotFinished::Failed(EINVAL))
                    }
                }
            };
        }
    }
}

impl ResumingSession {
    /// Locks what was written, and takes the end of a LOAD in.
    fn lock(&self) -> Guard<'_, Incoming, MutexBackend> {
        let mut incoming = self.incoming.lock();
        if incoming.loading {
            if let Some(ended) = self.command.take() {
                let tracer = &self.vf.tracer;
                tracer.load_ends(ended.len as u64, &ended.result, ended.took);
                incoming.loading = false;
                match ended.result {
                    Ok(buffer) => incoming.loaded = Some(buffer),
                    Err(err) => incoming.fail(err, false),
                }
                self.changes.notify_all();
            }
        }
        if incoming.stopped.is_none() && !self.vf.device.is_current(self.epoch) {
            // The VF was reset, or the PF is gone.
            incoming.stopped = Some(Stopped::Closed);
        }
        incoming
    }

    /// Ends the session. See [`Resuming`].
    fn end(&self) {
        // Nobody starts a LOAD after this.
        *self.commands.lock() = false;
        self.incoming.lock().stopped = Some(Stopped::Closed);
        self.changes.notify_all();
        self.command.end();
        let loaded = self.incoming.lock().loaded.take();
        // Without the lock: firmware commands, and freeing memory. Before a writer may end the
        // PD, which its mkey uses.
        drop(loaded);
        let writer = mem::replace(&mut self.incoming.lock().writer, Writer::Gone);
        match writer {
            // It ends the rest: it has the intake, whose mkeys use the PD.
            Writer::Busy => (),
            Writer::Idle(_) | Writer::Gone => {
                drop(writer);
                self.pd.end();
            }
        }
    }

    /// Waits for the intake and takes it out.
    fn take(&self, wait: Wait) -> Result<Intake> {
        loop {
            let seen = self.changes.seen();
            // Anew each time: the PF may have gone.
            let mut incoming = self.lock();
            incoming.check()?;
            match mem::replace(&mut incoming.writer, Writer::Busy) {
                Writer::Idle(intake) => return Ok(intake),
                Writer::Gone => {
                    incoming.writer = Writer::Gone;
                    return Err(ENODEV);
                }
                Writer::Busy if wait == Wait::Never => return Err(EAGAIN),
                Writer::Busy => {
                    drop(incoming);
                    self.changes.wait(seen)?;
                }
            }
        }
    }

    /// Ends a turn that [`Self::take`] began. `ENODEV` if the session has ended in
    /// between.
    fn put_back(&self, intake: Intake, failed: Option<Error>) -> Result {
        let mut incoming = self.lock();
        if let Some(err) = failed {
            incoming.fail(err, true);
        }
        self.changes.notify_all();
        if matches!(incoming.writer, Writer::Gone) {
            drop(incoming);
            // Without the lock: firmware commands, and freeing memory.
            drop(intake);
            self.pd.end();
            return Err(ENODEV);
        }
        incoming.writer = Writer::Idle(intake);
        match incoming.stopped {
            Some(Stopped::Closed) => Err(ENODEV),
            _ => Ok(()),
        }
    }

    /// Waits until no LOAD is under way, and returns the error of the last one.
    fn wait_loaded(&self, wait: Wait) -> Result<(), Interrupted> {
        loop {
            let mut incoming = self.lock();
            incoming.check()?;
            if !incoming.loading {
                return Ok(());
            }
            drop(incoming);
            if wait == Wait::Never {
                return Err(Interrupted::Wait(EAGAIN));
            }
            self.command.wait().map_err(Interrupted::Wait)?;
        }
    }

    /// Has the image loaded that is complete. No LOAD is under way.
    fn load(&self, intake: &mut Intake, len: usize) -> Result {
        let commands = self.commands.lock();
        if !*commands {
            return Err(ENODEV);
        }
        intake.outgrown = None;
        let next = self.spare(intake).take().unwrap_or_else(ImageBuffer::new);
        let buffer = mem::replace(&mut intake.image, next);
        let guard = self.vf.enter(self.epoch).map_err(|_| ENODEV)?;
        let image = buffer.complete(&guard, &self.pd, len, &mut intake.image)?;
        self.vf.tracer.load_begins(len as u64);
        self.command.start(&guard, image)?;
        self.incoming.lock().loading = true;
        intake.parser.loaded();
        Ok(())
    }

    /// Returns the other buffer, if firmware does not load from it.
    fn spare<'a>(&self, intake: &'a mut Intake) -> &'a mut Option<ImageBuffer> {
        if intake.spare.is_none() {
            intake.spare = self.lock().loaded.take();
        }
        &mut intake.spare
    }

    /// An image of `len` bytes begins. It goes to the smaller buffer, unless only the other
    /// one has room.
    fn begin(&self, intake: &mut Intake, len: usize) {
        self.spare(intake);
        if let Some(spare) = &mut intake.spare {
            let image = &mut intake.image;
            if spare.reachable() < image.reachable() {
                mem::swap(spare, image);
            }
            if image.reachable() < len && len <= spare.reachable() {
                mem::swap(spare, image);
            }
        }
        if (1..len).contains(&intake.image.reachable()) {
            let outgrown = mem::replace(&mut intake.image, ImageBuffer::new());
            intake.outgrown = Some(outgrown);
        }
    }

    /// Takes all in that `from` has.
    fn take_in(
        &self,
        intake: &mut Intake,
        wait: Wait,
        from: &mut UserReader,
    ) -> Result<(), Interrupted> {
        if from.left() == 0 {
            return Ok(());
        }
        if let Some(owed) = intake.owed {
            if from.peek_byte()? != owed {
                return Err(Interrupted::WrongByte);
            }
            from.skip(1)?;
            intake.owed = None;
        }
        loop {
            let left = from.left();
            match intake.parser.step() {
                Step::Load { len } => {
                    self.wait_loaded(wait)?;
                    self.load(intake, len)?;
                }
                _ if left == 0 => {
                    if intake.parser.is_at_boundary() {
                        self.wait_loaded(wait)?;
                    }
                    return Ok(());
                }
                Step::Push(want) => {
                    // A write of nothing but headers waits for nothing.
                    task::check_killed()?;
                    let mut bytes = [0; HEADER_LEN];
                    let bytes = &mut bytes[..want.min(left).min(HEADER_LEN)];
                    from.read(bytes)?;
                    intake.parser.push(bytes).map_err(|malformed| {
                        self.vf.dev.warn_ratelimited(complaint(malformed));
                        Error::from(malformed)
                    })?;
                }
                Step::Store { at, len } => {
                    if at == 0 {
                        self.begin(intake, len);
                    }
                    // Memory comes before the data do, which can take arbitrarily long.
                    let n = len.min(left).min(AT_ONCE);
                    intake.image.write(at, n, at + len, from)?;
                    intake.parser.stored(n);
                }
                Step::Skip(len) => {
                    let n = left.min(len.try_into().unwrap_or(usize::MAX));
                    from.skip(n)?;
                    intake.parser.skipped(n as u64);
                }
            }
        }
    }

    /// Takes the last byte back that was taken in: it is owed.
    fn owe(intake: &mut Intake, from: &mut UserReader) -> Result {
        from.rewind(1)?;
        intake.owed = Some(from.peek_byte()?);
        Ok(())
    }
}

impl DataFile for ResumingSession {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Write;

    /// Reports EPOLLOUT only while no LOAD is queued or running, and nobody writes: then
    /// a write does not wait, unless it completes an image.
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        let incoming = self.lock();
        let ready = match (&incoming.stopped, &incoming.writer) {
            (Some(_), _) => Readiness::Failed,
            (None, Writer::Idle(_)) if !incoming.loading => Readiness::Ready,
            _ => Readiness::Pending,
        };
        Some((&self.changes, ready))
    }

    fn write(this: ArcBorrow<'_, Self>, wait: Wait, from: &mut UserReader) -> Result<usize> {
        let mut intake = this.take(wait)?;
        let total = from.left();
        let mut result = this.take_in(&mut intake, wait, from);
        if let Err(Interrupted::Wait(_)) = result {
            if let Err(err) = Self::owe(&mut intake, from) {
                result = Err(Interrupted::Failed(err));
            }
        }
        let taken = total - from.left();
        match result {
            Ok(()) => this.put_back(intake, None)?,
            Err(Interrupted::Wait(err)) => {
                this.put_back(intake, None)?;
                if taken == 0 {
                    return Err(err);
                }
            }
            Err(Interrupted::WrongByte) => {
                this.put_back(intake, None)?;
                return Err(EINVAL);
            }
            Err(Interrupted::Failed(err)) => {
                this.put_back(intake, Some(err))?;
                return Err(err);
            }
        }
        Ok(taken)
    }
}

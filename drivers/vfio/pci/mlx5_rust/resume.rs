// SPDX-License-Identifier: GPL-2.0

//! Resuming: the file that a state is written to, and the session behind it.

use crate::{
    mlx5::{core_dev::CoreDev, dma_buffer::DmaBuffer, pd::Pd},
    stream::{Malformed, Parser, Step, HEADER_LEN},
    vf::VfMigration,
    vfio::{
        dma::Direction,
        errno,
        file::{Access, DataFile, OpenFile, Readiness, UserReader},
        pages::{Fill, Pages},
    },
};
use kernel::{
    impl_has_work, new_mutex, new_poll_condvar, new_work,
    prelude::*,
    sizes::SZ_2M,
    sync::{poll::PollCondVar, Arc, ArcBorrow, Mutex},
    workqueue::{Work, WorkItem},
};

impl From<Malformed> for Error {
    /// The errors of the C driver, where it has one.
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooLarge => ENOMEM,
            Malformed::UnknownTag => errno::eopnotsupp(),
            Malformed::TooSmall => EINVAL,
        }
    }
}

/// What is wrong, for the kernel log.
fn text(malformed: Malformed) -> &'static CStr {
    match malformed {
        Malformed::TooLarge => c"migration stream: a record of more than 4 GiB",
        Malformed::UnknownTag => c"migration stream: an unknown record that must not be skipped",
        Malformed::TooSmall => c"migration stream: a record too small for what is in it",
    }
}

/// A stream that is being taken in.
struct Intake {
    parser: Parser,
    /// The image of the record at hand. Grows as it arrives.
    image: Pages,
}

/// Who has the [`Intake`].
enum Writer {
    /// Nobody.
    Idle(Intake),
    /// A writer. It copies without the lock: user memory can take arbitrarily
    /// long, and closing must not wait for it.
    Busy,
}

/// The image that firmware loads, while the next one is taken in.
enum Loading {
    /// None. The pages are there to be filled.
    Nothing(Pages),
    /// One that waits for its turn.
    Queued { image: Pages, len: usize },
    /// One that firmware is at.
    UnderWay,
}

/// Why nothing is taken in any more.
#[derive(Clone, Copy)]
enum Over {
    /// Something was wrong with the stream, or firmware did not take it; and
    /// whether a writer was told.
    Failed { err: Error, told: bool },
    /// The session has ended.
    Closed,
}

struct Incoming {
    writer: Writer,
    loading: Loading,
    over: Option<Over>,
}

impl Incoming {
    /// Fails where nothing is taken in any more. The first writer to hear of an
    /// error gets that error.
    fn check(&mut self) -> Result {
        match &mut self.over {
            None => Ok(()),
            Some(Over::Failed {
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
        if self.over.is_none() {
            self.over = Some(Over::Failed { err, told });
        }
    }

    /// Whether firmware has something to load, or could have.
    fn is_busy(&self) -> bool {
        self.over.is_none()
            && match (&self.loading, &self.writer) {
                (Loading::Nothing(_), Writer::Idle(intake)) => {
                    matches!(intake.parser.step(), Step::Load { .. })
                }
                (Loading::Nothing(_), Writer::Busy) => false,
                _ => true,
            }
    }
}

/// A resuming data file.
#[pin_data]
pub(crate) struct ResumeFile {
    migration: Arc<VfMigration>,
    #[pin]
    incoming: Mutex<Incoming>,
    /// Notified when anything in `incoming` changes.
    #[pin]
    changed: PollCondVar,
    /// Loads the image that is queued.
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for ResumeFile { self.work }
}

impl WorkItem for ResumeFile {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut incoming = this.incoming.lock();
        match core::mem::replace(&mut incoming.loading, Loading::UnderWay) {
            Loading::Queued { image, len } => {
                drop(incoming);
                let loaded = this.migration.load(&this, &image, len);
                let mut incoming = this.incoming.lock();
                incoming.loading = Loading::Nothing(image);
                if let Err(err) = loaded {
                    incoming.fail(err, false);
                }
                this.changed.notify_all();
            }
            other => incoming.loading = other,
        }
    }
}

impl ResumeFile {
    fn new(migration: Arc<VfMigration>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                migration,
                incoming <- new_mutex!(Incoming {
                    writer: Writer::Idle(Intake {
                        parser: Parser::new(),
                        image: Pages::new(),
                    }),
                    loading: Loading::Nothing(Pages::new()),
                    over: None,
                }),
                changed <- new_poll_condvar!("mlx5_vfio_rust_resume"),
                work <- new_work!("mlx5_vfio_rust_load"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Waits for the intake and takes it out.
    fn take(&self) -> Result<Intake> {
        let mut incoming = self.incoming.lock();
        loop {
            incoming.check()?;
            match core::mem::replace(&mut incoming.writer, Writer::Busy) {
                Writer::Idle(intake) => return Ok(intake),
                Writer::Busy => {
                    if self.changed.wait_interruptible(&mut incoming) {
                        return Err(ERESTARTSYS);
                    }
                }
            }
        }
    }

    /// Ends a turn that [`Self::take`] began, and that went as `result` says.
    /// `ENODEV` where the session has ended meanwhile.
    fn put_back(&self, intake: Intake, result: Result) -> Result {
        let mut incoming = self.incoming.lock();
        incoming.writer = Writer::Idle(intake);
        if let Err(err) = result {
            incoming.fail(err, true);
        }
        self.changed.notify_all();
        match incoming.over {
            Some(Over::Closed) => Err(ENODEV),
            _ => result,
        }
    }

    /// Has the image loaded that is complete, as soon as the one before it is.
    /// `ERESTARTSYS` leaves everything as it is.
    fn hand_over(this: ArcBorrow<'_, Self>, intake: &mut Intake, len: usize) -> Result {
        let mut incoming = this.incoming.lock();
        loop {
            incoming.check()?;
            match core::mem::replace(&mut incoming.loading, Loading::UnderWay) {
                Loading::Nothing(spare) => {
                    let image = core::mem::replace(&mut intake.image, spare);
                    incoming.loading = Loading::Queued { image, len };
                    break;
                }
                other => incoming.loading = other,
            }
            if this.changed.wait_interruptible(&mut incoming) {
                return Err(ERESTARTSYS);
            }
        }
        intake.parser.loaded();
        // Cannot fail: nothing was queued.
        let _ = this.migration.queue().enqueue(Arc::from(this));
        Ok(())
    }

    /// Begins an image in the larger one of the two buffers, if both are there:
    /// memory that is there already need not be found during a downtime.
    fn pick_buffer(&self, intake: &mut Intake) {
        if let Loading::Nothing(spare) = &mut self.incoming.lock().loading {
            if spare.len() > intake.image.len() {
                core::mem::swap(spare, &mut intake.image);
            }
        }
    }

    /// Takes all in that `from` has.
    fn take_in(this: ArcBorrow<'_, Self>, intake: &mut Intake, from: &mut UserReader) -> Result {
        loop {
            let left = from.left();
            match intake.parser.step() {
                Step::Load { len } => Self::hand_over(this, intake, len)?,
                _ if left == 0 => return Ok(()),
                Step::Push(want) => {
                    let mut bytes = [0; HEADER_LEN];
                    let bytes = &mut bytes[..want.min(left).min(HEADER_LEN)];
                    from.read(bytes)?;
                    intake.parser.push(bytes).inspect_err(|malformed| {
                        this.migration.complaints.warn(text(*malformed))
                    })?;
                }
                Step::Store { at, len } => {
                    if at == 0 {
                        this.pick_buffer(intake);
                    }
                    let n = len.min(left);
                    while intake.image.len() < at + n {
                        // What a header claims is not believed: memory comes
                        // as data does.
                        let missing = at + len - intake.image.len();
                        intake.image.grow(missing.min(SZ_2M), Fill::Any)?;
                    }
                    intake.image.write(at, n, from)?;
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

    /// Waits until firmware has loaded all that is complete.
    pub(crate) fn wait_idle(this: ArcBorrow<'_, Self>) -> Result {
        loop {
            let mut incoming = this.incoming.lock();
            if !incoming.is_busy() {
                return Ok(());
            }
            if let Loading::Nothing(_) = incoming.loading {
                // A writer was interrupted before it could hand its image over.
                drop(incoming);
                let handed = this.take().and_then(|mut intake| {
                    let handed = match intake.parser.step() {
                        Step::Load { len } => Self::hand_over(this, &mut intake, len),
                        _ => Ok(()),
                    };
                    this.put_back(intake, Ok(())).and(handed)
                });
                // Any other error is there to be found by `check_complete`.
                if handed == Err(ERESTARTSYS) {
                    return handed;
                }
            } else if this.changed.wait_interruptible(&mut incoming) {
                return Err(ERESTARTSYS);
            }
        }
    }

    /// Whether the stream may end now, and nothing is being loaded.
    ///
    /// `EBUSY` while a writer is at it, `EINVAL` in the middle of a record or
    /// before the first image. After an error it is that error, or `EIO` where
    /// a writer has got it.
    fn check_complete(&self) -> Result {
        let incoming = self.incoming.lock();
        match (&incoming.over, &incoming.writer) {
            (Some(Over::Failed { err, told: false }), _) => Err(*err),
            (Some(_), _) => Err(EIO),
            (None, Writer::Busy) => Err(EBUSY),
            (None, Writer::Idle(intake)) if intake.parser.is_complete() => Ok(()),
            (None, Writer::Idle(_)) => Err(EINVAL),
        }
    }
}

impl DataFile for ResumeFile {
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Resuming;

    /// Writable is who has nothing to load: so a destination can tell that all
    /// that it was given has arrived in the device.
    fn poll(&self) -> Option<(&PollCondVar, Readiness)> {
        let incoming = self.incoming.lock();
        let ready = match (&incoming.over, &incoming.loading) {
            (Some(_), _) => Readiness::Failed,
            (None, Loading::Nothing(_)) => Readiness::Ready,
            _ => Readiness::Pending,
        };
        Some((&self.changed, ready))
    }

    fn write(this: ArcBorrow<'_, Self>, from: &mut UserReader) -> Result<usize> {
        let mut intake = this.take()?;
        let total = from.left();
        let result = Self::take_in(this, &mut intake, from);
        let taken = total - from.left();
        match result {
            // Nothing is lost: the next write goes on from here.
            Err(ERESTARTSYS) => {
                this.put_back(intake, Ok(()))?;
                if taken == 0 {
                    return Err(ERESTARTSYS);
                }
            }
            result => this.put_back(intake, result)?,
        }
        Ok(taken)
    }
}

/// The resources of a session. Lives in the device's state, under its lock.
pub(crate) struct ResumingSession {
    file: Arc<ResumeFile>,
    pd: Pd,
}

impl ResumingSession {
    /// Begins to load a state into the stopped device.
    pub(crate) fn new(
        core: &Arc<CoreDev>,
        migration: Arc<VfMigration>,
    ) -> Result<(Self, OpenFile)> {
        let file = ResumeFile::new(migration)?;
        let open = OpenFile::new(file.clone())?;
        let pd = Pd::new(core)?;
        Ok((Self { file, pd }, open))
    }

    /// Whether `file` is this session's.
    pub(crate) fn is_of(&self, file: &ResumeFile) -> bool {
        core::ptr::eq(&*self.file, file)
    }

    /// The file, while firmware has something of it to load.
    pub(crate) fn busy_file(&self) -> Option<&Arc<ResumeFile>> {
        self.file.incoming.lock().is_busy().then_some(&self.file)
    }

    /// Has firmware load `len` bytes of `image`.
    pub(crate) fn load(&self, core: &Arc<CoreDev>, image: &Pages, len: usize) -> Result {
        let buffer = DmaBuffer::new(core, &self.pd, image, len, Direction::ToDevice)?;
        core.load(&buffer, len)
    }

    /// As [`ResumeFile::check_complete`].
    pub(crate) fn check_complete(&self) -> Result {
        self.file.check_complete()
    }
}

impl Drop for ResumingSession {
    fn drop(&mut self) {
        self.file.incoming.lock().over = Some(Over::Closed);
        self.file.changed.notify_all();
    }
}

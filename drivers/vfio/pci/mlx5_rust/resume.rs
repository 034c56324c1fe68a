// SPDX-License-Identifier: GPL-2.0

//! Resuming: the file that a state is written to, and the session behind it.

use crate::{
    mlx5::{core_dev::CoreDev, dma_buffer::DmaBuffer, pd::Pd},
    stream::{Malformed, Parser, Step, HEADER_LEN},
    vf::VfMigration,
    vfio::{
        dma::Direction,
        errno,
        file::{Access, DataFile, OpenFile, UserReader},
        pages::{Fill, Pages},
    },
};
use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    sizes::SZ_2M,
    sync::{Arc, ArcBorrow, CondVar, Mutex},
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
    /// The image of the record at hand. Grows as it arrives, and is used again
    /// for the next one.
    image: Pages,
}

/// Who has the [`Intake`].
enum Incoming {
    /// Nobody.
    Idle(Intake),
    /// A writer. It copies without the lock: user memory can take arbitrarily
    /// long, and closing must not wait for it.
    Busy,
    /// Nobody any more: something was wrong with the stream, or firmware did
    /// not take it.
    Failed,
    /// Nobody any more: the session has ended.
    Closed,
}

/// A resuming data file.
#[pin_data]
pub(crate) struct ResumeFile {
    migration: Arc<VfMigration>,
    #[pin]
    incoming: Mutex<Incoming>,
    /// Notified when `incoming` stops being busy.
    #[pin]
    idle: CondVar,
}

impl ResumeFile {
    fn new(migration: Arc<VfMigration>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                migration,
                incoming <- new_mutex!(Incoming::Idle(Intake {
                    parser: Parser::new(),
                    image: Pages::new(),
                })),
                idle <- new_condvar!("mlx5_vfio_rust_resume"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Waits for the intake and takes it out.
    fn take(&self) -> Result<Intake> {
        let mut incoming = self.incoming.lock();
        loop {
            match core::mem::replace(&mut *incoming, Incoming::Busy) {
                Incoming::Idle(intake) => return Ok(intake),
                Incoming::Busy => {
                    if self.idle.wait_interruptible(&mut incoming) {
                        return Err(ERESTARTSYS);
                    }
                }
                over => {
                    *incoming = over;
                    return Err(ENODEV);
                }
            }
        }
    }

    /// Ends a turn that [`Self::take`] began.
    fn put_back(&self, next: Incoming) {
        let mut incoming = self.incoming.lock();
        if matches!(*incoming, Incoming::Busy) {
            *incoming = next;
        }
        self.idle.notify_all();
    }

    /// Takes in all that `from` has.
    fn take_in(
        this: ArcBorrow<'_, Self>,
        intake: &mut Intake,
        from: &mut UserReader,
    ) -> Result<usize> {
        let total = from.left();
        loop {
            let left = from.left();
            match intake.parser.step() {
                Step::Load { len } => {
                    this.migration.load(this, &intake.image, len)?;
                    intake.parser.loaded();
                }
                _ if left == 0 => return Ok(total),
                Step::Push(want) => {
                    let mut bytes = [0; HEADER_LEN];
                    let bytes = &mut bytes[..want.min(left).min(HEADER_LEN)];
                    from.read(bytes)?;
                    intake.parser.push(bytes).inspect_err(|malformed| {
                        this.migration.complaints.warn(text(*malformed))
                    })?;
                }
                Step::Store { at, len } => {
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

    /// Whether the stream may end now.
    ///
    /// `EBUSY` while a writer is at it, `EINVAL` in the middle of a record or
    /// before the first image, `EIO` after an error.
    fn check_complete(&self) -> Result {
        match &*self.incoming.lock() {
            Incoming::Idle(intake) if intake.parser.is_complete() => Ok(()),
            Incoming::Idle(_) => Err(EINVAL),
            Incoming::Busy => Err(EBUSY),
            Incoming::Failed | Incoming::Closed => Err(EIO),
        }
    }
}

impl DataFile for ResumeFile {
    const NAME: &'static CStr = c"mlx5vf_mig";
    const ACCESS: Access = Access::Resuming;

    fn write(this: ArcBorrow<'_, Self>, from: &mut UserReader) -> Result<usize> {
        let mut intake = this.take()?;
        let result = Self::take_in(this, &mut intake, from);
        this.put_back(match result {
            Ok(_) => Incoming::Idle(intake),
            Err(_) => Incoming::Failed,
        });
        result
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
    pub(crate) fn is_of(&self, file: ArcBorrow<'_, ResumeFile>) -> bool {
        core::ptr::eq(&*self.file, &*file)
    }

    /// Has firmware load `len` bytes of `image`.
    pub(crate) fn load(&self, core: &Arc<CoreDev>, image: &Pages, len: usize) -> Result {
        let buffer = DmaBuffer::new(core, &self.pd, image, Direction::ToDevice)?;
        core.load(&buffer, len)
    }

    /// As [`ResumeFile::check_complete`].
    pub(crate) fn check_complete(&self) -> Result {
        self.file.check_complete()
    }
}

impl Drop for ResumingSession {
    fn drop(&mut self) {
        *self.file.incoming.lock() = Incoming::Closed;
        self.file.idle.notify_all();
    }
}

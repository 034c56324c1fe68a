// SPDX-License-Identifier: GPL-2.0

//! A data transfer session for a driver that needs no more of its data files than
//! reading and writing.
//!
//! A session and its file share the stream, and either may end first. Calls on the file take the
//! stream in turns, without a lock: the call that has it accesses user memory, which can take
//! arbitrarily long. Others can be killed while they wait, and the holder of a state lock does not
//! wait at all.

use crate::{
    file::{
        self,
        DataFile,
        PrecopyInfo,
        Reinit, //
    },
    kernel::{
        fs::anon_inode::{
            Access,
            OpenFile,
            Readiness,
            Wait, //
        },
        sync::{
            changes::Changes,
            turns::{
                GivenBack,
                Turn,
                Turns, //
            }, //
        },
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    },
    migration::{
        StepError,
        VfioDevice, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    ThisModule, //
};

/// Data that goes through a data file.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     ThisModule, //
/// };
/// use vfio_rust::{
///     kernel::uaccess::cursor::{
///         UserReader,
///         UserWriter, //
///     },
///     session::Stream,
///     this_module, //
/// };
///
/// /// The state of a device: a register. `at` bytes of it have been read or written.
/// struct Register {
///     bytes: [u8; 8],
///     at: usize,
/// }
///
/// impl Stream for Register {
///     const OWNER: &'static ThisModule = this_module!();
///     const NAME: &'static CStr = c"register_mig";
///
///     fn read(&mut self, out: &mut UserWriter) -> Result<usize> {
///         let rest = &self.bytes[self.at..];
///         let n = rest.len().min(out.left());
///         out.write(&rest[..n])?;
///         self.at += n;
///         Ok(n)
///     }
///
///     fn write(&mut self, from: &mut UserReader) -> Result<usize> {
///         let n = from.left();
///         // Refuse data beyond the end of the register.
///         let rest = self.bytes[self.at..].get_mut(..n).ok_or(EINVAL)?;
///         from.read(rest)?;
///         self.at += n;
///         Ok(n)
///     }
/// }
/// ```
pub trait Stream: Send + Sync + 'static {
    /// The driver's module, [`this_module!()`](crate::this_module): an open file keeps it
    /// loaded.
    const OWNER: &'static ThisModule;
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;

    /// Copies the next data to user space. Returns its length, or 0 at the end of the stream. After
    /// an error the stream is as it was before.
    fn read(&mut self, out: &mut UserWriter) -> Result<usize>;

    /// Takes the next data. Returns its length. An error is final, since it does not say how much
    /// of the data was taken.
    fn write(&mut self, from: &mut UserReader) -> Result<usize>;

    /// VFIO_MIG_GET_PRECOPY_INFO, for a stream that is read while the device runs.
    fn precopy_info(&mut self, _reinit: Reinit) -> Result<PrecopyInfo> {
        Err(ENOTTY)
    }
}

/// The stream that a session and its file share.
struct Transfer<S: Stream> {
    /// The session has not ended, and no write has failed.
    open: Atomic<bool>,
    /// The stream, or `None` once the session has ended.
    stream: Turns<Option<S>>,
    /// Notified when the stream is given back while others wait for it, and when `open` changes.
    changes: Arc<Changes>,
}

impl<S: Stream> Transfer<S> {
    /// Waits until nobody else has the stream, and takes it. Returns `ENODEV` if the session has
    /// ended, or `ERESTARTSYS` if a signal comes first.
    fn take(&self, wait: Wait) -> Result<Turn<'_, Option<S>>> {
        loop {
            let seen = self.changes.seen();
            if let Some(stream) = self.stream.take() {
                return Ok(stream);
            }
            if !self.open.load(Relaxed) {
                return Err(ENODEV);
            }
            if wait == Wait::Never {
                return Err(EAGAIN);
            }
            self.changes.wait(seen)?;
        }
    }

    /// Calls `f` with the stream. Returns `ENODEV` if the session has ended, before the call or
    /// during it.
    fn with<R>(&self, wait: Wait, f: impl FnOnce(&mut S) -> Result<R>) -> Result<R> {
        let mut turn = self.take(wait)?;
        let done = match &mut *turn {
            Some(stream) if self.open.load(Relaxed) => f(stream),
            _ => Err(ENODEV),
        };
        match turn.give_back() {
            GivenBack::Kept => done,
            GivenBack::Cleared => Err(ENODEV),
        }
    }

    /// Makes all calls on the file fail, and frees the stream. If a read or write has the stream,
    /// it is freed when it is given back.
    fn end(&self) {
        self.stream.clear();
        self.close();
    }

    /// Makes all calls on the file fail.
    fn close(&self) {
        self.open.store(false, Relaxed);
        self.changes.notify_all();
    }

    /// State of the file, for poll().
    fn readiness(&self) -> Readiness {
        if !self.open.load(Relaxed) {
            Readiness::Failed
        } else if self.stream.is_taken() {
            Readiness::Pending
        } else {
            Readiness::Ready
        }
    }
}

/// A data transfer, as long as the device is in the state for it. Dropping it makes all calls on
/// the file fail, so that no arc out of that state can forget to do so.
pub struct Session<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> Session<S> {
    /// Begins a session of `vdev` in which `stream` is read.
    pub fn saving(vdev: &VfioDevice<'_>, stream: S) -> Result<(Self, OpenFile)> {
        Self::new(vdev, stream, SaveFile)
    }

    /// Begins a session of `vdev` in which `stream` is written.
    pub fn resuming(vdev: &VfioDevice<'_>, stream: S) -> Result<(Self, OpenFile)> {
        Self::new(vdev, stream, ResumeFile)
    }

    fn new<F: DataFile>(
        vdev: &VfioDevice<'_>,
        stream: S,
        file: fn(Arc<Transfer<S>>) -> F,
    ) -> Result<(Self, OpenFile)> {
        let changes = Arc::pin_init(Changes::new(), GFP_KERNEL_ACCOUNT)?;
        let transfer = Transfer {
            open: Atomic::new(true),
            stream: Turns::new(Some(stream), changes.clone()),
            changes,
        };
        let session = Self(Arc::new(transfer, GFP_KERNEL_ACCOUNT)?);
        let file = Arc::new(file(session.0.clone()), GFP_KERNEL_ACCOUNT)?;
        Ok((session, file::open(vdev, file)?))
    }

    /// Calls `f` with the stream. Returns `EINVAL` if a write has failed. Returns `EBUSY` if a call
    /// on the file is under way: a holder of the state lock must not wait for that, and user space
    /// may try again. In both cases a stream that is written is not complete.
    pub fn with<R>(&self, f: impl FnOnce(&mut S) -> Result<R>) -> Result<R> {
        let mut stream = self.0.stream.take().ok_or(EBUSY)?;
        match stream.as_mut() {
            Some(stream) if self.0.open.load(Relaxed) => f(stream),
            _ => Err(EINVAL),
        }
    }

    /// Has `load` load the stream into the device, for an arc that leaves `RESUMING`. If a write is
    /// under way, the device is as it was (`EBUSY`). If `load` fails, or a write has failed, the
    /// state of the device is unknown: the device is lost, and all calls on the file fail.
    pub fn finish(&self, load: impl FnOnce(&mut S) -> Result) -> Result<(), StepError> {
        let mut stream = self.0.stream.take().ok_or(EBUSY)?;
        let loaded = match stream.as_mut() {
            Some(stream) if self.0.open.load(Relaxed) => load(stream),
            _ => Err(EINVAL),
        };
        drop(stream);
        loaded.map_err(|err| {
            self.0.end();
            StepError::Lost(err)
        })
    }
}

impl<S: Stream> Drop for Session<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct SaveFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for SaveFile<S> {
    const OWNER: &'static ThisModule = S::OWNER;
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Read;

    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        this.0.with(wait, |stream| stream.read(out))
    }

    fn precopy_info(&self, reinit: Reinit) -> Result<PrecopyInfo> {
        self.0
            .with(Wait::Allowed, |stream| stream.precopy_info(reinit))
    }

    fn poll(&self) -> Option<(&Changes, Readiness)> {
        Some((&self.0.changes, self.0.readiness()))
    }
}

struct ResumeFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for ResumeFile<S> {
    const OWNER: &'static ThisModule = S::OWNER;
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Write;

    fn write(this: ArcBorrow<'_, Self>, wait: Wait, from: &mut UserReader) -> Result<usize> {
        // Close the file before the next writer gets the stream.
        let write = |stream: &mut S| stream.write(from).inspect_err(|_| this.0.close());
        this.0.with(wait, write)
    }

    fn poll(&self) -> Option<(&Changes, Readiness)> {
        Some((&self.0.changes, self.0.readiness()))
    }
}

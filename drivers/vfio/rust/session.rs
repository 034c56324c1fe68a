// SPDX-License-Identifier: GPL-2.0

//! A data transfer session for a driver that needs no more of its data files than
//! reading and writing.
//!
//! A session and its file share the stream, and either may end first. User memory
//! is accessed with the stream locked, which can take as long as its owner likes;
//! so whoever holds a state lock only tries that lock, and ends a session by a
//! flag.

use super::{
    file::{Access, DataFile, OpenFile, UserReader, UserWriter, Wait},
    owner::Owner,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    sync::{Arc, ArcBorrow, Mutex},
};

/// Data that goes through a data file.
pub trait Stream: Send + Unpin + 'static {
    /// The driver's module, [`this_module!()`](crate::this_module): an open file keeps it
    /// loaded.
    const OWNER: Owner;
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;

    /// Copies the next data out. Returns its length, or 0 at the end of the
    /// stream. After an error the stream is as it was before.
    fn read(&mut self, out: &mut UserWriter) -> Result<usize>;

    /// Takes the next data. Returns its length. An error is final: nobody knows how
    /// much of the data was taken.
    fn write(&mut self, from: &mut UserReader) -> Result<usize>;
}

/// The stream that a session and its file share.
#[pin_data]
struct Transfer<S: Stream> {
    open: Atomic<bool>,
    #[pin]
    stream: Mutex<Option<S>>,
}

impl<S: Stream> Transfer<S> {
    /// Reads or writes. `ENODEV` if the session has ended.
    fn with(&self, f: impl FnOnce(&mut S) -> Result<usize>) -> Result<usize> {
        let mut stream = self.stream.lock();
        match &mut *stream {
            Some(stream) if self.open.load(Relaxed) => f(stream),
            _ => Err(ENODEV),
        }
    }
}

/// A data transfer, as long as the device is in the state for it. Dropping it makes
/// the file useless, so that no way out of that state can forget to do that.
pub struct Session<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> Session<S> {
    /// Begins a session in which `stream` is read.
    pub fn saving(stream: S) -> Result<(Self, OpenFile)> {
        Self::new(stream, SaveFile)
    }

    /// Begins a session in which `stream` is written.
    pub fn resuming(stream: S) -> Result<(Self, OpenFile)> {
        Self::new(stream, ResumeFile)
    }

    fn new<F: DataFile>(stream: S, file: fn(Arc<Transfer<S>>) -> F) -> Result<(Self, OpenFile)> {
        let transfer = pin_init!(Transfer {
            open: Atomic::new(true),
            stream <- new_mutex!(Some(stream), "vfio_rust_stream"),
        });
        let session = Self(Arc::pin_init(transfer, GFP_KERNEL_ACCOUNT)?);
        let file = Arc::new(file(session.0.clone()), GFP_KERNEL_ACCOUNT)?;
        Ok((session, OpenFile::new(file)?))
    }

    /// Looks at the stream. `EINVAL` if a write has failed or is under way: the
    /// stream is not complete then.
    pub fn with<R>(&self, f: impl FnOnce(&S) -> Result<R>) -> Result<R> {
        let stream = self.0.stream.try_lock().ok_or(EINVAL)?;
        match stream.as_ref() {
            Some(stream) if self.0.open.load(Relaxed) => f(stream),
            _ => Err(EINVAL),
        }
    }
}

impl<S: Stream> Drop for Session<S> {
    fn drop(&mut self) {
        self.0.open.store(false, Relaxed);
        // If a read or write is using the stream, it is freed with the file.
        if let Some(mut stream) = self.0.stream.try_lock() {
            *stream = None;
        }
    }
}

struct SaveFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for SaveFile<S> {
    const OWNER: Owner = S::OWNER;
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Saving;

    fn read(this: ArcBorrow<'_, Self>, _wait: Wait, out: &mut UserWriter) -> Result<usize> {
        this.0.with(|stream| stream.read(out))
    }
}

struct ResumeFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for ResumeFile<S> {
    const OWNER: Owner = S::OWNER;
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Resuming;

    fn write(this: ArcBorrow<'_, Self>, _wait: Wait, from: &mut UserReader) -> Result<usize> {
        let written = this.0.with(|stream| stream.write(from));
        written.inspect_err(|_| this.0.open.store(false, Relaxed))
    }
}

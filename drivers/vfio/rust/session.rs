// SPDX-License-Identifier: GPL-2.0

//! A data transfer session for a driver that needs no more of its data files than
//! reading and writing.
//!
//! A session and its file share the stream, and either may end first. User memory
//! is accessed with the stream locked, which can take as long as its owner likes;
//! so whoever holds a state lock only tries that lock, and ends a session by a
//! flag.

use super::file::{Access, DataFile, OpenFile, UserReader, UserWriter, Wait};
use kernel::{
    new_mutex,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    sync::{Arc, ArcBorrow, Mutex},
};

/// What goes through a data file.
pub(crate) trait Stream: Send + Unpin + 'static {
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;

    /// Copies out what comes next; `Ok(0)` is the end. After an error all is as
    /// it was before.
    fn read(&mut self, out: &mut UserWriter) -> Result<usize>;

    /// Takes in what comes next. An error is final: nobody knows how much of that
    /// write was taken.
    fn write(&mut self, from: &mut UserReader) -> Result<usize>;
}

/// What a session and its file share.
#[pin_data]
struct Transfer<S: Stream> {
    open: Atomic<bool>,
    #[pin]
    stream: Mutex<Option<S>>,
}

impl<S: Stream> Transfer<S> {
    /// Reads or writes, unless it is over.
    fn with(&self, f: impl FnOnce(&mut S) -> Result<usize>) -> Result<usize> {
        let mut stream = self.stream.lock();
        match &mut *stream {
            Some(stream) if self.open.load(Relaxed) => f(stream),
            _ => Err(ENODEV),
        }
    }
}

/// A data transfer, for as long as the device is in the state for it. Dropping it
/// ends the file, so that no way out of that state can forget to.
pub(crate) struct Session<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> Session<S> {
    /// Begins a session in which `stream` is read.
    pub(crate) fn saving(stream: S) -> Result<(Self, OpenFile)> {
        Self::new(stream, SaveFile)
    }

    /// Begins a session in which `stream` is written.
    pub(crate) fn resuming(stream: S) -> Result<(Self, OpenFile)> {
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

    /// Looks at the stream. `EINVAL` where a write has failed, or is under way: what
    /// is there is not all.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&S) -> Result<R>) -> Result<R> {
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
        // A stream that is in use goes with the file.
        if let Some(mut stream) = self.0.stream.try_lock() {
            *stream = None;
        }
    }
}

struct SaveFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for SaveFile<S> {
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Saving;

    fn read(this: ArcBorrow<'_, Self>, _wait: Wait, out: &mut UserWriter) -> Result<usize> {
        this.0.with(|stream| stream.read(out))
    }
}

struct ResumeFile<S: Stream>(Arc<Transfer<S>>);

impl<S: Stream> DataFile for ResumeFile<S> {
    const NAME: &'static CStr = S::NAME;
    const ACCESS: Access = Access::Resuming;

    fn write(this: ArcBorrow<'_, Self>, _wait: Wait, from: &mut UserReader) -> Result<usize> {
        let written = this.0.with(|stream| stream.write(from));
        written.inspect_err(|_| this.0.open.store(false, Relaxed))
    }
}

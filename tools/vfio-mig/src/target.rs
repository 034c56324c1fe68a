// SPDX-License-Identifier: GPL-2.0

//! Where a device's state goes: another device, a file, another host.

use crate::{
    device::Device,
    error::{
        Context,
        Error,
        StreamContext, //
    },
    output::Output,
    state::State,
    stream,
    text,
    wait::{
        self,
        Deadline,
        Signals, //
    }, //
};
use nix::poll::{
    PollFd,
    PollFlags, //
};
use sha2::{
    Digest,
    Sha256, //
};
use std::{
    fs::File,
    io::{
        self,
        Write, //
    },
    os::fd::{
        AsFd,
        BorrowedFd, //
    },
    path::Path,
    time::Duration, //
};

/// What gets the state of a device. Its steps are called in the order in which they are
/// here, each once.
pub trait Target: Write {
    /// Gets ready to be written to.
    fn prepare(&mut self) -> Result<(), Error>;

    /// Waits until all that was written so far has been taken in.
    fn wait_loaded(&mut self) -> Result<(), Error>;

    /// Ends the state: nothing more will be written. Fails if the state is not a valid one.
    fn finish(&mut self) -> Result<(), Error>;

    /// Starts the device, which goes on where the source has stopped.
    fn start(&mut self) -> Result<(), Error>;

    /// Forgets the state, because of `why`. If this fails, the state may be in use; the
    /// error says why that is not known.
    fn abandon(&mut self, why: &Error) -> Result<(), Error>;

    /// Says more about a write that failed.
    fn explain(&self, err: Error) -> Error {
        err
    }

    /// SHA-256 of all that was written, where it was made.
    fn checksum(&self) -> Option<String> {
        None
    }
}

/// How long a device may take to load what was written, unless another time is given.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Another device of this host.
pub struct DeviceTarget<'a> {
    device: &'a Device,
    file: Option<File>,
    /// Whether it was asked to go to RESUMING.
    begun: bool,
    /// Whether a byte was written.
    written: bool,
    /// How long [`Target::wait_loaded`] waits.
    timeout: Duration,
}

impl<'a> DeviceTarget<'a> {
    /// `device`, which will be in RESUMING.
    pub fn new(device: &'a Device) -> Self {
        Self {
            device,
            file: None,
            begun: false,
            written: false,
            timeout: LOAD_TIMEOUT,
        }
    }

    /// As this one, but waits for `timeout` until all that was written is loaded.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// Waits until a write to `file` would not block.
fn wait_writable(file: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let mut fds = [PollFd::new(file, PollFlags::POLLOUT)];
    match wait::ready(&mut fds, Deadline::after(timeout), Signals::Heed)? {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not done after {} s (--timeout)", timeout.as_secs_f64()),
        )),
    }
}

/// If `err` is of a write to `device`, says so.
pub fn refused_by(device: &Device, err: Error) -> Error {
    match err {
        Error::Stream {
            what: stream::WRITING,
            bytes,
            source,
        } => Error::Refused {
            device: device.address(),
            bytes,
            source,
        },
        err => err,
    }
}

impl Write for DeviceTarget<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut();
        let n = file
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?
            .write(bytes)?;
        self.written |= n > 0;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for DeviceTarget<'_> {
    fn prepare(&mut self) -> Result<(), Error> {
        self.device.features()?;
        self.begun = true;
        self.file = Some(self.device.begin(State::RESUMING)?);
        Ok(())
    }

    /// A driver that loads within write() is always ready.
    fn wait_loaded(&mut self) -> Result<(), Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        wait_writable(file.as_fd(), self.timeout).context(format!(
            "{}: waiting until it has loaded what it has",
            self.device.address()
        ))
    }

    fn finish(&mut self) -> Result<(), Error> {
        if !self.written {
            return Err(Error::NothingToLoad);
        }
        self.device.set_state(State::STOP)?;
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        self.device.set_state(State::RUNNING)?;
        // It is closed when nobody waits any more.
        self.file = None;
        Ok(())
    }

    fn abandon(&mut self, _why: &Error) -> Result<(), Error> {
        self.file = None;
        if !self.begun {
            // The device was never in RESUMING: there is nothing to forget, and no need for
            // a reset, which could fail.
            return Ok(());
        }
        // A reset always ends in RUNNING, but without the source's state.
        self.device.forget()
    }

    fn explain(&self, err: Error) -> Error {
        refused_by(self.device, err)
    }
}

/// A file, which has just what the device has written.
pub struct FileTarget {
    name: String,
    file: Option<Output>,
    digest: Sha256,
}

impl FileTarget {
    /// Opens the file at `path`, which is replaced when it is complete.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let name = text::shown_path(path);
        Ok(Self {
            file: Some(Output::create(path).context(name.clone())?),
            name,
            digest: Sha256::new(),
        })
    }
}

impl Write for FileTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut();
        let n = file
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?
            .write(bytes)?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for FileTarget {
    fn prepare(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn wait_loaded(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let committed = self.file.take().map_or(Ok(()), Output::commit);
        committed.context(self.name.clone())
    }

    fn start(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn abandon(&mut self, _why: &Error) -> Result<(), Error> {
        // Half a state is of no use: the temporary file is removed, and an older file stays.
        self.file = None;
        Ok(())
    }

    fn explain(&self, err: Error) -> Error {
        err.stream_context(stream::WRITING, &self.name)
    }

    fn checksum(&self) -> Option<String> {
        Some(format!("{:x}", self.digest.clone().finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::net::UnixStream,
        time::Instant, //
    };

    #[test]
    fn an_error_of_a_file_has_its_name() {
        let mut target = FileTarget::create(Path::new("/dev/full")).unwrap();
        let err = stream::copy(&mut &b"state"[..], &mut target, |_| ()).unwrap_err();
        let err = target.explain(err);
        let text = err.to_string();
        assert!(text.starts_with("/dev/full: writing"), "{text}");
        target.abandon(&err).unwrap();
    }

    #[test]
    fn what_is_never_loaded_is_not_waited_for_without_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while (&ours).write(&[0; 4096]).is_ok() {}
        let timeout = Duration::from_millis(100);
        let begin = Instant::now();
        let err = wait_writable(ours.as_fd(), timeout).unwrap_err();
        assert!((timeout..timeout * 20).contains(&begin.elapsed()));
        assert_eq!(err.to_string(), "not done after 0.1 s (--timeout)");
        // With room, or with nobody at the other end, there is nothing to wait for.
        drop(theirs);
        wait_writable(ours.as_fd(), timeout).unwrap();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Moving a migration stream.

use crate::{
    error::Error,
    interrupt,
    uapi, //
};
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd,
    time::Instant, //
};

/// Bytes that are moved at a time.
const PIECE: usize = 1 << 20;

/// What [`Error::Stream`] was doing.
pub const READING: &str = "reading the device's state";
/// What [`Error::Stream`] was doing.
pub const WRITING: &str = "writing the device's state";

/// How reading has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The end.
    Final,
    /// ENOMSG: there may be more later.
    Temporary,
}

/// Copies until the end of `from`. `progress` gets the bytes so far.
pub fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    progress: impl FnMut(u64),
) -> Result<u64, Error> {
    match copy_available(from, to, progress)? {
        (bytes, End::Final) => Ok(bytes),
        (bytes, End::Temporary) => Err(Error::Stream {
            what: READING,
            bytes,
            source: io::Error::from_raw_os_error(libc::ENOMSG),
        }),
    }
}

/// Copies all that there is for now. `progress` gets the bytes so far.
pub fn copy_available(
    from: &mut impl Read,
    to: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> Result<(u64, End), Error> {
    let mut buf = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        interrupt::check()?;
        let n = match from.read(&mut buf) {
            Ok(0) => {
                // A signal to a whole pipeline also ends the process that writes to it:
                // then this is not the end of the state.
                interrupt::check()?;
                return Ok((bytes, End::Final));
            }
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => {
                return Ok((bytes, End::Temporary))
            }
            Err(source) => {
                return Err(Error::Stream {
                    what: READING,
                    bytes,
                    source,
                })
            }
        };
        write_all(to, &buf[..n], bytes)?;
        bytes += n as u64;
        progress(bytes);
    }
}

/// As [`Write::write_all`], but ended by a signal that asks the tool to end. `bytes` were
/// written before.
pub fn write_all(
    to: &mut (impl Write + ?Sized),
    mut piece: &[u8],
    bytes: u64,
) -> Result<(), Error> {
    while !piece.is_empty() {
        let source = match to.write(piece) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(n) => {
                piece = &piece[n..];
                continue;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {
                interrupt::check()?;
                continue;
            }
            Err(err) => err,
        };
        return Err(Error::Stream {
            what: WRITING,
            bytes,
            source,
        });
    }
    Ok(())
}

/// Writes `text`, which is no state, to a reader that may not read it. A signal that asks
/// the tool to end ends the write. If a signal came before, only what can be written without
/// blocking is written.
pub fn print(to: &mut (impl Write + AsFd), text: &str) -> Result<(), Error> {
    if let Err(interrupted) = interrupt::check() {
        if matches!(uapi::poll(to.as_fd(), libc::POLLOUT, 0), Ok(0)) {
            return Err(interrupted);
        }
    }
    write_all(to, text.as_bytes(), 0)
}

/// Adds up how long writes take.
pub struct Timed<'a, W> {
    to: &'a mut W,
    ms: &'a mut f64,
}

impl<'a, W: Write> Timed<'a, W> {
    /// Writes to `to`, and adds the time to `ms`, in milliseconds.
    pub fn new(to: &'a mut W, ms: &'a mut f64) -> Self {
        Self { to, ms }
    }
}

impl<W: Write> Write for Timed<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let begin = Instant::now();
        let result = self.to.write(buf);
        *self.ms += begin.elapsed().as_secs_f64() * 1e3;
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and then fails.
    struct Trickle(u8);

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0 {
                0 => Err(io::Error::from_raw_os_error(libc::ENODEV)),
                7 => {
                    self.0 -= 1;
                    Err(io::ErrorKind::Interrupted.into())
                }
                n => {
                    buf[0] = n;
                    self.0 -= 1;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn everything_arrives() {
        let data: Vec<u8> = (0..3 * PIECE + 5).map(|i| i as u8).collect();
        let mut to = Vec::new();
        let mut seen = 0;
        let bytes = copy(&mut &data[..], &mut to, |n| seen = n).unwrap();
        assert_eq!((bytes, seen), (data.len() as u64, data.len() as u64));
        assert!(to == data);
    }

    #[test]
    fn an_error_says_how_far_it_got() {
        let err = copy(&mut Trickle(9), &mut io::sink(), |_| ()).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENODEV));
        assert!(err.to_string().contains("after 8 bytes"), "{err}");
    }

    #[test]
    fn an_error_names_the_end_that_failed() {
        use crate::error::StreamContext;
        let failed = || copy(&mut Trickle(9), &mut io::sink(), |_| ());
        let text = |what| {
            let err = failed().stream_context(what, "/tmp/x").unwrap_err();
            assert_eq!(err.errno(), Some(libc::ENODEV));
            err.to_string()
        };
        assert!(text(READING).starts_with("/tmp/x: reading"));
        assert!(text(WRITING).starts_with("reading"));
    }

    #[test]
    fn a_temporary_end_is_told_from_the_end() {
        struct Ends(i32);
        impl Read for Ends {
            fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
                match self.0 {
                    0 => Ok(0),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
        let end = |errno| copy_available(&mut Ends(errno), &mut io::sink(), |_| ());
        assert_eq!(end(0).unwrap(), (0, End::Final));
        assert_eq!(end(libc::ENOMSG).unwrap(), (0, End::Temporary));
        let err = copy(&mut Ends(libc::ENOMSG), &mut io::sink(), |_| ()).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENOMSG));
    }

    #[test]
    fn a_full_disk_is_a_write_error() {
        let mut small = [0; 10];
        let err = copy(&mut &[1; 20][..], &mut &mut small[..], |_| ()).unwrap_err();
        assert!(err.to_string().starts_with("writing"), "{err}");
    }
}

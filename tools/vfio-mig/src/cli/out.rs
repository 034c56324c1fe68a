// SPDX-License-Identifier: GPL-2.0

//! Standard output and standard error, whose reader may leave at any time.
//!
//! The standard library ignores SIGPIPE, and its print macros panic when a write
//! fails. Neither ending by SIGPIPE nor a panic would put a device back, so here a
//! failed write is an error like any other: it is passed on, each command undoes
//! what it has begun, and only then the tool ends, quietly.

use std::{
    error, fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};
use vfio_mig::error::{Context, Error};

/// Prints a line to standard output. An expression of type `Result<(), Error>`.
macro_rules! outln {
    ($($arg:tt)*) => {
        $crate::cli::out::print_line(format_args!($($arg)*))
    };
}
pub(crate) use outln;

/// Prints a line to standard error. An expression of type `Result<(), Error>`.
macro_rules! errln {
    ($($arg:tt)*) => {
        $crate::cli::out::print_error_line(format_args!($($arg)*))
    };
}
pub(crate) use errln;

/// The cause of an error of [`Stream`] if nobody reads it any more.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its reader has closed it")
    }
}

impl error::Error for ReaderGone {}

/// Standard output or standard error, with [`ReaderGone`] in place of EPIPE: a
/// socket can give EPIPE, too.
pub struct Stream<W>(W);

/// Standard output.
pub fn stdout() -> Stream<io::Stdout> {
    Stream(io::stdout())
}

/// Standard output, for a state: the standard library's own would go on with a write that
/// a signal has interrupted. Not a terminal, which takes bytes of a state for commands.
pub fn unbuffered_stdout() -> Result<Stream<File>, Error> {
    if io::stdout().is_terminal() {
        let why = "a terminal, which a state would garble; give a file, or > or |";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why)).context("standard output");
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    Ok(Stream(stdout.context("standard output")?.into()))
}

/// Standard error.
fn stderr() -> Stream<io::Stderr> {
    Stream(io::stderr())
}

fn marked(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => err,
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

/// Whether `err` says that nobody reads standard output or standard error.
pub fn reader_gone(err: &Error) -> bool {
    match err {
        Error::Io { source, .. } | Error::Stream { source, .. } => source
            .get_ref()
            .is_some_and(|inner| inner.is::<ReaderGone>()),
        _ => false,
    }
}

/// What [`outln!`] does.
pub fn print_line(line: fmt::Arguments<'_>) -> Result<(), Error> {
    writeln!(stdout(), "{line}").context("standard output")
}

/// What [`errln!`] does.
pub fn print_error_line(line: fmt::Arguments<'_>) -> Result<(), Error> {
    writeln!(stderr(), "{line}").context("standard error")
}

/// Prints the help to standard output, or a usage error to standard error.
pub fn print_parsed(parsed: &clap::Error) -> Result<(), Error> {
    let stream = match parsed.use_stderr() {
        true => "standard error",
        false => "standard output",
    };
    parsed.print().map_err(marked).context(stream)
}

/// Writes what is still in a buffer. At exit its loss would go unnoticed.
pub fn flush() -> Result<(), Error> {
    stdout().flush().context("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfio_mig::stream;

    /// Fails with the errno.
    struct Fails(i32);

    impl Write for Fails {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(self.0))
        }
    }

    #[test]
    fn a_reader_that_left_is_told_from_other_errors() {
        let error = |errno| Stream(Fails(errno)).write_all(b"x").context("output");
        assert!(reader_gone(&error(libc::EPIPE).unwrap_err()));
        let full = error(libc::ENOSPC).unwrap_err();
        assert!(!reader_gone(&full));
        assert_eq!(full.errno(), Some(libc::ENOSPC));
        assert!(Stream(Fails(libc::EPIPE)).flush().is_err());
    }

    #[test]
    fn a_peer_that_left_is_no_reader() {
        let peer = Error::Stream {
            what: stream::WRITING,
            bytes: 0,
            source: io::Error::from_raw_os_error(libc::EPIPE),
        };
        assert!(!reader_gone(&peer));
    }
}

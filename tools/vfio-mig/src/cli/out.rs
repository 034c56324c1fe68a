// SPDX-License-Identifier: GPL-2.0

//! Standard output and standard error, whose reader may leave at any time.
//!
//! The standard library ignores SIGPIPE, and its print macros panic when a write
//! fails. Neither ending by SIGPIPE nor a panic would put a device back, so here a
//! failed write is an error like any other: it is passed on, each command undoes
//! what it has begun, and only then the tool ends, quietly.

use std::{
    error, fmt,
    io::{
        self,
        IsTerminal,
        Write, //
    },
    os::fd::{
        AsFd,
        BorrowedFd, //
    },
};
use vfio_mig::{
    error::{
        Context,
        Error, //
    },
    stream,
    text, //
};

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

/// The cause of an error of [`Stream`] if its reader has gone.
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

/// Writes without a buffer. The standard library's own output repeats a write that a signal
/// has interrupted, so a signal could not end a tool whose output nobody reads.
pub struct Unbuffered<F>(F);

impl<F: AsFd> Write for Unbuffered<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        nix::unistd::write(&self.0, bytes).map_err(io::Error::from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: AsFd> AsFd for Unbuffered<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Standard output, for a state. Fails if it is a terminal, which would take bytes of the
/// state for commands.
pub fn unbuffered_stdout() -> Result<Stream<Unbuffered<io::Stdout>>, Error> {
    if io::stdout().is_terminal() {
        let why = "a terminal, which a state would garble; give a file, or > or |";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why)).context("standard output");
    }
    Ok(Stream(Unbuffered(io::stdout())))
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

impl<W: AsFd> AsFd for Stream<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `err` says that nobody reads standard output or standard error.
pub fn reader_gone(err: &Error) -> bool {
    match err {
        Error::Io { source, .. } | Error::Stream { source, .. } => source
            .get_ref()
            .is_some_and(|inner| inner.is::<ReaderGone>()),
        Error::NotPrinted { source, .. } => reader_gone(source),
        _ => false,
    }
}

/// Prints `line` to `to`, of this name. What is in it may be of others.
fn print(to: impl AsFd, name: &str, line: fmt::Arguments<'_>) -> Result<(), Error> {
    let text = text::shown_lines(&format!("{line}\n"));
    match stream::print(&mut Stream(Unbuffered(to)), &text) {
        Err(Error::Stream { source, .. }) => Err(source).context(name),
        printed => printed,
    }
}

/// What [`outln!`] does.
pub fn print_line(line: fmt::Arguments<'_>) -> Result<(), Error> {
    print(io::stdout(), "standard output", line)
}

/// What [`errln!`] does.
pub fn print_error_line(line: fmt::Arguments<'_>) -> Result<(), Error> {
    print(io::stderr(), "standard error", line)
}

/// The result of printing a report of what is `done`. If printing fails, the error must not
/// look as if what is done had failed.
pub fn after(done: &'static str, printed: Result<(), Error>) -> Result<(), Error> {
    printed.map_err(|source| Error::NotPrinted {
        done,
        source: Box::new(source),
    })
}

/// Prints the help to standard output, or a usage error to standard error.
pub fn print_parsed(parsed: &clap::Error) -> Result<(), Error> {
    let stream = match parsed.use_stderr() {
        true => "standard error",
        false => "standard output",
    };
    parsed.print().map_err(marked).context(stream)
}

/// Writes what is still in a buffer. An error at exit would go unnoticed.
pub fn flush() -> Result<(), Error> {
    stdout().flush().context("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        os::unix::net::UnixStream, //
    };

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
    fn what_is_done_has_not_failed_if_nobody_hears_so() {
        for (errno, gone) in [(libc::EPIPE, true), (libc::ENOSPC, false)] {
            let printed = Stream(Fails(errno)).write_all(b"x").context("output");
            let err = after("it is done", printed).unwrap_err();
            assert_eq!(reader_gone(&err), gone);
            let text = err.to_string();
            assert!(
                text.starts_with("it is done; its report could not be printed: output: "),
                "{text}"
            );
        }
        assert!(after("it is done", Ok(())).is_ok());
    }

    #[test]
    fn a_line_is_written_at_once() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        print(theirs.as_fd(), "output", format_args!("a line")).unwrap();
        let mut line = [0; 7];
        ours.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"a line\n");
        print(theirs.as_fd(), "output", format_args!("\x1b[2J\n")).unwrap();
        let mut lines = [0; 8];
        ours.read_exact(&mut lines).unwrap();
        assert_eq!(&lines, "\u{fffd}[2J\n\n".as_bytes());
        drop(ours);
        let err = print(theirs, "output", format_args!("a line")).unwrap_err();
        assert!(reader_gone(&err));
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

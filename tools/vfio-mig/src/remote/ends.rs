// SPDX-License-Identifier: GPL-2.0

//! What carries the frames of two hosts: a TCP connection, standard input and output, or the
//! standard input and output of a command, such as ssh.

use super::command::{
    Started,
    Tell, //
};
use crate::process;
use nix::{
    sys::signal::Signal,
    unistd, //
};
use std::{
    fs::File,
    io::{
        self,
        IsTerminal, //
    },
    net::{
        Shutdown,
        TcpStream, //
    },
    os::{
        fd::{
            AsFd,
            AsRawFd,
            OwnedFd, //
        },
        unix::net::UnixStream, //
    },
    process::{
        Command,
        Stdio, //
    },
};

/// The end that is read, and the one that is written.
pub struct Ends {
    pub(super) from: File,
    /// `None` once nothing more is sent.
    pub(super) to: Option<File>,
    /// Most bytes that are written at a time.
    pub(super) piece: usize,
    /// The command at the other end.
    command: Option<Started>,
}

impl Ends {
    /// A TCP connection, which does not block from now on.
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::never_blocking(
            stream.try_clone()?.into(),
            stream.into(),
        ))
    }

    fn never_blocking(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            from: from.into(),
            to: Some(to.into()),
            piece: usize::MAX,
            command: None,
        }
    }

    /// Files that may block. Others may have them open, too, so they are not made not to
    /// block. A pipe or a socket for which poll() reports POLLOUT takes a piece of PIPE_BUF
    /// bytes at once.
    pub fn blocking(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            piece: libc::PIPE_BUF,
            ..Self::never_blocking(from, to)
        }
    }

    /// Standard input and output. What is printed to standard output from now on goes to
    /// standard error.
    pub fn standard() -> io::Result<Self> {
        let (input, output) = (io::stdin(), io::stdout());
        if input.is_terminal() || output.is_terminal() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a terminal; \"-\" is for a process at the other end, such as ssh or socat",
            ));
        }
        let from = input.as_fd().try_clone_to_owned()?;
        let to = output.as_fd().try_clone_to_owned()?;
        unistd::dup2(io::stderr().as_raw_fd(), output.as_raw_fd())?;
        Ok(Self::blocking(from, to))
    }

    /// The standard input and output of a command, which is started. It ignores SIGINT and
    /// SIGHUP: a terminal sends them to the command, too, which must carry what this process
    /// then has to say. `shown` is the command for messages, of which `tell` is told.
    pub fn command(words: &[String], shown: &str, tell: Tell) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (first, rest) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)));
        process::tie(&mut command, Signal::SIGTERM);
        let ignored = [Signal::SIGINT, Signal::SIGHUP];
        let child = process::while_ignoring(&ignored, || command.spawn())??;
        let ends = Self::never_blocking(ours.try_clone()?.into(), ours.into());
        Ok(Self {
            command: Some(Started::new(child, shown, tell)),
            ..ends
        })
    }

    /// Sends nothing more, so the other side reads the end.
    pub(super) fn end(&mut self) {
        if let Some(to) = self.to.take() {
            // Other files than sockets are only closed.
            let _ = TcpStream::from(OwnedFd::from(to)).shutdown(Shutdown::Write);
        }
    }

    /// If the connection is closed, says how the command at the other end has ended.
    pub(super) fn explain(&mut self, err: io::Error) -> io::Error {
        match &mut self.command {
            Some(command) if err.kind() == io::ErrorKind::ConnectionReset => command.explain(err),
            _ => err,
        }
    }
}

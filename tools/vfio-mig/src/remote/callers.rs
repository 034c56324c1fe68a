// SPDX-License-Identifier: GPL-2.0

//! Peers that connect to a receiver, of which one is the sender.

use super::{
    connection::{
        explain,
        timed_out,
        Connection, //
    },
    ends::Ends,
    frames::{
        bad,
        header,
        FAILED,
        HEADER,
        HELLO,
        MAX_VERSION,
        VERSION, //
    },
    receiver::Observer, //
};
use crate::{
    error::{
        Context,
        Error, //
    },
    wait::{
        self,
        Deadline,
        Signals, //
    },
};
use nix::poll::{
    PollFd,
    PollFlags, //
};
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    net::{
        Shutdown,
        SocketAddr,
        TcpListener,
        TcpStream, //
    },
    os::fd::AsFd,
    time::Duration, //
};

/// Most peers that may be connected at the same time without having said `HELLO`.
pub(super) const MAX_CALLERS: usize = 64;

/// A peer that has connected, and has not said `HELLO` yet.
pub(super) struct Caller {
    /// Never blocks.
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    said: Vec<u8>,
    deadline: Deadline,
}

impl Caller {
    fn new(stream: TcpStream, from: SocketAddr, timeout: Duration) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            from,
            said: Vec::new(),
            deadline: Deadline::after(timeout),
        })
    }

    /// Length of its `HELLO` in bytes, as far as that is known.
    fn expected(&self) -> io::Result<usize> {
        let Some(header) = self.said.first_chunk::<HEADER>() else {
            return Ok(HEADER);
        };
        match *header {
            [HELLO, len, 0, 0, 0] if usize::from(len) <= MAX_VERSION => {
                Ok(HEADER + usize::from(len))
            }
            _ => Err(bad("no vfio-mig: it did not say HELLO")),
        }
    }

    /// Reads its `HELLO`, and no byte after that. Returns whether `HELLO` is complete.
    pub(super) fn listen(&mut self) -> io::Result<bool> {
        let mut buf = [0; HEADER + MAX_VERSION];
        loop {
            let missing = self.expected()? - self.said.len();
            if missing == 0 {
                break;
            }
            match self.stream.read(&mut buf[..missing]) {
                Ok(0) => return Err(bad("it closed the connection before HELLO")),
                Ok(n) => self.said.extend(&buf[..n]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(err) => return Err(explain(err)),
            }
        }
        check_version(&self.said[HEADER..]).map(|()| true)
    }

    /// Refuses it: sends it the reason, if that does not block, and tells the observer.
    fn refuse(mut self, why: &io::Error, observer: &mut dyn Observer) -> Result<(), Error> {
        let text = why.to_string();
        if let Ok(header) = header(FAILED, text.as_bytes()) {
            let _ = self.stream.write(&[&header, text.as_bytes()].concat());
        }
        // As far as it can be done without waiting: see Connection::linger().
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.read(&mut [0; 4 << 10]);
        observer.refused(&self.from.to_string(), &text)
    }
}

/// Fails if `HELLO` says another version than ours.
pub(super) fn check_version(version: &[u8]) -> io::Result<()> {
    match version {
        VERSION => Ok(()),
        version => Err(bad(format!(
            "it speaks {:?}, and not {:?}",
            String::from_utf8_lossy(version),
            String::from_utf8_lossy(VERSION)
        ))),
    }
}

/// Accepts all that have connected. If there are too many, those that have said nothing for
/// longest are refused.
pub(super) fn accept_all(
    listener: &TcpListener,
    callers: &mut Vec<Caller>,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    // No more at a time: a peer that connects again and again must not keep the others from
    // being heard.
    for _ in 0..MAX_CALLERS {
        let mut quiet = None;
        if callers.len() >= MAX_CALLERS {
            // Read first: a caller that has said something since the last round is not
            // refused for silence.
            quiet = callers
                .iter_mut()
                .position(|caller| matches!(caller.listen(), Ok(false)));
            if quiet.is_none() {
                return Ok(());
            }
        }
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(err) if is_of_connection(&err) => continue,
            Err(err) => return Err(err).context("waiting for the sender"),
        };
        if let Some(quiet) = quiet {
            let why = io::Error::other("too many others have connected");
            callers.remove(quiet).refuse(&why, observer)?;
        }
        callers.push(Caller::new(stream, from, timeout).context(from.to_string())?);
    }
    Ok(())
}

/// Whether an error of accept() is about a connection and not about the listener ("treat
/// them like EAGAIN by retrying", accept(2)).
fn is_of_connection(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNABORTED
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// Waits until someone has said `HELLO`. All others are refused.
pub(super) fn wait_for_sender(
    listener: &TcpListener,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<(Connection, SocketAddr), Error> {
    let what = "waiting for the sender";
    listener.set_nonblocking(true).context(what)?;
    // In the order in which they came.
    let mut callers: Vec<Caller> = Vec::new();
    loop {
        let mut deadline = Deadline::NEVER;
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        for caller in &callers {
            deadline = deadline.or(caller.deadline);
            fds.push(PollFd::new(caller.stream.as_fd(), PollFlags::POLLIN));
        }
        wait::ready(&mut fds, deadline, Signals::Heed).context(what)?;
        accept_all(listener, &mut callers, timeout, observer)?;

        let mut sender = None;
        let mut waiting = Vec::new();
        for mut caller in callers {
            let refused = match caller.listen() {
                _ if sender.is_some() => io::Error::other("another sender came first"),
                Ok(true) => {
                    sender = Some(caller);
                    continue;
                }
                Ok(false) if !caller.deadline.has_passed() => {
                    waiting.push(caller);
                    continue;
                }
                Ok(false) => timed_out("did not say HELLO in", timeout),
                Err(err) => err,
            };
            caller.refuse(&refused, observer)?;
        }
        callers = waiting;
        if let Some(sender) = sender {
            for caller in callers {
                let why = io::Error::other("another sender came first");
                caller.refuse(&why, observer)?;
            }
            let from = sender.from;
            let ends = Ends::tcp(sender.stream).context(from.to_string())?;
            return Ok((Connection::new(ends, timeout), from));
        }
    }
}

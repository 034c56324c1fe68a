// SPDX-License-Identifier: GPL-2.0

//! A connection between two hosts.

use super::{
    ends::Ends,
    frames::{
        header,
        parse_header,
        HEADER, //
    },
};
use crate::{
    endpoint::Endpoint,
    uapi,
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
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    net::{
        SocketAddr,
        TcpStream,
        ToSocketAddrs, //
    },
    os::fd::AsFd,
    time::{
        Duration,
        Instant, //
    },
};

/// Timeouts that a receiver waits in all, besides one for each `BARRIER` and a second for each
/// [`MIN_BYTES_PER_SECOND`] of the state. A sender of single bytes, each of them just in time,
/// would keep the device for ever.
const MAX_TIMEOUTS: u32 = 10;
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// Most time that a sender waits for a receiver to forget the state. Also the most time for
/// which a receiver that has failed goes on reading, and [`MAX_LINGER_BYTES`] the most
/// bytes: closing a socket with unread data resets the connection, and the sender would not
/// get the reason.
pub(super) const MAX_LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 64 << 20;

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the other side has closed the connection",
    )
}

pub(super) fn timed_out(what: &str, timeout: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "the other side {what} {} s (--timeout)",
            timeout.as_secs_f64()
        ),
    )
}

/// A socket tells its end by EPIPE, ECONNRESET or no byte.
pub(super) fn explain(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed(),
        _ => err,
    }
}

/// A connection that moves whole frames, each in limited time.
pub(super) struct Connection {
    pub(super) ends: Ends,
    pub(super) timeout: Duration,
    pub(super) signals: Signals,
    /// Time that was spent in [`Self::receive`].
    pub(super) waited: Duration,
}

impl Connection {
    pub(super) fn new(ends: Ends, timeout: Duration) -> Self {
        Self {
            ends,
            timeout,
            signals: Signals::Heed,
            waited: Duration::ZERO,
        }
    }

    /// Waits until `file` is ready for `events`; fails with `late` when it is too late.
    fn wait(
        &self,
        file: &File,
        events: PollFlags,
        deadline: Deadline,
        late: &str,
    ) -> io::Result<()> {
        let mut fds = [PollFd::new(file.as_fd(), events)];
        match wait::ready(&mut fds, deadline, self.signals)? {
            true => Ok(()),
            false => Err(timed_out(late, self.timeout)),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut to = self.ends.to.as_ref().ok_or_else(closed)?;
            self.wait(to, PollFlags::POLLOUT, deadline, "did not take a frame in")?;
            match to.write(&bytes[..bytes.len().min(self.ends.piece)]) {
                Ok(n) => bytes = &bytes[n..],
                Err(err) if is_no_error(&err) => (),
                Err(err) => return Err(explain(err)),
            }
        }
        Ok(())
    }

    /// Reads some bytes, or none at the end.
    fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        loop {
            let mut from = &self.ends.from;
            self.wait(from, PollFlags::POLLIN, deadline, "did not end a frame in")?;
            match from.read(buf) {
                Err(err) if is_no_error(&err) => (),
                result => return result.map_err(explain),
            }
        }
    }

    fn read_exact(&mut self, mut buf: &mut [u8], deadline: Deadline) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read(buf, deadline)? {
                0 => return Err(closed()),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let deadline = Deadline::after(self.timeout);
        self.write_all(&header(kind, bytes)?, deadline)?;
        self.write_all(bytes, deadline)
    }

    /// Returns the kind of the next frame, which is then in `buf`.
    pub(super) fn receive(&mut self, buf: &mut Vec<u8>) -> io::Result<u8> {
        let begin = Instant::now();
        let first = Deadline::after(self.timeout);
        let from = &self.ends.from;
        self.wait(from, PollFlags::POLLIN, first, "did nothing for")?;
        let deadline = Deadline::after(self.timeout);
        let mut header = [0; HEADER];
        self.read_exact(&mut header, deadline)?;
        let (kind, len) = parse_header(header)?;
        buf.resize(len, 0);
        self.read_exact(buf, deadline)?;
        self.waited += begin.elapsed();
        Ok(kind)
    }

    /// Whether this side has waited for the peer for longer than is allowed for the bytes
    /// that the peer has sent.
    pub(super) fn is_too_slow(&self, bytes: u64, barriers: u32) -> bool {
        let for_steps = self.timeout.saturating_mul(MAX_TIMEOUTS + barriers);
        let for_bytes = Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
        self.waited > for_steps.saturating_add(for_bytes)
    }

    /// Whether there is something to read, or the end.
    pub(super) fn has_heard(&self) -> bool {
        matches!(uapi::poll(self.ends.from.as_fd(), libc::POLLIN, 0), Ok(1..))
    }

    /// Ends the connection so that the peer gets all that was sent.
    pub(super) fn linger(&mut self) {
        self.ends.end();
        let deadline = Deadline::after(self.timeout.min(MAX_LINGER));
        let mut buf = vec![0; 64 << 10];
        let mut bytes = 0;
        while bytes < MAX_LINGER_BYTES {
            match self.read(&mut buf, deadline) {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes += n,
            }
        }
    }
}

/// Whether a file that never blocks has just nothing to do.
fn is_no_error(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Connects to one of the addresses of `to`, all of them within `timeout`.
pub(super) fn connect(to: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Deadline::after(timeout);
    let addresses: Vec<SocketAddr> = to.to_socket_addrs()?.collect();
    let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for (address, others) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        // Each address gets its share of the time, so one that does not answer leaves time
        // for the others.
        let share = deadline.left().unwrap_or(timeout) / others;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(err) => last = err,
        }
    }
    Err(last)
}

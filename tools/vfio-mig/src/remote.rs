// SPDX-License-Identifier: GPL-2.0

//! Another host as a [`Target`], over TCP.
//!
//! Both sides send frames: a byte that says what it is, its length as a
//! little endian u32, and so many bytes. The sender has `HELLO` (the version),
//! `DATA`, `BARRIER` (has it all been loaded?), `END` (SHA-256 of all data),
//! `START` and `ABANDON` (with a reason); the receiver answers all but `DATA` with `DONE`, or
//! with `FAILED` and a reason. It can send `FAILED` at any time. After `START`, `FAILED`
//! says that it has reset its device; where that has failed, too, it only closes the
//! connection. There is neither encryption nor authentication: for that, there are tunnels.
//!
//! A side waits for the beginning of a frame as long as its timeout, and then as long
//! again until the frame is complete, however the bytes come. [`serve`] waits for a
//! `HELLO` from whoever connects, from all of them at the same time.

use crate::{
    device::Device,
    endpoint::Endpoint,
    error::{Context, Error, StreamContext},
    stream,
    target::{DeviceTarget, Target},
    wait::{self, Deadline, Signals},
};
use nix::poll::{PollFd, PollFlags};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    time::{Duration, Instant},
};

const HELLO: u8 = 1;
const DATA: u8 = 2;
const BARRIER: u8 = 3;
const END: u8 = 4;
const START: u8 = 5;
const ABANDON: u8 = 6;
const DONE: u8 = 0x80;
const FAILED: u8 = 0x81;

/// What `HELLO` says.
const VERSION: &[u8] = b"vfio-mig 1";
/// Most bytes of what `HELLO` says, in any version.
const MAX_VERSION: usize = 64;
/// Most bytes of a frame: what the other side sends decides about our memory.
const MAX_FRAME: u32 = 1 << 20;
/// Most bytes that are shown of a peer's reason.
const MAX_REASON: usize = 1 << 10;
/// Bytes that a frame has before its contents.
const HEADER: usize = 5;
/// Most `BARRIER`s of a sender, which has one in each round of pre-copy, of which there are
/// 50, whether the round had data or not.
const MAX_BARRIERS: u32 = 64;
/// How many times the time-out a receiver waits in all, besides one for each `BARRIER` and
/// a second for so many bytes of the state. A sender of single bytes, each of them just in
/// time, would keep the device for ever.
const MAX_TIMEOUTS: u32 = 10;
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// Most peers that are waited for at the same time to say `HELLO`.
const MAX_CALLERS: usize = 64;
/// How long a receiver is waited for that is to forget the state. How long, and for how
/// many bytes, a receiver that has failed goes on to read, so that its reason is not lost:
/// a socket that is closed with something to read resets the connection.
const MAX_LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 64 << 20;

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the other side has closed the connection",
    )
}

fn timed_out(what: &str, timeout: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "the other side {what} {} s (--timeout)",
            timeout.as_secs_f64()
        ),
    )
}

/// A socket tells its end by EPIPE, ECONNRESET or no byte.
fn explain(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed(),
        _ => err,
    }
}

/// What comes before the contents of a frame.
fn header(kind: u8, bytes: &[u8]) -> io::Result<[u8; HEADER]> {
    let len = u32::try_from(bytes.len()).map_err(|_| bad("a frame is too long"))?;
    let [a, b, c, d] = len.to_le_bytes();
    Ok([kind, a, b, c, d])
}

/// The kind of a frame, and the length of its contents.
fn parse_header([kind, a, b, c, d]: [u8; HEADER]) -> io::Result<(u8, usize)> {
    match u32::from_le_bytes([a, b, c, d]) {
        len if len > MAX_FRAME => Err(bad(format!("a frame of {len} bytes is too long"))),
        len => Ok((kind, len as usize)),
    }
}

/// Why the peer has failed, in its words, which must not command the terminal.
fn reason(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(MAX_REASON)]);
    let shown = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A TCP connection that moves whole frames, each in limited time.
struct Connection {
    /// Never blocks.
    stream: TcpStream,
    timeout: Duration,
    signals: Signals,
    /// Time that was spent in [`Self::receive`].
    waited: Duration,
}

impl Connection {
    fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            timeout,
            signals: Signals::Heed,
            waited: Duration::ZERO,
        })
    }

    /// Waits for `events`; fails with `late` when it is too late.
    fn wait(&self, events: PollFlags, deadline: Deadline, late: &str) -> io::Result<()> {
        let mut fds = [PollFd::new(self.stream.as_fd(), events)];
        match wait::ready(&mut fds, deadline, self.signals)? {
            true => Ok(()),
            false => Err(timed_out(late, self.timeout)),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        while !bytes.is_empty() {
            self.wait(PollFlags::POLLOUT, deadline, "did not take a frame in")?;
            match self.stream.write(bytes) {
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
            self.wait(PollFlags::POLLIN, deadline, "did not end a frame in")?;
            match self.stream.read(buf) {
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

    fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let deadline = Deadline::after(self.timeout);
        self.write_all(&header(kind, bytes)?, deadline)?;
        self.write_all(bytes, deadline)
    }

    /// Returns the kind of the next frame, which is then in `buf`.
    fn receive(&mut self, buf: &mut Vec<u8>) -> io::Result<u8> {
        let begin = Instant::now();
        let first = Deadline::after(self.timeout);
        self.wait(PollFlags::POLLIN, first, "did nothing for")?;
        let deadline = Deadline::after(self.timeout);
        let mut header = [0; HEADER];
        self.read_exact(&mut header, deadline)?;
        let (kind, len) = parse_header(header)?;
        buf.resize(len, 0);
        self.read_exact(buf, deadline)?;
        self.waited += begin.elapsed();
        Ok(kind)
    }

    /// Whether the peer, which has sent so much, had this side wait for longer than it may.
    fn is_too_slow(&self, bytes: u64, barriers: u32) -> bool {
        let for_steps = self.timeout.saturating_mul(MAX_TIMEOUTS + barriers);
        let for_bytes = Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
        self.waited > for_steps.saturating_add(for_bytes)
    }

    /// Whether there is something to read, or the end.
    fn has_heard(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(err) => !is_no_error(&err),
        }
    }

    /// Ends the connection so that the peer gets all that was sent.
    fn linger(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
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

/// Whether a socket that never blocks has just nothing to do.
fn is_no_error(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Connects to one of the addresses of `to`, all of them within `timeout`.
fn connect(to: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Deadline::after(timeout);
    let addresses: Vec<SocketAddr> = to.to_socket_addrs()?.collect();
    let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for (address, others) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        // One that does not answer leaves the others their share.
        let share = deadline.left().unwrap_or(timeout) / others;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// A host that waits in [`serve`].
pub struct RemoteTarget {
    connection: Connection,
    peer: String,
    digest: Sha256,
    /// It was told to start, and has not said that it has failed.
    started: bool,
    /// Nothing more can be sent: a frame was cut short, or the peer has failed or said
    /// nothing for as long as it may.
    ended: bool,
}

impl RemoteTarget {
    /// Connects. A side that needs more than `timeout` for a step is given up.
    pub fn connect(to: &Endpoint, timeout: Duration) -> Result<Self, Error> {
        let connection = connect(to, timeout).and_then(|stream| Connection::new(stream, timeout));
        Ok(Self {
            connection: connection.context(format!("connecting to {to}"))?,
            peer: to.to_string(),
            digest: Sha256::new(),
            started: false,
            ended: false,
        })
    }

    fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(kind, bytes).map_err(|err| {
            self.ended = true;
            // It may have said why before it closed the connection.
            match err.kind() {
                io::ErrorKind::ConnectionReset => self.hear().err().unwrap_or(err),
                _ => err,
            }
        })
    }

    /// Receives an answer.
    fn hear(&mut self) -> io::Result<()> {
        let mut answer = Vec::new();
        let err = match self.connection.receive(&mut answer) {
            Ok(DONE) => return Ok(()),
            Ok(FAILED) => {
                // It does not run: else it would not say so.
                self.started = false;
                io::Error::other(reason(&answer))
            }
            Ok(kind) => bad(format!("unexpected frame {kind:#x}")),
            Err(err) => err,
        };
        self.ended = true;
        Err(err)
    }

    fn request(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Error> {
        self.send(kind, bytes)
            .and_then(|()| self.hear())
            .context(self.peer.clone())
    }
}

impl Write for RemoteTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Data is not answered, unless something has failed.
        if self.connection.has_heard() {
            self.hear()?;
            self.ended = true;
            return Err(bad("an answer to no request"));
        }
        let n = bytes.len().min(MAX_FRAME as usize);
        self.send(DATA, &bytes[..n])?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for RemoteTarget {
    fn prepare(&mut self) -> Result<(), Error> {
        self.request(HELLO, VERSION)
    }

    fn wait_loaded(&mut self) -> Result<(), Error> {
        self.request(BARRIER, &[])
    }

    fn finish(&mut self) -> Result<(), Error> {
        let digest = self.digest.clone().finalize();
        self.request(END, &digest)
    }

    fn start(&mut self) -> Result<(), Error> {
        self.started = true;
        // Without the answer, nobody knows which of the two may run.
        self.connection.signals = Signals::Ignore;
        self.request(START, &[])
    }

    fn abandon(&mut self, why: &Error) -> Result<(), Error> {
        if self.started {
            // Without an answer, it may run.
            return Err(Error::MayRun(self.peer.clone()));
        }
        // One that is gone, or whose connection is closed, resets its device by
        // itself.
        if !self.ended {
            self.connection.signals = Signals::Ignore;
            // The source is stopped meanwhile. Without START, the receiver does not run,
            // whether it answers or not.
            self.connection.timeout = self.connection.timeout.min(MAX_LINGER);
            let _ = self.request(ABANDON, why.to_string().as_bytes());
        }
        Ok(())
    }

    fn explain(&self, err: Error) -> Error {
        err.stream_context(stream::WRITING, &self.peer)
    }

    fn checksum(&self) -> Option<String> {
        Some(format!("{:x}", self.digest.clone().finalize()))
    }
}

/// What was received.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// Who sent it.
    pub from: String,
    /// Bytes of the state.
    pub bytes: u64,
    /// SHA-256 of them, which is what the sender has, too.
    pub sha256: String,
}

/// Hears of the progress of [`serve`].
pub trait Observer {
    /// A peer was refused, for this reason.
    fn refused(&mut self, peer: &str, why: &str) -> Result<(), Error>;
    /// So many bytes have been received.
    fn bytes(&mut self, bytes: u64);
}

/// Waits for one sender, and loads what it sends into `device`, which then runs.
/// When this fails the device is reset. Who connects and is no sender is refused.
pub fn serve(
    device: &Device,
    listener: TcpListener,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let mut target = DeviceTarget::new(device).with_timeout(timeout);
    serve_into(&mut target, listener, timeout, observer)
}

fn serve_into(
    target: &mut dyn Target,
    listener: TcpListener,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let (mut connection, from) = wait_for_sender(&listener, timeout, observer)?;
    // There will be no other one, who would wait in vain.
    drop(listener);
    let mut phase = Phase::Data;
    let taken = take(&mut connection, target, &mut phase, observer);
    let err = match taken {
        Ok((bytes, sha256)) => {
            return Ok(Received {
                from: from.to_string(),
                bytes,
                sha256,
            })
        }
        Err(err) => err,
    };
    // What is said and read from here on undoes what was begun.
    connection.signals = Signals::Ignore;
    let abandoned = target.abandon(&err);
    // The source goes on when it hears FAILED, so the device must not run with its state.
    let may_run = phase == Phase::Started && abandoned.is_err();
    let err = err.unless_undone(abandoned);
    // The sender may be gone.
    let _ = match err {
        _ if may_run => Ok(()),
        Error::GivenUp { .. } => connection.send(DONE, &[]),
        _ => connection.send(FAILED, err.to_string().as_bytes()),
    };
    connection.linger();
    Err(err)
}

/// Who has connected, and has not said `HELLO` yet.
struct Caller {
    /// Never blocks.
    stream: TcpStream,
    from: SocketAddr,
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

    /// Bytes that it has to say in all, as far as that is known.
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

    /// Reads what it says, and not more than `HELLO`. Whether that was all of it.
    fn listen(&mut self) -> io::Result<bool> {
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
        match &self.said[HEADER..] {
            VERSION => Ok(true),
            version => Err(bad(format!(
                "it speaks {:?}, and not {:?}",
                String::from_utf8_lossy(version),
                String::from_utf8_lossy(VERSION)
            ))),
        }
    }

    /// Says why it is refused, to it, if it reads, and to the observer.
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

/// Accepts who is there. If these are too many, the ones who say nothing for longest go.
fn accept_all(
    listener: &TcpListener,
    callers: &mut Vec<Caller>,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    // No more at a time: someone who connects again and again must not keep those from
    // being heard who are there.
    for _ in 0..MAX_CALLERS {
        let mut quiet = None;
        if callers.len() >= MAX_CALLERS {
            // Whoever has said something since the last look is to be heard first.
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

/// Whether accept() says what has happened to a connection and not to the listener
/// ("treat them like EAGAIN by retrying", accept(2)).
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
fn wait_for_sender(
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
            let connection = Connection::new(sender.stream, timeout);
            return Ok((connection.context(from.to_string())?, from));
        }
    }
}

/// What the receiver has heard.
#[derive(PartialEq, Eq)]
enum Phase {
    Data,
    Start,
    Started,
}

/// Takes what comes after `HELLO`.
fn take(
    connection: &mut Connection,
    target: &mut dyn Target,
    phase: &mut Phase,
    observer: &mut dyn Observer,
) -> Result<(u64, String), Error> {
    target.prepare()?;
    connection.send(DONE, &[]).context("the sender")?;
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut barriers = 0;
    let mut frame = Vec::new();
    loop {
        let kind = connection.receive(&mut frame).context("the sender")?;
        if *phase == Phase::Data && connection.is_too_slow(bytes, barriers) {
            return Err(bad("sends less than 64 KiB a second")).context("the sender");
        }
        match (kind, &*phase) {
            // Else a peer could keep the device for ever with nothing.
            (DATA, Phase::Data) if frame.is_empty() => {
                return Err(bad("sends frames without data")).context("the sender");
            }
            (BARRIER | START, _) if !frame.is_empty() => {
                return Err(bad(format!("frame {kind:#x} has contents"))).context("the sender");
            }
            (DATA, Phase::Data) => {
                stream::write_all(target, &frame, bytes).map_err(|err| target.explain(err))?;
                digest.update(&frame);
                bytes += frame.len() as u64;
                observer.bytes(bytes);
                continue;
            }
            (BARRIER, Phase::Data) if barriers == MAX_BARRIERS => {
                return Err(bad("asks again and again whether all is loaded")).context("the sender");
            }
            (BARRIER, Phase::Data) => {
                barriers += 1;
                target.wait_loaded()?;
            }
            // The device would run with nothing loaded.
            (END, Phase::Data) if bytes == 0 => return Err(Error::NothingToLoad),
            (END, Phase::Data) => {
                if digest.clone().finalize()[..] != frame[..] {
                    return Err(bad("the checksum differs")).context("the state");
                }
                target.finish()?;
                *phase = Phase::Start;
            }
            (START, Phase::Start) => {
                *phase = Phase::Started;
                target.start()?;
                // It runs, whether the sender hears so or not.
                connection.signals = Signals::Ignore;
                let _ = connection.send(DONE, &[]);
                return Ok((bytes, format!("{:x}", digest.finalize())));
            }
            (ABANDON, _) => {
                let why = reason(&frame);
                return Err(Error::GivenUp { why });
            }
            _ => return Err(bad(format!("unexpected frame {kind:#x}"))).context("the sender"),
        }
        connection.send(DONE, &[]).context("the sender")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{self, JoinHandle};

    /// Notes what happens to it.
    #[derive(Default)]
    struct Notes {
        written: Vec<u8>,
        steps: Vec<&'static str>,
        /// Bytes that it has room for, if there is a limit.
        room: Option<usize>,
        /// Steps that fail.
        fails: &'static [&'static str],
    }

    impl Notes {
        fn note(&mut self, step: &'static str) -> Result<(), Error> {
            self.steps.push(step);
            match self.fails.contains(&step) {
                true => Err(io::Error::from_raw_os_error(libc::EIO)).context(step),
                false => Ok(()),
            }
        }
    }

    impl Write for Notes {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            match self.room {
                Some(room) if self.written.len() + buf.len() > room => {
                    Err(io::Error::other("there is no room"))
                }
                _ => self.written.write(buf),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Notes {
        fn prepare(&mut self) -> Result<(), Error> {
            self.note("prepare")
        }

        fn wait_loaded(&mut self) -> Result<(), Error> {
            self.note("wait")
        }

        fn finish(&mut self) -> Result<(), Error> {
            self.note("finish")
        }

        fn start(&mut self) -> Result<(), Error> {
            self.note("start")
        }

        fn abandon(&mut self, _why: &Error) -> Result<(), Error> {
            self.note("abandon")
        }
    }

    /// Who was refused, and why.
    #[derive(Default)]
    struct Refused(Vec<String>);

    impl Observer for Refused {
        fn refused(&mut self, peer: &str, why: &str) -> Result<(), Error> {
            self.0.push(format!("{peer}: {why}"));
            Ok(())
        }

        fn bytes(&mut self, _bytes: u64) {}
    }

    impl Refused {
        /// Fails unless `peer` was refused, and `why` is in the reason.
        fn require(&self, peer: SocketAddr, why: &str) {
            let refusal = self
                .0
                .iter()
                .find(|text| text.starts_with(&format!("{peer}: ")));
            assert!(
                refusal.is_some_and(|text| text.contains(why)),
                "{why}: {:?}",
                self.0
            );
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    fn connect_to(at: SocketAddr, timeout: Duration) -> RemoteTarget {
        RemoteTarget::connect(&at.to_string().parse().unwrap(), timeout).unwrap()
    }

    /// A peer that has said all this.
    fn peer(at: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// [`serve_into`] in a thread of its own.
    type Serving = JoinHandle<(Result<Received, Error>, Notes, Refused)>;

    fn serve_notes(listener: TcpListener, timeout: Duration, mut notes: Notes) -> Serving {
        thread::spawn(move || {
            let mut refused = Refused::default();
            let result = serve_into(&mut notes, listener, timeout, &mut refused);
            (result, notes, refused)
        })
    }

    fn terminated() -> Error {
        Error::Interrupted {
            signal: libc::SIGTERM,
        }
    }

    fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, contents) in frames {
            bytes.extend(header(*kind, contents).unwrap());
            bytes.extend(*contents);
        }
        bytes
    }

    /// What becomes of a sender that says all this and then closes the connection.
    fn taken(bytes: &[u8]) -> (Result<Received, Error>, Notes) {
        let (listener, at) = listen();
        let peer = peer(at, bytes);
        peer.shutdown(Shutdown::Write).unwrap();
        let mut notes = Notes::default();
        let result = serve_into(&mut notes, listener, LONG, &mut Refused::default());
        (result, notes)
    }

    /// Has a whole state received.
    fn send_state(target: &mut RemoteTarget) -> Result<(), Error> {
        target.prepare()?;
        target.write_all(b"sta").unwrap();
        target.wait_loaded()?;
        target.write_all(b"te").unwrap();
        target.finish()?;
        target.start()
    }

    #[test]
    fn a_state_arrives_whole() {
        let (listener, at) = listen();
        let serving = serve_notes(listener, LONG, Notes::default());
        let mut target = connect_to(at, LONG);
        send_state(&mut target).unwrap();
        let (result, notes, refused) = serving.join().unwrap();
        let received = result.unwrap();
        assert_eq!(received.bytes, 5);
        assert_eq!(Some(received.sha256), target.checksum());
        assert_eq!(notes.written, b"state");
        assert_eq!(notes.steps, ["prepare", "wait", "finish", "start"]);
        assert!(refused.0.is_empty());
    }

    #[test]
    fn a_state_that_was_changed_on_the_way_is_not_loaded() {
        let digest = Sha256::digest(b"state");
        let (result, notes) = taken(&frames(&[
            (HELLO, VERSION),
            (DATA, b"other"),
            (END, &digest),
        ]));
        assert!(result.unwrap_err().to_string().contains("checksum"));
        assert_eq!(notes.steps, ["prepare", "abandon"]);
    }

    #[test]
    fn frames_without_data_are_refused() {
        let (result, _) = taken(&frames(&[(HELLO, VERSION), (DATA, b"")]));
        assert!(result.unwrap_err().to_string().contains("without data"));
    }

    #[test]
    fn the_reason_of_a_peer_commands_no_terminal() {
        assert_eq!(reason(b"no room\nleft"), "no room left");
        let shown = reason(b"\r\x1b[2Kdone\x07\xff");
        assert_eq!(shown, "\u{fffd}\u{fffd}[2Kdone\u{fffd}\u{fffd}");
        assert_eq!(reason(&[b'a'; 1 << 20]).len(), MAX_REASON);
    }

    /// A connection to a peer of this process, and the peer.
    fn connected(timeout: Duration) -> (RemoteTarget, TcpStream) {
        let (listener, at) = listen();
        let target = connect_to(at, timeout);
        (target, listener.accept().unwrap().0)
    }

    #[test]
    fn a_silent_peer_is_waited_for_once() {
        let timeout = Duration::from_millis(200);
        let (mut target, _peer) = connected(timeout);
        let begin = Instant::now();
        let err = target.prepare().unwrap_err();
        target.abandon(&terminated()).unwrap();
        assert!((timeout..timeout * 2).contains(&begin.elapsed()));
        assert_eq!(err.errno(), Some(libc::ETIMEDOUT));
        let text = err.to_string();
        assert!(text.contains("did nothing for 0.2 s"), "{text}");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_waited_for_once() {
        let timeout = Duration::from_millis(200);
        let (mut target, _peer) = connected(timeout);
        let piece = vec![0; MAX_FRAME as usize];
        let err = loop {
            if let Err(err) = target.write_all(&piece) {
                break err;
            }
        };
        assert!(
            err.to_string().contains("did not take a frame in 0.2 s"),
            "{err}"
        );
        let begin = Instant::now();
        target.abandon(&terminated()).unwrap();
        assert!(begin.elapsed() < timeout);
    }

    /// Sends one byte of a frame that never ends, again and again, for 5 s at most.
    fn trickle(mut to: TcpStream) -> JoinHandle<()> {
        to.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let begin = Instant::now();
            let mut byte = &[DONE][..];
            while begin.elapsed() < Duration::from_secs(5) && to.write_all(byte).is_ok() {
                byte = &[0];
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    #[test]
    fn a_frame_must_be_complete_in_time() {
        let timeout = Duration::from_millis(200);
        let (mut target, mut peer) = connected(timeout);
        peer.write_all(&[DONE, 0xff, 0xff, 0, 0]).unwrap();
        let slow = trickle(peer);
        let begin = Instant::now();
        let text = target.prepare().unwrap_err().to_string();
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{:?}",
            begin.elapsed()
        );
        assert!(text.contains("did not end a frame in 0.2 s"), "{text}");
        drop(target);
        slow.join().unwrap();
    }

    #[test]
    fn a_peer_that_is_gone_has_closed_the_connection() {
        let (mut target, peer) = connected(LONG);
        drop(peer);
        let text = target.prepare().unwrap_err().to_string();
        assert!(text.ends_with("has closed the connection"), "{text}");
    }

    #[test]
    fn a_state_without_bytes_is_not_started() {
        let digest = Sha256::digest(b"");
        let (result, notes) = taken(&frames(&[(HELLO, VERSION), (END, &digest), (START, b"")]));
        assert!(matches!(result, Err(Error::NothingToLoad)));
        assert_eq!(notes.steps, ["prepare", "abandon"]);
    }

    #[test]
    fn nothing_unexpected_is_obeyed() {
        for bad in [
            frames(&[(HELLO, VERSION), (START, b"")]),
            frames(&[(HELLO, VERSION), (HELLO, VERSION)]),
            frames(&[(HELLO, VERSION), (ABANDON, b"")]),
            frames(&[(HELLO, VERSION), (9, b"")]),
            frames(&[(HELLO, VERSION), (BARRIER, b"x")]),
            frames(&[(HELLO, VERSION), (START, b"x")]),
            // It ends, in a header and in a frame.
            frames(&[(HELLO, VERSION)]),
            frames(&[(HELLO, VERSION), (DATA, b"x")])[..17].to_vec(),
            // A length that no frame has.
            [
                &frames(&[(HELLO, VERSION)])[..],
                &[DATA, 0xff, 0xff, 0xff, 0xff],
            ]
            .concat(),
        ] {
            let (result, notes) = taken(&bad);
            assert!(result.is_err(), "{bad:?}");
            assert_eq!(notes.steps, ["prepare", "abandon"], "{bad:?}");
        }
    }

    #[test]
    fn who_is_no_sender_does_not_use_the_receiver_up() {
        let (listener, at) = listen();
        // All before the sender: the one that says nothing must not keep it waiting.
        let silent = peer(at, b"");
        let slow = peer(at, &[HELLO, 10, 0]);
        let scanner = peer(at, b"");
        let scanned = scanner.local_addr().unwrap();
        drop(scanner);
        let browser = peer(at, b"GET / HTTP/1.0\r\n\r\n");
        let long = peer(at, &[HELLO, 65, 0, 0, 0]);
        let newer = peer(at, &frames(&[(HELLO, b"vfio-mig 2\x1b")]));
        let begin = Instant::now();
        let serving = serve_notes(listener, LONG, Notes::default());
        send_state(&mut connect_to(at, LONG)).unwrap();
        let (result, notes, refused) = serving.join().unwrap();
        assert_eq!(result.unwrap().bytes, 5);
        assert!(begin.elapsed() < LONG / 2);
        assert_eq!(notes.steps, ["prepare", "wait", "finish", "start"]);
        refused.require(scanned, "closed the connection before HELLO");
        let first = "another sender came first";
        let version = r#"it speaks "vfio-mig 2\u{1b}", and not "vfio-mig 1""#;
        for (mut peer, why) in [
            (silent, first),
            (slow, first),
            (browser, "did not say HELLO"),
            (long, "did not say HELLO"),
            (newer, version),
        ] {
            refused.require(peer.local_addr().unwrap(), why);
            // It hears so, too.
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).unwrap();
            assert_eq!(answer.first(), Some(&FAILED), "{why}");
            let told = reason(&answer[HEADER..]);
            assert!(told.contains(why), "{told}");
        }
        assert_eq!(refused.0.len(), 6, "{:?}", refused.0);
    }

    #[test]
    fn who_says_hello_too_slowly_is_refused() {
        let (listener, at) = listen();
        let timeout = Duration::from_millis(200);
        let begin = Instant::now();
        let serving = serve_notes(listener, timeout, Notes::default());
        let silent = peer(at, b"");
        let slow = peer(at, &[HELLO]);
        let slow_at = slow.local_addr().unwrap();
        let trickling = trickle(slow);
        let mut answer = Vec::new();
        (&silent).read_to_end(&mut answer).unwrap();
        assert!(begin.elapsed() >= timeout);
        trickling.join().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2));
        send_state(&mut connect_to(at, LONG)).unwrap();
        let (result, _, refused) = serving.join().unwrap();
        assert_eq!(result.unwrap().bytes, 5);
        refused.require(silent.local_addr().unwrap(), "did not say HELLO in 0.2 s");
        refused.require(slow_at, "HELLO");
    }

    #[test]
    fn many_who_say_nothing_keep_no_sender_out() {
        let (listener, at) = listen();
        let silent: Vec<_> = (0..MAX_CALLERS + 8).map(|_| peer(at, b"")).collect();
        let serving = serve_notes(listener, LONG, Notes::default());
        send_state(&mut connect_to(at, LONG)).unwrap();
        let (result, _, refused) = serving.join().unwrap();
        assert_eq!(result.unwrap().bytes, 5);
        assert_eq!(refused.0.len(), silent.len(), "{:?}", refused.0);
        refused.require(silent[0].local_addr().unwrap(), "too many others");
    }

    #[test]
    fn a_sender_that_has_said_hello_is_heard() {
        let (listener, at) = listen();
        listener.set_nonblocking(true).unwrap();
        let mut sender = peer(at, b"");
        let from = sender.local_addr().unwrap();
        let silent: Vec<_> = (1..MAX_CALLERS).map(|_| peer(at, b"")).collect();
        let mut callers = Vec::new();
        let mut refused = Refused::default();
        while callers.len() < MAX_CALLERS {
            accept_all(&listener, &mut callers, LONG, &mut refused).unwrap();
        }
        // Between two looks: the first one says HELLO, and one more connects.
        sender.write_all(&frames(&[(HELLO, VERSION)])).unwrap();
        while callers[0].stream.peek(&mut [0]).is_err() {}
        let late = peer(at, b"");
        while refused.0.is_empty() {
            accept_all(&listener, &mut callers, LONG, &mut refused).unwrap();
        }
        refused.require(silent[0].local_addr().unwrap(), "too many others");
        assert_eq!((callers[0].from, callers.len()), (from, MAX_CALLERS));
        assert!(callers[0].listen().unwrap());
        drop(late);
    }

    #[test]
    fn who_has_nothing_to_send_does_not_keep_the_device() {
        let barriers = |n: u32| {
            let mut all = vec![(HELLO, VERSION)];
            all.extend((0..n).map(|_| (BARRIER, &b""[..])));
            all
        };
        let (result, notes) = taken(&frames(&barriers(MAX_BARRIERS + 1)));
        let text = result.unwrap_err().to_string();
        assert!(text.contains("again and again"), "{text}");
        assert_eq!(notes.steps.len(), MAX_BARRIERS as usize + 2);
        // As often as rounds of pre-copy need it, it may.
        let mut all = barriers(MAX_BARRIERS);
        all.push((DATA, b"state"));
        let digest = Sha256::digest(b"state");
        all.extend([(END, &digest[..]), (START, b"")]);
        assert_eq!(taken(&frames(&all)).0.unwrap().bytes, 5);
    }

    #[test]
    fn who_sends_single_bytes_does_not_keep_the_device() {
        let timeout = Duration::from_millis(50);
        let (listener, at) = listen();
        let serving = serve_notes(listener, timeout, Notes::default());
        let mut sender = peer(at, &frames(&[(HELLO, VERSION)]));
        sender.set_nodelay(true).unwrap();
        let mut sent = 0;
        // Ends at the receiver's word; the limit is for when that does not come.
        while sent < 1000 && sender.write_all(&frames(&[(DATA, b"x")])).is_ok() {
            sent += 1;
            thread::sleep(Duration::from_millis(20));
        }
        let (result, notes, _) = serving.join().unwrap();
        let text = result.unwrap_err().to_string();
        assert!(text.contains("less than 64 KiB a second"), "{text}");
        assert_eq!(notes.steps, ["prepare", "abandon"]);
        assert!(sent < 1000);
    }

    #[test]
    fn a_slow_sender_has_time_for_what_it_sends() {
        let (mut target, _peer) = connected(Duration::from_secs(60));
        let connection = &mut target.connection;
        for (waited, bytes, barriers, too_slow) in [
            (600, 0, 0, false),
            (601, 0, 0, true),
            (601, 0, 1, false),
            (601, 64 << 10, 0, false),
            (602, (128 << 10) - 1, 0, true),
            (600 + (1 << 16), 4 << 30, 0, false),
        ] {
            connection.waited = Duration::from_secs(waited);
            let is = connection.is_too_slow(bytes, barriers);
            assert_eq!(is, too_slow, "{waited} s, {bytes} bytes, {barriers}");
        }
    }

    /// Writes until the peer has failed.
    fn write_until_failure(target: &mut RemoteTarget) -> io::Error {
        let piece = vec![1; MAX_FRAME as usize];
        for _ in 0..1 << 10 {
            if let Err(err) = target.write_all(&piece) {
                return err;
            }
        }
        panic!("the peer takes all of it");
    }

    #[test]
    fn a_sender_hears_why_its_data_are_not_taken() {
        let (listener, at) = listen();
        let notes = Notes {
            room: Some(3 << 20),
            ..Notes::default()
        };
        let serving = serve_notes(listener, LONG, notes);
        let mut target = connect_to(at, LONG);
        target.prepare().unwrap();
        let err = write_until_failure(&mut target);
        let text = "writing the device's state after 3145728 bytes: there is no room";
        assert_eq!(err.to_string(), text);
        let begin = Instant::now();
        target.abandon(&terminated()).unwrap();
        drop(target);
        let (result, notes, _) = serving.join().unwrap();
        assert_eq!(result.unwrap_err().to_string(), text);
        assert_eq!(notes.steps, ["prepare", "abandon"]);
        // Neither of them waits for anything then.
        assert!(begin.elapsed() < MAX_LINGER);
    }

    #[test]
    fn a_reason_is_heard_before_a_reset() {
        let (mut target, mut peer) = connected(LONG);
        target.write_all(b"data").unwrap();
        peer.write_all(&frames(&[(FAILED, b"no room")])).unwrap();
        // It has not read the data, so the connection is reset.
        drop(peer);
        assert_eq!(target.send(DATA, b"x").unwrap_err().to_string(), "no room");
        let (mut target, mut peer) = connected(LONG);
        peer.write_all(&frames(&[(DONE, b"")])).unwrap();
        while !target.connection.has_heard() {}
        let err = target.write_all(b"x").unwrap_err();
        assert!(err.to_string().contains("no request"), "{err}");
    }

    #[test]
    fn a_receiver_that_has_failed_reads_on() {
        let (listener, at) = listen();
        let notes = Notes {
            room: Some(0),
            ..Notes::default()
        };
        let serving = serve_notes(listener, LONG, notes);
        let mut peer = peer(at, &frames(&[(HELLO, VERSION), (DATA, b"x")]));
        // Without a look at what comes back.
        for _ in 0..64 {
            peer.write_all(&[0; 64 << 10]).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        peer.read_to_end(&mut answers).unwrap();
        let why = b"writing the device's state after 0 bytes: there is no room";
        assert_eq!(answers, frames(&[(DONE, b""), (FAILED, why)]));
        assert!(serving.join().unwrap().0.is_err());
    }

    #[test]
    fn a_receiver_that_has_failed_does_not_read_for_ever() {
        let (listener, at) = listen();
        let serving = serve_notes(listener, LONG, Notes::default());
        let begin = Instant::now();
        let peer = peer(at, &frames(&[(HELLO, VERSION), (START, b"")]));
        let slow = trickle(peer);
        assert!(serving.join().unwrap().0.is_err());
        assert!(begin.elapsed() < MAX_LINGER * 2);
        slow.join().unwrap();
    }

    #[test]
    fn a_sender_can_give_up() {
        let (listener, at) = listen();
        let serving = serve_notes(listener, LONG, Notes::default());
        let mut target = connect_to(at, LONG);
        target.prepare().unwrap();
        target.write_all(b"data").unwrap();
        target.abandon(&terminated()).unwrap();
        assert!(!target.ended, "the receiver has not answered");
        drop(target);
        let (result, notes, _) = serving.join().unwrap();
        let text = result.unwrap_err().to_string();
        assert_eq!(text, "the sender has given up: interrupted by SIGTERM");
        assert_eq!(notes.steps, ["prepare", "abandon"]);
    }

    #[test]
    fn a_receiver_that_may_run_is_not_abandoned() {
        let bad_frame = frames(&[(9, b"")]);
        let too_long = [DONE, 0xff, 0xff, 0xff, 0xff];
        // It is gone, what it says is no answer, or it says nothing.
        for answer in [&b""[..], &[DONE], &bad_frame, &too_long] {
            let (mut target, mut peer) = connected(LONG);
            peer.write_all(&frames(&[(DONE, b"")])).unwrap();
            target.prepare().unwrap();
            peer.write_all(answer).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert!(target.start().is_err());
            let text = target.abandon(&terminated()).unwrap_err().to_string();
            assert!(text.ends_with("was told to start"), "{text}");
        }
        let (mut target, _peer) = connected(Duration::from_millis(200));
        assert!(target.start().is_err());
        assert!(target.abandon(&terminated()).is_err());
    }

    /// Has a state sent to a receiver where these steps fail. Returns what the sender
    /// says, what becomes of it when it then gives up, and the receiver's steps.
    fn send_in_vain(
        fails: &'static [&'static str],
    ) -> (Error, Result<(), Error>, Vec<&'static str>) {
        let (listener, at) = listen();
        let notes = Notes {
            fails,
            ..Notes::default()
        };
        let serving = serve_notes(listener, LONG, notes);
        let mut target = connect_to(at, LONG);
        let err = send_state(&mut target).unwrap_err();
        let abandoned = target.abandon(&terminated());
        drop(target);
        let (result, notes, _) = serving.join().unwrap();
        assert!(result.is_err());
        (err, abandoned, notes.steps)
    }

    #[test]
    fn the_source_goes_on_if_the_receiver_does_not() {
        let (err, abandoned, steps) = send_in_vain(&["start"]);
        assert!(err.to_string().contains("start: "), "{err}");
        // The device was reset: nobody else has the state.
        abandoned.unwrap();
        assert_eq!(steps, ["prepare", "wait", "finish", "start", "abandon"]);

        // It runs in neither place, or in the wrong one: the receiver must not say FAILED.
        let (err, abandoned, _) = send_in_vain(&["start", "abandon"]);
        assert_eq!(err.errno(), Some(libc::ECONNRESET), "{err}");
        assert!(abandoned.is_err());

        // Before START it cannot run.
        let (err, abandoned, _) = send_in_vain(&["finish", "abandon"]);
        assert!(err.to_string().contains("finish: "), "{err}");
        abandoned.unwrap();
    }

    #[test]
    fn a_stopped_source_does_not_wait_long_for_a_receiver_to_forget() {
        let (mut target, mut peer) = connected(LONG);
        peer.write_all(&frames(&[(DONE, b"")])).unwrap();
        target.abandon(&terminated()).unwrap();
        assert_eq!(target.connection.timeout, MAX_LINGER);
        let why = b"interrupted by SIGTERM";
        let mut heard = [0; HEADER + 22];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(heard[..], frames(&[(ABANDON, why)]));
    }
}

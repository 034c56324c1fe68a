// SPDX-License-Identifier: GPL-2.0

//! Another host as a [`Target`], over TCP.
//!
//! Both sides send frames: a byte that says what it is, its length as a
//! little endian u32, and so many bytes. The sender has `HELLO` (the version),
//! `DATA`, `BARRIER` (has it all been loaded?), `END` (SHA-256 of all data),
//! `START` and `ABANDON`; the receiver answers all but `DATA` with `DONE`, or
//! with `FAILED` and a reason. There is neither encryption nor authentication:
//! for that, there are tunnels.

use crate::{
    device::Device,
    endpoint::Endpoint,
    error::{Context, Error, StreamContext},
    stream,
    target::{DeviceTarget, Target},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::Duration,
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
/// Most bytes of a frame: what the other side sends decides about our memory.
const MAX_FRAME: u32 = 1 << 20;
/// Most bytes that are shown of a peer's reason.
const MAX_REASON: usize = 1 << 10;
/// Bytes that a frame has before its contents.
const HEADER: usize = 5;

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn send(to: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(|_| bad("a frame is too long"))?;
    let mut header = [0; HEADER];
    header[0] = kind;
    header[1..].copy_from_slice(&len.to_le_bytes());
    to.write_all(&header)?;
    to.write_all(bytes)
}

fn receive(from: &mut impl Read, buf: &mut Vec<u8>) -> io::Result<u8> {
    let mut header = [0; HEADER];
    read_exact(from, &mut header)?;
    let [kind, a, b, c, d] = header;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len > MAX_FRAME {
        return Err(bad(format!("a frame of {len} bytes is too long")));
    }
    buf.resize(len as usize, 0);
    read_exact(from, buf)?;
    Ok(kind)
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the other side has closed the connection",
    )
}

/// A TCP connection whose errors say what has happened.
struct Connection {
    stream: TcpStream,
    timeout: Duration,
}

impl Connection {
    fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, timeout })
    }

    /// A socket's timeout is EAGAIN, and its end EPIPE, ECONNRESET or no byte.
    fn explain(&self, err: io::Error) -> io::Error {
        match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the other side did nothing for {} s (--timeout)",
                    self.timeout.as_secs_f64()
                ),
            ),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed(),
            _ => err,
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf).map_err(|err| self.explain(err))
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).map_err(|err| self.explain(err))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn timed_out<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(err) if err.kind() == io::ErrorKind::TimedOut)
}

/// What [`Read::read_exact`] says of an end is about a buffer.
fn read_exact(from: &mut impl Read, buf: &mut [u8]) -> io::Result<()> {
    from.read_exact(buf).map_err(|err| match err.kind() {
        io::ErrorKind::UnexpectedEof => closed(),
        _ => err,
    })
}

/// A host that waits in [`serve`].
pub struct RemoteTarget {
    connection: Connection,
    /// Nothing was heard for as long as it may take: it is not waited for again.
    silent: bool,
    peer: String,
    digest: Sha256,
    /// It was told to start.
    started: bool,
}

impl RemoteTarget {
    /// Connects. A side that says nothing for `timeout` is given up.
    pub fn connect(to: &Endpoint, timeout: Duration) -> Result<Self, Error> {
        let connect = || {
            let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
            for address in to.to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, timeout) {
                    Ok(stream) => return Connection::new(stream, timeout),
                    Err(err) => last = err,
                }
            }
            Err(last)
        };
        Ok(Self {
            connection: connect().context(format!("connecting to {to}"))?,
            silent: false,
            peer: to.to_string(),
            digest: Sha256::new(),
            started: false,
        })
    }

    fn request(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Error> {
        let mut answer = Vec::new();
        let sent = send(&mut self.connection, kind, bytes);
        if timed_out(&sent) {
            self.silent = true;
            return sent.context(self.peer.clone());
        }
        // It may have failed long before: then that is the reason.
        let kind = receive(&mut self.connection, &mut answer);
        self.silent = timed_out(&kind);
        let result = match kind {
            Ok(DONE) => sent,
            Ok(FAILED) => Err(io::Error::other(reason(&answer))),
            Ok(kind) => Err(bad(format!("unexpected frame {kind:#x}"))),
            Err(err) => Err(sent.err().unwrap_or(err)),
        };
        result.context(self.peer.clone())
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

impl Write for RemoteTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(MAX_FRAME as usize);
        let sent = send(&mut self.connection, DATA, &bytes[..n]);
        self.silent = timed_out(&sent);
        sent?;
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
        self.request(START, &[])
    }

    fn abandon(&mut self) -> Result<(), Error> {
        if self.started {
            // Without an answer, it may run.
            return Err(Error::MayRun(self.peer.clone()));
        }
        // One that is gone, or whose connection is closed, resets its device by
        // itself.
        if !self.silent {
            let _ = self.request(ABANDON, &[]);
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

/// Waits for one sender, and loads what it sends into `device`, which then runs.
/// When this fails the device is reset.
pub fn serve(
    device: &Device,
    listener: &TcpListener,
    timeout: Duration,
    mut progress: impl FnMut(u64),
) -> Result<Received, Error> {
    let (stream, from) = listener.accept().context("waiting for the sender")?;
    let mut connection = Connection::new(stream, timeout).context(from.to_string())?;
    let mut target = DeviceTarget::new(device);
    let result = take(&mut connection, &mut target, &mut progress);
    match result {
        Ok((bytes, sha256)) => Ok(Received {
            from: from.to_string(),
            bytes,
            sha256,
        }),
        Err(err) => {
            let err = err.unless_undone(target.abandon());
            // The sender may be gone.
            let _ = send(&mut connection, FAILED, err.to_string().as_bytes());
            Err(err)
        }
    }
}

/// What the receiver has heard.
#[derive(PartialEq, Eq)]
enum Phase {
    Hello,
    Data,
    Start,
}

fn take(
    stream: &mut (impl Read + Write),
    target: &mut dyn Target,
    progress: &mut dyn FnMut(u64),
) -> Result<(u64, String), Error> {
    let mut phase = Phase::Hello;
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut frame = Vec::new();
    loop {
        let kind = receive(stream, &mut frame).context("the sender")?;
        match (kind, &phase) {
            (HELLO, Phase::Hello) if frame == VERSION => {
                target.prepare()?;
                phase = Phase::Data;
            }
            (HELLO, Phase::Hello) => {
                let version = String::from_utf8_lossy(&frame).into_owned();
                return Err(bad(format!("speaks {version:?}"))).context("the sender");
            }
            // Else a peer could keep the device for ever with nothing.
            (DATA, Phase::Data) if frame.is_empty() => {
                return Err(bad("sends frames without data")).context("the sender");
            }
            (DATA, Phase::Data) => {
                let written = target.write_all(&frame);
                written.map_err(|source| {
                    target.explain(Error::Stream {
                        what: stream::WRITING,
                        bytes,
                        source,
                    })
                })?;
                digest.update(&frame);
                bytes += frame.len() as u64;
                progress(bytes);
                continue;
            }
            (BARRIER, Phase::Data) => target.wait_loaded()?,
            // The device would run with nothing loaded.
            (END, Phase::Data) if bytes == 0 => return Err(Error::NothingToLoad),
            (END, Phase::Data) => {
                if digest.clone().finalize()[..] != frame[..] {
                    return Err(bad("the checksum differs")).context("the state");
                }
                target.finish()?;
                phase = Phase::Start;
            }
            (START, Phase::Start) => {
                target.start()?;
                // It runs, whether the sender hears so or not.
                let _ = send(stream, DONE, &[]);
                return Ok((bytes, format!("{:x}", digest.finalize())));
            }
            (ABANDON, _) => {
                target.abandon()?;
                let _ = send(stream, DONE, &[]);
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted))
                    .context("the sender has given up");
            }
            _ => return Err(bad(format!("unexpected frame {kind:#x}"))).context("the sender"),
        }
        send(stream, DONE, &[]).context("the sender")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A stream of which one side is given.
    struct Peer<'a>(&'a [u8], Vec<u8>);

    impl Read for Peer<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Notes what happens to it.
    #[derive(Default)]
    struct Notes(Vec<u8>, Vec<&'static str>);

    impl Write for Notes {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Notes {
        fn prepare(&mut self) -> Result<(), Error> {
            self.1.push("prepare");
            Ok(())
        }

        fn wait_loaded(&mut self) -> Result<(), Error> {
            self.1.push("wait");
            Ok(())
        }

        fn finish(&mut self) -> Result<(), Error> {
            self.1.push("finish");
            Ok(())
        }

        fn start(&mut self) -> Result<(), Error> {
            self.1.push("start");
            Ok(())
        }

        fn abandon(&mut self) -> Result<(), Error> {
            self.1.push("abandon");
            Ok(())
        }
    }

    fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, contents) in frames {
            send(&mut bytes, *kind, contents).unwrap();
        }
        bytes
    }

    fn taken(bytes: &[u8]) -> (Result<(u64, String), Error>, Notes) {
        let mut notes = Notes::default();
        let result = take(&mut Peer(bytes, Vec::new()), &mut notes, &mut |_| ());
        (result, notes)
    }

    #[test]
    fn a_state_arrives_whole() {
        let digest = Sha256::digest(b"state");
        let (result, notes) = taken(&frames(&[
            (HELLO, VERSION),
            (DATA, b"sta"),
            (BARRIER, b""),
            (DATA, b"te"),
            (END, &digest),
            (START, b""),
        ]));
        assert_eq!(result.unwrap(), (5, format!("{digest:x}")));
        assert_eq!(notes.0, b"state");
        assert_eq!(notes.1, ["prepare", "wait", "finish", "start"]);
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
        assert_eq!(notes.1, ["prepare"]);
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string().parse().unwrap();
        let target = RemoteTarget::connect(&at, timeout).unwrap();
        (target, listener.accept().unwrap().0)
    }

    #[test]
    fn a_silent_peer_is_waited_for_once() {
        let timeout = Duration::from_millis(200);
        let (mut target, _peer) = connected(timeout);
        let begin = Instant::now();
        let err = target.prepare().unwrap_err();
        target.abandon().unwrap();
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
        assert!(err.to_string().contains("did nothing for 0.2 s"), "{err}");
        let begin = Instant::now();
        target.abandon().unwrap();
        assert!(begin.elapsed() < timeout);
    }

    #[test]
    fn a_peer_that_is_gone_has_closed_the_connection() {
        let (mut target, peer) = connected(Duration::from_secs(60));
        drop(peer);
        let text = target.prepare().unwrap_err().to_string();
        assert!(text.ends_with("has closed the connection"), "{text}");
    }

    #[test]
    fn a_state_without_bytes_is_not_started() {
        let digest = Sha256::digest(b"");
        let (result, notes) = taken(&frames(&[(HELLO, VERSION), (END, &digest), (START, b"")]));
        assert!(matches!(result, Err(Error::NothingToLoad)));
        assert_eq!(notes.1, ["prepare"]);
    }

    #[test]
    fn nothing_unexpected_is_obeyed() {
        for bad in [
            frames(&[(DATA, b"x")]),
            frames(&[(HELLO, b"another")]),
            frames(&[(HELLO, VERSION), (START, b"")]),
            frames(&[(HELLO, VERSION), (HELLO, VERSION)]),
            frames(&[(HELLO, VERSION), (ABANDON, b"")]),
            frames(&[(HELLO, VERSION), (9, b"")]),
            // It ends, in a header and in a frame.
            frames(&[(HELLO, VERSION)]),
            frames(&[(HELLO, VERSION), (DATA, b"x")])[..17].to_vec(),
            // A length that no frame has.
            vec![DATA, 0xff, 0xff, 0xff, 0xff],
        ] {
            let (result, notes) = taken(&bad);
            assert!(result.is_err(), "{bad:?}");
            assert!(!notes.1.contains(&"start"), "{bad:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Two hosts, which are threads.

mod both;
mod callers;
mod ends;
mod receiver;
mod sender;

use crate::{
    error::{
        Context,
        Error, //
    },
    remote::{
        frames::{
            header,
            DONE, //
        },
        receiver::{
            serve_into,
            Observer,
            Received, //
        },
        sender::RemoteTarget, //
    },
    target::Target, //
};
use std::{
    io::{
        self,
        Write, //
    },
    net::{
        Shutdown,
        SocketAddr,
        TcpListener,
        TcpStream, //
    },
    thread::{
        self,
        JoinHandle, //
    },
    time::{
        Duration,
        Instant, //
    },
};

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

/// The peers that were refused, and why.
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

/// A connection to a peer of this process, and the peer.
fn connected(timeout: Duration) -> (RemoteTarget, TcpStream) {
    let (listener, at) = listen();
    let target = connect_to(at, timeout);
    (target, listener.accept().unwrap().0)
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

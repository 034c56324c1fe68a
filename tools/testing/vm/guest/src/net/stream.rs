// SPDX-License-Identifier: GPL-2.0

//! An end of a connection on which both ends send all the time.

use super::{
    sequence::{
        End,
        Received,
        Sequence, //
    },
    tally::Tally,
    until::{
        Until,
        Wait, //
    }, //
};
use crate::sys;
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    net::{
        Shutdown,
        TcpStream, //
    },
    os::fd::AsFd,
    thread::{
        self,
        JoinHandle, //
    },
    time::Duration, //
};

/// Bytes that are sent at once: two segments with TSO, or with the headers of one more.
const BLOCK: usize = 24 << 10;
/// Time between two blocks, in which others get the processor: guest, peer and two QEMUs
/// may share one.
const PAUSE: Duration = Duration::from_millis(20);

/// What a direction has come to: bytes, those that were wrong, and how it ended.
type Half = (u64, u64, io::Result<()>);

/// An end of a stream, with a thread for each direction.
pub struct Stream {
    connection: u64,
    socket: TcpStream,
    sender: JoinHandle<Half>,
    receiver: JoinHandle<Half>,
}

fn send(mut socket: TcpStream, sequence: Sequence, until: &Until) -> Half {
    let mut block = vec![0; BLOCK];
    let mut sent = 0;
    let mut work = || -> io::Result<()> {
        while !until.is_silent() {
            sequence.fill(sent, &mut block);
            let mut rest = &block[..];
            while !rest.is_empty() {
                let n = socket.write(rest)?;
                sent += n as u64;
                rest = &rest[n..];
            }
            thread::sleep(PAUSE);
        }
        socket.shutdown(Shutdown::Write)
    };
    let result = work();
    (sent, 0, result)
}

fn receive(
    mut socket: TcpStream,
    sequence: Sequence,
    mut wait: Wait,
    hear: impl Fn(usize),
) -> Half {
    let mut received = Received::new(sequence);
    let mut buf = vec![0; 64 << 10];
    let mut work = || -> io::Result<()> {
        loop {
            wait.go_on()?;
            let n = socket.read(&mut buf)?;
            if n == 0 {
                return Ok(());
            }
            hear(n);
            received.take(&buf[..n]);
        }
    };
    let result = work();
    (received.bytes, received.wrong, result)
}

fn joined(thread: JoinHandle<Half>) -> Half {
    let dead = |_| (0, 0, Err(io::Error::other("a thread has died")));
    thread.join().unwrap_or_else(dead)
}

impl Stream {
    /// Begins to send and to receive. It goes on until both ends are to end. `hear` is told how
    /// many bytes have come whenever some have.
    pub fn start(
        socket: TcpStream,
        connection: u64,
        end: End,
        until: Until,
        hear: impl Fn(usize) + Send + 'static,
    ) -> io::Result<Self> {
        let to_send = Sequence::new(connection, end);
        let to_receive = Sequence::new(connection, end.other());
        let [writer, reader] = [socket.try_clone()?, socket.try_clone()?];
        Ok(Self {
            connection,
            socket,
            receiver: {
                let wait = until.wait();
                thread::spawn(move || receive(reader, to_receive, wait, hear))
            },
            sender: thread::spawn(move || send(writer, to_send, &until)),
        })
    }

    /// Waits for its end.
    pub fn finish(self) -> Tally {
        let (sent, _, sending) = joined(self.sender);
        let (received, wrong, receiving) = joined(self.receiver);
        let retransmits = sys::tcp_retransmits(self.socket.as_fd());
        let error = sending.and(receiving).err().map(|err| err.to_string());
        Tally {
            connection: self.connection,
            sent,
            received,
            wrong,
            retransmits: retransmits.unwrap_or(0).into(),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{
            Ipv4Addr,
            TcpListener, //
        },
        sync::{
            atomic::{
                AtomicBool,
                Ordering::Relaxed, //
            },
            Arc, //
        },
    };

    fn pair() -> [TcpStream; 2] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        [one, listener.accept().unwrap().0]
    }

    #[test]
    fn what_one_end_sends_the_other_counts() {
        let ending = Arc::new(AtomicBool::new(false));
        let [one, other] = pair();
        let until = Until::both(&ending);
        let start = |socket, end| Stream::start(socket, 1, end, until.clone(), |_| ()).unwrap();
        let ends = [start(one, End::Guest), start(other, End::Peer)];
        thread::sleep(Duration::from_millis(50));
        ending.store(true, Relaxed);
        let [guest, peer] = ends.map(Stream::finish);
        assert!(guest.sent > 0 && peer.sent > 0);
        assert_eq!((guest.sent, peer.sent), (peer.received, guest.received));
        assert_eq!((guest.wrong, peer.wrong), (0, 0));
        assert_eq!((guest.error, peer.error), (None, None));
    }

    #[test]
    fn a_connection_that_breaks_is_an_error() {
        let until = Until::both(&Arc::default());
        let [one, other] = pair();
        let stream = Stream::start(one, 1, End::Guest, until, |_| ()).unwrap();
        // With bytes that were not read, this resets the connection.
        thread::sleep(Duration::from_millis(50));
        drop(other);
        assert!(stream.finish().error.is_some());
    }

    #[test]
    fn an_end_that_never_ends_is_not_waited_for() {
        let [one, mut other] = pair();
        let hung = thread::spawn(move || while other.write_all(&[0; 64]).is_ok() {});
        let until = Until::both(&Arc::new(AtomicBool::new(true)));
        let wait = until.wait().at_most(PAUSE);
        let (received, _, end) = receive(one, Sequence::new(1, End::Guest), wait, |_| ());
        hung.join().unwrap();
        assert!(received > 0);
        assert!(end.unwrap_err().to_string().contains("still sends"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How a guest and its peer connect: the guest does, and says first what it wants.

use super::{
    sequence::{
        End,
        Received,
        Sequence, //
    },
    tally::Tally, //
};
use crate::sys;
use anyhow::{
    bail,
    ensure,
    Result, //
};
use std::{
    io::{
        Read,
        Write, //
    },
    net::{
        Ipv4Addr,
        TcpStream, //
    },
    os::fd::AsFd,
    time::Duration, //
};

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 9);
/// The peer's address.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
/// Where the peer listens.
pub const PORT: u16 = 7000;
/// Time after which a connection on which nothing moves is lost, and after which an end that still
/// sends will not end: a guest with a slow processor needs seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes that each end sends in a short connection.
const VISIT: usize = 6000;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Both ends send until they are told to end.
    Stream,
    /// Both ends send a little.
    Visit,
}

/// What the guest says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// What the connection is for.
    pub purpose: Purpose,
    /// Its number.
    pub connection: u64,
}

impl Greeting {
    fn words(self) -> [u64; 2] {
        let purpose = match self.purpose {
            Purpose::Stream => 1,
            Purpose::Visit => 2,
        };
        [purpose, self.connection]
    }

    fn parse([purpose, connection]: [u64; 2]) -> Result<Self> {
        let purpose = match purpose {
            1 => Purpose::Stream,
            2 => Purpose::Visit,
            other => bail!("a connection for {other:#x}"),
        };
        Ok(Self {
            purpose,
            connection,
        })
    }

    /// Connects to the peer.
    pub fn connect(self) -> Result<TcpStream> {
        let mut socket = TcpStream::connect((PEER, PORT))?;
        prepare(&socket)?;
        socket.write_all(&self.words().map(u64::to_le_bytes).concat())?;
        Ok(socket)
    }

    /// Hears what a guest wants that has connected.
    pub fn hear(socket: &mut TcpStream) -> Result<Self> {
        prepare(socket)?;
        let mut words = [[0; 8]; 2];
        socket.read_exact(words.as_flattened_mut())?;
        Self::parse(words.map(u64::from_le_bytes))
    }
}

fn prepare(socket: &TcpStream) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.set_write_timeout(Some(PATIENCE))?)
}

/// One end of a [`Purpose::Visit`]: sends, and hears what the other end sends.
pub fn visit(socket: &mut TcpStream, connection: u64, end: End) -> Result<Tally> {
    let mut data = vec![0; VISIT];
    Sequence::new(connection, end).fill(0, &mut data);
    socket.write_all(&data)?;
    socket.read_exact(&mut data)?;
    let mut received = Received::new(Sequence::new(connection, end.other()));
    received.take(&data);
    let retransmits = sys::tcp_retransmits(socket.as_fd())?.into();
    // Who leaves first waits until the other has all: the peer closes, and then the guest.
    if end == End::Guest {
        let more = socket.read(&mut [0])?;
        ensure!(more == 0, "more than {VISIT} bytes");
    }
    Ok(Tally {
        connection: 0,
        sent: VISIT as u64,
        received: received.bytes,
        wrong: received.wrong,
        retransmits,
        error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::TcpListener,
        thread, //
    };

    #[test]
    fn a_greeting_is_understood() {
        for purpose in [Purpose::Stream, Purpose::Visit] {
            let greeting = Greeting {
                purpose,
                connection: 0x1122_3344_5566_7788,
            };
            assert_eq!(Greeting::parse(greeting.words()).unwrap(), greeting);
        }
        assert!(Greeting::parse([0; 2]).is_err());
    }

    #[test]
    fn a_visit_is_counted_at_both_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let guest = thread::spawn(move || visit(&mut TcpStream::connect(address)?, 5, End::Guest));
        let (mut socket, _) = listener.accept().unwrap();
        let peer = visit(&mut socket, 5, End::Peer).unwrap();
        // Until the peer closes, the guest's end is not over.
        assert!(!guest.is_finished());
        drop(socket);
        let guest = guest.join().unwrap().unwrap();
        for tally in [peer, guest] {
            assert_eq!((tally.sent, tally.received), (6000, 6000));
            assert_eq!(tally.wrong, 0);
        }
    }
}

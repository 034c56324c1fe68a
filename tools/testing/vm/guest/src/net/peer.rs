// SPDX-License-Identifier: GPL-2.0

//! What a guest talks to: a host on its network that stays where it is.

use super::{
    connection::{
        visit,
        Greeting,
        Purpose,
        GUEST,
        PORT, //
    },
    datagrams::{
        self,
        Exchange,
        Witness, //
    },
    sequence::End,
    statistics::out_of_buffer,
    stream::Stream,
    tally::Tally,
    timeline::{
        self,
        Timeline, //
    },
    until::Until,
    Host, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    net::{
        Ipv4Addr,
        TcpListener,
        TcpStream,
        UdpSocket, //
    },
    os::fd::AsFd,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc,
        Mutex,
        MutexGuard,
        PoisonError, //
    },
    thread::{
        self,
        JoinHandle, //
    },
};
use vfio_mig::uapi;

/// How often the end is looked for, in milliseconds.
const LOOK: i32 = 200;

/// What a peer has counted.
#[derive(Debug)]
pub struct PeerTally {
    /// Of each stream.
    pub streams: Vec<Tally>,
    /// Of all short connections.
    pub visits: Tally,
    /// Of datagrams.
    pub datagrams: Witness,
    /// When how much of streams has come.
    pub timeline: Timeline,
}

/// What is told of by all connections.
struct Shared {
    streams: Vec<Stream>,
    visits: Tally,
    timeline: Timeline,
}

/// What connections have in common.
struct Connections {
    /// Streams are to end; the guest has ended, and is not to connect any more.
    until: Until,
    shared: Mutex<Shared>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a guest wants that has connected.
    fn serve(self: &Arc<Self>, mut socket: TcpStream) -> Result<()> {
        let greeting = Greeting::hear(&mut socket)?;
        let number = greeting.connection;
        match greeting.purpose {
            Purpose::Stream => {
                let own = self.clone();
                let hear = move |n| own.lock().timeline.hear(timeline::now(), n);
                let until = self.until.clone();
                let stream = Stream::start(socket, number, End::Peer, until, hear)?;
                self.lock().streams.push(stream);
            }
            Purpose::Visit => {
                let tally = visit(&mut socket, number, End::Peer)?;
                self.lock().visits.add(&tally);
                // The guest waits for this: what ends well there has been counted here.
                drop(socket);
            }
        }
        Ok(())
    }
}

/// A peer. With this, it ends.
pub struct Peer {
    connections: Arc<Connections>,
    datagrams: Option<Exchange>,
    listening: Option<JoinHandle<()>>,
}

impl Peer {
    /// Has a host listen for a guest.
    pub fn new(host: &Host) -> Result<Self> {
        let address = host.address();
        let listener = host.run(move || Ok(TcpListener::bind((address, PORT))?))?;
        let connections = Arc::new(Connections {
            until: Until {
                sending: Arc::new(AtomicBool::new(false)),
                receiving: Arc::new(AtomicBool::new(false)),
            },
            shared: Mutex::new(Shared {
                streams: Vec::new(),
                visits: Tally::default(),
                timeline: Timeline::default(),
            }),
        });
        // The guest begins: before it is there, datagrams would just be lost. A thread is where
        // its parent is.
        let until = connections.until.clone();
        let datagrams = host.with_interface(move |name| {
            let name = name.to_string();
            Exchange::start(
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, datagrams::PORT))?,
                (GUEST, datagrams::PORT).into(),
                End::Peer,
                false,
                until,
                move || out_of_buffer(&name),
            )
        })?;
        let own = connections.clone();
        let listening = thread::spawn(move || {
            while !own.until.is_over() {
                if !uapi::poll(listener.as_fd(), libc::POLLIN, LOOK).is_ok_and(|ready| ready != 0) {
                    continue;
                }
                if let Ok((socket, _)) = listener.accept() {
                    let own = own.clone();
                    // If this fails, the guest notices, and counts it.
                    thread::spawn(move || own.serve(socket));
                }
            }
        });
        Ok(Self {
            connections,
            datagrams: Some(datagrams),
            listening: Some(listening),
        })
    }

    /// Bytes of streams that have come so far.
    pub fn heard(&self) -> u64 {
        self.connections.lock().timeline.total()
    }

    /// Tells its ends of streams to end.
    pub fn end(&self) {
        self.connections.until.sending.store(true, Relaxed);
    }

    /// Stops to listen.
    fn close(&mut self) {
        self.end();
        self.connections.until.receiving.store(true, Relaxed);
        if let Some(listening) = self.listening.take() {
            // All that it could do is to listen.
            let _ = listening.join();
        }
    }

    /// Waits until all streams have ended, as the guest's end of each must. The guest must not
    /// connect any more. A stream or datagrams that go on are an error, after a while.
    pub fn finish(mut self) -> Result<PeerTally> {
        self.close();
        let streams = std::mem::take(&mut self.connections.lock().streams);
        let streams = streams.into_iter().map(Stream::finish).collect();
        let datagrams = self.datagrams.take().context("no datagrams")?.finish()?;
        let mut shared = self.connections.lock();
        Ok(PeerTally {
            streams,
            visits: std::mem::take(&mut shared.visits),
            datagrams,
            timeline: std::mem::take(&mut shared.timeline),
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close();
        // The port is free when this has ended.
        let _ = self.datagrams.take().map(Exchange::finish);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Datagrams that both ends send all the time. Nobody sends one again, so what is lost stays
//! lost: each has a number, and both ends count.

use super::{
    sequence::{
        End,
        Sequence, //
    },
    timeline,
    until::{
        Until,
        Wait, //
    }, //
};
use crate::sys;
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::BTreeMap,
    io,
    net::{
        SocketAddr,
        UdpSocket, //
    },
    os::fd::AsFd,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc, //
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
use vfio_mig::uapi;

/// The port at both ends.
pub const PORT: u16 = 7001;
/// Bytes of a number, and those behind it.
const NUMBER: usize = 8;
const DATA: usize = 120;
/// Names the bytes of datagrams: no connection has this number, and no datagram either.
const CONNECTION: u64 = 1 << 32;
/// Time between two of them.
pub const BETWEEN: Duration = Duration::from_millis(50);
/// How often the end is looked for, and after how many times without a datagram there are
/// none on their way.
const LOOK: Duration = Duration::from_millis(200);
const QUIET: u32 = 5;
/// How often the NIC's counter of dropped frames is read.
const COUNTING: Duration = Duration::from_secs(1);

/// Bytes that an end keeps for its receiver, with what the kernel adds to each datagram: those of
/// a minute. An end that gets no processor for some seconds needs more than the default.
const BUFFER: i32 = 4 << 20;

/// From one number or time to another, which is not in it.
pub type Span<T> = (T, T);

/// What an end has counted.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Datagrams {
    /// Those that its kernel has taken.
    pub sent: u64,
    /// Those that have come and are not what was sent.
    pub wrong: u64,
    /// Those that have come before.
    pub twice: u64,
    /// The numbers of those that have come.
    pub came: Vec<Span<u64>>,
    /// Frames that the NIC of this end had no buffers for, and when.
    pub dropped: Vec<Dropped>,
}

/// Frames that a NIC has dropped while datagrams with these numbers were the next ones to come,
/// from the first to the last.
pub type Dropped = (Span<u64>, u64);

impl Datagrams {
    /// For the host.
    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "wrong": self.wrong,
            "twice": self.twice,
            "came": self.came,
            "dropped": self.dropped,
        })
    }

    /// Takes that apart. What a guest says whose memory was spoilt is refused.
    pub fn parse(value: &Value) -> Result<Self> {
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        let came: Vec<Span<u64>> = serde_json::from_value(value["came"].clone())?;
        let mut next = 0;
        for (from, to) in &came {
            ensure!(
                next <= *from && from < to,
                "{from} to {to} came after {next}"
            );
            ensure!(*to <= CONNECTION, "there is no datagram {to}");
            next = *to;
        }
        let sent = number("sent")?;
        ensure!(sent <= CONNECTION, "{sent} datagrams cannot be sent");
        Ok(Self {
            sent,
            wrong: number("wrong")?,
            twice: number("twice")?,
            came,
            dropped: serde_json::from_value(value["dropped"].clone())?,
        })
    }

    /// How many have come of the first `sent`.
    pub fn received(&self, sent: u64) -> u64 {
        let number = |(from, to): &Span<u64>| to.min(&sent).saturating_sub(*from);
        self.came.iter().map(number).sum()
    }

    /// How many have come that were never sent, if the first `sent` were.
    pub fn invented(&self, sent: u64) -> u64 {
        self.received(CONNECTION) - self.received(sent)
    }

    /// Frames that its NIC had no buffers for.
    pub fn dropped(&self) -> u64 {
        let frames = self.dropped.iter().map(|(_, frames)| *frames);
        frames.fold(0, u64::saturating_add)
    }

    /// The numbers of those that have not come, of the first `sent`.
    pub fn missing(&self, sent: u64) -> Vec<Span<u64>> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (from, to) in self.came.iter().copied().chain([(sent, sent)]) {
            let from = from.min(sent);
            if next < from {
                missing.push((next, from));
            }
            next = to;
        }
        missing
    }
}

/// What an end that stays where it is has counted, and when what has happened.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Witness {
    /// What it has counted.
    pub counted: Datagrams,
    /// When it was about to send each.
    pub sent_at: Vec<f64>,
    /// When each has come.
    pub came_at: BTreeMap<u64, f64>,
}

/// The datagram with a number.
fn datagram(sequence: Sequence, number: u64) -> [u8; NUMBER + DATA] {
    let mut bytes = [0; NUMBER + DATA];
    bytes[..NUMBER].copy_from_slice(&number.to_le_bytes());
    sequence.fill(number * DATA as u64, &mut bytes[NUMBER..]);
    bytes
}

/// Puts numbers that follow each other together.
fn spans(numbers: impl IntoIterator<Item = u64>) -> Vec<Span<u64>> {
    let mut spans: Vec<Span<u64>> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some(last) if last.1 == number => last.1 += 1,
            _ => spans.push((number, number + 1)),
        }
    }
    spans
}

/// Has a socket wait for a receiver that gets no processor, and not for ever for a datagram or
/// for a NIC that sends nothing any more.
fn set_up(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(LOOK))?;
    socket.set_write_timeout(Some(LOOK))?;
    Ok(sys::set_receive_buffer(socket, BUFFER)?)
}

/// An end. It begins to send when it has a datagram, or at once.
pub struct Exchange {
    sender: JoinHandle<Vec<f64>>,
    receiver: JoinHandle<io::Result<Witness>>,
}

/// A NIC's counter of the frames that it had no buffers for. The driver may be another one now, or
/// none: then there is no number.
pub trait Counter: FnMut() -> Result<u64> + Send + 'static {}
impl<T: FnMut() -> Result<u64> + Send + 'static> Counter for T {}

/// What such a counter says, again and again.
struct Drops<C> {
    counter: C,
    /// The last number, and when it was read.
    last: u64,
    read: Instant,
    /// The datagram that was next then.
    next: u64,
    found: Vec<Dropped>,
}

impl<C: Counter> Drops<C> {
    /// Nothing yet. Fails if there is no number.
    fn new(mut counter: C) -> Result<Self> {
        Ok(Self {
            last: counter()?,
            counter,
            read: Instant::now(),
            next: 0,
            found: Vec::new(),
        })
    }

    /// Reads the counter. The datagram `next` is next.
    fn look(&mut self, next: u64) {
        self.read = Instant::now();
        let Ok(number) = (self.counter)() else { return };
        // Another driver begins with 0.
        let frames = number.checked_sub(self.last).unwrap_or(number);
        if frames > 0 {
            self.found.push(((self.next, next), frames));
        }
        self.last = number;
        self.next = next;
    }
}

/// Hears all that comes until the end.
fn receive(
    socket: &UdpSocket,
    sequence: Sequence,
    heard: &AtomicBool,
    until: &Until,
    mut wait: Wait,
    mut drops: Drops<impl Counter>,
) -> io::Result<Witness> {
    let mut witness = Witness::default();
    let mut quiet = 0;
    let mut buf = [0; 2 * (NUMBER + DATA)];
    while quiet < QUIET {
        wait.go_on()?;
        // What waits in the socket has come before what is dropped now.
        if drops.read.elapsed() >= COUNTING && uapi::poll(socket.as_fd(), libc::POLLIN, 0)? == 0 {
            drops.look(witness.next());
        }
        let Ok(len) = socket.recv(&mut buf) else {
            quiet = if until.is_over() { quiet + 1 } else { 0 };
            continue;
        };
        quiet = 0;
        heard.store(true, Relaxed);
        witness.hear(sequence, &buf[..len]);
    }
    drops.look(witness.next());
    let numbers = witness.came_at.keys().copied();
    witness.counted.came = spans(numbers);
    witness.counted.dropped = drops.found;
    Ok(witness)
}

impl Exchange {
    /// Begins to receive, and to send to an address. With `first`, it is the end that sends
    /// first. `dropped` is the counter of its NIC.
    pub fn start(
        socket: UdpSocket,
        to: SocketAddr,
        end: End,
        first: bool,
        until: Until,
        dropped: impl Counter,
    ) -> Result<Self> {
        set_up(&socket)?;
        let drops = Drops::new(dropped)?;
        let heard = Arc::new(AtomicBool::new(first));
        let hearing = heard.clone();
        let to_send = Sequence::new(CONNECTION, end);
        let to_receive = Sequence::new(CONNECTION, end.other());
        let own = socket.try_clone()?;
        let receiving = until.clone();
        let sender = move || {
            let mut sent_at = Vec::new();
            while !until.is_silent() {
                let bytes = datagram(to_send, sent_at.len() as u64);
                let now = timeline::now();
                // Without a network, none is sent.
                if heard.load(Relaxed) && own.send_to(&bytes, to).is_ok() {
                    sent_at.push(now);
                }
                thread::sleep(BETWEEN);
            }
            sent_at
        };
        let receiver = move || {
            let wait = receiving.wait();
            receive(&socket, to_receive, &hearing, &receiving, wait, drops)
        };
        Ok(Self {
            sender: thread::spawn(sender),
            receiver: thread::spawn(receiver),
        })
    }

    /// Waits until it has ended. Fails if the other end does not.
    pub fn finish(self) -> Result<Witness> {
        let sent_at = self.sender.join().ok().context("the sender has died")?;
        let received = self.receiver.join().ok().context("the receiver has died")?;
        let mut witness = received.context("datagrams")?;
        witness.counted.sent = sent_at.len() as u64;
        witness.sent_at = sent_at;
        Ok(witness)
    }
}

impl Witness {
    /// The number behind the highest one that has come.
    fn next(&self) -> u64 {
        self.came_at.keys().next_back().map_or(0, |last| last + 1)
    }

    /// One has come.
    fn hear(&mut self, sequence: Sequence, bytes: &[u8]) {
        let number = bytes
            .first_chunk()
            .map(|number| u64::from_le_bytes(*number));
        let Some(number) =
            number.filter(|number| *number < CONNECTION && *bytes == datagram(sequence, *number))
        else {
            self.counted.wrong += 1;
            return;
        };
        if self.came_at.insert(number, timeline::now()).is_some() {
            self.counted.twice += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_an_end_sends_the_other_counts() {
        let new = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let sockets = [new(), new()];
        let addresses = sockets.each_ref().map(|one| one.local_addr().unwrap());
        let ending = Arc::new(AtomicBool::new(false));
        let [guest, peer] = sockets;
        let start = |socket, to, end| {
            let until = Until::both(&ending);
            Exchange::start(socket, to, end, end == End::Guest, until, || Ok(0)).unwrap()
        };
        let ends = [
            start(guest, addresses[1], End::Guest),
            start(peer, addresses[0], End::Peer),
        ];
        thread::sleep(BETWEEN * 4);
        ending.store(true, Relaxed);
        let [guest, peer] = ends.map(|end| end.finish().unwrap());
        let (own, other) = (&guest.counted, &peer.counted);
        assert!(own.sent > 0 && other.sent > 0);
        let received = (other.received(own.sent), own.received(other.sent));
        assert_eq!((own.sent, other.sent), received);
        assert_eq!((own.wrong, own.twice), (0, 0));
        assert_eq!(own.invented(other.sent) + other.invented(own.sent), 0);
        assert_eq!(&Datagrams::parse(&own.json()).unwrap(), own);
    }

    #[test]
    fn a_receiver_that_stands_still_for_a_minute_loses_nothing() {
        let count = Duration::from_secs(60).as_millis() / BETWEEN.as_millis();
        let new = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let [sender, receiver] = [new(), new()];
        set_up(&receiver).unwrap();
        let sequence = Sequence::new(CONNECTION, End::Guest);
        for number in 0..count as u64 {
            let bytes = datagram(sequence, number);
            sender
                .send_to(&bytes, receiver.local_addr().unwrap())
                .unwrap();
        }
        for number in 0..count as u64 {
            let mut bytes = [0; NUMBER + DATA];
            receiver.recv(&mut bytes).unwrap();
            assert_eq!(bytes, datagram(sequence, number));
        }
    }

    #[test]
    fn an_end_that_never_ends_is_not_waited_for() {
        let new = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let [receiver, sender] = [new(), new()];
        set_up(&receiver).unwrap();
        let to = receiver.local_addr().unwrap();
        let until = Until::both(&Arc::new(AtomicBool::new(true)));
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let hung = thread::spawn(move || {
            let sequence = Sequence::new(CONNECTION, End::Guest);
            for number in (0..).take_while(|_| !seen.load(Relaxed)) {
                let _ = sender.send_to(&datagram(sequence, number), to);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let sequence = Sequence::new(CONNECTION, End::Guest);
        let wait = until.wait().at_most(BETWEEN);
        let heard = AtomicBool::new(false);
        let drops = Drops::new(|| Ok(0)).unwrap();
        let received = receive(&receiver, sequence, &heard, &until, wait, drops);
        ended.store(true, Relaxed);
        hung.join().unwrap();
        assert!(received.unwrap_err().to_string().contains("still sends"));
    }

    #[test]
    fn what_is_wrong_or_comes_twice_is_counted() {
        let sequence = Sequence::new(CONNECTION, End::Peer);
        let mut witness = Witness::default();
        let mut flipped = datagram(sequence, 6);
        flipped[NUMBER + 1] ^= 1;
        let other = datagram(Sequence::new(CONNECTION, End::Guest), 7);
        let good = datagram(sequence, 5);
        for bytes in [&good[..], &good, &flipped, &other, &good[1..], &[]] {
            witness.hear(sequence, bytes);
        }
        assert_eq!((witness.counted.wrong, witness.counted.twice), (4, 1));
        assert_eq!(witness.came_at.keys().collect::<Vec<_>>(), [&5]);
    }

    #[test]
    fn what_cannot_have_come_is_refused() {
        let with = |came: Value| {
            Datagrams::parse(&json!({
                "sent": 4, "wrong": 0, "twice": 0, "came": came, "dropped": [],
            }))
        };
        assert!(with(json!([[0, 2], [2, 3], [4, 5]])).is_ok());
        for came in [
            json!([[5, 3]]),
            json!([[2, 2]]),
            json!([[2, 4], [0, 1]]),
            json!([[0, 3], [2, 4]]),
            json!([[0, u64::MAX]]),
            json!([[0]]),
        ] {
            assert!(with(came.clone()).is_err(), "{came}");
        }
        let mut most = with(json!([])).unwrap().json();
        most["sent"] = u64::MAX.into();
        assert!(Datagrams::parse(&most).is_err());
        // More than was sent has come, it says: nothing of that was lost, and it is no reason to
        // die.
        let datagrams = with(json!([[0, 4], [9, 10]])).unwrap();
        assert_eq!(datagrams.missing(4), []);
        assert_eq!(datagrams.missing(9), [(4, 9)]);
        let counts = |sent| (datagrams.received(sent), datagrams.invented(sent));
        assert_eq!(counts(10), (5, 0));
        assert_eq!(counts(9), (4, 1));
        assert_eq!(counts(2), (2, 3));
    }

    #[test]
    fn dropped_frames_are_noted_with_what_was_next() {
        let mut numbers = [5, 5, 8, 8, 2].into_iter();
        let counter = move || numbers.next().context("no driver");
        let mut drops = Drops::new(counter).unwrap();
        // The third is of another driver, and then there is none.
        for next in [3, 7, 9, 12, 15] {
            drops.look(next);
        }
        assert_eq!(drops.found, [((3, 7), 3), ((9, 12), 2)]);
        assert!(Drops::new(|| anyhow::bail!("no driver")).is_err());
    }
}

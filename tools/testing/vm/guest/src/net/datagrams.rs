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
    time::Duration, //
};

/// The port at both ends.
pub const PORT: u16 = 7001;
/// Bytes of a number, and those behind it.
const NUMBER: usize = 8;
const DATA: usize = 120;
/// Names the bytes of datagrams: no connection has this number, and no datagram either.
const CONNECTION: u64 = 1 << 32;
/// Time between two of them.
const BETWEEN: Duration = Duration::from_millis(50);
/// How often the end is looked for, and after how many times without a datagram there are
/// none on their way.
const LOOK: Duration = Duration::from_millis(200);
const QUIET: u32 = 5;
/// Seconds before and after something that is done to a guest in which datagrams may be lost:
/// in that time the network learns where the guest is.
const AROUND: f64 = 1.0;

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
}

impl Datagrams {
    /// For the host.
    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "wrong": self.wrong,
            "twice": self.twice,
            "came": self.came,
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
        Ok(Self {
            sent: number("sent")?,
            wrong: number("wrong")?,
            twice: number("twice")?,
            came,
        })
    }

    /// How many have come.
    pub fn received(&self) -> u64 {
        self.came.iter().map(|(from, to)| to - from).sum()
    }

    /// The numbers of those that have not, of the first `sent`.
    fn missing(&self, sent: u64) -> Vec<Span<u64>> {
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

/// Datagrams that were lost, both ways.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// All.
    pub all: u64,
    /// Those that were lost while nothing was done to the guest.
    pub unprovoked: u64,
}

impl Lost {
    /// Of a guest and its peer. `provoked` is when something was done to the guest.
    pub fn of(guest: &Datagrams, peer: &Witness, provoked: &[Span<f64>]) -> Self {
        // No more than can have been sent in the time that both have in common.
        let excused = |(from, to): Span<f64>| -> u64 {
            let common = |span: &Span<f64>| to.min(span.1 + AROUND) - from.max(span.0 - AROUND);
            let times = provoked.iter().map(common).filter(|time| *time >= 0.0);
            times
                .map(|time| (time / BETWEEN.as_secs_f64()) as u64 + 1)
                .sum()
        };
        let mut lost = Self::default();
        let mut lose = |count: u64, at| {
            lost.all += count;
            lost.unprovoked += count.saturating_sub(excused(at));
        };
        let sent = &peer.sent_at;
        for (from, to) in guest.missing(sent.len() as u64) {
            for number in from as usize..to as usize {
                // Its sender may have stood still then: it was sent before the next one.
                let next = sent.get(number + 1).unwrap_or(&sent[number]);
                lose(1, (sent[number], *next));
            }
        }
        for (from, to) in peer.counted.missing(guest.sent) {
            // Between the one before, and the one after.
            let mut before = peer.came_at.range(..from);
            let before = before.next_back().map_or(f64::NEG_INFINITY, |one| *one.1);
            let mut after = peer.came_at.range(to..);
            let after = after.next().map_or(f64::INFINITY, |one| *one.1);
            lose(to - from, (before, after));
        }
        lost
    }
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

/// Hears all that comes until the end.
fn receive(
    socket: &UdpSocket,
    sequence: Sequence,
    heard: &AtomicBool,
    until: &Until,
    mut wait: Wait,
) -> io::Result<Witness> {
    let mut witness = Witness::default();
    let mut quiet = 0;
    let mut buf = [0; 2 * (NUMBER + DATA)];
    while quiet < QUIET {
        wait.go_on()?;
        let Ok(len) = socket.recv(&mut buf) else {
            quiet = if until.is_over() { quiet + 1 } else { 0 };
            continue;
        };
        quiet = 0;
        heard.store(true, Relaxed);
        witness.hear(sequence, &buf[..len]);
    }
    let numbers = witness.came_at.keys().copied();
    witness.counted.came = spans(numbers);
    Ok(witness)
}

impl Exchange {
    /// Begins to receive, and to send to an address. With `first`, it is the end that sends
    /// first.
    pub fn start(
        socket: UdpSocket,
        to: SocketAddr,
        end: End,
        first: bool,
        until: Until,
    ) -> Result<Self> {
        set_up(&socket)?;
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
            receive(&socket, to_receive, &hearing, &receiving, wait)
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
            Exchange::start(socket, to, end, end == End::Guest, until).unwrap()
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
        assert_eq!((own.sent, other.sent), (other.received(), own.received()));
        assert_eq!((own.wrong, own.twice), (0, 0));
        assert_eq!(Lost::of(own, &peer, &[]), Lost::default());
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
        let received = receive(&receiver, sequence, &AtomicBool::new(false), &until, wait);
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
    fn what_is_lost_without_a_reason_is_told_apart() {
        let times = |numbers: &[u64]| -> BTreeMap<u64, f64> {
            numbers.iter().map(|n| (*n, 100.0 + *n as f64)).collect()
        };
        let came = times(&[0, 1, 2, 5, 6, 7, 8]);
        let peer = Witness {
            counted: Datagrams {
                came: spans(came.keys().copied()),
                ..Datagrams::default()
            },
            sent_at: times(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
                .into_values()
                .collect(),
            came_at: came,
        };
        let guest = Datagrams {
            sent: 9,
            came: vec![(0, 4), (5, 9)],
            ..Datagrams::default()
        };
        let lost = |provoked: &[_]| {
            let lost = Lost::of(&guest, &peer, provoked);
            (lost.all, lost.unprovoked)
        };
        // Of the guest, 3 and 4, and of the peer, 4 and 9.
        assert_eq!(lost(&[]), (4, 4));
        assert_eq!(lost(&[(103.5, 104.5)]), (4, 1));
        assert_eq!(lost(&[(103.5, 104.5), (109.5, 120.0)]), (4, 0));
        assert_eq!(lost(&[(111.0, 120.0)]), (4, 4));
        // Nothing came any more of what the guest has sent: three seconds of that are excused.
        let silent = Datagrams {
            sent: 209,
            ..guest.clone()
        };
        let lost = Lost::of(&silent, &peer, &[(109.5, 110.5)]);
        assert_eq!(lost.all, 204);
        assert!((140..=143).contains(&lost.unprovoked), "{lost:?}");
    }

    #[test]
    fn a_sender_that_stands_still_may_send_later_than_it_says() {
        let peer = Witness {
            sent_at: vec![100.0, 100.05, 104.0, 104.05],
            ..Witness::default()
        };
        let guest = Datagrams {
            came: vec![(0, 1), (2, 4)],
            ..Datagrams::default()
        };
        let unprovoked = |provoked| Lost::of(&guest, &peer, &[provoked]).unprovoked;
        assert_eq!(unprovoked((102.0, 102.5)), 0);
        assert_eq!(unprovoked((97.0, 98.0)), 1);
        assert_eq!(unprovoked((106.0, 107.0)), 1);
    }

    #[test]
    fn what_cannot_have_come_is_refused() {
        let with = |came: Value| {
            Datagrams::parse(&json!({ "sent": 4, "wrong": 0, "twice": 0, "came": came }))
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
        // More than was sent has come, it says: nothing of that was lost, and it is no reason to
        // die.
        let datagrams = with(json!([[0, 4], [9, 10]])).unwrap();
        assert_eq!(datagrams.missing(4), []);
        assert_eq!(datagrams.missing(9), [(4, 9)]);
    }
}

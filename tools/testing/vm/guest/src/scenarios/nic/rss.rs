// SPDX-License-Identifier: GPL-2.0

//! Channels: how many there are, and which one a packet goes to.

use super::{
    super::core::no_complaints,
    traffic::Traffic,
    HERE,
    THERE, //
};
use crate::{
    net::Host,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::net::UdpSocket;

/// As many as the machine has processors.
const CHANNELS: usize = 4;
const PORT: u16 = 7000;
const FLOWS: usize = 48;
/// Packets of each flow.
const PACKETS: u64 = 4;
/// Packets that may come beside them, of other protocols.
const OTHERS: u64 = 24;
/// The key of the verification suite of RSS.
const KEY: &str = "6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0:d0:ca:2b:cb:ae:7b:30:b4:\
                   77:cb:2d:a3:80:30:f2:0c:6a:42:b7:3b:be:ac:01:fa";

/// What a flow and its answers have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hashes {
    /// The same hash: the driver's default.
    Same,
    /// Different ones.
    Different,
}

impl Hashes {
    /// What is hashed of a source and a destination.
    fn data(self, from: &[u8], to: &[u8]) -> Vec<u8> {
        if self == Self::Different {
            return [from, to].concat();
        }
        let both = || from.iter().zip(to);
        let either = both().map(|(from, to)| from | to);
        let differs = both().map(|(from, to)| from ^ to);
        either.chain(differs).collect()
    }
}

/// What `ethtool -x` says.
struct Rss {
    table: Vec<usize>,
    key: Vec<u8>,
}

impl Rss {
    fn of(host: &Host) -> Result<Self> {
        let text = host.ethtool("-x", "")?;
        let mut table = Vec::new();
        let mut lines = text.lines();
        let mut key = Vec::new();
        while let Some(line) = lines.next() {
            if line.starts_with("RSS hash key:") {
                let bytes = lines.next().context("no key")?.trim().split(':');
                let bytes: Result<_, _> = bytes.map(|byte| u8::from_str_radix(byte, 16)).collect();
                key = bytes?;
            }
            let entries = line.split_once(':');
            let entries = entries.filter(|(index, _)| index.trim().parse::<usize>().is_ok());
            for ring in entries
                .iter()
                .flat_map(|(_, rings)| rings.split_whitespace())
            {
                table.push(ring.parse()?);
            }
        }
        ensure!(table.len().is_power_of_two() && key.len() == 40, "{text}");
        Ok(Self { table, key })
    }

    /// The ring of a packet of UDP from here to there.
    fn ring(&self, hashes: Hashes, from: u16, to: u16) -> usize {
        let mut data = hashes.data(&HERE.octets(), &THERE.octets());
        data.extend(hashes.data(&from.to_be_bytes(), &to.to_be_bytes()));
        let hash = toeplitz(&self.key, &data) as usize;
        self.table[hash & (self.table.len() - 1)]
    }
}

/// The hash of Toeplitz: the key's 32 bits from each bit on that is set in the data.
fn toeplitz(key: &[u8], data: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
    let set = (0..data.len() * 8).filter(|at| bit(data, *at) == 1);
    set.fold(0, |hash, at| {
        let window = at..at + 32;
        hash ^ window.fold(0, |all, at| (all << 1) | u32::from(bit(key, at)))
    })
}

/// Sends packets of many flows there, and compares the ring of each with its hash. Returns
/// how many packets each ring must have had.
fn spread(here: &Host, there: &Host, hashes: Hashes) -> Result<Vec<u64>> {
    let rss = Rss::of(there)?;
    let receiver = there.run(|| Ok(UdpSocket::bind((THERE, PORT))?))?;
    let mut senders = Vec::new();
    for _ in 0..FLOWS {
        senders.push(here.run(|| Ok(UdpSocket::bind((HERE, 0))?))?);
    }
    let mut expected = vec![0; CHANNELS];
    let counted = there.counted(|| {
        for sender in &senders {
            expected[rss.ring(hashes, sender.local_addr()?.port(), PORT)] += PACKETS;
            for _ in 0..PACKETS {
                sender.send_to(b"hello", (THERE, PORT))?;
                receiver.recv(&mut [0; 16])?;
            }
        }
        Ok(())
    })?;
    let found = counted.of_channels("rx", "packets");
    let sum = |rings: &[u64]| rings.iter().sum::<u64>();
    let right = found.iter().zip(&expected).all(|(one, other)| one >= other);
    ensure!(
        right && sum(&found) <= sum(&expected) + OTHERS,
        "rings had {found:?}, not {expected:?}"
    );
    Ok(expected)
}

fn set_channels(host: &Host, count: usize) -> Result<()> {
    host.ethtool("-L", &format!("combined {count}"))?;
    host.expect_setting("-l", "Combined", &count.to_string())
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("there is a channel for each processor", |_| {
        for host in [here, there] {
            host.expect_setting("-l", "Combined", &CHANNELS.to_string())?;
        }
        Ok(())
    });
    results.test("each packet comes on the ring of its hash", |results| {
        let rings = spread(here, there, Hashes::Same)?;
        ensure!(rings.iter().all(|ring| *ring > 0), "{rings:?}");
        no_complaints(results)
    });
    results.test("the key of the hash changes", |results| {
        let old = Rss::of(there)?.key;
        there.ethtool("-X", &format!("hkey {KEY}"))?;
        ensure!(Rss::of(there)?.key != old, "it is as it was");
        spread(here, there, Hashes::Same)?;
        no_complaints(results)
    });
    results.test("the table of the hash changes", |results| {
        let traffic = Traffic::start(here, there)?;
        for (words, used) in [
            ("equal 1", &[true, false, false, false]),
            ("weight 0 1 0 3", &[false, true, false, true]),
            ("default", &[true; CHANNELS]),
        ] {
            there.ethtool("-X", words)?;
            let table = Rss::of(there)?.table;
            for (ring, used) in used.iter().enumerate() {
                ensure!(table.contains(&ring) == *used, "{words}: {table:?}");
            }
            traffic.goes_on()?;
        }
        traffic.end()?;
        there.ethtool("-X", "weight 0 1 0 3")?;
        spread(here, there, Hashes::Same)?;
        there.ethtool("-X", "default")?;
        spread(here, there, Hashes::Same)?;
        no_complaints(results)
    });
    results.test("the fields of the hash change", |results| {
        // Of addresses alone: all flows have one ring.
        there.ethtool("-N", "rx-flow-hash udp4 sd")?;
        let counted = there.counted(|| {
            for _ in 0..FLOWS {
                let sender = here.run(|| Ok(UdpSocket::bind((HERE, 0))?))?;
                sender.send_to(b"hello", (THERE, PORT))?;
            }
            here.ping(THERE, 56)
        })?;
        let rings = counted.of_channels("rx", "packets");
        let most = rings.iter().max().copied().unwrap_or(0);
        ensure!(most >= FLOWS as u64, "rings had {rings:?}");
        there.ethtool("-N", "rx-flow-hash udp4 sdfn")?;
        spread(here, there, Hashes::Same)?;
        no_complaints(results)
    });
    results.test(
        "the number of channels changes while traffic goes",
        |results| {
            let traffic = Traffic::start(here, there)?;
            for count in [1, 3, 2, CHANNELS] {
                for host in [here, there] {
                    set_channels(host, count)?;
                }
                let table = Rss::of(there)?.table;
                ensure!(table.iter().all(|ring| *ring < count), "{table:?}");
                traffic.goes_on()?;
            }
            traffic.end()?;
            spread(here, there, Hashes::Same)?;
            no_complaints(results)
        },
    );
    // The last one: this ethtool does not know the driver's default, which is back when the
    // driver takes the function again.
    results.test("answers have another hash", |results| {
        there.ethtool("-X", "xfrm none")?;
        spread(here, there, Hashes::Different)?;
        no_complaints(results)
    });
}

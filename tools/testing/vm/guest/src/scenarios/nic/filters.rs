// SPDX-License-Identifier: GPL-2.0

//! Filters of tc that the NIC carries out: it drops packets or lets them pass, and counts them.

use super::{
    super::core::no_complaints,
    rules::{
        come,
        drop_all,
        send,
        FLOWS, //
    },
    with_vf,
    PATIENCE, //
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
use std::{
    thread,
    time::{
        Duration,
        Instant, //
    },
};

const PORT: u16 = 7200;
/// Bytes of a frame with a short datagram: the NIC that sends it pads it.
const FRAME: u64 = 60;
/// So many that the driver asks for all it can at once, and not for eight counters.
const MANY: u16 = 10;
/// The driver asks for counters each second.
const PAUSE: Duration = Duration::from_millis(100);

/// Filters of a host, in the order in which they are tried.
struct Filters<'a> {
    host: &'a Host,
}

impl<'a> Filters<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        host.ethtool("-K", "hw-tc-offload on")?;
        host.expect_setting("-k", "hw-tc-offload", "on")?;
        host.tc(&format!("qdisc add dev {} clsact", host.interface()))?;
        Ok(Self { host })
    }

    /// Runs `tc` about the filter with this number. Returns what it says.
    fn filter(&self, verb: &str, number: u16, words: &str) -> Result<String> {
        let interface = self.host.interface();
        // The driver takes one priority.
        self.host.tc(&format!(
            "-s filter {verb} dev {interface} ingress protocol ip pref 1 handle {number} \
             flower {words}"
        ))
    }

    /// Adds a filter for datagrams to a port, which only the NIC has.
    fn add(&self, number: u16, port: u16, action: &str) -> Result<()> {
        let words = format!("skip_sw ip_proto udp dst_port {port} action {action}");
        self.filter("add", number, &words)?;
        let shown = self.filter("get", number, "")?;
        ensure!(shown.contains("in_hw"), "{shown}");
        Ok(())
    }

    /// Bytes and packets that the NIC has counted, as far as the driver knows.
    fn known(&self, number: u16) -> Result<(u64, u64)> {
        let shown = self.filter("get", number, "")?;
        let mut lines = shown.lines().map(str::trim);
        let Some(line) = lines.find_map(|line| line.strip_prefix("Sent hardware ")) else {
            return Ok((0, 0));
        };
        let (bytes, packets) = line.split_once(" bytes ").with_context(|| shown.clone())?;
        let packets = packets.split_whitespace().next().unwrap_or_default();
        Ok((bytes.parse()?, packets.parse()?))
    }

    /// Fails unless a filter counts this number of frames.
    fn expect(&self, number: u16, frames: u64) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut known = self.known(number)?;
        while known.1 < frames && Instant::now() < end {
            thread::sleep(PAUSE);
            known = self.known(number)?;
        }
        ensure!(
            known == (frames * FRAME, frames),
            "filter {number} counts {known:?}, not {frames} frames"
        );
        Ok(())
    }

    fn delete(&self, number: u16) -> Result<()> {
        self.filter("del", number, "").map(drop)
    }

    /// Has the NIC take no filters any more.
    fn end(self) -> Result<()> {
        let interface = self.host.interface();
        self.host.tc(&format!("qdisc del dev {interface} clsact"))?;
        self.host.ethtool("-K", "hw-tc-offload off").map(drop)
    }
}

/// Filters of a host that drop and let pass what another one sends.
fn drop_and_pass(from: &Host, to: &Host) -> Result<()> {
    let filters = Filters::new(to)?;
    filters.add(1, PORT, "drop")?;
    filters.add(2, PORT + 1, "pass")?;
    drop_all(from, to, PORT)?;
    come(from, to, PORT + 1, None)?;
    come(from, to, PORT + 2, None)?;
    for number in [1, 2] {
        filters.expect(number, FLOWS as u64)?;
    }
    filters.delete(1)?;
    come(from, to, PORT, None)?;
    come(from, to, PORT + 1, None)?;
    filters.expect(2, 2 * FLOWS as u64)?;
    filters.end()
}

/// The names of tests, the first of which is about a PF, and the last one about a VF.
const TESTS: [&str; 3] = [
    "filters drop and let pass, and count",
    "each of many filters counts for itself",
    "filters of a VF drop and let pass, and count",
];

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    let offload = there.setting("-k", "hw-tc-offload");
    if offload.as_deref().is_ok_and(|now| now.contains("fixed")) {
        for name in TESTS {
            results.skip(name, "the kernel's mlx5e does not offload filters");
        }
        return;
    }
    let [alone, many, of_vf] = TESTS;
    results.test(alone, |results| {
        drop_and_pass(here, there)?;
        no_complaints(results)
    });
    results.test(many, |results| {
        let filters = Filters::new(there)?;
        for number in 1..=MANY {
            filters.add(number, PORT + number, "drop")?;
        }
        for number in 1..=MANY {
            send(here, there, PORT + number, number.into())?;
        }
        for number in 1..=MANY {
            filters.expect(number, number.into())?;
        }
        // What takes the place of one that has gone begins anew.
        filters.delete(3)?;
        filters.add(3, PORT + 3, "drop")?;
        send(here, there, PORT + 3, 1)?;
        filters.expect(3, 1)?;
        filters.expect(4, 4)?;
        filters.end()?;
        no_complaints(results)
    });
    results.test(of_vf, |results| {
        with_vf(|vf| drop_and_pass(there, vf))?;
        no_complaints(results)
    });
}

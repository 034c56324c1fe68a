// SPDX-License-Identifier: GPL-2.0

//! Rules that say which ring a flow goes to, or drop it.

use super::{
    super::core::no_complaints,
    traffic::{
        stream,
        Traffic, //
    },
    HERE,
    SILENCE,
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

const PORT: u16 = 7100;
const OTHER_PORT: u16 = 7101;
/// Datagrams, each of a flow of its own.
pub(super) const FLOWS: usize = 24;

/// A rule, which is deleted by [`Rule::delete`].
struct Rule<'a> {
    host: &'a Host,
    id: String,
}

impl<'a> Rule<'a> {
    fn add(host: &'a Host, words: &str) -> Result<Self> {
        let said = host.ethtool("-N", words)?;
        let id = said.trim().rsplit(' ').next().context("no id")?;
        let id = id.to_string();
        let listed = host.ethtool("-n", "")?;
        ensure!(
            listed.contains(&format!("Filter: {id}")),
            "{said}: {listed}"
        );
        Ok(Self { host, id })
    }

    fn delete(self) -> Result<()> {
        self.host.ethtool("-N", &format!("delete {}", self.id))?;
        let listed = self.host.ethtool("-n", "")?;
        let gone = !listed.contains(&format!("Filter: {}", self.id));
        ensure!(gone, "{listed}");
        Ok(())
    }
}

/// Sends datagrams to a port there, each of another flow.
pub(super) fn send(here: &Host, there: &Host, port: u16, count: usize) -> Result<()> {
    let (from, to) = (here.address(), there.address());
    for _ in 0..count {
        let sender = here.run(move || Ok(UdpSocket::bind((from, 0))?))?;
        sender.send_to(b"hello", (to, port))?;
    }
    Ok(())
}

/// Sends datagrams of many flows to a port there. Returns how many of them came, and how
/// many frames each ring had.
fn datagrams(here: &Host, there: &Host, port: u16) -> Result<(usize, Vec<u64>)> {
    let to = there.address();
    let receiver = there.run(move || Ok(UdpSocket::bind((to, port))?))?;
    receiver.set_read_timeout(Some(SILENCE))?;
    let counted = there.counted(|| {
        send(here, there, port, FLOWS)?;
        here.ping(to, 56)
    })?;
    let came = (0..FLOWS).take_while(|_| receiver.recv(&mut [0; 16]).is_ok());
    Ok((came.count(), counted.of_channels("rx", "packets")))
}

/// Fails unless all datagrams came, on this ring if there is one, else on several.
pub(super) fn come(here: &Host, there: &Host, port: u16, ring: Option<usize>) -> Result<()> {
    let (came, rings) = datagrams(here, there, port)?;
    let of_one = |ring: usize| rings[ring] >= FLOWS as u64;
    let right = match ring {
        Some(ring) => of_one(ring),
        None => !(0..rings.len()).any(of_one),
    };
    ensure!(came == FLOWS && right, "{came} came, on {rings:?}");
    Ok(())
}

/// Fails if one of them came.
pub(super) fn drop_all(here: &Host, there: &Host, port: u16) -> Result<()> {
    let (came, _) = datagrams(here, there, port)?;
    ensure!(came == 0, "{came} came");
    Ok(())
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("a rule has flows go to a ring", |results| {
        for ring in [3, 1] {
            let words = format!("flow-type udp4 dst-port {PORT} action {ring}");
            let rule = Rule::add(there, &words)?;
            come(here, there, PORT, Some(ring))?;
            come(here, there, OTHER_PORT, None)?;
            rule.delete()?;
            come(here, there, PORT, None)?;
        }
        no_complaints(results)
    });
    results.test("a rule drops flows", |results| {
        let words = format!("flow-type udp4 src-ip {HERE} dst-port {PORT} action -1");
        let rule = Rule::add(there, &words)?;
        drop_all(here, there, PORT)?;
        come(here, there, OTHER_PORT, None)?;
        stream(here, there)?;
        rule.delete()?;
        come(here, there, PORT, None)?;
        no_complaints(results)
    });
    results.test("a rule with more fields comes first", |results| {
        let less = format!("flow-type udp4 dst-port {PORT} action 2");
        let less = Rule::add(there, &less)?;
        come(here, there, PORT, Some(2))?;
        let more = format!("flow-type udp4 src-ip {HERE} dst-ip {THERE} dst-port {PORT} action -1");
        let more = Rule::add(there, &more)?;
        drop_all(here, there, PORT)?;
        more.delete()?;
        come(here, there, PORT, Some(2))?;
        less.delete()?;
        no_complaints(results)
    });
    results.test("a rule for an address of Ethernet", |results| {
        let mac = here.mac()?;
        let rule = Rule::add(there, &format!("flow-type ether src {mac} action 2"))?;
        come(here, there, PORT, Some(2))?;
        rule.delete()?;
        come(here, there, PORT, None)?;
        no_complaints(results)
    });
    let ntuple = there.setting("-k", "ntuple-filters");
    match ntuple.as_deref() {
        // Rules that the kernel makes for the flows of each processor.
        Ok("off") => results.test("rules of accelerated RFS come and go", |results| {
            let traffic = Traffic::start(here, there)?;
            for word in ["on", "off"] {
                there.ethtool("-K", &format!("ntuple {word}"))?;
                there.expect_setting("-k", "ntuple-filters", word)?;
                traffic.goes_on()?;
            }
            traffic.end()?;
            no_complaints(results)
        }),
        _ => results.skip(
            "rules of accelerated RFS come and go",
            "the kernel has no accelerated RFS",
        ),
    }
}

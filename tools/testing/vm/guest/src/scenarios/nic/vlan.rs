// SPDX-License-Identifier: GPL-2.0

//! VLANs on top of both interfaces.

use super::{
    super::core::no_complaints,
    no_wrong_checksums,
    traffic::stream_to,
    FULL, //
};
use crate::{
    net::Host,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::net::{
    Ipv4Addr,
    UdpSocket, //
};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
/// In a VLAN that only one host has.
const ALONE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
/// Frames that are sent there.
const FRAMES: u64 = 20;

/// Adds a VLAN.
fn add(host: &Host, id: u16, address: Ipv4Addr) -> Result<()> {
    let interface = host.interface();
    host.ip(&format!(
        "link add link {interface} name v{id} type vlan id {id}"
    ))?;
    host.ip(&format!("addr add {address}/24 dev v{id}"))?;
    host.ip(&format!("link set v{id} up"))?;
    Ok(())
}

/// Pings and streams through a VLAN. Returns how many tags were inserted here, and removed
/// there.
fn through(here: &Host, there: &Host) -> Result<(u64, u64)> {
    let mut removed = 0;
    let inserted = here.counted(|| {
        removed = there
            .counted(|| {
                here.ping(THERE, FULL)?;
                there.ping(HERE, FULL)?;
                stream_to(here, there, THERE.into())
            })?
            .get("rx_removed_vlan_packets")?;
        Ok(())
    })?;
    no_wrong_checksums(&[here, there])?;
    Ok((inserted.get("tx_added_vlan_packets")?, removed))
}

/// Frames that reach `there` of a VLAN that only `here` has.
fn frames_of_other_vlan(here: &Host, there: &Host) -> Result<u64> {
    let mac = there.mac()?;
    here.ip(&format!("neigh replace {NOBODY} dev v9 lladdr {mac}"))?;
    let counted = there.counted(|| {
        let socket = here.run(|| Ok(UdpSocket::bind((ALONE, 0))?))?;
        for _ in 0..FRAMES {
            socket.send_to(b"hello", (NOBODY, 7))?;
        }
        // What was sent before it has arrived when it is answered.
        here.ping(there.address(), 56)
    })?;
    counted.get("rx_packets")
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("VLAN interfaces", |results| {
        for (host, address) in [(here, HERE), (there, THERE)] {
            add(host, 5, address)?;
        }
        add(here, 9, ALONE)?;
        no_complaints(results)
    });
    results.test(
        "tags are inserted and removed by the NIC's driver",
        |results| {
            let (inserted, removed) = through(here, there)?;
            ensure!(inserted > 0 && removed > 0, "{inserted}, {removed}");
            no_complaints(results)
        },
    );
    results.test("tags are not touched if that is off", |results| {
        for host in [here, there] {
            host.ethtool("-K", "txvlan off rxvlan off")?;
        }
        let tags = through(here, there)?;
        ensure!(tags == (0, 0), "{tags:?}");
        // One of both: each understands the other.
        here.ethtool("-K", "txvlan on rxvlan on")?;
        let (inserted, removed) = through(here, there)?;
        ensure!(inserted > 0 && removed == 0, "{inserted}, {removed}");
        there.ethtool("-K", "txvlan on rxvlan on")?;
        no_complaints(results)
    });
    results.test("VLANs are filtered, or not", |results| {
        for on in [true, false, true] {
            let word = if on { "on" } else { "off" };
            there.ethtool("-K", &format!("rx-vlan-filter {word}"))?;
            let frames = frames_of_other_vlan(here, there)?;
            ensure!((frames < FRAMES) == on, "filter {word}: {frames} arrive");
            through(here, there)?;
        }
        no_complaints(results)
    });
    results.test("VLAN interfaces go", |results| {
        for (host, id) in [(here, 5), (there, 5), (here, 9)] {
            host.ip(&format!("link del v{id}"))?;
        }
        super::ping(here, there, 56)?;
        no_complaints(results)
    });
}

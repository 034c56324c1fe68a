// SPDX-License-Identifier: GPL-2.0

//! Which frames reach a host: by its address, by its groups, or all.

use super::{
    super::core::no_complaints,
    ping,
    traffic::stream,
    NOBODY,
    PATIENCE,
    SILENCE,
    THERE, //
};
use crate::{
    net::Host,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    net::{
        Ipv4Addr,
        UdpSocket, //
    },
    time::Instant, //
};

const MAC: &str = "02:00:00:00:05:02";
const STRANGE_MAC: &str = "02:00:00:00:05:99";
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const PORT: u16 = 5353;
/// Frames of a kind that are sent.
const FRAMES: usize = 20;

/// Frames that reach `to` while `here` sends some to nobody, at an address of Ethernet that
/// nobody has.
fn strange_frames(here: &Host, to: &Host) -> Result<u64> {
    let neighbour = format!("{NOBODY} dev {}", here.interface());
    here.ip(&format!("neigh replace {neighbour} lladdr {STRANGE_MAC}"))?;
    let counted = to.counted(|| {
        let socket = here.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        for _ in 0..FRAMES {
            socket.send_to(b"hello", (NOBODY, PORT))?;
        }
        // What was sent before it has arrived when it is answered.
        here.ping(to.address(), 56)
    })?;
    here.ip(&format!("neigh del {neighbour}"))?;
    counted.get("rx_packets")
}

/// Frames that reach `there` while `here` sends some to a group.
fn frames_of_group(here: &Host, there: &Host) -> Result<u64> {
    let address = here.address();
    let counted = there.counted(|| {
        let sender = here.run(move || Ok(UdpSocket::bind((address, 0))?))?;
        for _ in 0..FRAMES {
            sender.send_to(b"hello", (GROUP, PORT))?;
        }
        // What was sent before it has arrived when it is answered.
        here.ping(there.address(), 56)
    })?;
    counted.get("rx_packets")
}

/// Fails unless all of some frames reach a host, or not all do, soon: the driver sets its
/// filters later.
fn expect(all: bool, frames: impl Fn() -> Result<u64>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let frames = frames()?;
        if (frames >= FRAMES as u64) == all {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{frames} arrive");
    }
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("the address of an interface changes", |results| {
        let old = there.mac()?;
        for mac in [MAC, &old] {
            there.ip(&format!("link set {} address {mac}", there.interface()))?;
            ping(there, here, 56)?;
            stream(here, there)?;
        }
        no_complaints(results)
    });
    results.test("a frame to a strange address does not arrive", |results| {
        expect(false, || strange_frames(here, there))?;
        no_complaints(results)
    });
    results.test("promiscuous mode turns on and off", |results| {
        for on in [true, false] {
            let bits = libc::IFF_PROMISC;
            there.configure(move |name| sys::set_interface_flags(name, bits, on))?;
            expect(on, || strange_frames(here, there))?;
            ping(here, there, 56)?;
        }
        no_complaints(results)
    });
    let of_group = || frames_of_group(here, there);
    results.test("groups are joined and left", |results| {
        let socket = there.run(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
        let counted = there.counted(|| {
            expect(false, of_group)?;
            socket.join_multicast_v4(&GROUP, &THERE)?;
            expect(true, of_group)?;
            socket.set_read_timeout(Some(SILENCE))?;
            let heard = socket.recv(&mut [0; 16]);
            heard.context("what was sent to the group")?;
            socket.leave_multicast_v4(&GROUP, &THERE)?;
            expect(false, of_group)
        })?;
        let heard = counted.get("rx_vport_multicast_packets")?;
        ensure!(heard >= FRAMES as u64, "{heard} frames were counted");
        no_complaints(results)
    });
    results.test("all groups are heard, or none but one's own", |results| {
        for on in [true, false] {
            let bits = libc::IFF_ALLMULTI;
            there.configure(move |name| sys::set_interface_flags(name, bits, on))?;
            expect(on, of_group)?;
        }
        no_complaints(results)
    });
}

// SPDX-License-Identifier: GPL-2.0

//! What the NIC does for TCP and UDP: checksums and segments. Each can be off.

use super::{
    super::core::no_complaints,
    no_wrong_checksums,
    traffic::{
        stream,
        stream_to, //
    },
    FULL,
    THERE, //
};
use crate::{
    net::{
        Host,
        Statistics, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::net::{
    Ipv6Addr,
    UdpSocket, //
};

const HERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const THERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Bytes of a large datagram, and of each that it is sent as: the last one is shorter.
const DATAGRAM: usize = 10_000;
const SEGMENT: usize = 1200;

/// What is counted here while both hosts stream.
fn streamed(here: &Host, there: &Host) -> Result<Statistics> {
    let counted = here.counted(|| stream(here, there))?;
    no_wrong_checksums(&[here, there])?;
    Ok(counted)
}

/// Turns features of both hosts on or off.
fn set(hosts: [&Host; 2], words: &str) -> Result<()> {
    for host in hosts {
        host.ethtool("-K", words)?;
    }
    Ok(())
}

fn segmented(counted: &Statistics) -> Result<()> {
    let frames = counted.get("tx_tso_packets")?;
    let bytes = counted.get("tx_tso_bytes")?;
    ensure!(
        frames > 0 && bytes / frames > FULL as u64,
        "{bytes} bytes in {frames} frames"
    );
    Ok(())
}

/// Sends a large datagram that leaves as several, and compares what arrives.
fn large_datagram(here: &Host, there: &Host) -> Result<()> {
    let receiver = there.run(|| Ok(UdpSocket::bind((THERE, 0))?))?;
    let sender = here.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    sys::set_udp_segment(&sender, SEGMENT as libc::c_int)?;
    let data: Vec<u8> = (0..DATAGRAM).map(|at| (at % 251) as u8).collect();
    sender.send_to(&data, receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    for piece in data.chunks(SEGMENT) {
        let mut found = [0; DATAGRAM];
        let n = receiver.recv(&mut found).context("a piece")?;
        ensure!(found[..n] == *piece, "another piece of {n} bytes");
    }
    let wrong = there.counter("Udp", "InCsumErrors")?;
    ensure!(wrong == 0, "{wrong} wrong checksums");
    Ok(())
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    let both = [here, there];
    results.test(
        "frames that are larger than packets are segmented",
        |results| {
            let counted = streamed(here, there)?;
            segmented(&counted)?;
            let sums = counted.get("tx_csum_partial")?;
            ensure!(sums > 0, "no checksum was left to the NIC");
            let seen = counted.get("rx_csum_complete")? + counted.get("rx_csum_unnecessary")?;
            ensure!(seen > 0, "no checksum was seen by the NIC");
            no_complaints(results)
        },
    );
    results.test("IPv6 is segmented, too", |results| {
        for (host, address) in [(here, HERE6), (there, THERE6)] {
            let interface = host.interface();
            host.ip(&format!("-6 addr add {address}/64 dev {interface} nodad"))?;
        }
        let counted = here.counted(|| stream_to(here, there, THERE6.into()))?;
        segmented(&counted)?;
        no_wrong_checksums(&both)?;
        no_complaints(results)
    });
    results.test("large datagrams are segmented", |results| {
        let counted = here.counted(|| large_datagram(here, there))?;
        let bytes = counted.get("tx_tso_bytes")?;
        // A rest that is shorter leaves by itself.
        let whole = DATAGRAM - DATAGRAM % SEGMENT;
        ensure!(bytes >= whole as u64, "{bytes} bytes were segmented");
        no_complaints(results)
    });
    results.test("without segments", |results| {
        set(
            both,
            "tso off tx-tcp6-segmentation off tx-udp-segmentation off",
        )?;
        here.expect_setting("-k", "tcp-segmentation-offload", "off")?;
        let counted = streamed(here, there)?;
        let frames = counted.get("tx_tso_packets")?;
        ensure!(frames == 0, "{frames} frames were segmented");
        let sums = counted.get("tx_csum_partial")?;
        ensure!(sums > 0, "no checksum was left to the NIC");
        large_datagram(here, there)?;
        no_complaints(results)
    });
    results.test("without checksums of what is sent", |results| {
        set(both, "tx off")?;
        let counted = streamed(here, there)?;
        let sums = counted.get("tx_csum_partial")?;
        ensure!(sums == 0, "{sums} checksums were left to the NIC");
        no_complaints(results)
    });
    results.test("without checksums of what is received", |results| {
        set(both, "rx off")?;
        let counted = streamed(here, there)?;
        let seen = counted.get("rx_csum_complete")? + counted.get("rx_csum_unnecessary")?;
        ensure!(seen == 0, "{seen} checksums were seen by the NIC");
        no_complaints(results)
    });
    results.test("one frame for each packet that is received", |results| {
        set(both, "gro off rxhash off")?;
        streamed(here, there)?;
        no_complaints(results)
    });
    results.test("with all of them again", |results| {
        set(both, "tx on rx on gro on rxhash on")?;
        set(
            both,
            "tso on tx-tcp6-segmentation on tx-udp-segmentation on",
        )?;
        segmented(&streamed(here, there)?)?;
        no_complaints(results)
    });
}

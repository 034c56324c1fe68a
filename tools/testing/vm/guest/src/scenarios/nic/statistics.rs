// SPDX-License-Identifier: GPL-2.0

//! What the NIC counts, and says of itself.

use super::{
    super::core::no_complaints,
    traffic::stream,
    FULL,
    THERE, //
};
use crate::{
    hca::Pf,
    net::{
        Host,
        Statistics, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};

/// Bytes of a frame with [`FULL`] bytes of data, without its checksum.
const FRAME: u64 = 1514;
/// Its checksum.
const FCS: u64 = 4;
/// Frames that the other side may send to groups that nobody here is in, as IPv6 does.
const STRAY: u64 = 8;
/// Echo requests.
const PINGS: u64 = 50;

/// The sum of counters.
fn sum(counted: &Statistics, names: &[&str]) -> Result<u64> {
    names.iter().map(|name| counted.get(name)).sum()
}

/// Fails unless the driver, the virtual port and the port have counted the same frames, and
/// the same bytes but for the checksums on the wire. What comes when the driver has given no
/// buffer, as on a busy machine, is counted by both ports and as dropped. The port also counts
/// what it receives for groups that nobody here is in.
fn agree(counted: &Statistics, way: &str, sent: bool) -> Result<()> {
    let vport = |what: &str| {
        let of = |kind: &str| format!("{way}_vport_{kind}_{what}");
        let names = ["unicast", "multicast", "broadcast"].map(of);
        sum(counted, &names.each_ref().map(String::as_str))
    };
    let of_driver = counted.get(&format!("{way}_packets"))?;
    let bytes = counted.get(&format!("{way}_bytes"))?;
    let dropped = if sent {
        0
    } else {
        counted.get("rx_out_of_buffer")?
    };
    let frames = of_driver + dropped;
    let of_vport = vport("packets")?;
    ensure!(
        of_vport == frames,
        "{way}: virtual port {of_vport}, driver {of_driver}, {dropped} without a buffer"
    );
    let stray = if sent { 0 } else { STRAY };
    let mut more = 0;
    for (who, others) in [
        ("port", counted.get(&format!("{way}_packets_phy"))?),
        ("priority 0", counted.get(&format!("{way}_prio0_packets"))?),
    ] {
        ensure!(
            (frames..=frames + stray).contains(&others),
            "{way}: {who} {others}, not {frames}"
        );
        more = others - frames;
    }
    let of_vport = vport("bytes")?;
    for (who, others) in [
        ("port", counted.get(&format!("{way}_bytes_phy"))?),
        ("priority 0", counted.get(&format!("{way}_prio0_bytes"))?),
    ] {
        let right = of_vport + frames * FCS;
        ensure!(
            (right..=right + more * (FRAME + FCS)).contains(&others),
            "{way}: {who} {others}, not {right}"
        );
    }
    // The driver counts short frames as they are when they are padded, and nothing of those that
    // were dropped.
    let short = if sent { 18 * frames } else { 0 };
    ensure!(
        (of_vport..=of_vport + short + dropped * FRAME).contains(&(bytes + dropped * FRAME)),
        "{way}: virtual port {of_vport}, driver {bytes} bytes"
    );
    Ok(())
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("frames are counted alike wherever they pass", |results| {
        let mut of_there = None;
        let of_here = here.counted(|| {
            let counted = there.counted(|| {
                stream(here, there)?;
                for _ in 0..PINGS {
                    here.ping(THERE, FULL)?;
                }
                // What is on its way gets there.
                std::thread::sleep(super::SILENCE);
                Ok(())
            })?;
            of_there = Some(counted);
            Ok(())
        })?;
        for counted in of_there.iter().chain([&of_here]) {
            agree(counted, "rx", false)?;
            agree(counted, "tx", true)?;
            let sent = counted.get("tx_packets")?;
            ensure!(sent >= PINGS, "{sent} frames were sent");
            for name in ["rx_wqe_err", "tx_cqe_err", "rx_oversize_pkts_phy"] {
                ensure!(counted.get(name)? == 0, "{name}");
            }
            let large = counted.get("rx_1024_to_1518_bytes_phy")?;
            ensure!(large >= PINGS, "{large} frames of {FRAME} bytes");
        }
        no_complaints(results)
    });
    results.test("frames that are too long are counted", |results| {
        here.configure(|name| sys::set_mtu(name, 3000))?;
        here.wait_for_link()?;
        let counted = there.counted(|| {
            let answer = here.ping_for(THERE, super::LARGE, super::SILENCE);
            ensure!(answer.is_err(), "there is an answer");
            Ok(())
        })?;
        here.configure(|name| sys::set_mtu(name, 1500))?;
        here.wait_for_link()?;
        let long = counted.get("rx_oversize_pkts_phy")?;
        ensure!(long == 1, "{long} frames");
        super::ping(here, there, FULL)?;
        no_complaints(results)
    });
    results.test("the driver and firmware have names", |results| {
        here.expect_setting("-i", "driver", "mlx5_core")?;
        let address = Pf::find()?.address().to_string();
        let text = here.ethtool("-i", "")?;
        ensure!(text.contains(&format!("bus-info: {address}")), "{text}");
        let version = here.setting("-i", "firmware-version")?;
        ensure!(version.contains("EMU_0000000001"), "{version}");
        no_complaints(results)
    });
    results.test("pauses are set and told", |results| {
        for word in ["on", "off"] {
            here.ethtool("-A", &format!("rx {word} tx {word}"))?;
            here.expect_setting("-a", "RX", word)?;
            here.expect_setting("-a", "TX", word)?;
            super::ping(here, there, 56)?;
        }
        no_complaints(results)
    });
}

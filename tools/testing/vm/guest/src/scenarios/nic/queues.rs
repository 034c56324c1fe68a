// SPDX-License-Identifier: GPL-2.0

//! Rings and their events: how long rings are, and how long events wait.

use super::{
    super::core::no_complaints,
    traffic::Traffic,
    THERE, //
};
use crate::{
    net::Host,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::time::{
    Duration,
    Instant, //
};

/// Pings that are timed.
const PINGS: usize = 16;
/// A period that is longer than an answer takes, nearly the longest that can be.
const PERIOD: Duration = Duration::from_millis(4);
/// Between pings: longer than a period.
const PAUSE: Duration = Duration::from_millis(10);

fn set_rings(host: &Host, receive: u32, send: u32) -> Result<()> {
    host.ethtool("-G", &format!("rx {receive} tx {send}"))?;
    host.expect_setting("-g", "RX", &receive.to_string())?;
    host.expect_setting("-g", "TX", &send.to_string())
}

/// How long answers take, from the fastest on.
fn answers(here: &Host) -> Result<[Duration; PINGS]> {
    let mut times = [Duration::ZERO; PINGS];
    for time in &mut times {
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        here.ping(THERE, 56)?;
        *time = begin.elapsed();
    }
    times.sort_unstable();
    Ok(times)
}

/// Sets the period of all events, which begins with the last completion, or with the last
/// event. That of what is sent counts, too: an event of either has both rings polled.
fn set_period(host: &Host, period: Duration, from_completion: bool) -> Result<()> {
    let from = if from_completion { "on" } else { "off" };
    // That alone: the driver has its own limits when this changes.
    host.ethtool("-C", &format!("cqe-mode-rx {from} cqe-mode-tx {from}"))?;
    let period = period.as_micros();
    let limits = ["rx", "tx"].map(|way| format!("{way}-usecs {period} {way}-frames 128"));
    host.ethtool("-C", &limits.join(" "))?;
    for way in ["rx", "tx"] {
        host.expect_setting("-c", &format!("{way}-usecs"), &period.to_string())?;
        host.expect_setting("-c", &format!("{way}-frames"), "128")?;
    }
    Ok(())
}

pub fn run(results: &mut Results, here: &Host, there: &Host) {
    results.test("rings change their size while traffic goes", |results| {
        let old = ["RX", "TX"].map(|name| there.setting("-g", name));
        let [receive, send] = old;
        let old = (receive?.parse()?, send?.parse()?);
        let traffic = Traffic::start(here, there)?;
        for (receive, send) in [(64, 64), (4096, 128), (128, 8192), old] {
            set_rings(there, receive, send)?;
            traffic.goes_on()?;
        }
        traffic.end()?;
        no_complaints(results)
    });
    results.test("an event waits for its period", |results| {
        here.ethtool("-C", "adaptive-rx off adaptive-tx off")?;
        set_period(here, Duration::ZERO, true)?;
        let at_once = answers(here)?;
        set_period(here, PERIOD, true)?;
        let late = answers(here)?;
        // Nothing was told for longer.
        set_period(here, PERIOD, false)?;
        let again = answers(here)?;
        // Something else may have polled the ring once.
        ensure!(
            late[1] >= PERIOD && at_once[0] < late[1] && again[0] < late[1],
            "answers take {at_once:?}, {late:?}, {again:?}"
        );
        no_complaints(results)
    });
    results.test("moderation changes while traffic goes", |results| {
        let traffic = Traffic::start(here, there)?;
        for words in [
            "rx-usecs 0 rx-frames 0 tx-usecs 0 tx-frames 0",
            "rx-usecs 100 rx-frames 1 tx-usecs 100 tx-frames 1",
            "rx-usecs 4000 rx-frames 64 tx-usecs 4000 tx-frames 64",
        ] {
            here.ethtool("-C", words)?;
            traffic.goes_on()?;
        }
        for name in ["rx-usecs", "tx-usecs"] {
            here.expect_setting("-c", name, "4000")?;
        }
        here.ethtool("-C", "rx-usecs 8 rx-frames 128 tx-usecs 8 tx-frames 128")?;
        here.ethtool("-C", "cqe-mode-rx on cqe-mode-tx off")?;
        here.ethtool("-C", "adaptive-rx on adaptive-tx on")?;
        traffic.goes_on()?;
        traffic.end()?;
        no_complaints(results)
    });
}

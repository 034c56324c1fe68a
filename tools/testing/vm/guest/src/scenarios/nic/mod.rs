// SPDX-License-Identifier: GPL-2.0

//! The emulated HCA as a NIC: the unmodified mlx5e on the PFs of two, on one network, and
//! all that `ethtool` and `ip` change of it. What the HCA does not offer to a NIC, and what
//! is therefore not tried, is in "What is not modelled" of the HCA's documentation.

mod addresses;
mod driver;
mod filters;
mod offloads;
mod queues;
mod rss;
mod rules;
mod statistics;
mod traffic;
mod vlan;

use super::{
    core::no_complaints,
    NamedRun, //
};
use crate::{
    fault::Control,
    hca::{
        self,
        Pf, //
    },
    net::Host,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    net::Ipv4Addr,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
pub(super) use traffic::{
    echo,
    stream, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("nic", run)];

const HERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
/// That of a VF.
const VF: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 3);
/// Nobody has it.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 99);
/// How long an interface may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Without a link, nobody answers in this time.
const SILENCE: Duration = Duration::from_millis(500);
/// Data that fill a frame of 1500 bytes, and one of 3000.
const FULL: usize = 1472;
const LARGE: usize = 2972;

/// Pings both ways.
pub(super) fn ping(here: &Host, there: &Host, len: usize) -> Result<()> {
    here.ping(there.address(), len)?;
    there.ping(here.address(), len)
}

/// The interfaces of both PFs, as hosts.
pub(super) fn hosts() -> Result<[Host; 2]> {
    let pfs = Pf::all()?;
    let [here, there] = pfs.as_slice() else {
        anyhow::bail!("{} PFs", pfs.len());
    };
    // A host that has ended gives its interface back some time later.
    let end = Instant::now() + PATIENCE;
    while hca::interface(here.address()).is_err() || hca::interface(there.address()).is_err() {
        ensure!(Instant::now() < end, "the interfaces are away");
        thread::sleep(Duration::from_millis(10));
    }
    let hosts = [
        Host::new(&hca::interface(here.address())?, HERE)?,
        Host::new(&hca::interface(there.address())?, THERE)?,
    ];
    for host in &hosts {
        host.wait_for_link()?;
    }
    Ok(hosts)
}

/// Has a VF of the first PF be one more host.
fn with_vf(work: impl FnOnce(&Host) -> Result<()>) -> Result<()> {
    let pf = Pf::find()?;
    pf.set_vfs(1)?;
    let vf = pf.vfs()?[0];
    hca::bind_to(vf, "mlx5_core")?;
    let host = Host::new(&hca::interface(vf)?, VF)?;
    host.wait_for_link()?;
    work(&host)?;
    drop(host);
    pf.set_vfs(0)
}

fn run(results: &mut Results) -> Result<()> {
    results.test("each PF has an interface", |results| {
        for pf in Pf::all()? {
            hca::interface(pf.address())?;
        }
        no_complaints(results)
    });
    let [here, there] = hosts()?;
    basics(results, &here, &there);
    addresses::run(results, &here, &there);
    rss::run(results, &here, &there);
    queues::run(results, &here, &there);
    vlan::run(results, &here, &there);
    offloads::run(results, &here, &there);
    statistics::run(results, &here, &there);
    rules::run(results, &here, &there);
    filters::run(results, &here, &there);
    links(results, &here, &there);
    driver::run(results, here, there);
    Ok(())
}

/// Frames of all lengths.
fn basics(results: &mut Results, here: &Host, there: &Host) {
    results.test("pings are answered", |_| {
        for len in [0, 56, FULL] {
            ping(here, there, len)?;
        }
        Ok(())
    });
    results.test("fragments arrive", |_| ping(here, there, 20_000));
    results.test("streams arrive as they were sent", |results| {
        stream(here, there)?;
        no_wrong_checksums(&[here, there])?;
        no_complaints(results)
    });
    results.test("the MTU changes", |results| {
        for host in [here, there] {
            host.configure(|name| sys::set_mtu(name, 3000))?;
            host.wait_for_link()?;
        }
        ping(here, there, LARGE)?;
        stream(here, there)?;
        for host in [here, there] {
            host.configure(|name| sys::set_mtu(name, 1500))?;
        }
        ping(here, there, FULL)?;
        no_complaints(results)
    });
}

/// Fails if a host was sent what is not whole.
fn no_wrong_checksums(hosts: &[&Host]) -> Result<()> {
    for host in hosts {
        let wrong = host.counter("Tcp", "InCsumErrors")?;
        ensure!(wrong == 0, "{wrong} wrong checksums");
    }
    Ok(())
}

/// Links that go down and up: from the other end, and because the wire is pulled.
fn links(results: &mut Results, here: &Host, there: &Host) {
    results.test("a link goes down and up", |results| {
        there.turn(false)?;
        let answer = here.ping_for(THERE, 56, SILENCE);
        ensure!(answer.is_err(), "there is an answer");
        there.turn(true)?;
        there.wait_for_link()?;
        ping(here, there, 56)?;
        no_complaints(results)
    });
    results.test("a wire is pulled, and plugged in", |results| {
        let control = Control::open(&Pf::find()?)?;
        here.expect_setting("", "Link detected", "yes")?;
        control.plug(false)?;
        here.wait_for_link_to_be(false)?;
        here.expect_setting("", "Link detected", "no")?;
        control.plug(true)?;
        here.wait_for_link()?;
        here.expect_setting("", "Speed", "100000Mb/s")?;
        stream(here, there)?;
        no_complaints(results)
    });
}

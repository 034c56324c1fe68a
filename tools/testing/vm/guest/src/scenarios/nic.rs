// SPDX-License-Identifier: GPL-2.0

//! The emulated HCA as a NIC: the unmodified mlx5e on the PFs of two, on one network.

use super::{
    core::no_complaints,
    NamedRun, //
};
use crate::{
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
    Context,
    Result, //
};
use std::{
    io::{
        Read,
        Write, //
    },
    net::{
        Ipv4Addr,
        Shutdown,
        TcpListener,
        TcpStream, //
    },
    thread,
    time::Duration, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("nic", run)];

const HERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
const VF: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 3);
/// Bytes of a stream.
const STREAM: usize = 8 << 20;
/// Without a link, nobody answers in this time.
const SILENCE: Duration = Duration::from_millis(500);
/// Data that fill a frame of 1500 bytes, and one of 3000.
const FULL: usize = 1472;
const LARGE: usize = 2972;

/// Bytes that differ from place to place.
fn sequence(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(..)).collect()
}

/// Streams both ways at once, and compares what arrives.
pub(super) fn stream(from: &Host, to: &Host) -> Result<()> {
    let address = to.address();
    let listener = to.run(move || Ok(TcpListener::bind((address, 0))?))?;
    let port = listener.local_addr()?.port();
    let one = from.run(move || Ok(TcpStream::connect((address, port))?))?;
    let (other, _) = listener.accept()?;
    let mut ends = Vec::new();
    for (end, seed) in [(&one, 1), (&other, 2)] {
        let mut writer = end.try_clone()?;
        let mut reader = end.try_clone()?;
        ends.push(thread::spawn(move || -> Result<()> {
            writer.write_all(&sequence(seed, STREAM))?;
            Ok(writer.shutdown(Shutdown::Write)?)
        }));
        ends.push(thread::spawn(move || -> Result<()> {
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            ensure!(data.len() == STREAM, "{} bytes", data.len());
            ensure!(data == sequence(3 - seed, STREAM), "other bytes arrive");
            Ok(())
        }));
    }
    for end in ends {
        end.join().ok().context("a thread has died")??;
    }
    Ok(())
}

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
    let hosts = [
        Host::new(&hca::interface(here.address())?, HERE)?,
        Host::new(&hca::interface(there.address())?, THERE)?,
    ];
    for host in &hosts {
        host.wait_for_link()?;
    }
    Ok(hosts)
}

fn run(results: &mut Results) -> Result<()> {
    results.test("each PF has an interface", |results| {
        for pf in Pf::all()? {
            hca::interface(pf.address())?;
        }
        no_complaints(results)
    });
    let [here, there] = hosts()?;
    results.test("pings are answered", |_| {
        for len in [0, 56, FULL] {
            ping(&here, &there, len)?;
        }
        Ok(())
    });
    results.test("fragments arrive", |_| ping(&here, &there, 20_000));
    results.test("streams arrive as they were sent", |results| {
        stream(&here, &there)?;
        for host in [&here, &there] {
            let wrong = host.counter("Tcp", "InCsumErrors")?;
            ensure!(wrong == 0, "{wrong} wrong checksums");
        }
        no_complaints(results)
    });
    results.test("the MTU changes", |results| {
        for host in [&here, &there] {
            host.configure(|name| sys::set_mtu(name, 3000))?;
            host.wait_for_link()?;
        }
        ping(&here, &there, LARGE)?;
        stream(&here, &there)?;
        for host in [&here, &there] {
            host.configure(|name| sys::set_mtu(name, 1500))?;
        }
        ping(&here, &there, FULL)?;
        no_complaints(results)
    });
    results.test("promiscuous mode turns on and off", |results| {
        for on in [true, false] {
            let bits = libc::IFF_PROMISC;
            here.configure(move |name| sys::set_interface_flags(name, bits, on))?;
            ping(&here, &there, 56)?;
        }
        no_complaints(results)
    });
    results.test("a link goes down and up", |results| {
        there.turn(false)?;
        let answer = here.ping_for(THERE, 56, SILENCE);
        ensure!(answer.is_err(), "there is an answer");
        there.turn(true)?;
        there.wait_for_link()?;
        ping(&here, &there, 56)?;
        no_complaints(results)
    });
    results.test("a VF and both PFs hear each other", |results| {
        let pf = Pf::find()?;
        pf.set_vfs(1)?;
        let vf = pf.vfs()?[0];
        hca::bind_to(vf, "mlx5_core")?;
        let of_vf = Host::new(&hca::interface(vf)?, VF)?;
        of_vf.wait_for_link()?;
        for other in [&here, &there] {
            ping(&of_vf, other, FULL)?;
            stream(&of_vf, other)?;
        }
        drop(of_vf);
        pf.set_vfs(0)?;
        no_complaints(results)
    });
    drop((here, there));
    results.test(
        "mlx5_core lets the PFs go, and takes them again",
        |results| {
            for pf in Pf::all()? {
                pf.set_bound(false)?;
            }
            for pf in Pf::all()? {
                pf.set_bound(true)?;
            }
            let [here, there] = hosts()?;
            ping(&here, &there, 56)?;
            no_complaints(results)
        },
    );
    Ok(())
}

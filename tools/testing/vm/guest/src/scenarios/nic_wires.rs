// SPDX-License-Identifier: GPL-2.0

//! The unmodified mlx5e on networks of QEMU that are not a hub: that of the user, which QEMU
//! answers itself, and one of datagrams between two HCAs.

use super::{
    core::no_complaints,
    nic,
    NamedRun, //
};
use crate::{
    hca::{
        self,
        Pf, //
    },
    net::Host,
    tap::Results, //
};
use anyhow::Result;
use std::net::{
    Ipv4Addr,
    SocketAddrV4,
    TcpStream, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("nic-wires", run)];

/// The network of the user, as QEMU has it.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Sends back what it gets (guestfwd).
const ECHO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 100), 7);
/// Two hosts that are connected by datagrams.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
/// Data that fill a frame of 1500 bytes, and data of several fragments.
const SIZES: [usize; 3] = [0, 1472, 20_000];

/// A host with the interface of a PF.
fn host(pf: &Pf, address: Ipv4Addr) -> Result<Host> {
    let host = Host::new(&hca::interface(pf.address())?, address)?;
    host.wait_for_link()?;
    Ok(host)
}

fn run(results: &mut Results) -> Result<()> {
    let pfs = Pf::all()?;
    let [user, here, there] = pfs.as_slice() else {
        anyhow::bail!("{} PFs", pfs.len());
    };
    let user = host(user, GUEST)?;
    let [here, there] = [host(here, HERE)?, host(there, THERE)?];
    results.test("the gateway of the user's network answers", |results| {
        for len in &SIZES[..2] {
            user.ping(GATEWAY, *len)?;
        }
        no_complaints(results)
    });
    results.test("a program beside QEMU echoes a stream", |results| {
        let socket = user.run(|| Ok(TcpStream::connect(ECHO)?))?;
        nic::echo(&socket)?;
        no_complaints(results)
    });
    results.test("datagrams carry pings and streams", |results| {
        for len in SIZES {
            here.ping(THERE, len)?;
        }
        nic::stream(&here, &there)?;
        no_complaints(results)
    });
    Ok(())
}

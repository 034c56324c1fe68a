// SPDX-License-Identifier: GPL-2.0

//! The e-switch of the emulated HCA: what `ip link set PF vf N` does, by the unmodified
//! mlx5_core, and where frames go. Two VFs and the PF of one HCA, and the PF of another one
//! on the same network.

use super::{
    core::no_complaints,
    nic::{
        hosts,
        ping,
        stream, //
    },
    NamedRun, //
};
use crate::{
    frames::{
        Ear,
        Frame, //
    },
    hca::{
        self,
        Pf, //
    },
    net::Host,
    sys,
    tap::Results,
    vf_links::{
        self,
        LinkState,
        Mac,
        Setting,
        VfLink, //
    },
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    cell::Cell,
    fs,
    net::Ipv4Addr,
    time::{
        Duration,
        Instant, //
    },
};

use vfio_mig::sysfs;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("eswitch", run)];

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 5, 0, 3), Ipv4Addr::new(10, 5, 0, 4)];
/// Those that the PF gives its VFs, and one that nobody has.
const MACS: [Mac; 2] = [[2, 0, 0, 0xe5, 0, 1], [2, 0, 0, 0xe5, 0, 2]];
const NOBODY: Mac = [2, 0, 0, 0xe5, 0, 9];
/// A group that nobody has joined.
const GROUP: Mac = [1, 0, 0x5e, 0, 0xe5, 9];
/// How long changes may take that interfaces make in the background.
const PATIENCE: Duration = Duration::from_secs(10);
/// A frame that is not heard in this time does not arrive.
const SILENCE: Duration = Duration::from_millis(300);
/// A VLAN, the priority in it, and the tag that says both.
const VLAN: u32 = 100;
const PRIORITY: u32 = 3;
const TAG: u16 = ((PRIORITY << 13) | VLAN) as u16;

/// What mlx5_core says of its e-switch that is no complaint.
const USUAL: &[&str] = &[
    "E-Switch: Enable: mode(LEGACY)",
    "E-Switch: Disable: mode(LEGACY)",
    "E-Switch: Unload vfs: mode(LEGACY)",
    "E-Switch: Total vports",
    "E-Switch: cleanup",
];

/// Fails if mlx5_core has complained since the test began.
fn quiet(results: &mut Results) -> Result<()> {
    let mut lines = results.kernel_lines();
    lines.retain(|line| {
        line.contains("E-Switch: ") && !USUAL.iter().any(|usual| line.contains(usual))
    });
    ensure!(lines.is_empty(), "{}", lines.join("\n"));
    no_complaints(results)
}

/// The address of a function's interface, and whether it is a permanent one.
fn address(interface: &str) -> Result<(Mac, bool)> {
    let read = |file| fs::read_to_string(format!("/sys/class/net/{interface}/{file}"));
    let text = read("address")?;
    let bytes = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    let mac = bytes.try_into().ok().context("no address")?;
    // NET_ADDR_PERM
    Ok((mac, read("addr_assign_type")?.trim() == "0"))
}

/// The PFs of both HCAs, and the VFs of the first.
struct Network {
    here: Host,
    there: Host,
    vfs: Vec<Host>,
    /// The addresses of the PFs.
    macs: [Mac; 2],
    /// Frames that were sent.
    sent: Cell<u64>,
}

impl Network {
    /// Without VFs.
    fn new() -> Result<Self> {
        let mut macs = [[0; 6]; 2];
        for (mac, pf) in macs.iter_mut().zip(Pf::all()?) {
            *mac = address(&hca::interface(pf.address())?)?.0;
        }
        let [here, there] = hosts()?;
        Ok(Self {
            here,
            there,
            vfs: Vec::new(),
            macs,
            sent: Cell::new(0),
        })
    }

    /// Sets something of a VF.
    fn set(&self, vf: u32, setting: Setting) -> Result<()> {
        self.here
            .with_interface(move |name| vf_links::set(name, vf, setting))
            .with_context(|| format!("{setting:?}"))
    }

    /// What is set for a VF, and its counters.
    fn show(&self, vf: usize) -> Result<VfLink> {
        let all = self.here.with_interface(vf_links::show)?;
        all.into_iter().nth(vf).context("no such VF")
    }

    /// Has mlx5_core drive a VF, with an interface that has an address.
    fn bind(&self, vf: usize) -> Result<Host> {
        let function = Pf::find()?.vfs()?[vf];
        hca::bind_to(function, "mlx5_core")?;
        let interface = hca::interface(function)?;
        let (mac, permanent) = address(&interface)?;
        ensure!(mac == MACS[vf] && permanent, "VF {vf} has {mac:02x?}");
        let host = Host::new(&interface, ADDRESSES[vf])?;
        host.wait_for_link()?;
        Ok(host)
    }

    fn send(&self, from: &Ear, frame: Frame) -> Result<u64> {
        let number = self.sent.get() + 1;
        self.sent.set(number);
        from.send(frame, number)?;
        Ok(number)
    }

    /// Fails unless a frame arrives with this tag, sooner or later.
    fn arrives(&self, frame: Frame, from: &Ear, to: &Ear, tag: u16) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let number = self.send(from, frame)?;
            match to.hear(number, SILENCE)? {
                Some(heard) if heard == tag => return Ok(()),
                Some(heard) => bail!("{frame:02x?} arrives with tag {heard:#x}"),
                None => (),
            }
        }
        bail!("{frame:02x?} does not arrive")
    }

    /// Fails if a frame arrives.
    fn is_lost(&self, frame: Frame, from: &Ear, to: &Ear) -> Result<()> {
        let number = self.send(from, frame)?;
        match to.hear(number, SILENCE)? {
            None => Ok(()),
            Some(tag) => bail!("{frame:02x?} arrives with tag {tag:#x}"),
        }
    }
}

/// A frame without a tag.
fn frame(from: Mac, to: Mac) -> Frame {
    Frame {
        to,
        from,
        tag: None,
    }
}

fn tagged(from: Mac, to: Mac, vlan: u32) -> Frame {
    Frame {
        tag: Some(vlan as u16),
        ..frame(from, to)
    }
}

fn set_promiscuous(host: &Host, on: bool) -> Result<()> {
    host.configure(move |name| sys::set_interface_flags(name, libc::IFF_PROMISC, on))
}

/// Frames go to whom they are for, and a VF hears more only if it is trusted.
fn switch_frames(net: &Network) -> Result<()> {
    let [pf, there] = net.macs;
    let [vf0, vf1] = [0, 1].map(|vf| Ear::new(&net.vfs[vf]));
    let (vf0, vf1) = (vf0?, vf1?);
    let (of_pf, of_there) = (Ear::new(&net.here)?, Ear::new(&net.there)?);
    let [mac0, mac1] = MACS;
    set_promiscuous(&net.vfs[1], true)?;
    net.arrives(frame(mac0, pf), &vf0, &of_pf, 0)?;
    net.arrives(frame(mac0, mac1), &vf0, &vf1, 0)?;
    net.arrives(frame(mac0, there), &vf0, &of_there, 0)?;
    net.arrives(frame(there, mac0), &of_there, &vf0, 0)?;
    for (frame, from) in [
        (frame(mac0, pf), &vf0),
        (frame(mac0, there), &vf0),
        (frame(there, mac0), &of_there),
        (frame(there, NOBODY), &of_there),
        (frame(there, GROUP), &of_there),
    ] {
        net.is_lost(frame, from, &vf1)?;
    }
    net.set(1, Setting::Trust(true))?;
    ensure!(net.show(1)?.trust);
    net.arrives(frame(there, NOBODY), &of_there, &vf1, 0)?;
    net.arrives(frame(there, GROUP), &of_there, &vf1, 0)?;
    net.is_lost(frame(there, mac0), &of_there, &vf1)?;
    net.set(1, Setting::Trust(false))?;
    ensure!(!net.show(1)?.trust);
    net.is_lost(frame(there, NOBODY), &of_there, &vf1)?;
    net.is_lost(frame(there, GROUP), &of_there, &vf1)?;
    set_promiscuous(&net.vfs[1], false)
}

/// A VF sends from its own address only.
fn check_spoofing(net: &Network) -> Result<()> {
    let (vf, there) = (Ear::new(&net.vfs[0])?, Ear::new(&net.there)?);
    let (right, wrong) = (frame(MACS[0], net.macs[1]), frame(NOBODY, net.macs[1]));
    net.arrives(wrong, &vf, &there, 0)?;
    net.set(0, Setting::SpoofCheck(true))?;
    let before = net.show(0)?;
    ensure!(before.spoof_check && before.sent.1 == 0, "{before:?}");
    net.arrives(right, &vf, &there, 0)?;
    for _ in 0..3 {
        net.is_lost(wrong, &vf, &there)?;
    }
    let after = net.show(0)?;
    ensure!(after.sent.1 == 3, "{after:?}");
    ensure!(after.sent.0 > before.sent.0, "{after:?}");
    net.set(0, Setting::SpoofCheck(false))?;
    ensure!(!net.show(0)?.spoof_check);
    net.arrives(wrong, &vf, &there, 0)
}

/// A VF is in a VLAN without knowing.
fn put_in_vlan(net: &Network) -> Result<()> {
    let (vf, other) = (Ear::new(&net.vfs[0])?, Ear::new(&net.vfs[1])?);
    let (there, mac) = (Ear::new(&net.there)?, net.macs[1]);
    // It hears frames of all VLANs then.
    set_promiscuous(&net.there, true)?;
    net.set(0, Setting::Vlan(VLAN, PRIORITY))?;
    let set = net.show(0)?;
    ensure!(set.vlan == (VLAN, PRIORITY), "{set:?}");
    net.arrives(frame(MACS[0], mac), &vf, &there, TAG)?;
    net.arrives(tagged(mac, MACS[0], VLAN), &there, &vf, 0)?;
    net.is_lost(frame(mac, MACS[0]), &there, &vf)?;
    net.is_lost(frame(MACS[1], MACS[0]), &other, &vf)?;
    net.is_lost(tagged(mac, MACS[0], VLAN + 1), &there, &vf)?;
    net.is_lost(tagged(MACS[0], mac, VLAN + 1), &vf, &there)?;
    let after = net.show(0)?;
    ensure!(after.received.1 >= set.received.1 + 3, "{after:?}");
    ensure!(after.sent.1 > set.sent.1, "{after:?}");
    // Both at once.
    net.set(0, Setting::SpoofCheck(true))?;
    net.arrives(frame(MACS[0], mac), &vf, &there, TAG)?;
    net.is_lost(frame(NOBODY, mac), &vf, &there)?;
    net.set(0, Setting::SpoofCheck(false))?;
    // One network for both VFs.
    net.set(1, Setting::Vlan(VLAN, 0))?;
    net.arrives(frame(MACS[1], MACS[0]), &other, &vf, 0)?;
    ping(&net.vfs[0], &net.vfs[1], 56)?;
    for vf in [0, 1] {
        net.set(vf, Setting::Vlan(0, 0))?;
    }
    ensure!(net.show(0)?.vlan == (0, 0));
    net.arrives(frame(MACS[0], mac), &vf, &there, 0)?;
    net.arrives(frame(mac, MACS[0]), &there, &vf, 0)?;
    net.arrives(tagged(MACS[0], mac, VLAN + 1), &vf, &there, VLAN as u16 + 1)?;
    set_promiscuous(&net.there, false)
}

/// The link of a VF is up, down, or as the wire is.
fn set_links(net: &Network) -> Result<()> {
    let set = |vf: u32, state: LinkState| {
        net.set(vf, Setting::Link(state))?;
        let shown = net.show(vf as usize)?.link;
        ensure!(shown == state as u32, "VF {vf}: {shown}");
        Ok(())
    };
    let [one, other] = net.vfs.as_slice() else {
        bail!("{} VFs", net.vfs.len());
    };
    let (vf, there) = (Ear::new(one)?, Ear::new(&net.there)?);
    let mac = net.macs[1];
    set(0, LinkState::Disable)?;
    one.wait_for_link_to_be(false)?;
    net.is_lost(frame(mac, MACS[0]), &there, &vf)?;
    ensure!(other.has_link()?);
    set(0, LinkState::Enable)?;
    one.wait_for_link()?;
    net.arrives(frame(mac, MACS[0]), &there, &vf, 0)?;
    // The PF turns the wire off.
    net.here.turn(false)?;
    other.wait_for_link_to_be(false)?;
    ensure!(one.has_link()?);
    net.is_lost(frame(MACS[0], mac), &vf, &there)?;
    set(1, LinkState::Enable)?;
    other.wait_for_link()?;
    ping(one, other, 56)?;
    for vf in [0, 1] {
        set(vf, LinkState::Auto)?;
    }
    one.wait_for_link_to_be(false)?;
    net.here.turn(true)?;
    for host in [&net.here, one, other] {
        host.wait_for_link()?;
    }
    ping(one, &net.there, 56)
}

fn run(results: &mut Results) -> Result<()> {
    let mut net = Network::new()?;
    results.test("nothing is set for new VFs", |results| {
        Pf::find()?.set_vfs(2)?;
        for vf in [0, 1] {
            let link = net.show(vf)?;
            ensure!(link == VfLink::default(), "{link:?}");
        }
        quiet(results)
    });
    results.test("a VF has the address that its PF gives it", |results| {
        for (vf, mac) in (0..).zip(MACS) {
            net.set(vf, Setting::Mac(mac))?;
            ensure!(net.show(vf as usize)?.mac == mac);
        }
        for vf in [0, 1] {
            let host = net.bind(vf)?;
            net.vfs.push(host);
        }
        quiet(results)
    });
    ensure!(net.vfs.len() == 2, "VFs are missing");
    results.test("VFs, PFs and the wire hear each other", |results| {
        let all = [&net.here, &net.there, &net.vfs[0], &net.vfs[1]];
        for (i, one) in all.iter().enumerate() {
            for other in &all[..i] {
                ping(one, other, 56)?;
            }
        }
        stream(&net.vfs[0], &net.vfs[1])?;
        stream(&net.vfs[0], &net.there)?;
        quiet(results)
    });
    type Part = fn(&Network) -> Result<()>;
    let parts: [(&str, Part); 4] = [
        ("frames go only where they belong", switch_frames),
        ("spoofed addresses are dropped", check_spoofing),
        ("a VF is in a VLAN without knowing", put_in_vlan),
        ("the PF turns links off and on", set_links),
    ];
    for (name, part) in parts {
        results.test(name, |results| {
            part(&net)?;
            quiet(results)
        });
    }
    results.test("what is set stays when the VF's driver goes", |results| {
        net.set(0, Setting::SpoofCheck(true))?;
        net.vfs.clear();
        for vf in Pf::find()?.vfs()? {
            hca::unbind(vf)?;
        }
        let vf = net.bind(0)?;
        ensure!(net.show(0)?.spoof_check);
        ping(&vf, &net.there, 56)?;
        quiet(results)
    });
    drop(net);
    results.test(
        "addresses stay when the PF's driver starts anew",
        |results| {
            let pf = Pf::find()?;
            // Not on its way there: the kernel would use its namespace after it was freed.
            hca::interface(pf.address()).context("the PF's interface is not back")?;
            for vf in pf.vfs()? {
                if sysfs::driver(vf).is_ok() {
                    hca::unbind(vf)?;
                }
            }
            pf.reload()?;
            let shown = vf_links::show(&hca::interface(pf.address())?)?;
            let shown: Vec<Mac> = shown.iter().map(|link| link.mac).collect();
            ensure!(shown == MACS, "{shown:02x?}");
            quiet(results)
        },
    );
    results.test("the e-switch goes with the VFs", |results| {
        Pf::find()?.set_vfs(0)?;
        quiet(results)
    });
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! QEMU gives a guest a VF of one of two HCAs that are on one network. The guest's own mlx5e
//! drives it, and has streams with a peer: the PF of the other HCA, in a network namespace.

use super::NamedRun;
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    host,
    net::{
        self,
        guest::{
            STOP,
            TALLY, //
        },
        GuestTally,
        Host,
        Peer,
        Sides, //
    },
    qemu::{
        Access,
        Assigned,
        Common,
        Config,
        Guest,
        Program, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    fs,
    thread,
    time::Duration, //
};
use vfio_mig::{
    bdf::Bdf,
    precopy::InfoVersion, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("net", run)];

/// VFs of each HCA: the guest's, and one that tells of violations.
const VFS: u16 = 2;
/// How long traffic goes on before and after what is done to the guest.
const A_WHILE: Duration = Duration::from_secs(5);

/// An HCA, as far as it matters here.
struct Hca {
    /// The VF that a guest can have.
    guest: Assigned,
    /// Another one.
    other: Bdf,
}

impl Hca {
    fn new(pf: &Pf) -> Result<Self> {
        pf.set_vfs(0)?;
        pf.set_vfs(VFS)?;
        let vfs = pf.vfs()?;
        let [guest, other] = vfs[..] else {
            bail!("{} VFs", vfs.len());
        };
        Ok(Self {
            // Of each HCA, the first VF is the VHCA with this number.
            guest: Assigned {
                bdf: guest,
                vhca: 1,
            },
            other,
        })
    }

    /// Binds its VFs to a driver.
    fn bind(&self, driver: Driver) -> Result<()> {
        hca::bind(self.guest.bdf, driver)?;
        hca::bind(self.other, driver)
    }

    /// Violations of its firmware interface since power-on.
    fn violations(&self) -> Result<u64> {
        Vf::open(self.other, 1)?.violations()
    }
}

/// Two HCAs, whose network has a peer.
struct Network {
    common: Common,
    access: Access,
    hcas: [Hca; 2],
    /// The host that the next guest talks to.
    host: Option<Host>,
}

impl Network {
    fn new() -> Result<Self> {
        let common = Common::new()?;
        let pfs = Pf::all()?;
        let [here, there] = &pfs[..] else {
            bail!("{} PFs", pfs.len());
        };
        // The link of VFs is that of their port, which their PF turns on.
        let port = hca::interface(here.address())?;
        sys::set_interface_flags(&port, libc::IFF_UP, true)?;
        let interface = hca::interface(there.address())?;
        let host = Host::new(&interface, net::PEER)?;
        host.wait_for_link()?;
        host::mount()?;
        Ok(Self {
            common,
            access: match fs::exists("/dev/iommu")? {
                true => Access::Iommufd,
                false => Access::Container,
            },
            hcas: [Hca::new(here)?, Hca::new(there)?],
            host: Some(host),
        })
    }

    fn violations(&self) -> Result<u64> {
        self.hcas.iter().map(Hca::violations).sum()
    }
}

/// What a guest with traffic is started with.
#[derive(Clone, Copy)]
struct Setup {
    /// What VFs are bound to.
    driver: Driver,
    /// Which PRECOPY_INFO QEMU asks for.
    info: InfoVersion,
}

/// A guest with a peer.
struct Trial<'a> {
    network: &'a Network,
    guest: Guest<'a>,
    peer: Peer,
    /// Violations before it.
    violations: u64,
}

impl<'a> Trial<'a> {
    /// Boots the guest, and waits until it streams.
    fn start(
        results: &mut Results,
        network: &'a Network,
        host: Host,
        setup: Setup,
    ) -> Result<Self> {
        for hca in &network.hcas {
            hca.bind(setup.driver)?;
        }
        results.say(&format!(
            "host: two VFs of each of two HCAs are bound to {}",
            setup.driver.sysfs_name()
        ));
        let violations = network.violations()?;
        let peer = Peer::new(host)?;
        let config = Config {
            driver: setup.driver,
            access: network.access,
            traced: false,
            info: setup.info,
            program: Program::Traffic,
            // An HCA with a network does not save its state yet.
            migrates: false,
        };
        let [here, there] = [0, 1].map(|i| [network.hcas[i].guest]);
        let guest = Guest::boot(results, &network.common, config, (&here, &there))?;
        let mut trial = Self {
            network,
            guest,
            peer,
            violations,
        };
        trial.stream(results)?;
        Ok(trial)
    }

    /// Lets traffic go on for a while.
    fn stream(&mut self, results: &mut Results) -> Result<()> {
        let before = self.peer.heard();
        thread::sleep(A_WHILE);
        self.guest.go_on_after_resets(results)?;
        let heard = self.peer.heard() - before;
        results.say(&format!(
            "peer: {} KiB have come since the last line",
            heard >> 10
        ));
        ensure!(heard > 0, "nothing comes from the guest");
        Ok(())
    }

    /// Ends all traffic. Returns its figures.
    fn finish(mut self, results: &mut Results) -> Result<(Host, Value)> {
        self.peer.end();
        let line = self.guest.ask(results, STOP, TALLY)?;
        let guest = GuestTally::parse(&line)?;
        let (host, peer) = self.peer.finish()?;
        let sides = Sides {
            guest: &guest,
            peer: &peer,
        };
        let mut figures = sides.figures();
        let violations = self.network.violations()? - self.violations;
        figures["firmware_violations"] = violations.into();
        Ok((host, figures))
    }
}

/// One guest, from its boot to its end.
fn try_driver(results: &mut Results, network: &mut Network, driver: Driver) {
    let setup = Setup {
        driver,
        info: InfoVersion::V2,
    };
    let host = network.host.take();
    let network = &*network;
    let mut trial = None;
    let name = driver.name();
    results.test(
        &format!("{name} driver: a guest's mlx5e streams"),
        |results| {
            let host = host.context("there is no peer")?;
            trial = Some(Trial::start(results, network, host, setup)?);
            Ok(())
        },
    );
    results.test(&format!("{name} driver: nothing was lost"), |results| {
        let trial = trial.take().context("there is no guest")?;
        let (_, mut figures) = trial.finish(results)?;
        figures["driver"] = name.into();
        results.json(&figures);
        net::judge(&figures)
    });
}

/// A guest with our driver.
fn run(results: &mut Results) -> Result<()> {
    let mut network = Network::new()?;
    try_driver(results, &mut network, Driver::Rust);
    Ok(())
}

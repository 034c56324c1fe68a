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
        Channel,
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
    fs, thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    precopy::InfoVersion, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("net", run), ("run-net", run_both)];

/// VFs of each HCA: the guest's, and one that tells of violations.
const VFS: u16 = 2;
/// The peer's MTU: what it sends fits into whatever the guest makes of its own.
const MTU: i32 = 1400;
/// How long traffic goes on before and after what is done to the guest.
const A_WHILE: Duration = Duration::from_secs(5);
/// How long TCP may take to find out that an interface is there again, and how often to look.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// An HCA, as far as it matters here.
struct Hca {
    /// The VF that a guest can have.
    guest: Assigned,
    /// Another one.
    other: Bdf,
}

impl Hca {
    fn new(hca: usize, pf: &Pf) -> Result<Self> {
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
                hca,
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
pub struct Network {
    common: Common,
    access: Access,
    hcas: [Hca; 2],
    /// The peer.
    host: Host,
}

impl Network {
    /// Makes it.
    pub fn new() -> Result<Self> {
        let common = Common::new()?;
        let pfs = Pf::all()?;
        let [here, there] = &pfs[..] else {
            bail!("{} PFs", pfs.len());
        };
        // The link of VFs is that of their port, which their PF turns on.
        let port = hca::interface(here.address())?;
        sys::set_interface_flags(&port, libc::IFF_UP, true)?;
        let host = Host::new(&hca::interface(there.address())?, net::PEER)?;
        host.configure(|name| sys::set_mtu(name, MTU))?;
        host.wait_for_link()?;
        host::mount()?;
        Ok(Self {
            common,
            access: match fs::exists("/dev/iommu")? {
                true => Access::Iommufd,
                false => Access::Container,
            },
            hcas: [Hca::new(0, here)?, Hca::new(1, there)?],
            host,
        })
    }

    fn violations(&self) -> Result<u64> {
        self.hcas.iter().map(Hca::violations).sum()
    }
}

/// A guest with a peer.
pub struct Trial<'a> {
    network: &'a Network,
    /// The guest.
    pub guest: Guest<'a>,
    peer: Peer,
    /// Violations before it.
    violations: u64,
    /// The figures of each migration.
    migrations: Vec<Value>,
    /// When something was done to the guest.
    provoked: Vec<(f64, f64)>,
}

impl<'a> Trial<'a> {
    /// Boots the guest, and waits until it streams.
    pub fn start(
        results: &mut Results,
        network: &'a Network,
        driver: Driver,
        case: &Case,
    ) -> Result<Self> {
        for hca in &network.hcas {
            hca.bind(driver)?;
        }
        results.say(&format!(
            "host: {VFS} VFs of each of two HCAs are bound to {}",
            driver.sysfs_name()
        ));
        let violations = network.violations()?;
        let peer = Peer::new(&network.host)?;
        let config = Config {
            driver,
            access: network.access,
            traced: false,
            info: case.info,
            program: Program::Traffic,
            cpus: case.cpus,
        };
        let [here, there] = [0, 1].map(|i| [network.hcas[i].guest]);
        let guest = Guest::boot(results, &network.common, config, (&here, &there))?;
        let mut trial = Self {
            network,
            guest,
            peer,
            violations,
            migrations: Vec::new(),
            provoked: Vec::new(),
        };
        trial.stream(results)?;
        Ok(trial)
    }

    /// Lets traffic go on for a while. Fails if none comes.
    pub fn stream(&mut self, results: &mut Results) -> Result<()> {
        let before = self.peer.heard();
        thread::sleep(A_WHILE);
        self.guest.go_on_after_resets(results)?;
        let heard = self.peer.heard() - before;
        results.say(&format!(
            "peer: {} KiB have come in about {} s",
            heard >> 10,
            A_WHILE.as_secs()
        ));
        ensure!(heard > 0, "nothing comes from the guest");
        Ok(())
    }

    /// Fails if anything comes from the guest for a while.
    pub fn expect_silence(&mut self, results: &mut Results) -> Result<()> {
        let before = self.peer.heard();
        thread::sleep(A_WHILE);
        let heard = self.peer.heard() - before;
        results.say("peer: nothing comes from the guest");
        ensure!(heard == 0, "{heard} bytes come from the guest");
        Ok(())
    }

    /// Waits until something comes from the guest again.
    pub fn wait_for_stream(&mut self) -> Result<()> {
        let before = self.peer.heard();
        let begin = Instant::now();
        while self.peer.heard() == before {
            ensure!(begin.elapsed() < PATIENCE, "nothing comes from the guest");
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Migrates the guest to the other HCA.
    pub fn migrate(&mut self, results: &mut Results) -> Result<()> {
        let figures = self.guest.move_on(results, Channel::Socket)?;
        self.moved(results, figures);
        Ok(())
    }

    /// Migrates it in two steps: `work` is done when the destination has the initial bytes and
    /// could take over. Returns the figures.
    pub fn migrate_when_ready(
        &mut self,
        results: &mut Results,
        work: impl FnOnce(&mut Guest<'_>, &mut Results) -> Result<()>,
    ) -> Result<Value> {
        let destination = self.guest.begin_precopy(results)?;
        // The guest gets no processor from a QEMU that sends as fast as it can.
        self.guest.slow_down()?;
        work(&mut self.guest, results)?;
        self.guest.switch_over()?;
        self.guest.arrive(results, destination)
    }

    /// It was migrated, with these figures.
    pub fn moved(&mut self, results: &mut Results, figures: Value) {
        results.say(&format!(
            "changes of the VF that QEMU had to wait for: {}",
            figures["reinits"]
        ));
        let at = |name: &str| figures[name].as_f64();
        // Until its QEMU has ended, the source's VF has the guest's address, and its HCA gives it
        // what a PF of that HCA sends to the guest.
        self.provoked
            .extend(at("stopped_at").zip(at("source_ended_at")));
        // What comes while the VF is suspended is dropped, whether or not the guest then goes.
        self.provoked.extend(refusals(&figures));
        self.migrations.push(figures);
    }

    /// Does something to the guest in which datagrams may be lost.
    pub fn provoke<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let begin = net::now();
        let result = work(self)?;
        self.provoked.push((begin, net::now()));
        Ok(result)
    }

    /// Ends all traffic, and the guest. Gives the figures to the host, and judges them.
    pub fn conclude(self, results: &mut Results, driver: Driver, case: &Case) -> Result<()> {
        let mut figures = self.finish(results)?;
        figures["driver"] = driver.name().into();
        figures["case"] = case.name.into();
        results.json(&figures);
        net::judge(&figures)
    }

    /// Ends all traffic, and the guest. Returns the figures.
    pub fn finish(mut self, results: &mut Results) -> Result<Value> {
        self.peer.end();
        let line = self.guest.ask(results, STOP, TALLY)?;
        let guest = GuestTally::parse(&line)?;
        let peer = self
            .peer
            .finish()
            .with_context(|| format!("the peer waits for the guest\n{}", self.guest.said()))?;
        let sides = Sides {
            guest: &guest,
            peer: &peer,
            provoked: &self.provoked,
            migrations: &self.migrations,
            violations: self.network.violations()? - self.violations,
        };
        Ok(sides.figures())
    }
}

/// From when to when the guest of a migration with these figures stood still for one that QEMU
/// has given up.
fn refusals(figures: &Value) -> impl Iterator<Item = (f64, f64)> + '_ {
    let all = figures["refusals"].as_array().into_iter().flatten();
    all.filter_map(|one| one[0].as_f64().zip(one[1].as_f64()))
}

/// Something that is done to a guest while it streams.
pub type Step = (&'static str, fn(&mut Trial<'_>, &mut Results) -> Result<()>);

/// A guest, and what is done to it.
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The guest's processors: mlx5e has a queue of each kind for each of them.
    pub cpus: u32,
    /// Which PRECOPY_INFO QEMU asks for.
    pub info: InfoVersion,
    /// What is done to it.
    pub steps: &'static [Step],
}

/// The case of `make check` and of `make run-net`.
pub const USUAL: Case = Case {
    name: "one queue",
    cpus: 1,
    info: InfoVersion::V2,
    steps: &[("it migrates", |trial, results| trial.migrate(results))],
};

/// Boots a guest, does what is to be done to it, and judges what has come of its traffic.
pub fn try_case(results: &mut Results, network: &Network, driver: Driver, case: &Case) {
    let prefix = format!("{} driver, {}", driver.name(), case.name);
    let mut trial = None;
    results.test(&format!("{prefix}: a guest's mlx5e streams"), |results| {
        trial = Some(Trial::start(results, network, driver, case)?);
        Ok(())
    });
    for (name, step) in case.steps {
        results.test(&format!("{prefix}: {name}"), |results| {
            let trial = trial.as_mut().context("there is no guest")?;
            step(trial, results)?;
            trial.stream(results)
        });
    }
    results.test(&format!("{prefix}: nothing is lost or wrong"), |results| {
        let trial = trial.take().context("there is no guest")?;
        trial.conclude(results, driver, case)
    });
}

/// A guest with our driver.
fn run(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    try_case(results, &network, Driver::Rust, &USUAL);
    Ok(())
}

/// The same with each driver.
fn run_both(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    for driver in [Driver::Rust, Driver::C] {
        try_case(results, &network, driver, &USUAL);
    }
    Ok(())
}

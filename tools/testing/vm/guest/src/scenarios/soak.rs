// SPDX-License-Identifier: GPL-2.0

//! Migrations back and forth for long, with pre-copy, DMA logging, faults of firmware, resets
//! and PF reloads mixed. In the end there is as much of everything as in the beginning.

use super::{
    amounts::Amounts,
    compare::Site,
    dirty,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    reset::Way,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::{
    iter,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    device::Device,
    state::State,
    stress::{
        self,
        Limits, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("soak", run), ("soak-chunks", run)];

/// How long, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [15, 600];
/// The C driver runs for the time of ours, divided by this.
const OURS: u32 = 6;
/// Rounds before the first count, after one of each kind: what is allocated once, is then.
const WARM: u64 = 6;
/// The fewest rounds between two counts.
const LEAST: u64 = 6;
/// Migrations of a round that has some.
const MIGRATIONS: u64 = 5;
/// Commands that a round has fail.
const FAILING: [u16; 5] = [
    opcode::SUSPEND_VHCA,
    opcode::RESUME_VHCA,
    opcode::SAVE_VHCA_STATE,
    opcode::LOAD_VHCA_STATE,
    opcode::CREATE_MKEY,
];

/// Migrates between the VFs, and gives some migrations up.
fn migrate(site: &Site, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    // A reset of the C driver's VF does not wait for the SAVE that it ends.
    kmsg::expect("SAVE_VHCA_STATE");
    let limits = Limits {
        seed: rng.u64(..),
        count: MIGRATIONS,
        time: None,
    };
    let done = stress::run(site.vf.into(), Some(site.other.into()), limits, |_| ())?;
    ensure!(
        done.compared == done.stop_copy + done.precopy,
        "not compared: {done:?}"
    );
    counts.streams += done.compared;
    Ok(())
}

/// Logs what a VF writes, until it is stopped.
fn log(site: &Site, rng: &mut Rng, _: &mut Counts) -> Result<()> {
    let vf = dirty::tracked(site)?;
    dirty::scatter_and_report(&vf, rng.u64(1..200))?;
    if rng.bool() {
        vf.device().stop_logging()?;
    }
    Ok(())
}

/// Has a command fail somewhere in a migration. Whatever it is, a reset mends it.
fn fail(site: &Site, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let faults = Faults::open()?;
    let opcode = FAILING[rng.usize(..FAILING.len())];
    let (stream, _) = streams::save(site.other, 1)?;
    let fault = Fault::fail(opcode).nth(rng.u32(1..3));
    // An mkey is about no VHCA.
    faults.arm(match opcode {
        opcode::CREATE_MKEY => fault,
        _ => fault.about(fault::vhca(site.vf)?),
    })?;
    // Either may fail.
    let _ = streams::save(site.vf, 1);
    let _ = streams::load(site.vf, &stream);
    counts.faults_injected += u64::from(faults.fired()?);
    drop(faults);
    Device::open(site.vf)?.reset()?;
    works(site)
}

/// Resets a VF in the middle of a session.
fn reset(site: &Site, rng: &mut Rng, _: &mut Counts) -> Result<()> {
    // The SAVE that it ends.
    kmsg::expect("SAVE_VHCA_STATE");
    let device = Device::open(site.vf)?;
    let states = [
        State::PRE_COPY,
        State::STOP_COPY,
        State::RESUMING,
        State::STOP,
    ];
    let state = states[rng.usize(..states.len())];
    let _file = device.set_state(state)?;
    let way = Way::ALL[rng.usize(..Way::ALL.len())];
    way.reset(site.vf, &device)?;
    let now = device.state()?;
    ensure!(now == State::RUNNING, "{way:?} in {state} leads to {now}");
    Ok(())
}

/// Reloads the PF under a session.
fn reload(site: &Site, _: &mut Rng, _: &mut Counts) -> Result<()> {
    let device = Device::open(site.vf)?;
    let _file = device.set_state(State::PRE_COPY)?;
    Pf::find()?.reload()?;
    drop(device);
    works(site)
}

/// A good migration.
fn works(site: &Site) -> Result<()> {
    streams::migrate(site.vf, site.other, 2)
}

/// What a round is, and how many of all rounds are of that kind.
type Kind = (
    &'static str,
    usize,
    fn(&Site, &mut Rng, &mut Counts) -> Result<()>,
);

/// What the C driver survives, too.
const WELL: &[Kind] = &[("migrations", 6, migrate), ("DMA logging", 3, log)];
/// What it does not: it leaks what a session has that fails or is reset.
const HARD: &[Kind] = &[
    ("a command that fails", 3, fail),
    ("a reset", 3, reset),
    ("a PF reload", 1, reload),
];

/// A kind of round, as often as its share says.
fn choose(kinds: &[Kind], rng: &mut Rng) -> Kind {
    let shares = kinds
        .iter()
        .flat_map(|kind| iter::repeat_n(*kind, kind.1))
        .collect::<Vec<_>>();
    shares[rng.usize(..shares.len())]
}

/// Rounds of a soak.
struct Soak<'a> {
    results: &'a mut Results,
    site: Site,
    kinds: Vec<Kind>,
    rng: Rng,
    counts: Counts,
    rounds: u64,
}

impl Soak<'_> {
    fn round(&mut self, (name, _, work): Kind) -> Result<()> {
        work(&self.site, &mut self.rng, &mut self.counts)
            .with_context(|| format!("round {}: {name}", self.rounds))?;
        self.rounds += 1;
        self.results.progress(&format!("{} rounds", self.rounds));
        Ok(())
    }

    /// Soaks for that long: what there is once all is warm, and the rounds since then.
    fn turn(&mut self, time: Duration) -> Result<(Amounts, u64)> {
        let end = Instant::now() + time;
        for kind in self.kinds.clone() {
            self.round(kind)?;
        }
        for _ in 0..WARM {
            let kind = choose(&self.kinds, &mut self.rng);
            self.round(kind)?;
        }
        let before = Amounts::now()?;
        let warm = self.rounds;
        while self.rounds < warm + LEAST || Instant::now() < end {
            let kind = choose(&self.kinds, &mut self.rng);
            self.round(kind)?;
        }
        Ok((before, self.rounds - warm))
    }
}

fn run_driver(results: &mut Results, vfs: &Vfs, driver: Driver) -> Result<()> {
    let (vf, other) = vfs.of(driver);
    let seed = sys::seed()?;
    let time = sys::duration(DURATION)?
        / match driver {
            Driver::Rust => 1,
            Driver::C => OURS,
        };
    let name = format!(
        "{} driver, nothing is lost, and everything works",
        driver.name()
    );
    results.test(&name, |results| {
        let mut soak = Soak {
            results,
            site: Site { vf, other },
            kinds: match driver {
                Driver::Rust => [WELL, HARD].concat(),
                Driver::C => WELL.to_vec(),
            },
            rng: Rng::with_seed(seed),
            counts: Counts::new(driver.name()),
            rounds: 0,
        };
        let kept = Amounts::kept(|| soak.turn(time)).with_context(|| format!("seed {seed}"));
        soak.counts.report(soak.results);
        kept
    });
    let name = format!("{} driver, the VF works after that", driver.name());
    results.test(&name, |_| works(&Site { vf, other }));
    Ok(())
}

/// Our driver, and the C driver for long.
fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    run_driver(results, &vfs, Driver::Rust)?;
    if sys::is_long()? {
        run_driver(results, &vfs, Driver::C)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A hostile device: firmware, queues and events that say what no honest device says.
//!
//! A lie gives a defined error or a correct result. It reads and writes no memory of others, and
//! ends. After a reset, the device can be used again.

mod cases;
mod paths;
mod poison;

use super::expect_refusals;
use crate::{
    campaign::Counts,
    fault::Faults,
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    scenarios::{
        compare::Site,
        dirty,
        streams,
        Vfs, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use cases::{
    Case,
    When, //
};
use fastrand::Rng;
use paths::Victim;
use std::time::Instant;
use vm_common::judge::UNDESTROYED;

/// Of all lies, those that are told one by one in `make check`: which, the seed says. A lie takes a
/// second or two, for the good migrations after it.
const IN_CHECK: usize = 12;
/// How long lies are mixed, in seconds: in `make check` and in `make check-all`.
const MIXED: [u32; 2] = [2, 300];
/// What a request may end with that has met several lies.
const ENDS: &[&str] = &[
    "ok",
    "pages are lost",
    "EINVAL",
    "EIO",
    "ENODEV",
    "ENOMEM",
    "ENOTTY",
    "EOPNOTSUPP",
    "EOVERFLOW",
    "EREMOTEIO",
    "ETIMEDOUT",
];

/// Announces what the kernel may say.
fn expect(case: &Case) {
    expect_refusals();
    if case.leaves_objects {
        kmsg::expect(UNDESTROYED);
    }
}

impl Victim {
    fn new(vfs: &Vfs, driver: Driver) -> Result<Self> {
        let (vf, other) = vfs.of(driver);
        let (stream, digest) = streams::save(other, 2)?;
        Ok(Self {
            driver,
            site: Site { vf, other },
            faults: Faults::open()?,
            stream: stream.into(),
            digest,
        })
    }

    /// Tells the lies of some cases while something is done. Returns how that has ended.
    fn meet(&self, cases: &[&Case], nth: u32) -> Result<String> {
        let lies = || cases.iter().flat_map(|case| case.lies);
        let arm = || -> Result<()> {
            for lie in lies() {
                self.faults.lie(&lie.later(nth))?;
            }
            Ok(())
        };
        let Some(case) = cases.first() else {
            return Ok(String::new());
        };
        let end = (case.path.run)(self, &arm);
        self.faults.disarm()?;
        if cases.iter().any(|case| case.leaves_objects) {
            Pf::find()?.reload()?;
        }
        self.is_usable().context("afterwards")?;
        end
    }

    /// Tells the lies of one case.
    fn meet_one(&self, case: &Case, counts: &mut Counts) -> Result<()> {
        expect(case);
        let before = self.faults.fired()?;
        let end = self.meet(&[case], 0)?;
        let told = self.faults.fired()?.wrapping_sub(before);
        counts.requests += 1;
        counts.succeeded += u64::from(end == "ok");
        counts.faults_injected += u64::from(told);
        ensure!(told > 0, "nothing was told: {end}");
        // What the C driver makes of it is its affair, as long as it survives.
        let want = match self.driver {
            Driver::Rust => case.end,
            Driver::C => &end,
        };
        ensure!(end == want, "{end}, where it must be {want}");
        Ok(())
    }

    /// A process is killed in a report that never waits, since an event always comes first.
    fn kill_in_chase(&self) -> Result<()> {
        expect_refusals();
        self.faults.lie(&cases::CHASE)?;
        let killed = dirty::reporter(&self.site).and_then(dirty::kill);
        self.faults.disarm()?;
        killed?;
        self.is_usable()
    }

    /// Tells two lies at a time, and later than at once.
    fn mix(&self, results: &mut Results, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
        // Those that need another set-up, or a long wait, are not mixed.
        let quick = |case: &&Case| case.path.is_quick && !case.leaves_objects;
        let quick = |case: &&Case| case.when == When::Always && quick(case);
        let all: Vec<&Case> = cases::ALL.iter().copied().flatten().filter(quick).collect();
        let time = sys::duration(MIXED)?;
        let begin = Instant::now();
        let mut done = 0;
        while done == 0 || begin.elapsed() < time {
            let first = all[rng.usize(..all.len())];
            let same: Vec<&Case> = all
                .iter()
                .copied()
                .filter(|case| std::ptr::eq(case.path, first.path))
                .collect();
            let second = same[rng.usize(..same.len())];
            let nth = rng.u32(..4);
            expect(first);
            let what = format!("{}; {}; {nth} later", first.name, second.name);
            let end = self
                .meet(&[first, second], nth)
                .with_context(|| what.clone())?;
            counts.requests += 1;
            counts.succeeded += u64::from(end == "ok");
            ensure!(ENDS.contains(&end.as_str()), "{what}: {end}");
            done += 1;
            if done % 50 == 0 {
                results.progress(&format!("{done} mixtures"));
            }
        }
        results.progress(&format!("{done} mixtures of lies"));
        Ok(())
    }
}

/// The lies that a driver is told.
fn lies(results: &mut Results, vfs: &Vfs, driver: Driver, seed: u64) -> Result<()> {
    let victim = Victim::new(vfs, driver)?;
    let mut counts = Counts::new(driver.name());
    let is_long = sys::is_long()?;
    let due = |case: &&Case| is_long || case.when == When::Always;
    let mut chosen: Vec<&Case> = cases::ALL.iter().copied().flatten().filter(due).collect();
    let most = sys::cases(IN_CHECK)?;
    if chosen.len() > most {
        Rng::with_seed(seed).shuffle(&mut chosen);
        chosen.truncate(most);
    }
    for case in chosen {
        let name = format!(
            "{} driver, {}: {}",
            driver.name(),
            case.path.name,
            case.name
        );
        match case.not_with_c.filter(|_| driver == Driver::C) {
            Some(reason) => results.skip(&name, reason),
            None => results.test(&name, |_| {
                let met = victim.meet_one(case, &mut counts);
                counts.wrong_results += u64::from(met.is_err());
                met
            }),
        }
    }
    if driver == Driver::Rust {
        results.test(
            "rust driver, a process is killed while an event always comes first",
            |_| {
                let killed = victim.kill_in_chase();
                counts.wrong_results += u64::from(killed.is_err());
                killed
            },
        );
        results.test("rust driver, lies at random", |results| {
            let mixed = victim.mix(results, &mut Rng::with_seed(seed), &mut counts);
            counts.wrong_results += u64::from(mixed.is_err());
            mixed.with_context(|| format!("seed {seed}"))
        });
    }
    counts.report(results);
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let seed = sys::seed()?;
    lies(results, &vfs, Driver::Rust, seed)?;
    // What it finds in C is no failure of ours: `make check` is without it.
    if sys::is_long()? {
        lies(results, &vfs, Driver::C, seed)?;
    }
    Ok(())
}

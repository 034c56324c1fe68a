// SPDX-License-Identifier: GPL-2.0

//! Allocations and copies that fail by chance, in all calls at the same time and in workers.
//!
//! Our drivers queue no work. Workers carry out the commands that they send, for mlx5_core.

use crate::{
    hca::Driver,
    injection::{
        Chance,
        Random, //
    },
    kmsg,
    scenarios::{
        amounts::Amounts,
        compare::Site,
        races::{
            self,
            Memory, //
        },
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
use vm_common::judge::UNDESTROYED;

/// How long all of it goes on, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [12, 300];
/// What happens in turn, about a second each: with a chance of 5 in 100, hardly a request
/// succeeds that allocates for each page of a buffer.
const CHANCES: [Chance; 4] = [
    Chance {
        percent: 5,
        interval: 1,
    },
    Chance {
        percent: 1,
        interval: 1,
    },
    Chance {
        percent: 5,
        interval: 50,
    },
    Chance {
        percent: 0,
        interval: 1,
    },
];

/// All calls at once, in which allocations fail.
fn all_at_once(results: &mut Results, site: &Site, seed: u64) -> Result<(Amounts, u64)> {
    kmsg::expect(races::STRAY_DMA);
    kmsg::expect(UNDESTROYED);
    races::works(site)?;
    let before = Amounts::now()?;
    let random = Random::begin()?;
    let load = (seed, sys::duration(DURATION)?);
    let mut chances = CHANCES.iter().cycle();
    let mut seconds = 0;
    let counts = races::all_at_once(results, site, load, Memory::Short, || {
        seconds += 1;
        // First without any, so that there is something to fail in.
        let workers = random.choose_workers(true)?;
        ensure!(workers > 0, "there are no workers");
        chances
            .next()
            .map_or(Ok(()), |chance| random.set_chance(*chance))
    });
    let failed = random.failed();
    drop(random);
    let mut counts = counts?;
    counts.faults_injected = failed?;
    results.say(&format!(
        "{} failures in {} calls, of which {} have succeeded",
        counts.faults_injected, counts.requests, counts.succeeded
    ));
    ensure!(counts.faults_injected > 0, "nothing has failed");
    counts.report(results);
    races::works(site).context("after that")?;
    Ok((before, seconds))
}

pub(super) fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let seed = sys::seed()?;
    results.test("all calls at the same time, without memory", |results| {
        Amounts::kept(|| all_at_once(results, &site, seed)).with_context(|| format!("seed {seed}"))
    });
    results.test("the VF works after that", |_| races::works(&site));
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Requests of all kinds, from several threads and processes at once.

use super::{
    expect_refusals,
    tell,
    Inputs, //
};
use crate::{
    hca::Driver,
    scenarios::{
        conformance::{
            bind_samples,
            SAMPLE, //
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
use std::time::Duration;
use vfio_mig::{
    address::Address,
    device::Device,
    fuzz::{
        self,
        Done,
        Kind,
        Plan,
        Subject, //
    },
};

/// How long all of it goes on, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [15, 300];
/// At least one of this number of requests must succeed.
const SUCCEEDS: u64 = 5;
/// Requests to our driver in which each arc must be taken once, if that goes on for long. Else
/// it is left to chance how often more than once.
const ARC_EVERY: u64 = 1000;

/// What is not tried with the C driver, and why.
const NOT_WITH_C: [(Kind, &str); 1] = [(
    Kind::Reset,
    "a reset in the middle of a SAVE loses a file, and the module cannot be unloaded",
)];
const WITHOUT: &[Kind] = &[NOT_WITH_C[0].0];

/// A driver, and how it is tried.
struct Tried {
    name: &'static str,
    device: Address,
    plan: Plan,
}

/// Each arc that the device has was taken, often enough.
fn all_arcs(&Tried { name, device, .. }: &Tried, done: &Done) -> Result<()> {
    let features = Device::open(device)?.features()?;
    let least = match sys::is_long()? && name == Driver::Rust.name() {
        true => done.requests / ARC_EVERY,
        false => 1,
    };
    for (from, to) in features.arcs() {
        let arc = format!("{from} -> {to}");
        let taken = done.arcs.get(&arc).copied().unwrap_or(0);
        ensure!(
            taken >= least,
            "{arc} was taken {taken} times in {} requests",
            done.requests
        );
    }
    Ok(())
}

fn requests(results: &mut Results, tried: &Tried, inputs: &Inputs) -> Result<()> {
    expect_refusals();
    let Tried { name, device, plan } = tried;
    let guide = inputs.guide(results, name)?;
    let done = fuzz::run(*device, plan, &guide, |round| {
        results.progress(&format!("{name}: round {round}"));
    })?;
    tell(results, name, &done, &guide)?;
    ensure!(
        done.succeeded * SUCCEEDS >= done.requests,
        "{} of {} requests have succeeded",
        done.succeeded,
        done.requests
    );
    all_arcs(tried, &done)
}

pub fn run(results: &mut Results) -> Result<()> {
    let seed = sys::seed()?;
    let tenth = sys::duration(DURATION)? / 10;
    let plan = |time: Duration| Plan {
        time: Some(time),
        only: Some(Subject::Requests),
        ..Plan::new(seed)
    };
    let vfs = Vfs::new()?;
    let tried = [
        Tried {
            name: Driver::Rust.name(),
            device: vfs.of(Driver::Rust).0.into(),
            plan: plan(tenth * 8),
        },
        Tried {
            name: SAMPLE,
            device: bind_samples()?[0].into(),
            plan: plan(tenth),
        },
        Tried {
            name: Driver::C.name(),
            device: vfs.of(Driver::C).0.into(),
            plan: Plan {
                without: WITHOUT,
                // It passes what it is told to iova_bitmap_set(), in the tracker's pages, also if
                // the report is of smaller ones and ends in the middle of such a page.
                overruns: true,
                ..plan(tenth)
            },
        },
    ];
    for (kind, why) in NOT_WITH_C {
        results.progress(&format!("c: no {}: {why}", kind.name()));
    }
    let inputs = Inputs::find()?;
    // What random requests find in C is no failure of ours: `make check` is without it.
    let is_long = sys::is_long()?;
    for tried in tried
        .iter()
        .filter(|one| is_long || one.name != Driver::C.name())
    {
        let name = format!("requests of hostile users, {} driver", tried.name);
        results.test(&name, |results| {
            requests(results, tried, &inputs).with_context(|| format!("seed {seed}"))
        });
    }
    Ok(())
}

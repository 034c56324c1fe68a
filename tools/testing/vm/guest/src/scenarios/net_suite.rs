// SPDX-License-Identifier: GPL-2.0

//! What is done to a guest that streams: `make check-net`.

use super::{
    net::{
        try_case,
        Case,
        Network,
        Trial,
        USUAL, //
    },
    NamedRun, //
};
use crate::{
    hca::Driver,
    net::{
        guest::DONE,
        Change, //
    },
    qemu::Death,
    tap::Results, //
};
use anyhow::{
    Context,
    Result, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("net-suite", run),
    ("net-often", run_often),
    ("net-changes", run_changes),
];

/// Times that a guest goes to the other HCA and back.
const THERE_AND_BACK: u32 = 10;

fn migrate(trial: &mut Trial<'_>, results: &mut Results) -> Result<()> {
    trial.migrate(results)
}

fn migrate_often(trial: &mut Trial<'_>, results: &mut Results) -> Result<()> {
    for i in 0..THERE_AND_BACK * 2 {
        migrate(trial, results).with_context(|| format!("migration {}", i + 1))?;
    }
    Ok(())
}

fn cancel(trial: &mut Trial<'_>, results: &mut Results) -> Result<()> {
    trial.provoke(|trial| trial.guest.cancel(results))
}

fn survive(trial: &mut Trial<'_>, results: &mut Results, death: Death) -> Result<()> {
    trial.provoke(|trial| trial.guest.survive(results, death))
}

/// Has the guest change its interface when the destination has the initial bytes and could
/// take over, and then migrates it.
fn change(trial: &mut Trial<'_>, results: &mut Results, change: Change) -> Result<()> {
    let figures = trial.provoke(|trial| {
        trial.migrate_when_ready(results, |guest, results| {
            guest.ask(results, change.order(), DONE).map(|_| ())
        })
    })?;
    trial.moved(results, figures);
    Ok(())
}

/// With one queue of each kind, and with several.
const CASES: [Case; 2] = [
    Case {
        name: "one queue",
        steps: &[
            ("it migrates", migrate),
            ("its migration is cancelled in pre-copy", cancel),
            ("it migrates after that", migrate),
            ("the destination dies in pre-copy", |trial, results| {
                survive(trial, results, Death::InPreCopy)
            }),
            ("the destination dies in stop-copy", |trial, results| {
                survive(trial, results, Death::InStopCopy)
            }),
            ("it migrates after its destinations have died", migrate),
        ],
        ..USUAL
    },
    Case {
        name: "two queues",
        cpus: 2,
        steps: &[("it migrates", migrate), ("it migrates back", migrate)],
        ..USUAL
    },
];

const OFTEN: Case = Case {
    steps: &[("it goes back and forth ten times", migrate_often)],
    ..USUAL
};

/// What a guest does in pre-copy, with two queues: there can be another number of them.
const CHANGES: Case = Case {
    name: "two queues",
    cpus: 2,
    steps: &[
        (
            "in pre-copy it turns its link off and on",
            |trial, results| change(trial, results, Change::Link),
        ),
        ("in pre-copy it changes its MTU", |trial, results| {
            change(trial, results, Change::Mtu)
        }),
        ("in pre-copy it drops a queue", |trial, results| {
            change(trial, results, Change::Channels)
        }),
        ("in pre-copy it makes a queue", |trial, results| {
            change(trial, results, Change::Channels)
        }),
        (
            "in pre-copy its driver is unbound and bound",
            |trial, results| change(trial, results, Change::Driver),
        ),
        ("it migrates after all of that", migrate),
    ],
    ..USUAL
};

fn run(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    for case in &CASES {
        try_case(results, &network, Driver::Rust, case);
    }
    Ok(())
}

fn run_often(results: &mut Results) -> Result<()> {
    try_case(results, &Network::new()?, Driver::Rust, &OFTEN);
    Ok(())
}

/// With each driver: a difference is a fault of one of them.
fn run_changes(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    for driver in [Driver::Rust, Driver::C] {
        try_case(results, &network, driver, &CHANGES);
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Benchmark: downtime of a guest whose own mlx5e makes queues anew all the time, with and
//! without `VFIO_PRECOPY_INFO_REINIT`.

use super::{
    net::{
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
        self,
        guest::{
            BE_BUSY,
            DONE, //
        },
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use serde_json::json;
use std::{
    thread,
    time::Duration, //
};
use vfio_mig::precopy::InfoVersion;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("bench-net", run)];

/// Migrations of each guest: to the other HCA, and back.
const MIGRATIONS: u32 = 2;
/// How long the guest works when the destination could take over.
const WORK: Duration = Duration::from_secs(2);

/// Measures one driver with one version of PRECOPY_INFO.
fn measure(
    results: &mut Results,
    network: &Network,
    (driver, info): (Driver, InfoVersion),
    run: u32,
) -> Result<()> {
    let case = Case {
        name: "busy",
        info,
        ..USUAL
    };
    let mut trial = Trial::start(results, network, driver, &case)?;
    trial.guest.ask(results, BE_BUSY, DONE)?;
    for _ in 0..MIGRATIONS {
        let figures = trial.provoke(|trial| {
            trial.migrate_when_ready(results, |_, _| {
                thread::sleep(WORK);
                Ok(())
            })
        })?;
        let told = figures["reinits"].as_u64() > Some(0);
        ensure!(told == (info == InfoVersion::V2), "{figures}");
        results.json(&json!({
            "driver": driver.name(),
            "info": info,
            "run": run,
            "migration": figures,
        }));
        trial.moved(results, figures);
    }
    net::judge(&trial.finish(results)?)
}

fn run(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    super::each_version(results, |results, run, driver, info| {
        measure(results, &network, (driver, info), run)
    })
}

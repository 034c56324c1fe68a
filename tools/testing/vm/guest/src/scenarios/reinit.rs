// SPDX-License-Identifier: GPL-2.0

//! Benchmark: downtime of a busy device, with and without
//! `VFIO_PRECOPY_INFO_REINIT`.
//!
//! The destination has all initial bytes, and could take over, when the device
//! creates new objects. With version 1 of PRECOPY_INFO nobody is told, and they
//! move during the downtime; with version 2 the source is kept running until
//! they have arrived.

use super::{
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use serde_json::json;
use std::time::{
    Duration,
    Instant, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    precopy::{
        self,
        InfoVersion,
        Observer,
        Options, //
    },
    target::DeviceTarget,
    workload::Workload, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("bench-reinit", run)];

/// Of the state table, how much is created anew.
const CREATED: (u64, u64) = (3, 4);
/// Bytes that change in each round.
const CHANGED: u64 = 1 << 20;

struct Busy<'a> {
    results: &'a mut Results,
    name: String,
    workload: Workload,
    told: Instant,
}

impl Observer for Busy<'_> {
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        self.workload.step(source, round)
    }

    fn bytes(&mut self, bytes: u64) {
        if self.told.elapsed() > Duration::from_secs(2) {
            self.told = Instant::now();
            let text = format!("{}: {} MiB", self.name, bytes >> 20);
            self.results.progress(&text);
        }
    }
}

fn migrate(
    results: &mut Results,
    (driver, vfs): (Driver, [Bdf; 2]),
    info: InfoVersion,
    run: u32,
) -> Result<()> {
    let [source, destination] = [Vf::open(vfs[0], 16)?, Vf::open(vfs[1], 16)?];
    let size = source.read(regs::STATE_SIZE)?;
    let numbers = [source.read(regs::VF_ID)?, destination.read(regs::VF_ID)?];
    let options = Options {
        info,
        // Whatever is dirty goes over within the downtime limit.
        switchover_bytes: size,
        ..Options::default()
    };
    let mut busy = Busy {
        name: format!("run {run}, {} driver, {info:?}", driver.name()),
        results,
        workload: Workload {
            create_bytes: size / CREATED.1 * CREATED.0,
            change_bytes: CHANGED,
        },
        told: Instant::now(),
    };
    let report = precopy::migrate(
        source.device(),
        &mut DeviceTarget::new(destination.device()),
        options,
        &mut busy,
    )?;
    let reinits = if info == InfoVersion::V2 { 1 } else { 0 };
    ensure!(report.reinits == reinits, "{report:?}");
    ensure!(
        source.digest()? == destination.digest()?,
        "another state arrived"
    );
    results.json(&json!({
        "driver": driver.name(),
        "run": run,
        // VF n is function n + 1, and its VHCA has the same number.
        "source": numbers[0] - regs::VF_ID_BASE + 1,
        "destination": numbers[1] - regs::VF_ID_BASE + 1,
        "report": report,
    }));
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    super::each_version(results, |results, run, driver, info| {
        let (source, destination) = vfs.of(driver);
        migrate(results, (driver, [source, destination]), info, run)
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Benchmark: how many instructions it takes to log DMA, and to report dirty pages.

use super::{
    paths::Counter,
    track::{
        missing,
        ones,
        Written, //
    },
    Vfs, //
};
use crate::{
    hca::Driver,
    tap::Results,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use vfio_mig::{
    bdf::Bdf,
    uapi::{
        self,
        LoggingRange, //
    },
};

/// Memory that is mapped over and over: 8 MiB.
const PAGES: u64 = 2048;
/// How often: 512 MiB of IOVAs.
///
/// All reports together are fewer messages than the driver has memory for: the C driver of
/// Linux 7.2 drops one that fills the end of it (`set_report_output()`).
const REGIONS: u64 = 64;
/// Pages of all that.
const TRACKED: u64 = PAGES * REGIONS;
const SPACE: LoggingRange = LoggingRange {
    iova: IOVA,
    length: TRACKED * regs::PAGE,
};

/// Writes to pages.
type Write = fn(&mut Written<'_>) -> Result<()>;

/// The reports that are counted, and what was written before.
const REPORTS: &[(&str, Write)] = &[
    ("report, 0 %", |_| Ok(())),
    ("report, 1 %", |written| written.scattered(1)),
    ("report, 10 %", |written| written.scattered(10)),
    ("report, 50 %", |written| written.scattered(50)),
    ("report, 100 %", |written| written.beginning(100)),
    ("report, 10 % in clusters", |written| written.clusters(10)),
    ("report, 10 % in one piece", |written| written.beginning(10)),
];

fn count_reports(results: &mut Results, driver: Driver, vf: Bdf, run: u32) -> Result<()> {
    let vf = Vf::open(vf, PAGES)?;
    for i in 1..REGIONS {
        vf.map_again(IOVA + i * PAGES * regs::PAGE)?;
    }
    let mut counter = Counter {
        results,
        name: "LOGGING_START",
        driver: driver.name(),
        run,
    };
    let page_size = counter.count(|| vf.device().start_logging(regs::PAGE, &[SPACE]))?;
    ensure!(page_size == regs::PAGE);
    for (name, write) in REPORTS {
        let mut written = Written::new(&vf, TRACKED);
        write(&mut written)?;
        let mut reported = vec![1u64; (TRACKED / 64) as usize];
        // None of its memory is new any more.
        reported.fill(0);
        let bitmap = reported.as_mut_ptr() as u64;
        counter.name = name;
        counter.count(|| uapi::logging_report_at(vf.device().fd(), SPACE, regs::PAGE, bitmap))?;
        let missed = missing(written.bitmap(), &reported);
        ensure!(missed == 0, "{name}: {missed} pages are missing");
        let more = ones(&reported) - ones(written.bitmap());
        ensure!(more == 0, "{name}: {more} pages too many");
    }
    counter.name = "LOGGING_STOP";
    counter.count(|| vf.device().stop_logging())?;
    Ok(())
}

/// Counts with each driver.
pub(super) fn count(results: &mut Results, vfs: &Vfs, run: u32) -> Result<()> {
    for driver in super::in_turn(run) {
        let name = format!("run {run}, DMA logging, {} driver", driver.name());
        results.test(&name, |results| {
            count_reports(results, driver, vfs.of(driver).0, run)
        });
    }
    Ok(())
}

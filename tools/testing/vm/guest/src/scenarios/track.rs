// SPDX-License-Identifier: GPL-2.0

//! Benchmark: what a report of dirty pages costs.

use super::Bench;
use crate::{
    hca::Driver,
    tap::Results,
    vf::{Vf, IOVA},
};
use anyhow::{ensure, Result};
use mlx5_emu_regs as regs;
use serde_json::json;
use std::time::Instant;
use vfio_mig::{bdf::Bdf, uapi::LoggingRange};

/// Memory that is mapped over and over: a MiB.
const PAGES: u64 = 256;
/// How often: 2 GiB of IOVAs.
const REGIONS: u64 = 2048;
/// Pages of all that.
const TRACKED: u64 = PAGES * REGIONS;
/// Of them, so many in a hundred are written to.
const DENSITIES: [u64; 6] = [0, 1, 10, 25, 50, 100];

/// Writes to pages, about `density` in a hundred, and sets the bits of those in
/// `written`.
fn write(vf: &Vf, density: u64, written: &mut [u64]) -> Result<()> {
    let mut set = |page: u64| written[(page / 64) as usize] |= 1 << (page % 64);
    if density == 100 {
        vf.command(regs::CMD_DMA_WRITE, &[IOVA, TRACKED * regs::PAGE / 2])?;
        let half = IOVA + TRACKED * regs::PAGE / 2;
        vf.command(regs::CMD_DMA_WRITE, &[half, TRACKED * regs::PAGE / 2])?;
        (0..TRACKED).for_each(set);
        return Ok(());
    }
    // Some are picked more than once.
    let count = TRACKED * density / 100;
    if count > 0 {
        let len = TRACKED * regs::PAGE;
        vf.command(regs::CMD_DMA_SCATTER, &[IOVA, len, count])?;
        let seq = vf.seq()?;
        (0..count).for_each(|i| set(regs::scatter_page(seq, i, TRACKED)));
    }
    Ok(())
}

fn ones(bitmap: &[u64]) -> u64 {
    bitmap.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn measure(results: &mut Results, driver: Driver, vf: Bdf, run: u32) -> Result<()> {
    let vf = Vf::open(vf, PAGES)?;
    for i in 1..REGIONS {
        vf.map_again(IOVA + i * PAGES * regs::PAGE)?;
    }
    let space = LoggingRange {
        iova: IOVA,
        length: TRACKED * regs::PAGE,
    };
    let page_size = vf.device().start_logging(regs::PAGE, &[space])?;
    ensure!(page_size == regs::PAGE);
    for density in DENSITIES {
        let mut written = vec![0u64; (TRACKED / 64) as usize];
        write(&vf, density, &mut written)?;
        let begin = Instant::now();
        let reported = vf.device().dirty_pages(space, regs::PAGE)?;
        let ns = begin.elapsed().as_nanos() as f64;
        let missed: Vec<u64> = written
            .iter()
            .zip(&reported)
            .map(|(written, reported)| written & !reported)
            .collect();
        let dirty = ones(&written);
        results.json(&json!({
            "driver": driver.name(),
            "run": run,
            "density": density,
            "missed_pages": ones(&missed),
            "reported_pages": ones(&reported),
            "dirty_pages": dirty,
            "report_ns_per_page": ns / dirty.max(1) as f64,
            "report_ms_per_gib": ns / 1e6 / ((TRACKED * regs::PAGE) as f64 / f64::from(1 << 30)),
        }));
        ensure!(ones(&missed) == 0, "{} pages are missing", ones(&missed));
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    for run in 0..super::runs()? {
        for driver in super::in_turn(run) {
            results.test(&format!("run {run}, {} driver", driver.name()), |results| {
                measure(results, driver, bench.of(driver).0, run)
            });
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Benchmark: how long a report of dirty pages takes.

use super::{
    NamedRun,
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
use serde_json::json;
use std::time::Instant;
use vfio_mig::{
    bdf::Bdf,
    uapi::LoggingRange, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("bench-dirty", run)];

/// Memory that is mapped over and over: a MiB.
const PAGES: u64 = 256;
/// How often: a little less than 1 GiB of IOVAs.
///
/// A report is fewer messages than the driver has memory for: the C driver of Linux 7.2
/// drops one that fills the end of it (`set_report_output()`).
const REGIONS: u64 = 1023;
/// Pages of all that.
const TRACKED: u64 = PAGES * REGIONS;
/// Pages of a hundred that are written to, one here and one there.
const SCATTERED: [u64; 5] = [0, 1, 10, 25, 50];
/// Pages of a cluster.
const CLUSTER: u64 = 16;

/// Pages that a VF has written to, of `pages` from [`IOVA`] on.
pub(super) struct Written<'a> {
    vf: &'a Vf,
    pages: u64,
    bitmap: Vec<u64>,
}

impl<'a> Written<'a> {
    /// None so far.
    pub(super) fn new(vf: &'a Vf, pages: u64) -> Self {
        let bitmap = vec![0; (pages / 64) as usize];
        Self { vf, pages, bitmap }
    }

    /// A bit for each page.
    pub(super) fn bitmap(&self) -> &[u64] {
        &self.bitmap
    }

    fn set(&mut self, page: u64) {
        self.bitmap[(page / 64) as usize] |= 1 << (page % 64);
    }

    /// Writes to pages here and there, about `density` in a hundred: some are picked more
    /// than once.
    pub(super) fn scattered(&mut self, density: u64) -> Result<()> {
        let count = self.pages * density / 100;
        if count > 0 {
            let len = self.pages * regs::PAGE;
            self.vf
                .command(regs::CMD_DMA_SCATTER, &[IOVA, len, count])?;
            let seq = self.vf.seq()?;
            (0..count).for_each(|i| self.set(regs::scatter_page(seq, i, self.pages)));
        }
        Ok(())
    }

    fn piece(&mut self, first: u64, count: u64) -> Result<()> {
        let args = [IOVA + first * regs::PAGE, count * regs::PAGE];
        self.vf.command(regs::CMD_DMA_WRITE, &args)?;
        (first..first + count).for_each(|page| self.set(page));
        Ok(())
    }

    /// Writes to `density` in a hundred, in clusters that are equally far apart.
    pub(super) fn clusters(&mut self, density: u64) -> Result<()> {
        let step = CLUSTER * 100 / density;
        let firsts = (0..=self.pages - CLUSTER).step_by(step as usize);
        firsts
            .into_iter()
            .try_for_each(|first| self.piece(first, CLUSTER))
    }

    /// Writes to `density` in a hundred: the first ones.
    pub(super) fn beginning(&mut self, density: u64) -> Result<()> {
        // A command writes to 1 GiB at most.
        let most = (1 << 30) / regs::PAGE;
        let end = self.pages * density / 100;
        let mut pieces = (0..end).step_by(most as usize);
        pieces.try_for_each(|first| self.piece(first, most.min(end - first)))
    }
}

/// Bits that are set.
pub(super) fn ones(bitmap: &[u64]) -> u64 {
    bitmap.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Pages that were written to, and not reported.
pub(super) fn missing(written: &[u64], reported: &[u64]) -> u64 {
    let words = written.iter().zip(reported);
    let missed = words.map(|(written, reported)| u64::from((written & !reported).count_ones()));
    missed.sum()
}

/// What is written to, and how.
type Pattern = (String, fn(&mut Written<'_>, u64) -> Result<()>, u64);

fn patterns() -> Vec<Pattern> {
    let scattered = |density: u64| -> Pattern {
        let name = format!("{density} %");
        (name, |written, density| written.scattered(density), density)
    };
    let mut patterns: Vec<Pattern> = SCATTERED.into_iter().map(scattered).collect();
    let beginning = |written: &mut Written<'_>, density| written.beginning(density);
    patterns.push(("100 %".to_string(), beginning, 100));
    patterns.push((
        "10 % in clusters".to_string(),
        |written, density| written.clusters(density),
        10,
    ));
    patterns.push(("10 % in one piece".to_string(), beginning, 10));
    patterns
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
    for (pattern, write, density) in patterns() {
        let page_size = vf.device().start_logging(regs::PAGE, &[space])?;
        ensure!(page_size == regs::PAGE);
        let mut written = Written::new(&vf, TRACKED);
        write(&mut written, density)?;
        let begin = Instant::now();
        let reported = vf.device().dirty_pages(space, regs::PAGE)?;
        let ns = begin.elapsed().as_nanos() as f64;
        let missed = missing(written.bitmap(), &reported);
        let dirty = ones(written.bitmap());
        results.json(&json!({
            "driver": driver.name(),
            "run": run,
            "pattern": pattern,
            "missed_pages": missed,
            "reported_pages": ones(&reported),
            "dirty_pages": dirty,
            "report_ns_per_page": ns / dirty.max(1) as f64,
            "report_ms_per_gib": ns / 1e6 / ((TRACKED * regs::PAGE) as f64 / f64::from(1 << 30)),
        }));
        ensure!(missed == 0, "{missed} pages are missing");
        vf.device().stop_logging()?;
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    for run in 0..super::runs()? {
        for driver in super::in_turn(run) {
            results.test(&format!("run {run}, {} driver", driver.name()), |results| {
                measure(results, driver, vfs.of(driver).0, run)
            });
        }
    }
    Ok(())
}

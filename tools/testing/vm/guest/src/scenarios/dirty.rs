// SPDX-License-Identifier: GPL-2.0

//! Device DMA dirty tracking: what a VF writes is reported, all of it.

use super::{
    compare::{self, outcome, Difference, Observation, Site},
    Bench,
};
use crate::{
    hca::{Driver, Pf},
    tap::Results,
    vf::{Vf, IOVA},
};
use anyhow::{ensure, Context, Result};
use mlx5_emu_regs as regs;
use std::{collections::BTreeSet, thread, time::Duration};
use vfio_mig::{device::Device, uapi::LoggingRange};

/// Pages of memory of a VF.
const PAGES: u64 = 2048;
const PAGE: u64 = regs::PAGE;
/// All of them.
const ALL: LoggingRange = LoggingRange {
    iova: IOVA,
    length: PAGES * PAGE,
};

/// The pages of a report, counted from the beginning of `range`.
fn pages(device: &Device, range: LoggingRange, page_size: u64) -> Result<BTreeSet<u64>> {
    let bitmap = device.dirty_pages(range, page_size)?;
    let bits = bitmap.iter().enumerate().flat_map(|(word, bits)| {
        (0..64)
            .filter(move |bit| (bits >> bit) & 1 == 1)
            .map(move |bit| word as u64 * 64 + bit)
    });
    Ok(bits.collect())
}

/// Pages that a scatter command writes to.
fn scattered(seq: u64, count: u64, among: u64) -> BTreeSet<u64> {
    (0..count)
        .map(|i| regs::scatter_page(seq, i, among))
        .collect()
}

/// Writes to `count` pages, and returns which.
fn scatter(vf: &Vf, count: u64) -> Result<BTreeSet<u64>> {
    vf.command(regs::CMD_DMA_SCATTER, &[IOVA, PAGES * PAGE, count])?;
    Ok(scattered(vf.seq()?, count, PAGES))
}

/// Writes, and reads of what is reported, with tracking of `PAGE` bytes.
fn tracked(site: &Site) -> Result<Vf> {
    let vf = Vf::open(site.vf, PAGES)?;
    let page_size = vf.device().start_logging(PAGE, &[ALL])?;
    ensure!(page_size == PAGE, "pages of {page_size} bytes");
    Ok(vf)
}

/// A few numbers of a set of pages.
fn digest(pages: &BTreeSet<u64>) -> String {
    let sum = pages.iter().fold(0u64, |sum, page| {
        sum.rotate_left(7)
            .wrapping_add(page.wrapping_mul(0x9e37_79b9))
    });
    format!("{} pages {sum:x}", pages.len())
}

const OBSERVATIONS: &[Observation] = &[
    ("what was written is reported, once", |site| {
        let vf = tracked(site)?;
        let mut seen = vec![digest(&pages(vf.device(), ALL, PAGE)?)];
        for count in [1, 7, 600, 3000] {
            let written = scatter(&vf, count)?;
            let reported = pages(vf.device(), ALL, PAGE)?;
            ensure!(written.is_subset(&reported), "pages are missing");
            seen.push(digest(&reported));
            seen.push(digest(&pages(vf.device(), ALL, PAGE)?));
        }
        Ok(seen.join("; "))
    }),
    ("a report of a part, and then of the rest", |site| {
        let vf = tracked(site)?;
        let written = scatter(&vf, 500)?;
        let half = |i: u64| LoggingRange {
            iova: IOVA + i * PAGES / 2 * PAGE,
            length: PAGES / 2 * PAGE,
        };
        let first = pages(vf.device(), half(0), PAGE)?;
        let second = pages(vf.device(), half(1), PAGE)?;
        let all: BTreeSet<u64> = first
            .iter()
            .copied()
            .chain(second.iter().map(|page| page + PAGES / 2))
            .collect();
        ensure!(written.is_subset(&all), "pages are missing");
        Ok(format!("{}; {}", digest(&first), digest(&second)))
    }),
    ("all pages, and single words", |site| {
        let vf = tracked(site)?;
        vf.command(regs::CMD_DMA_WRITE, &[IOVA, PAGES * PAGE])?;
        let mut seen = vec![digest(&pages(vf.device(), ALL, PAGE)?)];
        for at in [0, PAGE - 8, 5 * PAGE, PAGES * PAGE - 8] {
            vf.command(regs::CMD_DMA_WRITE, &[IOVA + at, 8])?;
        }
        // Across the border of two pages.
        vf.command(regs::CMD_DMA_WRITE, &[IOVA + 10 * PAGE - 8, 16])?;
        seen.push(format!("{:?}", pages(vf.device(), ALL, PAGE)?));
        Ok(seen.join("; "))
    }),
    ("page sizes of the log and of the report", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let mut seen = Vec::new();
        for size in [PAGE, 16 << 10, 2 << 20, 4 << 20] {
            let tracked = vf.device().start_logging(size, &[ALL])?;
            vf.command(regs::CMD_DMA_WRITE, &[IOVA + 1025 * PAGE, PAGE])?;
            let reported = pages(vf.device(), ALL, PAGE)?;
            ensure!(reported.contains(&1025));
            seen.push(format!("{size}: {tracked}, {}", digest(&reported)));
            vf.command(regs::CMD_DMA_WRITE, &[IOVA + 1025 * PAGE, PAGE])?;
            seen.push(digest(&pages(vf.device(), ALL, 64 << 10)?));
            vf.device().stop_logging()?;
        }
        Ok(seen.join("; "))
    }),
    ("many ranges, with gaps", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let mut seen = Vec::new();
        for count in [1u64, 2, 16, 17, 100, 256] {
            let ranges: Vec<LoggingRange> = (0..count)
                .map(|i| LoggingRange {
                    iova: IOVA + i * 6 * PAGE,
                    length: (1 + i % 5) * PAGE,
                })
                .collect();
            vf.device().start_logging(PAGE, &ranges)?;
            vf.command(regs::CMD_DMA_WRITE, &[IOVA, PAGES * PAGE])?;
            let mut all = BTreeSet::new();
            for range in &ranges {
                let reported = pages(vf.device(), *range, PAGE)?;
                ensure!(
                    reported.len() as u64 == range.length / PAGE,
                    "{count}: {range:?}"
                );
                all.extend(
                    reported
                        .iter()
                        .map(|page| page + (range.iova - IOVA) / PAGE),
                );
            }
            seen.push(digest(&all));
            vf.device().stop_logging()?;
        }
        Ok(seen.join("; "))
    }),
    ("bad ranges", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let range = |iova: u64, length: u64| LoggingRange { iova, length };
        let cases: [&[LoggingRange]; 8] = [
            &[],
            &[range(IOVA, 0)],
            &[range(IOVA + 1, PAGE)],
            &[range(IOVA, PAGE + 1)],
            &[range(u64::MAX - PAGE + 1, 2 * PAGE)],
            &[range(IOVA, 2 * PAGE), range(IOVA + PAGE, 2 * PAGE)],
            &[range(IOVA, PAGE), range(IOVA, PAGE)],
            &[range(0, 1 << 50)],
        ];
        let mut seen = Vec::new();
        for ranges in cases {
            let result = vf.device().start_logging(PAGE, ranges);
            if result.is_ok() {
                vf.device().stop_logging()?;
            }
            seen.push(outcome(result));
        }
        let many = vec![range(IOVA, PAGE); 100_000];
        seen.push(outcome(vf.device().start_logging(PAGE, &many)));
        for size in [0, 1, 4095, 3 << 12] {
            seen.push(outcome(vf.device().start_logging(size, &[ALL])));
        }
        Ok(seen.join(", "))
    }),
    ("out of order", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let device = vf.device();
        let mut seen = vec![
            outcome(device.stop_logging()),
            outcome(pages_of(device, ALL)),
            outcome(device.start_logging(PAGE, &[ALL])),
            outcome(device.start_logging(PAGE, &[ALL])),
            outcome(device.stop_logging()),
            outcome(device.stop_logging()),
            outcome(device.start_logging(PAGE, &[ALL])),
        ];
        let outside = [
            (IOVA - PAGE, PAGE),
            (IOVA + PAGES * PAGE, PAGE),
            (IOVA, (PAGES + 1) * PAGE),
            (IOVA, 0),
            (IOVA + 1, PAGE),
        ];
        for (iova, length) in outside {
            seen.push(outcome(pages_of(device, LoggingRange { iova, length })));
        }
        seen.push(outcome(pages_of(device, ALL)));
        Ok(seen.join(", "))
    }),
    ("closed, reset, and opened again", |site| {
        let vf = tracked(site)?;
        scatter(&vf, 10)?;
        drop(vf);
        let vf = tracked(site)?;
        let mut seen = vec![digest(&pages(vf.device(), ALL, PAGE)?)];
        vf.device().reset()?;
        vf.device().enable_bus_master()?;
        scatter(&vf, 10)?;
        seen.push(digest(&pages(vf.device(), ALL, PAGE)?));
        Ok(seen.join(", "))
    }),
    ("the tracker fails", |site| {
        let vf = tracked(site)?;
        scatter(&vf, 10)?;
        let mut seen = Vec::new();
        for fault in [regs::TRACK_ERROR, regs::TRACK_QP_ERROR] {
            vf.command(regs::CMD_TRACK_FAULT, &[fault])?;
            seen.push(outcome(pages_of(vf.device(), ALL)));
            seen.push(outcome(pages_of(vf.device(), ALL)));
            seen.push(outcome(vf.device().start_logging(PAGE, &[ALL])));
            vf.device().stop_logging()?;
            vf.device().start_logging(PAGE, &[ALL])?;
            let written = scatter(&vf, 10)?;
            seen.push(format!("{}", written == pages(vf.device(), ALL, PAGE)?));
        }
        Ok(seen.join(", "))
    }),
    ("the PF is reloaded", |site| {
        let vf = tracked(site)?;
        scatter(&vf, 10)?;
        Pf::find()?.reload()?;
        let mut seen = vec![outcome(pages_of(vf.device(), ALL))];
        seen.push(outcome(vf.device().stop_logging()));
        seen.push(outcome(vf.device().start_logging(PAGE, &[ALL])));
        Ok(seen.join(", "))
    }),
];

fn pages_of(device: &Device, range: LoggingRange) -> Result<Vec<u64>, vfio_mig::error::Error> {
    device.dirty_pages(range, PAGE)
}

const DIFFERENCES: &[Difference] = &[];

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    let _ = (thread::sleep, Duration::ZERO, Driver::Rust);
    let _: Option<()> = None.context("").ok();
    Ok(())
}

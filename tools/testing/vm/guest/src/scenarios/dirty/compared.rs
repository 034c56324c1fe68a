// SPDX-License-Identifier: GPL-2.0

//! Reports that must be the same with both drivers.

use super::logged::{
    digest,
    pages,
    pages_of,
    scatter,
    scattered,
    tracked,
    ALL,
    PAGE,
    PAGES, //
};
use crate::{
    fault::{
        self,
        Faults, //
    },
    hca::Pf,
    kmsg,
    scenarios::compare::{
        outcome,
        Difference,
        Observation,
        Site, //
    },
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
use std::collections::BTreeSet;
use vfio_mig::uapi::LoggingRange;

/// `MLX5_CMD_OP_*` of all commands that make a tracker: ALLOC_PD, CREATE_CQ,
/// CREATE_MKEY, CREATE_QP, RST2INIT_QP, INIT2RTR_QP, RTR2RTS_QP,
/// CREATE_GENERAL_OBJECT.
const SET_UP: [u64; 8] = [0x800, 0x400, 0x200, 0x500, 0x502, 0x503, 0x504, 0xa00];
/// `MLX5_CMD_STAT_BAD_PARAM_ERR`.
const BAD_PARAM: u64 = 3;

pub(super) const OBSERVATIONS: &[Observation] = &[
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
    ("a report of less than a tracked page", |site| {
        kmsg::expect("MODIFY_GENERAL_OBJECT");
        let vf = Vf::open(site.vf, PAGES)?;
        let size = vf.device().start_logging(16 * PAGE, &[ALL])?;
        let mut seen = vec![size.to_string()];
        let page = |number: u64, count: u64| LoggingRange {
            iova: IOVA + number * PAGE,
            length: count * PAGE,
        };
        for parts in [&[(20, 1)][..], &[(16, 4), (20, 1), (21, 11)], &[(12, 9)]] {
            vf.command(regs::CMD_DMA_WRITE, &[IOVA + 20 * PAGE, 8])?;
            for (number, count) in parts {
                let reported = pages(vf.device(), page(*number, *count), PAGE)?;
                seen.push(format!("{number}+{count}: {}", digest(&reported)));
            }
            // A report that is refused clears nothing.
            let more = page(0, PAGES + 1);
            ensure!(pages_of(vf.device(), more).is_err(), "{more:?} is tracked");
            seen.push(digest(&pages(vf.device(), ALL, PAGE)?));
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
            // Tracking more than was asked for would make reports slower.
            let (ranges, bytes) = (
                vf.read(regs::TRACKED_RANGES)?,
                vf.read(regs::TRACKED_BYTES)?,
            );
            seen.push(format!(
                "{}, {ranges} ranges of {bytes} bytes",
                digest(&all)
            ));
            vf.device().stop_logging()?;
            ensure!(
                vf.read(regs::TRACKED_RANGES)? == 0,
                "{count} are still tracked"
            );
        }
        Ok(seen.join("; "))
    }),
    ("bad ranges", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let range = |iova: u64, length: u64| LoggingRange { iova, length };
        let cases: [&[LoggingRange]; 9] = [
            &[],
            &[range(IOVA, 0)],
            &[range(IOVA + 1, PAGE)],
            &[range(IOVA, PAGE + 1)],
            &[range(u64::MAX - PAGE + 1, 2 * PAGE)],
            &[range(IOVA, 2 * PAGE), range(IOVA + PAGE, 2 * PAGE)],
            &[range(IOVA, PAGE), range(IOVA, PAGE)],
            &[range(0, 1 << 50)],
            &[range(0, u64::MAX - PAGE + 1)],
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
        kmsg::expect("MODIFY_GENERAL_OBJECT");
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
        let faults = Faults::open()?;
        for kind in [
            regs::TRACK_ERROR,
            regs::TRACK_QP_ERROR,
            regs::TRACK_CQ_ERROR,
            regs::TRACK_ERROR_MESSAGE,
        ] {
            faults.arm_report(fault::vhca(site.vf)?, kind)?;
            seen.push(outcome(pages_of(vf.device(), ALL)));
            seen.push(outcome(pages_of(vf.device(), ALL)));
            seen.push(outcome(vf.device().start_logging(PAGE, &[ALL])));
            vf.device().stop_logging()?;
            vf.device().start_logging(PAGE, &[ALL])?;
            let written = scatter(&vf, 10)?;
            seen.push(format!("{}", written == pages(vf.device(), ALL, PAGE)?));
        }
        seen.push(format!("fired {}", faults.fired()?));
        Ok(seen.join(", "))
    }),
    ("firmware fails to set a tracker up", |site| {
        let vf = Vf::open(site.vf, PAGES)?;
        let mut seen = Vec::new();
        for opcode in SET_UP {
            vf.command(regs::CMD_FAULT, &[opcode, BAD_PARAM])?;
            seen.push(outcome(vf.device().start_logging(PAGE, &[ALL])));
            // All objects that were made by then are destroyed, so tracking can be started
            // again.
            vf.device().start_logging(PAGE, &[ALL])?;
            let written = scatter(&vf, 10)?;
            ensure!(written == pages(vf.device(), ALL, PAGE)?, "{opcode:#x}");
            vf.device().stop_logging()?;
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

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "bad ranges",
        c: "EINVAL, EOPNOTSUPP, EINVAL, EINVAL, EOVERFLOW, EINVAL, EINVAL, EOPNOTSUPP, \
        EOPNOTSUPP, E2BIG, EINVAL, ok, EINVAL, EINVAL",
        rust: "EINVAL, EINVAL, EINVAL, EINVAL, EOVERFLOW, EINVAL, EINVAL, EOPNOTSUPP, \
           EOPNOTSUPP, E2BIG, EINVAL, ok, EINVAL, EINVAL",
        reason: "an empty range, which VFIO lets through: the C driver finds that all \
             ranges together are too small, the Rust driver that it is no range",
    },
    Difference {
        name: "a report of less than a tracked page",
        c: "65536; 20+1: 0 pages 0; 0 pages 0; 16+4: 16 pages d998e4109e960381; \
        20+1: 0 pages 0; 21+11: 0 pages 0; 0 pages 0; \
        12+9: 16 pages a4fd7532de23676d; 0 pages 0",
        rust: "65536; 20+1: 1 pages 0; 15 pages 9a1a6ea94a045f67; 16+4: 4 pages 282df08e662b; \
           20+1: 1 pages 0; 21+11: 11 pages 387d12554d7c6cd3; 0 pages 0; \
           12+9: 5 pages 27f1b09c3e1b5548; 11 pages b77b119250ccff3f",
        reason: "the tracker forgets all of a page: the C driver loses what was not asked about, \
             the Rust driver keeps it for the next report",
    },
];

/// Several GiB, of which one MiB of every 64 is mapped.
pub(super) fn sparse(site: &Site) -> Result<String> {
    const STEP: u64 = 64 << 20;
    const REGIONS: u64 = 96;
    let vf = Vf::open(site.vf, 256)?;
    for i in 1..REGIONS {
        vf.map_again(IOVA + i * STEP)?;
    }
    let space = LoggingRange {
        iova: IOVA,
        length: REGIONS * STEP,
    };
    vf.device().start_logging(PAGE, &[space])?;
    let mut written = BTreeSet::new();
    let mut reported = BTreeSet::new();
    for round in 0..3 {
        for region in (round..REGIONS).step_by(7) {
            let base = IOVA + region * STEP;
            vf.command(regs::CMD_DMA_SCATTER, &[base, 256 * PAGE, 40])?;
            let seq = vf.seq()?;
            written.extend(
                scattered(seq, 40, 256)
                    .into_iter()
                    .map(|page| region * STEP / PAGE + page),
            );
        }
        reported.extend(pages(vf.device(), space, PAGE)?);
    }
    ensure!(written.is_subset(&reported), "pages are missing");
    ensure!(reported.is_subset(&written), "pages too many");
    Ok(digest(&reported))
}

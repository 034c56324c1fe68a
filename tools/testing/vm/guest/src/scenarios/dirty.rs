// SPDX-License-Identifier: GPL-2.0

//! DMA logging: what a VF writes is reported, all of it.

use super::{
    badinput::PF_UNBIND,
    compare::{self, outcome, Difference, Observation, Site},
    Bench, NamedRun,
};
use crate::{
    fault::{self, opcode, Fault, Faults},
    hca::{Driver, Pf},
    kmsg, sys,
    tap::Results,
    vf::{Vf, IOVA},
};
use anyhow::{ensure, Context, Result};
use mlx5_emu_regs as regs;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
    time::Instant,
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State,
    uapi::{self, LoggingRange},
};
use vm_common::judge::UNDESTROYED;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("dirty", run),
    ("dirty-slow", run_slow),
    ("dirty-limits", run_limits),
    ("dirty-flood", run_flood),
];

/// `MLX5_CMD_OP_*` of all commands that make a tracker: ALLOC_PD, CREATE_CQ,
/// CREATE_MKEY, CREATE_QP, RST2INIT_QP, INIT2RTR_QP, RTR2RTS_QP,
/// CREATE_GENERAL_OBJECT.
const SET_UP: [u64; 8] = [0x800, 0x400, 0x200, 0x500, 0x502, 0x503, 0x504, 0xa00];
/// `MLX5_CMD_STAT_BAD_PARAM_ERR`.
const BAD_PARAM: u64 = 3;

/// Pages of memory of a VF.
const PAGES: u64 = 2048;
const PAGE: u64 = regs::PAGE;
/// All of them.
pub(super) const ALL: LoggingRange = LoggingRange {
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
pub(super) fn scatter(vf: &Vf, count: u64) -> Result<BTreeSet<u64>> {
    vf.command(regs::CMD_DMA_SCATTER, &[IOVA, PAGES * PAGE, count])?;
    Ok(scattered(vf.seq()?, count, PAGES))
}

/// Writes to `count` pages, which are reported, and no others.
pub(super) fn scatter_and_report(vf: &Vf, count: u64) -> Result<()> {
    let written = scatter(vf, count)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// Writes, and reads of what is reported, with tracking of `PAGE` bytes.
pub(super) fn tracked(site: &Site) -> Result<Vf> {
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
            // One that is refused takes nothing away.
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
            // What firmware tracks beyond that costs reports.
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
            // Whatever there was by then is gone, and nothing is in the way.
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

pub(super) fn pages_of(
    device: &Device,
    range: LoggingRange,
) -> Result<Vec<u64>, vfio_mig::error::Error> {
    device.dirty_pages(range, PAGE)
}

const DIFFERENCES: &[Difference] = &[
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

/// A copy that follows the reports alone is the same in the end.
fn copy_by_reports(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let mut copy = vec![0u64; (PAGES * PAGE / 8) as usize];
    let follow = |copy: &mut Vec<u64>| -> Result<()> {
        for page in pages(vf.device(), ALL, PAGE)? {
            for word in page * PAGE / 8..(page + 1) * PAGE / 8 {
                copy[word as usize] = vf.word(word * 8);
            }
        }
        Ok(())
    };
    for round in 0..20 {
        scatter(&vf, 50 * round)?;
        let at = IOVA + round * 64 * PAGE + 24;
        vf.command(regs::CMD_DMA_WRITE, &[at, 3 * PAGE + 8 * round])?;
        follow(&mut copy)?;
    }
    scatter(&vf, 99)?;
    vf.device().set_state(State::STOP)?;
    follow(&mut copy)?;
    let wrong = (0..copy.len()).find(|word| copy[*word] != vf.word(*word as u64 * 8));
    ensure!(wrong.is_none(), "word {wrong:?} is another one");
    Ok(())
}

/// Several GiB, of which most is not there: one MiB of every 64.
fn sparse(site: &Site) -> Result<String> {
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

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    for driver in Driver::BOTH {
        let name = format!("a copy by reports alone, {} driver", driver.name());
        results.test(&name, |_| {
            let (vf, other) = bench.of(driver);
            copy_by_reports(&Site { vf, other })
        });
    }
    let (vf, other) = bench.of(Driver::Rust);
    results.test(
        "memory for reports is charged to who starts logging",
        |_| memory_is_charged(&Site { vf, other }),
    );
    Ok(())
}

/// A report that a device does not end.
fn stalled(site: &Site) -> Result<Vf> {
    let vf = tracked(site)?;
    scatter(&vf, 10)?;
    vf.command(regs::CMD_TRACK_FAULT, &[regs::TRACK_STALL])?;
    Ok(vf)
}

/// After it, and after a new start, everything works.
pub(super) fn works_again(vf: &Vf) -> Result<()> {
    let again = outcome(pages_of(vf.device(), ALL));
    ensure!(again == "EIO", "a report after a failed one: {again}");
    vf.device().stop_logging()?;
    vf.device().start_logging(PAGE, &[ALL])?;
    let written = scatter(vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

fn silence_is_bounded(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let complaint = "the page tracker does not answer; stop DMA logging";
    let end = kmsg::require(complaint, || Ok(outcome(pages_of(vf.device(), ALL))))?;
    ensure!(end == "ETIMEDOUT", "{end}");
    works_again(&vf)
}

/// The tracker has failed, and firmware cannot be asked whether it has: that is asked
/// again.
fn fails_unasked(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    scatter(&vf, 10)?;
    let faults = Faults::open()?;
    faults.arm_report(fault::vhca(site.vf)?, regs::TRACK_ERROR)?;
    faults.arm(Fault::fail(opcode::QUERY_GENERAL_OBJECT))?;
    let end = outcome(pages_of(vf.device(), ALL));
    ensure!(end == "EINVAL", "the first report: {end}");
    works_again(&vf)
}

/// Firmware does not destroy a part of a tracker.
fn undestroyed(site: &Site, opcode: u16) -> Result<()> {
    let faults = Faults::open()?;
    let vf = tracked(site)?;
    for used in ["DESTROY_QP", "DESTROY_CQ"] {
        kmsg::expect(used);
    }
    faults.arm(Fault::fail(opcode))?;
    kmsg::require(UNDESTROYED, || Ok(vf.device().stop_logging()?))?;
    ensure!(faults.fired()? == 1, "it was destroyed");
    drop(vf);
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    drop(vf);
    Pf::find()?.reload()?;
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// A tracker that firmware takes its time to make: no query, arc or reset waits for it.
fn start_keeps_nothing_waiting(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, PAGES)?;
    let device = vf.device();
    faults.arm(Fault::held(opcode::CREATE_GENERAL_OBJECT))?;
    thread::scope(|scope| -> Result<()> {
        let starter = scope.spawn(|| outcome(device.start_logging(PAGE, &[ALL])));
        let others = || -> Result<()> {
            faults.wait_for_held(1)?;
            for state in [State::STOP, State::STOP_COPY, State::STOP, State::RUNNING] {
                device.set_state(state)?;
                ensure!(device.state()? == state);
            }
            device.reset()?;
            ensure!(!starter.is_finished(), "it was not held");
            Ok(())
        };
        let others = others();
        faults.release()?;
        let end = starter.join().ok().context("the starter panicked")?;
        others?;
        ensure!(end == "ok", "tracking did not start: {end}");
        Ok(())
    })?;
    device.enable_bus_master()?;
    scatter_and_report(&vf, 100)
}

/// SIGKILL, in the middle of a report.
fn killed(site: &Site) -> Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--report", &site.vf.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the reporter said {line:?}");
    thread::sleep(Duration::from_millis(100));
    child.kill()?;
    let begin = Instant::now();
    child.wait()?;
    // Far less than what silence is allowed to last.
    ensure!(
        begin.elapsed() < Duration::from_secs(5),
        "it could not be killed"
    );
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// What the process does that is killed.
pub fn report_for_ever(args: &[String]) -> ExitCode {
    let begin = || -> Result<Vf> {
        let vf: Bdf = args.first().context("--report BDF")?.parse()?;
        stalled(&Site { vf, other: vf })
    };
    match begin() {
        Ok(vf) => {
            println!("ready");
            let _ = pages_of(vf.device(), ALL);
            ExitCode::SUCCESS
        }
        Err(err) => {
            println!("{err:#}");
            ExitCode::FAILURE
        }
    }
}

/// A report that waits for its device keeps nothing else waiting.
fn nothing_waits(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    let (first, second) = thread::scope(|scope| -> Result<_> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        let second = sys::interrupted(Duration::from_millis(100), || {
            outcome(pages_of(device, ALL))
        });
        let begin = Instant::now();
        for state in [State::STOP, State::STOP_COPY, State::STOP, State::RUNNING] {
            device.set_state(state)?;
        }
        ensure!(device.state()? == State::RUNNING);
        device.stop_logging()?;
        let first = reporter.join().ok().context("the reporter panicked")?;
        // Far less than what silence is allowed to last.
        ensure!(begin.elapsed() < Duration::from_secs(5), "something waited");
        Ok((first, second?))
    })?;
    ensure!(first == "EIO", "the report that was stopped: {first}");
    ensure!(second == "EINTR", "the report that waited for it: {second}");
    let after = outcome(pages_of(device, ALL));
    ensure!(after == "EINVAL", "a report after it: {after}");
    device.start_logging(PAGE, &[ALL])?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(device, ALL, PAGE)?, "other pages");
    Ok(())
}

/// Each page is in one of two reports that are made at once.
fn two_reporters(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let device = vf.device();
    for count in [1, 50, 1000] {
        let written = scatter(&vf, count)?;
        let reports = thread::scope(|scope| -> Result<_> {
            let reporters = [0; 2].map(|_| scope.spawn(|| pages(device, ALL, PAGE)));
            let mut reports = BTreeSet::new();
            for reporter in reporters {
                reports.extend(reporter.join().ok().context("a reporter panicked")??);
            }
            Ok(reports)
        })?;
        ensure!(reports == written, "other pages of {count}");
    }
    Ok(())
}

/// A report whose bitmap never comes: nobody waits for it.
fn missing_bitmap(results: &mut Results, site: &Site) {
    let name = "a report that waits for its bitmap holds nobody up";
    let memory = match sys::MissingMemory::new() {
        Ok(memory) => memory,
        Err(err) => {
            results.test(name, |_| Err(err.into()));
            return;
        }
    };
    results.test(name, |_| {
        let vf = tracked(site)?;
        // More than a batch.
        scatter(&vf, 1000)?;
        let device = vf.device();
        let report = || {
            let bitmap = memory.addr() as u64;
            compare::words(uapi::logging_report_at(device.fd(), ALL, PAGE, bitmap).map(|()| "ok"))
        };
        let end = thread::scope(|scope| -> Result<_> {
            let reporter = scope.spawn(report);
            let others = || -> Result<()> {
                memory.wait_for_fault()?;
                for state in [State::STOP, State::RUNNING] {
                    device.set_state(state)?;
                }
                device.reset()?;
                device.enable_bus_master()?;
                device.stop_logging()?;
                device.start_logging(PAGE, &[ALL])?;
                Pf::find()?.reload()?;
                device.start_logging(PAGE, &[ALL])?;
                ensure!(device.state()? == State::RUNNING);
                Ok(())
            };
            let others = others();
            // Else the reporter would never end.
            memory.provide()?;
            let end = reporter.join().ok().context("the reporter panicked")?;
            others.map(|()| end)
        })?;
        ensure!(end == "EIO", "the report ended with {end}");
        Ok(())
    });
}

/// Interrupts of each completion vector of the PF.
fn completion_interrupts() -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string("/proc/interrupts")?;
    let vectors = text.lines().filter_map(|line| {
        let name = line
            .split_whitespace()
            .find(|word| word.starts_with("mlx5_comp"))?;
        let counts = line
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse::<u64>().ok());
        Some((name.to_string(), counts.sum()))
    });
    Ok(vectors.collect())
}

/// The completion vector that tells of a VF's reports.
fn vector_of(vf: Bdf) -> Result<String> {
    let vf = tracked(&Site { vf, other: vf })?;
    let before = completion_interrupts()?;
    scatter(&vf, 10)?;
    pages_of(vf.device(), ALL)?;
    let mut after = completion_interrupts()?;
    after.retain(|name, count| before.get(name) != Some(count));
    let names: Vec<String> = after.into_keys().collect();
    ensure!(names.len() == 1, "a report makes interrupts {names:?}");
    Ok(names.concat())
}

/// VFs take turns with the completion vectors: there are two, as there are CPUs.
fn vectors_are_shared_out(site: &Site) -> Result<()> {
    let (one, other) = (vector_of(site.vf)?, vector_of(site.other)?);
    ensure!(one != other, "both VFs have {one}");
    Ok(())
}

/// The memory for messages is charged to the process that starts logging.
fn memory_is_charged(site: &Site) -> Result<()> {
    const ROOT: &str = "/run/cgroup";
    const GROUP: &str = "/run/cgroup/logging";
    fs::create_dir_all(ROOT)?;
    sys::mount("cgroup2", ROOT)?;
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory")?;
    fs::create_dir_all(GROUP)?;
    let charged = || -> Result<i64> {
        Ok(fs::read_to_string(format!("{GROUP}/memory.current"))?
            .trim()
            .parse()?)
    };
    let measure = || -> Result<i64> {
        let vf = Vf::open(site.vf, PAGES)?;
        fs::write(format!("{GROUP}/cgroup.procs"), "0")?;
        let before = charged()?;
        vf.device().start_logging(PAGE, &[ALL])?;
        Ok(charged()? - before)
    };
    let bytes = measure();
    fs::write(format!("{ROOT}/cgroup.procs"), "0")?;
    fs::remove_dir(GROUP)?;
    sys::unmount(ROOT)?;
    let bytes = bytes?;
    ensure!(bytes >= 2 << 20, "{bytes} bytes were charged");
    Ok(())
}

/// A tracker more than firmware has.
fn one_tracker_too_many(site: &Site) -> Result<String> {
    kmsg::expect("CREATE_GENERAL_OBJECT");
    let vf = tracked(site)?;
    let other = Vf::open(site.other, PAGES)?;
    let refused = outcome(other.device().start_logging(PAGE, &[ALL]));
    ensure!(refused == "ENOMEM", "a tracker too many: {refused}");
    let mut seen = vec![refused];
    seen.push(outcome(pages_of(other.device(), ALL)));
    vf.device().stop_logging()?;
    other.device().start_logging(PAGE, &[ALL])?;
    let written = scatter(&other, 100)?;
    ensure!(written == pages(other.device(), ALL, PAGE)?, "other pages");
    Ok(seen.join(", "))
}

/// Both drivers at the limits of firmware.
pub fn run_limits(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    let one_too_many: [Observation; 1] =
        [("a tracker more than firmware has", one_tracker_too_many)];
    compare::both(results, &bench, &one_too_many, &[]);
    Ok(())
}

/// Pages that were written are reported again and again: whenever the driver posts a
/// receive entry, the device has a message for it.
fn flooded(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    for _ in 0..10 {
        let written = scatter(&vf, 60)?;
        ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    }
    Ok(())
}

/// More than the driver puts up with in one report. The next one has the rest.
fn flood_ends_one_report(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let written = scatter(&vf, 120)?;
    let first = outcome(pages_of(vf.device(), ALL));
    ensure!(first == "EIO", "a report that does not end: {first}");
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    let written = scatter(&vf, 10)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// Reports with more messages than there is room for: only with the Rust driver,
/// since the C driver posts a receive entry before the completion queue has room.
pub fn run_flood(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let (vf, other) = bench.of(Driver::Rust);
    let tests: [compare::Test; 2] = [
        ("reports of more messages than there is room for", flooded),
        ("a report that does not end", flood_ends_one_report),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&Site { vf, other }));
    }
    Ok(())
}

/// The PF is reloaded in the middle of a report, which ends at once.
fn reloaded(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    thread::scope(|scope| -> Result<()> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        Pf::find()?.reload()?;
        let end = reporter.join().ok().context("the reporter panicked")?;
        // One that had waited for its device would say ETIMEDOUT.
        ensure!(end == "EIO", "the report ended with {end}");
        Ok(())
    })?;
    let after = outcome(pages_of(vf.device(), ALL));
    ensure!(after == "EINVAL", "a report after it: {after}");
    vf.device().start_logging(PAGE, &[ALL])?;
    Ok(())
}

/// A reset in the middle of a report, which it does not end.
fn reset(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    thread::scope(|scope| -> Result<()> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        vf.device().reset()?;
        let end = reporter.join().ok().context("the reporter panicked")?;
        ensure!(end == "ETIMEDOUT", "the report ended with {end}");
        Ok(())
    })?;
    ensure!(vf.device().state()? == State::RUNNING);
    vf.device().enable_bus_master()?;
    works_again(&vf)
}

/// The PF's driver goes in the middle of a report: that waits for the device to be
/// closed, and the report has an end.
fn pf_removed(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    let remover = thread::scope(|scope| -> Result<_> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        let remover = thread::spawn(|| Pf::find()?.set_bound(false));
        let end = reporter.join().ok().context("the reporter panicked")?;
        ensure!(
            end == "ETIMEDOUT" || end == "EIO",
            "the report ended with {end}"
        );
        Ok(remover)
    })?;
    drop(vf);
    remover.join().ok().context("the remover panicked")??;
    Pf::find()?.set_bound(true)
}

/// Where a report takes its time, and devices do not end it: only with the Rust
/// driver, since the C driver waits for ever, and cannot be killed.
pub fn run_slow(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let both: [Observation; 2] = [OBSERVATIONS[0], ("sparse memory of 6 GiB", sparse)];
    compare::both(results, &bench, &both, &[]);
    let (vf, other) = bench.of(Driver::Rust);
    let site = Site { vf, other };
    let tests: [compare::Test; 9] = [
        ("two reports at once", two_reporters),
        (
            "a tracker that is being made keeps nothing waiting",
            start_keeps_nothing_waiting,
        ),
        ("a tracker that fails unasked", fails_unasked),
        (
            "VFs take turns with completion vectors",
            vectors_are_shared_out,
        ),
        (
            "a report that waits for its device keeps nothing waiting",
            nothing_waits,
        ),
        ("a device that stops reporting", silence_is_bounded),
        ("killed in the middle of a report", killed),
        ("the PF is reloaded in the middle of a report", reloaded),
        ("a reset in the middle of a report", reset),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&site));
    }
    missing_bitmap(results, &site);
    for (what, opcode) in [
        ("a tracker", opcode::DESTROY_GENERAL_OBJECT),
        ("a tracker's QP", opcode::DESTROY_QP),
        ("a tracker's CQ", opcode::DESTROY_CQ),
        ("a tracker's mkey", opcode::DESTROY_MKEY),
    ] {
        results.test(&format!("{what} that is not destroyed"), |_| {
            // The rate of messages is limited.
            thread::sleep(Duration::from_secs(5));
            undestroyed(&site, opcode)
        });
    }
    results.test(
        "the PF's driver is unbound in the middle of a report",
        |_| {
            kmsg::expect(PF_UNBIND);
            pf_removed(&site)
        },
    );
    Ok(())
}

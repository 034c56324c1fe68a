// SPDX-License-Identifier: GPL-2.0

//! Migrations back and forth for long, with pre-copy, DMA logging, faults of firmware, resets
//! and PF reloads mixed. In the end there is as much of everything as in the beginning.

use super::{
    compare::Site,
    dirty,
    memory::meminfo,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    reset::Way,
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::{
    fs, thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    device::Device,
    state::State,
    stress::{
        self,
        Limits, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("soak", run)];

/// How long, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [15, 600];
/// Rounds before the first count: what is allocated once, is then.
const WARM: u64 = 12;
/// Migrations of a round that has some.
const MIGRATIONS: u64 = 5;
/// Commands that a round has fail.
const FAILING: [u16; 5] = [
    opcode::SUSPEND_VHCA,
    opcode::RESUME_VHCA,
    opcode::SAVE_VHCA_STATE,
    opcode::LOAD_VHCA_STATE,
    opcode::CREATE_MKEY,
];
/// How long what is freed later may take, and how often to look.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);

/// How much there is of what a session takes.
#[derive(Clone, Copy, Debug)]
struct Amounts {
    /// Pages that are free, or that can be at once.
    pages: u64,
    /// Bytes of objects of the kernel.
    slab: u64,
    /// Objects in the cache of IOVAs, if the kernel tells.
    iovas: u64,
    /// Open files of this process.
    files: u64,
    /// Processes, and threads of the kernel but those that work queues come and go with.
    tasks: u64,
}

fn tasks() -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let is_task = path.join("task").exists();
        count += u64::from(is_task && !name.starts_with("kworker"));
    }
    Ok(count)
}

impl Amounts {
    fn now() -> Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        // Not each kernel has the file.
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let iovas = slabs
            .lines()
            .find_map(|line| line.strip_prefix("iommu_iova "));
        let active = iovas.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            pages: meminfo(&memory, "MemFree")? / 4096,
            slab: meminfo(&memory, "Slab")?,
            iovas: active.map_or(Ok(0), str::parse)?,
            files: fs::read_dir("/proc/self/fd")?.count() as u64,
            tasks: tasks()?,
        })
    }

    /// What is lost from here to `now`, if that is more than rounds of this number explain by
    /// chance.
    fn lost(&self, now: &Self, rounds: u64) -> Option<String> {
        // Less than one of each size in a round.
        let pages = self.pages.saturating_sub(now.pages);
        let slab = now.slab.saturating_sub(self.slab);
        let most = (256 + rounds, (1 << 20) + 64 * rounds);
        let checks = [
            ("pages", pages, most.0),
            ("bytes of slab", slab, most.1),
            ("IOVAs", now.iovas.saturating_sub(self.iovas), 256),
            ("open files", now.files.saturating_sub(self.files), 0),
            ("tasks", now.tasks.saturating_sub(self.tasks), 0),
        ];
        let mut lost = checks.iter().filter(|(_, count, most)| count > most);
        let (what, count, _) = lost.next()?;
        Some(format!("{count} {what} are lost after {rounds} rounds"))
    }
}

/// Migrates between the VFs, and gives some migrations up.
fn migrate(site: &Site, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let limits = Limits {
        seed: rng.u64(..),
        count: MIGRATIONS,
        time: None,
    };
    let done = stress::run(site.vf.into(), Some(site.other.into()), limits, |_| ())?;
    ensure!(
        done.compared == done.stop_copy + done.precopy,
        "not compared: {done:?}"
    );
    counts.streams += done.compared;
    Ok(())
}

/// Logs what a VF writes, until it is stopped.
fn log(site: &Site, rng: &mut Rng, _: &mut Counts) -> Result<()> {
    let vf = dirty::tracked(site)?;
    dirty::scatter_and_report(&vf, rng.u64(1..200))?;
    if rng.bool() {
        vf.device().stop_logging()?;
    }
    Ok(())
}

/// Has a command fail somewhere in a migration. Whatever it is, a reset mends it.
fn fail(site: &Site, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let faults = Faults::open()?;
    let opcode = FAILING[rng.usize(..FAILING.len())];
    let (stream, _) = streams::save(site.other, 1)?;
    let fault = Fault::fail(opcode).nth(rng.u32(1..3));
    // An mkey is about no VHCA.
    faults.arm(match opcode {
        opcode::CREATE_MKEY => fault,
        _ => fault.about(fault::vhca(site.vf)?),
    })?;
    // Either may fail.
    let _ = streams::save(site.vf, 1);
    let _ = streams::load(site.vf, &stream);
    counts.faults_injected += u64::from(faults.fired()?);
    drop(faults);
    Device::open(site.vf)?.reset()?;
    works(site)
}

/// Resets a VF in the middle of a session.
fn reset(site: &Site, rng: &mut Rng, _: &mut Counts) -> Result<()> {
    // The SAVE that it ends.
    kmsg::expect("SAVE_VHCA_STATE");
    let device = Device::open(site.vf)?;
    let states = [
        State::PRE_COPY,
        State::STOP_COPY,
        State::RESUMING,
        State::STOP,
    ];
    let state = states[rng.usize(..states.len())];
    let _file = device.set_state(state)?;
    let way = Way::ALL[rng.usize(..Way::ALL.len())];
    way.reset(site.vf, &device)?;
    let now = device.state()?;
    ensure!(now == State::RUNNING, "{way:?} in {state} leads to {now}");
    Ok(())
}

/// Reloads the PF under a session.
fn reload(site: &Site, _: &mut Rng, _: &mut Counts) -> Result<()> {
    let device = Device::open(site.vf)?;
    let _file = device.set_state(State::PRE_COPY)?;
    Pf::find()?.reload()?;
    drop(device);
    works(site)
}

/// A good migration.
fn works(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.vf, 2)?;
    ensure!(
        streams::load(site.other, &stream)? == digest,
        "another state"
    );
    Ok(())
}

/// What a round is, and how many of all rounds are of that kind.
type Kind = (
    &'static str,
    usize,
    fn(&Site, &mut Rng, &mut Counts) -> Result<()>,
);

const KINDS: &[Kind] = &[
    ("migrations", 6, migrate),
    ("DMA logging", 3, log),
    ("a command that fails", 3, fail),
    ("a reset", 3, reset),
    ("a PF reload", 1, reload),
];

fn round(site: &Site, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let all: usize = KINDS.iter().map(|(_, share, _)| share).sum();
    let mut at = rng.usize(..all);
    for (name, share, work) in KINDS {
        if at < *share {
            return work(site, rng, counts).with_context(|| (*name).to_string());
        }
        at -= share;
    }
    bail!("no kind of round")
}

/// The numbers of a soak: rounds that were done, and what there was before them.
fn soak(results: &mut Results, site: &Site, seed: u64, counts: &mut Counts) -> Result<()> {
    let end = Instant::now() + sys::duration(DURATION)?;
    let mut rng = Rng::with_seed(seed);
    let mut before = None;
    let mut rounds = 0;
    while rounds <= WARM || Instant::now() < end {
        if rounds == WARM {
            before = Some(Amounts::now()?);
        }
        round(site, &mut rng, counts).with_context(|| format!("round {rounds}"))?;
        rounds += 1;
        results.progress(&format!("{rounds} rounds"));
    }
    let before = before.context("no round")?;
    let begin = Instant::now();
    loop {
        match before.lost(&Amounts::now()?, rounds - WARM) {
            None => return Ok(()),
            Some(lost) if begin.elapsed() > PATIENCE => bail!("{lost}"),
            Some(_) => thread::sleep(POLL),
        }
    }
}

fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let seed = sys::seed()?;
    let mut counts = Counts::new(Driver::Rust.name());
    results.test("nothing is lost, and everything works", |results| {
        soak(results, &site, seed, &mut counts).with_context(|| format!("seed {seed}"))
    });
    results.test("the VF works after that", |_| works(&site));
    counts.report(results);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told() {
        let before = Amounts {
            pages: 1000,
            slab: 5 << 20,
            iovas: 10,
            files: 4,
            tasks: 50,
        };
        assert_eq!(before.lost(&before, 10), None);
        let fewer = Amounts {
            pages: 700,
            ..before
        };
        assert_eq!(
            before.lost(&fewer, 10).unwrap(),
            "300 pages are lost after 10 rounds"
        );
        let more = Amounts { files: 5, ..before };
        assert_eq!(
            before.lost(&more, 10).unwrap(),
            "1 open files are lost after 10 rounds"
        );
        // Others may end, and free what they had.
        let better = Amounts {
            pages: 2000,
            tasks: 40,
            ..before
        };
        assert_eq!(before.lost(&better, 10), None);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! All calls at the same time, a thread for each kind. The result of each call depends on
//! the others, so results are only checked for errors that make no sense. The kernel must
//! log no fault, all threads must end, and the VF must work after that.

mod calls;

use super::{
    compare::errno_name,
    compare::Site,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    hca::Driver,
    injection,
    kmsg,
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use calls::{
    Call,
    Without,
    CALLS, //
};
use fastrand::Rng;
use std::{
    collections::BTreeMap,
    fs::File,
    io, iter,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc,
        Mutex,
        RwLock, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::device::Device;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("races", run)];

/// How long all of it goes on, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [30, 300];
/// How often opening is tried while there are resets.
const OPENS: u32 = 100;
/// What the IOMMU says of work whose address was cleared by a reset, before it began.
pub(super) const STRAY_DMA: &str = "DMAR: [DMA";
/// How calls are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Memory {
    /// There is enough.
    Enough,
    /// Allocations and copies fail by chance.
    Short,
}

/// What the threads share.
struct Shared<'a> {
    site: &'a Site,
    memory: Memory,
    /// The device. A thread that closes it waits for calls that are under way, as the
    /// kernel would.
    device: RwLock<Option<Vf>>,
    /// The last data files.
    files: Mutex<Vec<Arc<File>>>,
    stream: Vec<u8>,
    over: AtomicBool,
    /// How often each call has ended in which way.
    seen: Mutex<BTreeMap<(&'static str, String), u64>>,
}

impl Shared<'_> {
    fn with<R, E: Into<anyhow::Error>>(
        &self,
        call: impl FnOnce(&Vf) -> Result<R, E>,
    ) -> io::Result<R> {
        let vf = self.device.read().unwrap_or_else(|err| err.into_inner());
        // It could not be opened again.
        let vf = vf
            .as_ref()
            .ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
        call(vf).map_err(|err| errno(&err.into()))
    }

    fn file(&self, rng: &mut Rng) -> Option<Arc<File>> {
        let files = self.files.lock().unwrap_or_else(|err| err.into_inner());
        rng.choice(&*files).cloned()
    }

    /// Does what may have no memory.
    fn may_lack<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.memory {
            Memory::Enough => work(),
            Memory::Short => injection::by_chance(work)?,
        }
    }

    fn make(&self, call: &Call, rng: &mut Rng) -> io::Result<()> {
        match call.without {
            Without::Fails => self.may_lack(|| (call.make)(self, rng)),
            Without::Spared | Without::Skipped => (call.make)(self, rng),
        }
    }

    /// Whether a call may end with an error.
    fn explains(&self, call: &Call, errno: i32) -> bool {
        let lacks = [libc::ENOMEM, libc::EFAULT];
        call.errors.contains(&errno) || self.memory == Memory::Short && lacks.contains(&errno)
    }

    fn note(&self, call: &Call, result: &io::Result<()>) -> Result<()> {
        let name = call.name;
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
        let words = match (result, errno) {
            (Ok(()), _) => "ok".to_string(),
            (Err(_), Some(errno)) => errno_name(errno),
            (Err(err), None) => err.to_string(),
        };
        ensure!(
            result.is_ok() || errno.is_some_and(|errno| self.explains(call, errno)),
            "{name}: {words}"
        );
        let mut seen = self.seen.lock().unwrap_or_else(|err| err.into_inner());
        *seen.entry((name, words)).or_default() += 1;
        Ok(())
    }

    /// Calls again and again until it is over.
    fn go_on(&self, call: &Call, seed: u64) -> Result<()> {
        let mut rng = Rng::with_seed(seed);
        while !self.over.load(Relaxed) {
            let result = self.make(call, &mut rng);
            self.note(call, &result)
                .inspect_err(|_| self.over.store(true, Relaxed))?;
            if result.is_err() {
                // Others get their turns.
                thread::sleep(Duration::from_micros(rng.u64(..5000)));
            }
        }
        Ok(())
    }
}

/// The errno of an error, wherever it is in its causes.
fn errno(err: &anyhow::Error) -> io::Error {
    let found = err.chain().find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.and_then(io::Error::raw_os_error)
            .or_else(|| cause.downcast_ref::<vfio_mig::error::Error>()?.errno())
    });
    found.map_or_else(
        || io::Error::other(format!("{err:#}")),
        io::Error::from_raw_os_error,
    )
}

/// Opens the VF. That fails while sysfs resets it: then nobody can, or its registers
/// read as all ones.
fn open(site: &Site) -> Result<Vf> {
    for _ in 0..OPENS {
        if let Ok(vf) = Vf::open(site.vf, 16) {
            return Ok(vf);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Vf::open(site.vf, 16)
}

/// The VF works after all that, and migrates.
pub(super) fn works(site: &Site) -> Result<()> {
    streams::migrate(site.vf, site.other, 3).context("one way")?;
    streams::migrate(site.other, site.vf, 3).context("and back")
}

/// Makes all calls at the same time for as long. Calls `beside` about once a second. Returns what
/// was done.
pub(super) fn all_at_once(
    results: &mut Results,
    site: &Site,
    (seed, duration): (u64, Duration),
    memory: Memory,
    mut beside: impl FnMut() -> Result<()>,
) -> Result<Counts> {
    let (stream, _) = streams::save(site.other, 2)?;
    let calls = || {
        CALLS
            .iter()
            .filter(|call| memory == Memory::Enough || call.without != Without::Skipped)
    };
    let shared = Shared {
        site,
        memory,
        device: RwLock::new(Some(open(site)?)),
        files: Mutex::new(Vec::new()),
        stream,
        over: AtomicBool::new(false),
        seen: Mutex::new(BTreeMap::new()),
    };
    let ends: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (seed..)
            .zip(calls())
            .map(|(seed, call)| {
                scope.spawn({
                    let shared = &shared;
                    move || shared.go_on(call, seed)
                })
            })
            .collect();
        let begin = Instant::now();
        let mut ends = Ok(());
        while begin.elapsed() < duration && ends.is_ok() && !shared.over.load(Relaxed) {
            thread::sleep(Duration::from_secs(1));
            results.progress("all calls at the same time");
            ends = beside();
        }
        shared.over.store(true, Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().ok().context("a thread panicked")?
        };
        iter::once(ends)
            .chain(threads.into_iter().map(join))
            .collect()
    });
    let seen = shared.seen.into_inner().unwrap_or_default();
    let mut counts = Counts::new(Driver::Rust.name());
    for ((name, words), count) in &seen {
        counts.requests += count;
        counts.succeeded += if words == "ok" { *count } else { 0 };
        results.progress(&format!("{name}: {words} {count} times"));
    }
    ends.into_iter().collect::<Result<()>>()?;
    for Call { name, .. } in calls() {
        let worked = seen.contains_key(&(*name, "ok".to_string()));
        let needs_iommufd = *name == "LOGGING_REPORT" && !Device::kernel_has_iommufd();
        ensure!(worked || needs_iommufd, "no {name} has succeeded");
    }
    Ok(counts)
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let seed = sys::seed()?;
    results.test("all calls at the same time", |results| {
        kmsg::expect(STRAY_DMA);
        let load = (seed, sys::duration(DURATION)?);
        let counts = all_at_once(results, &site, load, Memory::Enough, || Ok(()))
            .with_context(|| format!("seed {seed}"))?;
        counts.report(results);
        Ok(())
    });
    results.test("the VF works after that", |_| works(&site));
    Ok(())
}

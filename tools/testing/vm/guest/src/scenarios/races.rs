// SPDX-License-Identifier: GPL-2.0

//! All calls at the same time, a thread for each kind. The result of each call depends on
//! the others, so results are only checked for errors that make no sense. The kernel must
//! log no fault, all threads must end, and the VF must work after that.

use super::{
    compare::errno_name,
    compare::Site,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    reset::{
        self,
        Way, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd,
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
use vfio_mig::{
    device::Device,
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("races", run)];

/// How long all of it goes on, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [30, 300];
/// Time between resets of a kind, and between closes, in milliseconds at most.
const RESETS: u64 = 1500;
/// Time between reloads of the PF.
const RELOADS: Duration = Duration::from_secs(7);
/// How often opening is tried while there are resets.
const OPENS: u32 = 100;
/// What the IOMMU says of work whose address was cleared by a reset, before it began.
const STRAY_DMA: &str = "DMAR: [DMA";
/// What is logged.
const ALL: LoggingRange = LoggingRange {
    iova: crate::vf::IOVA,
    length: 16 << 12,
};
const PAGE: u64 = 4096;

/// What the threads share.
struct Shared<'a> {
    site: &'a Site,
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

/// A kind of call.
struct Call {
    name: &'static str,
    /// What it may fail with if something else happens at the same time.
    errors: &'static [i32],
    /// Makes one.
    make: fn(&Shared<'_>, &mut Rng) -> io::Result<()>,
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

    fn note(&self, call: &Call, result: &io::Result<()>) -> Result<()> {
        let name = call.name;
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
        let words = match (result, errno) {
            (Ok(()), _) => "ok".to_string(),
            (Err(_), Some(errno)) => errno_name(errno),
            (Err(err), None) => err.to_string(),
        };
        ensure!(
            result.is_ok() || errno.is_some_and(|errno| call.errors.contains(&errno)),
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
            let result = (call.make)(self, &mut rng);
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

/// A reset now and then.
fn resets(shared: &Shared<'_>, rng: &mut Rng, way: Way) -> io::Result<()> {
    thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
    shared.with(|vf| way.reset(shared.site.vf, vf.device()))
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

const CALLS: &[Call] = &[
    Call {
        name: "SET_STATE",
        errors: &[
            libc::EBUSY,
            libc::ECANCELED,
            libc::EINVAL,
            libc::EIO,
            libc::ENODEV,
            libc::ENOTCONN,
        ],
        make: |shared, rng| {
            let to = rng.choice(State::ALL).unwrap_or(State::STOP);
            let file = shared.with(|vf| uapi::set_state(vf.device().fd(), to.0))?;
            if let Some(file) = file {
                let mut files = shared.files.lock().unwrap_or_else(|err| err.into_inner());
                // One of a session that is over may be among them.
                files.truncate(1);
                files.insert(0, Arc::new(file.into()));
                drop(files);
                // Others get to use it.
                thread::sleep(Duration::from_millis(rng.u64(..20)));
            }
            Ok(())
        },
    },
    Call {
        name: "GET_STATE",
        errors: &[],
        make: |shared, _| {
            thread::sleep(Duration::from_millis(1));
            shared.with(|vf| vf.device().state()).map(drop)
        },
    },
    Call {
        name: "DATA_SIZE",
        errors: &[libc::ECANCELED, libc::ENOTCONN],
        make: |shared, _| {
            thread::sleep(Duration::from_millis(1));
            shared.with(|vf| vf.device().data_size()).map(drop)
        },
    },
    Call {
        name: "read",
        errors: &[libc::EBADF, libc::ENODEV, libc::ENOMSG],
        make: |shared, rng| {
            let mut buf = vec![0; rng.usize(1..1 << 18)];
            match shared.file(rng) {
                Some(file) => (&*file).read(&mut buf).map(drop),
                None => Ok(()),
            }
        },
    },
    Call {
        name: "write",
        errors: &[libc::EBADF, libc::EINVAL, libc::ENODEV],
        make: |shared, rng| {
            let Some(file) = shared.file(rng) else {
                return Ok(());
            };
            let mut left = &shared.stream[..];
            while !left.is_empty() && !shared.over.load(Relaxed) {
                let n = (&*file).write(&left[..left.len().min(rng.usize(1..1 << 19))])?;
                left = &left[n..];
            }
            Ok(())
        },
    },
    Call {
        name: "poll",
        errors: &[],
        make: |shared, rng| match shared.file(rng) {
            Some(file) => uapi::poll(file.as_fd(), libc::POLLIN | libc::POLLOUT, 5).map(drop),
            None => Ok(()),
        },
    },
    Call {
        name: "PRECOPY_INFO",
        errors: &[libc::EINVAL, libc::ENODEV, libc::ENOTTY],
        make: |shared, rng| match shared.file(rng) {
            Some(file) => uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(drop),
            None => Ok(()),
        },
    },
    Call {
        name: "LOGGING_START",
        errors: &[libc::EINVAL, libc::ENOTCONN],
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..50)));
            shared
                .with(|vf| vf.device().start_logging(PAGE, &[ALL]))
                .map(drop)
        },
    },
    Call {
        name: "LOGGING_STOP",
        errors: &[],
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..100)));
            shared.with(|vf| vf.device().stop_logging()).map(drop)
        },
    },
    Call {
        name: "LOGGING_REPORT",
        errors: &[libc::EINVAL, libc::EIO, libc::ENOTCONN],
        make: |shared, _| {
            shared
                .with(|vf| vf.device().dirty_pages(ALL, PAGE))
                .map(drop)
        },
    },
    Call {
        name: "VFIO_DEVICE_RESET",
        errors: &[libc::EAGAIN],
        make: |shared, rng| resets(shared, rng, Way::Ioctl),
    },
    Call {
        name: "reset by the bit",
        errors: &[],
        make: |shared, rng| resets(shared, rng, Way::Bit),
    },
    Call {
        name: "reset by sysfs",
        errors: &[libc::EAGAIN],
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
            // Whether it is open or not.
            reset::by_sysfs(shared.site.vf)
        },
    },
    Call {
        name: "close and open",
        errors: &[],
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
            let mut vf = shared.device.write().unwrap_or_else(|err| err.into_inner());
            *vf = None;
            *vf = Some(open(shared.site).map_err(|err| errno(&err))?);
            Ok(())
        },
    },
    Call {
        name: "reload of the PF",
        errors: &[],
        make: |shared, _| {
            let begin = Instant::now();
            while begin.elapsed() < RELOADS && !shared.over.load(Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            let reloaded = Pf::find().and_then(|pf| pf.reload());
            reloaded.map_err(|err| errno(&err))
        },
    },
    Call {
        name: "work",
        errors: &[],
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..20)));
            shared.with(|vf| {
                let _ = vf.device().enable_bus_master();
                // Impossible if the VF is stopped.
                let _ = vf.scatter(16, 3);
                anyhow::Ok(())
            })
        },
    },
];

/// The VF works after all that, and migrates.
fn works(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.vf, 3)?;
    ensure!(streams::load(site.other, &stream)? == digest, "one way");
    let (stream, digest) = streams::save(site.other, 3)?;
    ensure!(streams::load(site.vf, &stream)? == digest, "and back");
    Ok(())
}

fn all_at_once(results: &mut Results, site: &Site, seed: u64) -> Result<()> {
    let (stream, _) = streams::save(site.other, 2)?;
    let duration = sys::duration(DURATION)?;
    let shared = Shared {
        site,
        device: RwLock::new(Some(open(site)?)),
        files: Mutex::new(Vec::new()),
        stream,
        over: AtomicBool::new(false),
        seen: Mutex::new(BTreeMap::new()),
    };
    let ends: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (seed..)
            .zip(CALLS)
            .map(|(seed, call)| {
                scope.spawn({
                    let shared = &shared;
                    move || shared.go_on(call, seed)
                })
            })
            .collect();
        let begin = Instant::now();
        while begin.elapsed() < duration && !shared.over.load(Relaxed) {
            thread::sleep(Duration::from_secs(1));
            results.progress("all calls at the same time");
        }
        shared.over.store(true, Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().ok().context("a thread panicked")?
        };
        threads.into_iter().map(join).collect()
    });
    let seen = shared.seen.into_inner().unwrap_or_default();
    let mut counts = Counts::new(Driver::Rust.name());
    for ((name, words), count) in &seen {
        counts.requests += count;
        counts.succeeded += if words == "ok" { *count } else { 0 };
        results.progress(&format!("{name}: {words} {count} times"));
    }
    counts.report(results);
    ends.into_iter().collect::<Result<()>>()?;
    for Call { name, .. } in CALLS {
        let worked = seen.contains_key(&(*name, "ok".to_string()));
        let needs_iommufd = *name == "LOGGING_REPORT" && !Device::kernel_has_iommufd();
        ensure!(worked || needs_iommufd, "no {name} has succeeded");
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let seed = sys::seed()?;
    results.test("all calls at the same time", |results| {
        kmsg::expect(STRAY_DMA);
        all_at_once(results, &site, seed).with_context(|| format!("seed {seed}"))
    });
    results.test("the VF works after that", |_| works(&site));
    Ok(())
}

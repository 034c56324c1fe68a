// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail: a request fails with ENOMEM, or succeeds without the memory; the
//! device goes on, and nothing is lost. A request whose copy from or to user space fails gets
//! EFAULT. Each of the first allocations of a request fails
//! once, in a session of its own. There are many later ones, of which each run chooses some,
//! by its seed.

use super::{
    compare::{
        errno_name,
        Site, //
    },
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    hca::Driver,
    injection, kmsg, sys,
    tap::Results,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
    workload::Workload, //
};
use vm_common::judge::UNDESTROYED;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("nomem", run)];

/// No request allocates as often.
const MAX: u32 = 2000;
/// The step from the nth allocation, which fails, to the next one that fails is at most n
/// divided by this: in `make check` and in `make check-all`.
const STEP: [u32; 2] = [4, 16];
/// Failures after which a good migration is tried.
const EACH: u32 = 16;

/// A device that is ready for a request.
struct Ready<'a> {
    device: Device,
    file: Option<File>,
    stream: &'a [u8],
}

/// A request: how to get ready, and what it does.
struct Request {
    name: &'static str,
    /// Whether it allocates anything: if it does, something must have failed.
    allocates: bool,
    ready: fn(&mut Ready<'_>) -> Result<()>,
    work: fn(&mut Ready<'_>) -> io::Result<()>,
}

fn set_state(ready: &mut Ready<'_>, to: State) -> io::Result<()> {
    let file = uapi::set_state(ready.device.fd(), to.0)?;
    ready.file = file.map(File::from).or(ready.file.take());
    Ok(())
}

fn file<'a>(ready: &'a mut Ready<'_>) -> io::Result<&'a mut File> {
    let missing = || io::Error::from_raw_os_error(libc::EBADF);
    ready.file.as_mut().ok_or_else(missing)
}

const REQUESTS: &[Request] = &[
    Request {
        name: "to STOP_COPY",
        allocates: true,
        ready: |_| Ok(()),
        work: |ready| set_state(ready, State::STOP_COPY),
    },
    Request {
        name: "to RESUMING",
        allocates: true,
        ready: |_| Ok(()),
        work: |ready| set_state(ready, State::RESUMING),
    },
    Request {
        name: "to PRE_COPY",
        allocates: true,
        ready: |_| Ok(()),
        work: |ready| set_state(ready, State::PRE_COPY),
    },
    Request {
        name: "a read",
        allocates: false,
        ready: |ready| Ok(set_state(ready, State::STOP_COPY)?),
        work: |ready| file(ready)?.read(&mut [0; 4096]).map(|_| ()),
    },
    Request {
        name: "a write of a whole stream",
        allocates: true,
        ready: |ready| Ok(set_state(ready, State::RESUMING)?),
        work: |ready| {
            let stream = ready.stream;
            file(ready)?.write_all(stream)
        },
    },
    Request {
        name: "PRECOPY_INFO after work",
        allocates: true,
        ready: |ready| {
            set_state(ready, State::PRE_COPY)?;
            let work = Workload {
                create_bytes: 64 << 10,
                change_bytes: 64 << 10,
            };
            Ok(work.step(&ready.device, 0)?)
        },
        work: |ready| uapi::precopy_info(file(ready)?.as_fd(), PrecopyInfo::default()).map(|_| ()),
    },
    Request {
        name: "from PRE_COPY to STOP_COPY",
        allocates: true,
        ready: |ready| Ok(set_state(ready, State::PRE_COPY)?),
        work: |ready| set_state(ready, State::STOP_COPY),
    },
    Request {
        name: "from RESUMING to RUNNING",
        allocates: true,
        ready: |ready| {
            set_state(ready, State::RESUMING)?;
            let stream = ready.stream;
            Ok(file(ready)?.write_all(stream)?)
        },
        work: |ready| set_state(ready, State::RUNNING),
    },
    Request {
        name: "starting DMA logging",
        allocates: true,
        ready: |_| Ok(()),
        work: |ready| {
            let range = LoggingRange {
                iova: IOVA,
                length: 1 << 30,
            };
            uapi::logging_start(ready.device.fd(), regs::PAGE, &[range]).map(|_| ())
        },
    },
];

/// A good migration.
fn migrates(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    let loaded = streams::load(site.vf, &stream)?;
    ensure!(loaded == digest, "a good migration loads another state");
    Ok(())
}

/// The device is stopped when nobody has read the first image yet, so that the last one
/// takes a buffer of its own, and one allocation fails: then the device runs again, and can
/// go on.
fn stopped_early(site: &Site) -> Result<u32> {
    let (mut n, mut refused) = (0, 0);
    while n < MAX {
        n += 1 + n / 8;
        let vf = Vf::open(site.vf, 16)?;
        let mut file = vf.device().begin(State::PRE_COPY)?;
        // Waits for the first image.
        let info = uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        vf.command(
            regs::CMD_CHANGE_STATE,
            &[info.initial_bytes / regs::PAGE / 2, 0],
        )?;
        let digest = vf.digest()?;
        let stop = || uapi::set_state(vf.device().fd(), State::STOP_COPY.0);
        let (result, failed) = injection::with_failure(n, stop)?;
        let Err(err) = result else {
            let mut stream = Vec::new();
            file.read_to_end(&mut stream)?;
            let loaded = streams::load(site.other, &stream)?;
            ensure!(loaded == digest, "failure {n}: another state is loaded");
            if failed {
                continue;
            }
            ensure!(refused > 0, "no allocation was needed");
            return Ok(n - 1);
        };
        let errno = err.raw_os_error().unwrap_or(0);
        let explained = failed && injection::explains(errno);
        ensure!(explained, "failure {n}: {}", errno_name(errno));
        refused += 1;
        vf.device().set_state(State::RUNNING)?;
        vf.work(1, 16)
            .with_context(|| format!("after failure {n}, the device does not run"))?;
    }
    bail!("there is no end to its allocations")
}

/// Has one allocation of a request fail, then a later one, and so on.
fn fail_each(site: &Site, request: &Request, rng: &mut Rng, counts: &mut Counts) -> Result<u32> {
    let (stream, _) = streams::save(site.other, 2)?;
    let step = sys::rounds(STEP)?;
    let (mut n, mut rounds) = (0, 0);
    while n < MAX {
        n += 1 + rng.u32(..=n / step);
        rounds += 1;
        let mut ready = Ready {
            device: Device::open(site.vf)?,
            file: None,
            stream: &stream,
        };
        (request.ready)(&mut ready)?;
        let (result, failed) = injection::with_failure(n, || (request.work)(&mut ready))?;
        counts.requests += 1;
        counts.succeeded += u64::from(result.is_ok());
        counts.faults_injected += u64::from(failed);
        if let Err(err) = &result {
            let errno = err.raw_os_error().unwrap_or(0);
            ensure!(failed, "without a failure: {}", errno_name(errno));
            let explained = injection::explains(errno);
            ensure!(explained, "failure {n}: {}", errno_name(errno));
        }
        ready.device.reset()?;
        let state = ready.device.state()?;
        ensure!(
            state == State::RUNNING,
            "failure {n}: a reset leads to {state}"
        );
        drop(ready);
        if !failed {
            migrates(site)?;
            return Ok(n - 1);
        }
        if rounds % EACH == 0 {
            migrates(site)?;
        }
    }
    bail!("there is no end to its allocations")
}

pub fn run(results: &mut Results) -> Result<()> {
    injection::set_up()?;
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let seed = sys::seed()?;
    let mut rng = Rng::with_seed(seed);
    let mut counts = Counts::new(Driver::Rust.name());
    for request in REQUESTS {
        results.test(request.name, |results| {
            // Nor has mlx5_core memory for the command that destroys something. It is
            // tried again.
            kmsg::expect(UNDESTROYED);
            let count = fail_each(&site, request, &mut rng, &mut counts)
                .with_context(|| format!("seed {seed}"))?;
            ensure!(count > 0 || !request.allocates, "it allocates nothing");
            results.progress(&format!("{}: {count} allocations", request.name));
            Ok(())
        });
    }
    results.test(
        "from PRE_COPY to STOP_COPY, before the first image was read",
        |results| {
            kmsg::expect(UNDESTROYED);
            let count = stopped_early(&site)?;
            results.progress(&format!("{count} allocations"));
            Ok(())
        },
    );
    counts.report(results);
    Ok(())
}

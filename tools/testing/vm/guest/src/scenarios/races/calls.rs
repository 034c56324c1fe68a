// SPDX-License-Identifier: GPL-2.0

//! The calls that are made at the same time.

use super::{
    errno,
    open,
    Shared, //
};
use crate::{
    hca::Pf,
    reset::{
        self,
        Way, //
    },
};
use fastrand::Rng;
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd,
    sync::{
        atomic::Ordering::Relaxed,
        Arc, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
};

/// Time between resets of a kind, and between closes, in milliseconds at most.
const RESETS: u64 = 1500;
/// Time between reloads of the PF.
const RELOADS: Duration = Duration::from_secs(7);
/// What is logged.
const ALL: LoggingRange = LoggingRange {
    iova: crate::vf::IOVA,
    length: 16 << 12,
};
const PAGE: u64 = 4096;

/// What a kind of call does without memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Without {
    /// It may fail.
    Fails,
    /// It has memory, but for what it says.
    Spared,
    /// It is not made: mlx5_core may not come back.
    Skipped,
}

/// A kind of call.
pub(super) struct Call {
    pub(super) name: &'static str,
    /// What it may fail with if something else happens at the same time.
    pub(super) errors: &'static [i32],
    pub(super) without: Without,
    /// Makes one.
    pub(super) make: fn(&Shared<'_>, &mut Rng) -> io::Result<()>,
}

/// A reset now and then.
fn resets(shared: &Shared<'_>, rng: &mut Rng, way: Way) -> io::Result<()> {
    thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
    shared.with(|vf| way.reset(shared.site.vf, vf.device()))
}

/// All.
pub(super) const CALLS: &[Call] = &[
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
        without: Without::Fails,
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
        without: Without::Fails,
        make: |shared, _| {
            thread::sleep(Duration::from_millis(1));
            shared.with(|vf| vf.device().state()).map(drop)
        },
    },
    Call {
        name: "DATA_SIZE",
        errors: &[libc::ECANCELED, libc::ENOTCONN],
        without: Without::Fails,
        make: |shared, _| {
            thread::sleep(Duration::from_millis(1));
            shared.with(|vf| vf.device().data_size()).map(drop)
        },
    },
    Call {
        name: "read",
        errors: &[libc::EBADF, libc::ENODEV, libc::ENOMSG],
        without: Without::Fails,
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
        without: Without::Fails,
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
        without: Without::Fails,
        make: |shared, rng| match shared.file(rng) {
            Some(file) => uapi::poll(file.as_fd(), libc::POLLIN | libc::POLLOUT, 5).map(drop),
            None => Ok(()),
        },
    },
    Call {
        name: "PRECOPY_INFO",
        errors: &[libc::EINVAL, libc::ENODEV, libc::ENOTTY],
        without: Without::Fails,
        make: |shared, rng| match shared.file(rng) {
            Some(file) => uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(drop),
            None => Ok(()),
        },
    },
    Call {
        name: "LOGGING_START",
        errors: &[libc::EINVAL, libc::ENOTCONN],
        without: Without::Fails,
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
        without: Without::Fails,
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..100)));
            shared.with(|vf| vf.device().stop_logging()).map(drop)
        },
    },
    Call {
        name: "LOGGING_REPORT",
        errors: &[libc::EINVAL, libc::EIO, libc::ENOTCONN],
        without: Without::Fails,
        make: |shared, _| {
            shared
                .with(|vf| vf.device().dirty_pages(ALL, PAGE))
                .map(drop)
        },
    },
    Call {
        name: "VFIO_DEVICE_RESET",
        errors: &[libc::EAGAIN],
        without: Without::Fails,
        make: |shared, rng| resets(shared, rng, Way::Ioctl),
    },
    Call {
        name: "reset by the bit",
        errors: &[],
        without: Without::Fails,
        make: |shared, rng| resets(shared, rng, Way::Bit),
    },
    Call {
        name: "reset by sysfs",
        errors: &[libc::EAGAIN],
        without: Without::Fails,
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
            // Whether it is open or not.
            reset::by_sysfs(shared.site.vf)
        },
    },
    Call {
        name: "close and open",
        errors: &[],
        without: Without::Spared,
        make: |shared, rng| {
            thread::sleep(Duration::from_millis(rng.u64(..RESETS)));
            let mut vf = shared.device.write().unwrap_or_else(|err| err.into_inner());
            shared.may_lack(|| {
                *vf = None;
                Ok(())
            })?;
            *vf = Some(open(shared.site).map_err(|err| errno(&err))?);
            Ok(())
        },
    },
    Call {
        name: "reload of the PF",
        errors: &[],
        without: Without::Skipped,
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
        without: Without::Fails,
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

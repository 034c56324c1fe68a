// SPDX-License-Identifier: GPL-2.0

//! Memory of sessions: all of it comes back, and whoever opened the device is
//! charged for it.
//!
//! Pages of a state are no objects of an allocator that kmemleak follows, so they are
//! counted.

use super::{compare::Site, streams, Bench};
use crate::{cgroup::Group, hca::Driver, kmsg, sys, tap::Results};
use anyhow::{ensure, Context, Result};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::{Duration, Instant},
};
use vfio_mig::{
    device::Device,
    state::State,
    stream,
    uapi::{self, PrecopyInfo},
};

/// Sessions of each kind.
const SESSIONS: u64 = 8;
/// Between two looks at the free memory.
const SETTLING: Duration = Duration::from_millis(200);
/// After that, memory does not come back any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kinds of [`KINDS`] that are tried with too little memory.
const LIMITED: [&str; 3] = ["saved", "pre-copy to its end", "loaded"];

/// Free memory, in bytes.
fn free() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("no MemFree")?.parse::<u64>()? << 10)
}

/// Free memory when nothing is freed any more: some pages wait for an RCU grace period
/// or for work.
fn settled_free() -> Result<u64> {
    let mut last = free()?;
    loop {
        thread::sleep(SETTLING);
        let now = free()?;
        if now <= last {
            return Ok(now);
        }
        last = now;
    }
}

/// Bytes that are missing, compared with `before`, once they are as few as they get.
/// A busy machine can take long to give the last of them back, so time decides only
/// that they are lost.
fn lost(before: u64, most: u64) -> Result<u64> {
    let begin = Instant::now();
    loop {
        let lost = before.saturating_sub(settled_free()?);
        if lost < most || begin.elapsed() > PATIENCE {
            return Ok(lost);
        }
    }
}

/// A kind of session, from RUNNING to RUNNING. It gets a stream to load.
type Session = fn(&Device, &[u8]) -> Result<()>;

fn save(device: &Device) -> Result<File> {
    let mut file = device.begin(State::STOP_COPY)?;
    stream::copy(&mut file, &mut io::sink(), |_| ())?;
    Ok(file)
}

fn running(device: &Device) -> Result<()> {
    Ok(device.set_state(State::RUNNING).map(|_| ())?)
}

const KINDS: &[(&str, Session)] = &[
    ("saved", |device, _| {
        save(device)?;
        running(device)
    }),
    ("saved, file closed last", |device, _| {
        let _file = save(device)?;
        running(device)
    }),
    ("saving given up", |device, _| {
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        running(device)
    }),
    ("saving, file closed first", |device, _| {
        drop(device.begin(State::STOP_COPY)?);
        running(device)
    }),
    ("saving, then reset", |device, _| {
        // The SAVE that it ends.
        kmsg::expect("SAVE_VHCA_STATE");
        let _file = device.begin(State::STOP_COPY)?;
        Ok(device.reset()?)
    }),
    ("pre-copy given up", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        file.read_exact(&mut [0; 100])?;
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        running(device)
    }),
    ("pre-copy to its end", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        stream::copy_available(&mut file, &mut io::sink(), |_| ())?;
        device.set_state(State::STOP_COPY)?;
        stream::copy(&mut file, &mut io::sink(), |_| ())?;
        running(device)
    }),
    ("loaded", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(stream)?;
        drop(file);
        running(device)
    }),
    ("loaded, file closed last", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(stream)?;
        running(device)
    }),
    ("loading given up", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() - 100])?;
        // Half a state leads to ERROR.
        let _ = device.set_state(State::STOP);
        Ok(device.reset()?)
    }),
    ("loading, then reset", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() / 2])?;
        Ok(device.reset()?)
    }),
];

fn stream_of(site: &Site) -> Result<Vec<u8>> {
    streams::saved(&Device::open(site.other)?)
}

/// After some sessions there is as much free memory as before.
fn comes_back(site: &Site, session: Session) -> Result<()> {
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    // What is allocated once, is now.
    session(&Device::open(site.vf)?, &stream)?;
    let before = settled_free()?;
    for _ in 0..SESSIONS {
        session(&Device::open(site.vf)?, &stream)?;
    }
    let most = size * SESSIONS / 4;
    let lost = lost(before, most)?;
    ensure!(
        lost < most,
        "{lost} bytes are lost after {SESSIONS} sessions of {size}"
    );
    Ok(())
}

/// A session that has ended.
type Ended = fn(&Device, &[u8]) -> Result<File>;

const ENDED: &[(&str, Ended)] = &[
    ("saved", |device, _| {
        let file = save(device)?;
        running(device)?;
        Ok(file)
    }),
    ("saving given up", |device, _| {
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        running(device)?;
        Ok(file)
    }),
    ("pre-copy, then reset", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        file.read_exact(&mut [0; 100])?;
        device.reset()?;
        Ok(file)
    }),
    ("loaded", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(stream)?;
        running(device)?;
        Ok(file)
    }),
    ("loading, then reset", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() - 100])?;
        device.reset()?;
        Ok(file)
    }),
];

/// A file of a session that has ended says ENODEV, and holds none of the memory.
fn files_hold_nothing(site: &Site, ended: Ended) -> Result<()> {
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    let device = Device::open(site.vf)?;
    drop(ended(&device, &stream)?);
    let before = settled_free()?;
    let files = (0..SESSIONS)
        .map(|_| ended(&device, &stream))
        .collect::<Result<Vec<_>>>()?;
    let most = size * SESSIONS / 4;
    let lost = lost(before, most)?;
    ensure!(
        lost < most,
        "{} open files of ended sessions hold {lost} bytes, of {size} each",
        files.len()
    );
    Ok(())
}

/// While there is a session, its state is charged to the control group of whoever
/// began it.
fn charged(site: &Site) -> Result<()> {
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    let group = Group::of_this_process("sessions")?;
    let device = Device::open(site.vf)?;
    let before = group.charged()?;
    let growth = |what: &str| -> Result<()> {
        let growth = group.charged()?.saturating_sub(before);
        ensure!(growth > size / 2, "{what} {size} bytes charges {growth}");
        Ok(())
    };
    {
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        growth("saving")?;
        running(&device)?;
    }
    {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() - 1])?;
        growth("loading")?;
        device.reset()?;
    }
    drop(device);
    let begin = Instant::now();
    let mut left = u64::MAX;
    while left >= size / 2 && begin.elapsed() < PATIENCE {
        thread::sleep(SETTLING);
        left = group.charged()?.saturating_sub(before);
    }
    ensure!(left < size / 2, "{left} bytes stay charged");
    Ok(())
}

/// A session of a user with `most` bytes of memory, who is killed, or told.
fn limited(site: &Site, session: Session, stream: &[u8], most: u64) -> Result<()> {
    let group = Group::new("limited")?;
    group.limit(most)?;
    let (mut starter, mut start) = UnixStream::pair()?;
    let said = sys::in_child(
        || {
            let mut all = || -> Result<()> {
                start.read_exact(&mut [0])?;
                session(&Device::open(site.vf)?, stream)
            };
            all().map_or_else(|err| format!("{err:#}"), |()| "done".to_string())
        },
        |child| {
            group.add(child).map_err(io::Error::other)?;
            starter.write_all(&[0])
        },
    )?;
    ensure!(
        said.is_empty() || said.contains("ENOMEM") || said.contains("Cannot allocate memory"),
        "a user with {most} bytes: {said}"
    );
    Ok(())
}

/// A user with half of the memory that a session needs has no part in the device any more:
/// the next one finds it as new, and no memory is lost.
fn out_of_memory(site: &Site, session: Session) -> Result<()> {
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    session(&Device::open(site.vf)?, &stream)?;
    let before = settled_free()?;
    for _ in 0..SESSIONS {
        limited(site, session, &stream, size / 2)?;
        let device = Device::open(site.vf)?;
        ensure!(device.state()? == State::RUNNING);
    }
    session(&Device::open(site.vf)?, &stream)?;
    let most = size * SESSIONS / 4;
    let lost = lost(before, most)?;
    ensure!(
        lost < most,
        "{lost} bytes are lost after {SESSIONS} sessions that did not get {size}"
    );
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    for driver in Driver::BOTH {
        let (vf, other) = bench.of(driver);
        let site = Site { vf, other };
        for (name, session) in KINDS {
            let name = format!("memory comes back: {name}, {} driver", driver.name());
            results.test(&name, |_| comes_back(&site, *session));
        }
        for (name, ended) in ENDED {
            let name = format!(
                "an open file holds nothing: {name}, {} driver",
                driver.name()
            );
            results.test(&name, |_| files_hold_nothing(&site, *ended));
        }
        let name = format!("a state is charged to its user, {} driver", driver.name());
        results.test(&name, |_| charged(&site));
    }
    // With the C driver this ends in an oops: mlx5vf_add_pages() frees pages that it did
    // not get.
    let (vf, other) = bench.of(Driver::Rust);
    for (name, session) in KINDS.iter().filter(|(name, _)| LIMITED.contains(name)) {
        results.test(&format!("a user without memory: {name}"), |_| {
            out_of_memory(&Site { vf, other }, *session)
        });
    }
    Ok(())
}

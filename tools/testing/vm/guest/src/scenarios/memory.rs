// SPDX-License-Identifier: GPL-2.0

//! Memory of sessions: all of it comes back, and is charged to the process that opened the
//! device.
//!
//! Pages of a state are no objects of an allocator that kmemleak follows, so they are
//! counted.

use super::{
    compare::Site,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    cgroup::Group,
    hca::Driver,
    kmsg,
    records,
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::{
        self,
        File, //
    },
    io::{
        self,
        Read,
        Write, //
    },
    os::{
        fd::AsFd,
        unix::net::UnixStream, //
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
    stream,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("memory", run)];

/// Sessions of each kind.
const SESSIONS: u64 = 8;
/// Between two looks at the free memory.
const POLL: Duration = Duration::from_millis(200);
/// After that, memory does not come back any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line of /proc/meminfo, in bytes.
pub(super) fn meminfo(text: &str, name: &str) -> Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = word.with_context(|| format!("no {name}"))?.parse()?;
    Ok(kilobytes << 10)
}

/// Pages that are on the lists of free pages of the CPUs, from the text of /proc/zoneinfo.
/// MemFree does not have them, and such a list grows to thousands and shrinks late.
fn on_lists(zones: &str) -> Result<u64> {
    let counts = zones
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    let mut pages = 0;
    for count in counts {
        pages += count.trim().parse::<u64>()?;
    }
    Ok(pages)
}

/// Free memory, in bytes.
pub(super) fn free() -> Result<u64> {
    let free = meminfo(&fs::read_to_string("/proc/meminfo")?, "MemFree")?;
    Ok(free + on_lists(&fs::read_to_string("/proc/zoneinfo")?)? * 4096)
}

/// Free memory when nothing is freed any more: some pages wait for an RCU grace period
/// or for work.
fn stable_free() -> Result<u64> {
    let mut last = free()?;
    loop {
        thread::sleep(POLL);
        let now = free()?;
        if now <= last {
            return Ok(now);
        }
        last = now;
    }
}

/// The result of `missing`, in bytes, once it is less than `most` or does not get smaller. A
/// busy machine can take long to free the last bytes.
fn at_last(most: u64, missing: impl Fn() -> Result<u64>) -> Result<u64> {
    let begin = Instant::now();
    loop {
        let bytes = missing()?;
        if bytes < most || begin.elapsed() > PATIENCE {
            return Ok(bytes);
        }
        thread::sleep(POLL);
    }
}

/// There is as much free memory as before [`SESSIONS`] of `what`, of `size` bytes each.
fn all_is_back(before: u64, size: u64, what: &str) -> Result<()> {
    let most = size * SESSIONS / 4;
    let lost = at_last(most, || Ok(before.saturating_sub(stable_free()?)))?;
    ensure!(
        lost < most,
        "{lost} bytes are lost after {SESSIONS} {what} of {size} bytes"
    );
    Ok(())
}

/// A kind of session, from RUNNING to RUNNING. It gets a stream to load, and returns its
/// file if that is open in the end.
type Session = fn(&Device, &[u8]) -> Result<Option<File>>;

/// All of a state, in a file that is still open.
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
        drop(save(device)?);
        running(device)?;
        Ok(None)
    }),
    ("saved, file closed last", |device, _| {
        let file = save(device)?;
        running(device)?;
        Ok(Some(file))
    }),
    ("saving given up", |device, _| {
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        running(device)?;
        Ok(Some(file))
    }),
    ("saving, file closed first", |device, _| {
        drop(device.begin(State::STOP_COPY)?);
        running(device)?;
        Ok(None)
    }),
    ("saving, then reset", |device, _| {
        // The SAVE that it ends.
        kmsg::expect("SAVE_VHCA_STATE");
        let file = device.begin(State::STOP_COPY)?;
        device.reset()?;
        Ok(Some(file))
    }),
    ("pre-copy given up", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        file.read_exact(&mut [0; 100])?;
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        running(device)?;
        Ok(Some(file))
    }),
    ("pre-copy to its end", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        stream::copy_available(&mut file, &mut io::sink(), |_| ())?;
        device.set_state(State::STOP_COPY)?;
        stream::copy(&mut file, &mut io::sink(), |_| ())?;
        running(device)?;
        Ok(Some(file))
    }),
    ("pre-copy, then reset", |device, _| {
        let mut file = device.begin(State::PRE_COPY)?;
        file.read_exact(&mut [0; 100])?;
        device.reset()?;
        Ok(Some(file))
    }),
    ("loaded", |device, stream| {
        device.begin(State::RESUMING)?.write_all(stream)?;
        running(device)?;
        Ok(None)
    }),
    ("loaded, file closed last", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(stream)?;
        running(device)?;
        Ok(Some(file))
    }),
    ("loading given up", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() - 100])?;
        // Half a state leads to ERROR.
        let _ = device.set_state(State::STOP);
        device.reset()?;
        Ok(Some(file))
    }),
    ("loading, then reset", |device, stream| {
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&stream[..stream.len() - 100])?;
        device.reset()?;
        Ok(Some(file))
    }),
];

/// Those whose files stay open.
const KEPT: [&str; 5] = [
    "saved, file closed last",
    "saving given up",
    "pre-copy, then reset",
    "loaded, file closed last",
    "loading, then reset",
];

/// Kinds of sessions that come to their end. Only these are tried with the C driver, to show
/// that the figures are right, and with too little memory.
const WHOLE: [&str; 3] = ["saved", "pre-copy to its end", "loaded"];

fn kind(name: &str) -> Result<Session> {
    let found = KINDS.iter().find(|(kind, _)| *kind == name);
    Ok(found.with_context(|| format!("no kind {name:?}"))?.1)
}

fn stream_of(site: &Site) -> Result<Vec<u8>> {
    streams::saved(&Device::open(site.other)?)
}

/// After some sessions there is as much free memory as before.
fn comes_back(site: &Site, session: Session) -> Result<()> {
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    // What is allocated once, is now.
    session(&Device::open(site.vf)?, &stream)?;
    let before = stable_free()?;
    for _ in 0..SESSIONS {
        session(&Device::open(site.vf)?, &stream)?;
    }
    all_is_back(before, size, "sessions")
}

/// Files of sessions that have ended are open, and hold none of the memory.
fn files_hold_nothing(site: &Site, name: &str) -> Result<()> {
    let session = kind(name)?;
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    let device = Device::open(site.vf)?;
    drop(session(&device, &stream)?);
    let before = stable_free()?;
    let files = (0..SESSIONS)
        .map(|_| session(&device, &stream)?.context("its file is closed"))
        .collect::<Result<Vec<File>>>()?;
    all_is_back(before, size, "sessions whose files are open")?;
    drop(files);
    Ok(())
}

/// While there is a session, its state is charged to the control group of the process that
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
    let left = at_last(size / 2, || Ok(group.charged()?.saturating_sub(before)))?;
    ensure!(left < size / 2, "{left} bytes stay charged");
    Ok(())
}

/// Beyond an image, what a buffer for it may be charged as, and a control group charges
/// ahead.
const SLACK: u64 = 2 << 20;

/// However many images are loaded, there are two buffers, and only one if each is loaded
/// before the next begins.
fn two_buffers(site: &Site) -> Result<()> {
    let stream = stream_of(site)?;
    let image = records::images(&stream)?[0];
    let (next, last) = image.split_at(image.len() - 1);
    let overlapping = [image, next].concat();
    let group = Group::of_this_process("buffers")?;
    let device = Device::open(site.vf)?;
    let before = group.charged()?;
    let at_most = |buffers: u64| -> Result<()> {
        let growth = group.charged()?.saturating_sub(before);
        let most = buffers * (image.len() as u64 + SLACK);
        ensure!(growth <= most, "{growth} bytes for {buffers} buffers");
        Ok(())
    };
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&stream)?;
    for _ in 0..3 {
        file.write_all(image)?;
        at_most(1)?;
    }
    for _ in 0..3 {
        file.write_all(&overlapping)?;
        at_most(2)?;
        file.write_all(last)?;
    }
    running(&device)
}

/// A session in which the device runs on for a while, and is stopped when all before was
/// read. Returns the most bytes that were charged to its user at a time.
fn precopy_peak(site: &Site) -> Result<u64> {
    let group = Group::of_this_process("peak")?;
    let vf = Vf::open(site.vf, 16)?;
    let before = group.charged()?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    for pages in [0, 1, 16, 200] {
        if pages > 0 {
            vf.command(regs::CMD_CHANGE_STATE, &[pages, 0])?;
        }
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        stream::copy_available(&mut file, &mut io::sink(), |_| ())?;
    }
    vf.command(regs::CMD_CHANGE_STATE, &[16, 0])?;
    vf.device().set_state(State::STOP_COPY)?;
    stream::copy(&mut file, &mut io::sink(), |_| ())?;
    Ok(group.peak()?.saturating_sub(before))
}

/// What a session in pre-copy takes, of what one of the C driver does.
const MOST_OF_C: f64 = 0.55;

/// A session in pre-copy has one buffer for the whole state, where that of the C driver
/// has two.
fn one_buffer(vfs: &Vfs) -> Result<()> {
    let peak = |driver| {
        let (vf, other) = vfs.of(driver);
        precopy_peak(&Site { vf, other })
    };
    let (rust, c) = (peak(Driver::Rust)?, peak(Driver::C)?);
    let ratio = rust as f64 / c as f64;
    ensure!(ratio <= MOST_OF_C, "{rust} bytes of {c}: {ratio:.3}");
    Ok(())
}

/// The device is stopped when half of it has changed, and nobody has read the first image
/// yet, which the one buffer is used for.
fn stopped_early(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    // Waits for the first image.
    let info = uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    let half = info.initial_bytes / regs::PAGE / 2;
    vf.command(regs::CMD_CHANGE_STATE, &[half, 0])?;
    let digest = vf.digest()?;
    vf.device().set_state(State::STOP_COPY)?;
    let mut bytes = Vec::new();
    stream::copy(&mut file, &mut bytes, |_| ())?;
    ensure!(
        bytes.len() as u64 > info.initial_bytes * 5 / 4,
        "{} bytes for two images",
        bytes.len()
    );
    ensure!(
        streams::load(site.other, &bytes)? == digest,
        "digests differ"
    );
    Ok(())
}

/// A session in a process that may use `most` bytes: it is killed, or gets ENOMEM.
fn limited(site: &Site, session: Session, stream: &[u8], most: u64) -> Result<()> {
    let group = Group::new("limited")?;
    group.limit(most)?;
    let (mut starter, mut start) = UnixStream::pair()?;
    let said = sys::in_child(
        || {
            let mut all = || -> Result<()> {
                start.read_exact(&mut [0])?;
                session(&Device::open(site.vf)?, stream).map(drop)
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

/// After processes that may use half of what a session needs, the VF is as new, and no
/// memory is lost.
pub(super) fn out_of_memory(site: &Site, name: &str) -> Result<()> {
    let session = kind(name)?;
    let stream = stream_of(site)?;
    let size = stream.len() as u64;
    // What is allocated once, is now.
    session(&Device::open(site.vf)?, &stream)?;
    // As is what a first process in a control group takes.
    limited(site, session, &stream, size / 2)?;
    let before = stable_free()?;
    for _ in 0..SESSIONS {
        limited(site, session, &stream, size / 2)?;
        let device = Device::open(site.vf)?;
        ensure!(device.state()? == State::RUNNING);
    }
    session(&Device::open(site.vf)?, &stream)?;
    all_is_back(before, size, "sessions without the memory for them")
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    for driver in Driver::BOTH {
        let (vf, other) = vfs.of(driver);
        let site = Site { vf, other };
        for (name, session) in KINDS {
            if driver == Driver::Rust || WHOLE.contains(name) {
                let name = format!("memory comes back: {name}, {} driver", driver.name());
                results.test(&name, |_| comes_back(&site, *session));
            }
        }
        let name = format!("a state is charged to its user, {} driver", driver.name());
        results.test(&name, |_| charged(&site));
    }
    results.test("pre-copy takes one buffer of a whole state", |_| {
        one_buffer(&vfs)
    });
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("loading has two buffers, however many images come", |_| {
        two_buffers(&site)
    });
    results.test("stopped before the first image was read", |_| {
        stopped_early(&site)
    });
    for name in KEPT {
        results.test(&format!("an open file holds nothing: {name}"), |_| {
            files_hold_nothing(&site, name)
        });
    }
    // With the C driver this ends in an oops: mlx5vf_add_pages() frees pages that it did
    // not get.
    for name in WHOLE {
        results.test(&format!("a user without memory: {name}"), |_| {
            out_of_memory(&site, name)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_memory_is_read() {
        let text = "MemTotal: 7 kB\nMemFree:      12 kB\nSlab:  3 kB\n";
        assert_eq!(meminfo(text, "MemFree").unwrap(), 12 << 10);
        assert!(meminfo(text, "Nosuch").is_err());
    }

    #[test]
    fn pages_on_the_lists_of_cpus_are_free() {
        let zones = "  pages free     7\n  pagesets\n    cpu: 0\n              count:    919\n\
                     \x20             high:     30\n    cpu: 1\n              count:    3\n";
        assert_eq!(on_lists(zones).unwrap(), 922);
        assert!(on_lists("count: many").is_err());
    }
}

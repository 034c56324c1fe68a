// SPDX-License-Identifier: GPL-2.0

//! Pre-copy: the device is saved while it runs.
//!
//! What is in quotes is from `include/uapi/linux/vfio.h`.

use super::{
    compare::{self, errno_name, outcome, words, Difference, Observation, Site},
    streams, Bench, NamedRun,
};
use crate::{hca::Driver, sys, tap::Results, vf::Vf};
use anyhow::{ensure, Context, Result};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{Cursor, Read, Write},
    os::fd::AsFd,
    thread,
    time::Duration,
};
use vfio_mig::{bdf::Bdf, state::State, stream, uapi};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("precopy", run), ("precopy-chunks", run)];

/// `MLX5_CMD_OP_*`, as the fault command names them.
const SUSPEND_VHCA: u64 = 0x115;
const QUERY_VHCA_MIGRATION_STATE: u64 = 0x117;
const SAVE_VHCA_STATE: u64 = 0x118;
/// `MLX5_CMD_STAT_BAD_PARAM_ERR`.
const BAD_PARAM: u64 = 3;

/// Asks for PRECOPY_INFO, with zeroes.
fn info(file: &File) -> String {
    match uapi::precopy_info(file.as_fd(), uapi::PrecopyInfo::default()) {
        Ok(info) => format!(
            "(initial {}, dirty {}, flags {:#x})",
            info.initial_bytes, info.dirty_bytes, info.flags
        ),
        Err(err) => errno_name(err.raw_os_error().unwrap_or(0)),
    }
}

/// As [`info`], and then waits for the SAVE that it may have started. A change during a SAVE
/// is in that image or in the next one.
fn info_and_save(file: &File) -> String {
    let seen = info(file);
    info(file);
    seen
}

/// Reads up to `len` bytes, however many calls that takes. Says how many there
/// were, and what came instead of more.
fn read(file: &mut File, len: usize, into: &mut Vec<u8>) -> String {
    let mut done = 0;
    let mut buf = vec![0; len.min(1 << 20)];
    while done < len {
        let want = buf.len().min(len - done);
        match file.read(&mut buf[..want]) {
            Ok(0) => return format!("{done}, then the end"),
            Ok(n) => {
                into.extend(&buf[..n]);
                done += n;
            }
            Err(err) => {
                let errno = errno_name(err.raw_os_error().unwrap_or(0));
                return format!("{done}, then {errno}");
            }
        }
    }
    done.to_string()
}

/// Reads all that there is.
fn drain(file: &mut File) -> String {
    read(file, usize::MAX, &mut Vec::new())
}

/// A VF in PRE_COPY, and the file.
fn begin(site: &Site, v2: bool) -> Result<(Vf, File)> {
    let vf = Vf::open(site.vf, 16)?;
    if v2 {
        vf.device().opt_in_precopy_info_v2()?;
    }
    vf.work(2, 16)?;
    let file = vf.device().begin(State::PRE_COPY)?;
    Ok((vf, file))
}

/// Changes some pages of the state.
fn change(vf: &Vf, pages: u64) -> Result<()> {
    vf.command(regs::CMD_CHANGE_STATE, &[pages, 3])
}

/// Creates objects.
fn create(vf: &Vf, pages: u64) -> Result<()> {
    vf.command(regs::CMD_CREATE_STATE, &[pages, 40])
}

/// Loads a stream into the other VF, and says whether it is the same state.
fn arrives(site: &Site, digest: u64, stream: &[u8]) -> Result<&'static str> {
    let other = Vf::open(site.other, 16)?;
    let mut to = other.device().begin(State::RESUMING)?;
    to.write_all(stream)?;
    other.device().set_state(State::RUNNING)?;
    Ok(if other.digest()? == digest {
        "same state"
    } else {
        "another state"
    })
}

/// All states of a pre-copy migration, with some work in each where it can be
/// done. Returns the stream and the digest of what was saved.
fn whole_stream(vf: Bdf) -> Result<(Vec<u8>, u64)> {
    let vf = Vf::open(vf, 16)?;
    vf.device().opt_in_precopy_info_v2()?;
    vf.work(2, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    let mut stream = Vec::new();
    for pages in [0, 5, 200, 1] {
        info(&file);
        read(&mut file, usize::MAX, &mut stream);
        change(&vf, pages)?;
        vf.work(1, 16)?;
    }
    create(&vf, 30)?;
    info(&file);
    read(&mut file, usize::MAX, &mut stream);
    change(&vf, 9)?;
    info(&file);
    vf.device().set_state(State::PRE_COPY_P2P)?;
    let digest = vf.digest()?;
    // What was not read in PRE_COPY comes first.
    vf.device().set_state(State::STOP_COPY)?;
    stream::copy(&mut file, &mut stream, |_| ())?;
    Ok((stream, digest))
}

const OBSERVATIONS: &[Observation] = &[
    (
        "initial_bytes \"should have a non-zero initial value and decrease as migration data is read\"",
        |site| {
            let (_vf, mut file) = begin(site, false)?;
            let mut seen = vec![info(&file)];
            for len in [24, 100, 10_000, usize::MAX] {
                seen.push(read(&mut file, len, &mut Vec::new()));
                seen.push(info(&file));
            }
            Ok(seen.join(" "))
        },
    ),
    (
        "dirty_bytes \"starts at zero and may increase as the internal device state is modified or decrease as that modified state is read\"",
        |site| {
            let (vf, mut file) = begin(site, false)?;
            let mut seen = vec![info(&file), drain(&mut file)];
            for pages in [1, 7, 100] {
                change(&vf, pages)?;
                seen.push(info(&file));
                seen.push(read(&mut file, 1000, &mut Vec::new()));
                change(&vf, pages * 2)?;
                seen.push(info(&file));
                seen.push(drain(&mut file));
            }
            Ok(seen.join(" "))
        },
    ),
    (
        "\"valid only in PRE_COPY states and kernel driver should return -EINVAL from any other migration state\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut seen = vec![drain(&mut file)];
            for state in [
                State::PRE_COPY_P2P,
                State::PRE_COPY,
                State::RUNNING,
                State::STOP,
                State::STOP_COPY,
            ] {
                let new = vf.device().set_state(state)?.map(File::from);
                seen.push(format!("{state} {}", info(&file)));
                seen.extend(new.as_ref().map(info));
            }
            Ok(seen.join(" "))
        },
    ),
    ("PRECOPY_INFO on the file of an earlier session", |site| {
        let (vf, file) = begin(site, true)?;
        vf.device().set_state(State::RUNNING)?;
        let now = vf.device().begin(State::PRE_COPY)?;
        Ok(format!("{} {}", info(&file), info(&now)))
    }),
    ("argsz, the address, and other ioctls", |site| {
        let (_vf, file) = begin(site, false)?;
        let mut seen = Vec::new();
        for argsz in [0, 8, 23, 24, 25, 4096, u32::MAX] {
            let asked = uapi::PrecopyInfo {
                argsz,
                ..Default::default()
            };
            let answer = uapi::precopy_info(file.as_fd(), asked);
            seen.push(words(answer.map(|answer| answer.argsz)));
        }
        seen.push(words(sys::ioctl_raw(&file, uapi::VFIO_MIG_GET_PRECOPY_INFO, 8)));
        seen.push(words(sys::ioctl_raw(&file, uapi::VFIO_DEVICE_RESET, 0)));
        seen.push(words(sys::ioctl_raw(&file, 0, 0)));
        Ok(seen.join(", "))
    }),
    (
        "without the opt-in, \"the flags field of struct vfio_precopy_info is reserved for bug-compatibility reasons\"",
        |site| {
            let (_vf, mut file) = begin(site, false)?;
            let initial = with_garbage(&file);
            drain(&mut file);
            Ok(format!("{initial}, {}", with_garbage(&file)))
        },
    ),
    (
        "with the opt-in, \"the vfio_precopy_info.flags is a valid output field\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let initial = with_garbage(&file);
            drain(&mut file);
            let dirty = with_garbage(&file);
            drain(&mut file);
            create(&vf, 1)?;
            Ok(format!("{initial}, {dirty}, {}", with_garbage(&file)))
        },
    ),
    ("the opt-in \"on SET\", and not otherwise", |site| {
        let vf = Vf::open(site.vf, 16)?;
        let mut seen = Vec::new();
        for get_or_set in [uapi::FEATURE_GET, uapi::FEATURE_SET] {
            let flags = get_or_set | uapi::FEATURE_MIG_PRECOPY_INFO_V2;
            for probe in [0, uapi::FEATURE_PROBE] {
                let result = uapi::feature(vf.device().fd(), flags | probe, &mut [0; 4]);
                seen.push(words(result.map(|()| "ok")));
            }
        }
        Ok(seen.join(", "))
    }),
    (
        "REINIT: \"initial_bytes may report a non-zero value irrespective of any previously reported values\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut seen = vec![info(&file), drain(&mut file), info_and_save(&file)];
            create(&vf, 12)?;
            seen.push(info(&file));
            seen.push(info(&file));
            seen.push(read(&mut file, 5000, &mut Vec::new()));
            seen.push(info(&file));
            seen.push(drain(&mut file));
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    (
        "REINIT: unread bytes are part of the new initial_bytes",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut seen = vec![read(&mut file, 700, &mut Vec::new())];
            create(&vf, 2)?;
            seen.push(info_and_save(&file));
            create(&vf, 3)?;
            seen.push(info_and_save(&file));
            seen.push(drain(&mut file));
            change(&vf, 4)?;
            seen.push(info_and_save(&file));
            create(&vf, 1)?;
            seen.push(info(&file));
            seen.push(drain(&mut file));
            Ok(seen.join(" "))
        },
    ),
    (
        "REINIT: \"dirty_bytes is also reset to zero and represents the state change of the device relative to the new initial_bytes\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            drain(&mut file);
            change(&vf, 50)?;
            let mut seen = vec![info_and_save(&file)];
            create(&vf, 1)?;
            seen.push(info(&file));
            drain(&mut file);
            change(&vf, 2)?;
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    (
        "\"VFIO_PRECOPY_INFO_REINIT can be reported only after userspace opts in\"",
        |site| {
            let (vf, mut file) = begin(site, false)?;
            drain(&mut file);
            create(&vf, 12)?;
            let mut seen = vec![info(&file), drain(&mut file)];
            create(&vf, 5)?;
            vf.device().opt_in_precopy_info_v2()?;
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    ("a new initial state in PRE_COPY_P2P waits", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        create(&vf, 5)?;
        vf.device().set_state(State::PRE_COPY_P2P)?;
        let mut seen = vec![info(&file), drain(&mut file)];
        vf.device().set_state(State::PRE_COPY)?;
        seen.push(info(&file));
        Ok(seen.join(" "))
    }),
    ("reads in PRE_COPY: ENOMSG at the temporary end", |site| {
        let (vf, mut file) = begin(site, false)?;
        let mut seen = vec![drain(&mut file), drain(&mut file)];
        change(&vf, 3)?;
        seen.push(drain(&mut file));
        seen.push(info(&file));
        seen.push(drain(&mut file));
        vf.device().set_state(State::PRE_COPY_P2P)?;
        seen.push(drain(&mut file));
        vf.device().set_state(State::STOP_COPY)?;
        seen.push(drain(&mut file));
        seen.push(drain(&mut file));
        Ok(seen.join("; "))
    }),
    ("reads in PRE_COPY that may not wait", |site| {
        let (_vf, mut file) = begin(site, false)?;
        uapi::set_nonblocking(file.as_fd(), true)?;
        // After the first nothing is under way.
        Ok([info(&file), drain(&mut file), drain(&mut file)].join("; "))
    }),
    ("poll at the temporary end", |site| {
        let (_vf, mut file) = begin(site, false)?;
        let events = libc::POLLIN | libc::POLLRDHUP;
        let data = uapi::poll(file.as_fd(), events, 1000)?;
        drain(&mut file);
        let end = uapi::poll(file.as_fd(), events, 200)?;
        Ok(format!("{data:#x}, {end:#x}"))
    }),
    ("PRE_COPY ends in RUNNING, and begins again", |site| {
        let (vf, mut file) = begin(site, true)?;
        let mut seen = Vec::new();
        for state in [State::RUNNING, State::RUNNING_P2P] {
            change(&vf, 3)?;
            if state == State::RUNNING_P2P {
                vf.device().set_state(State::PRE_COPY_P2P)?;
            }
            seen.push(outcome(vf.device().set_state(state)));
            let poll = uapi::poll(file.as_fd(), libc::POLLIN | libc::POLLRDHUP, 1000)?;
            seen.push(format!("{poll:#x} {}", drain(&mut file)));
            vf.device().set_state(State::RUNNING)?;
            vf.work(1, 16)?;
            file = vf.device().begin(State::PRE_COPY)?;
            seen.push(info(&file));
        }
        Ok(seen.join("; "))
    }),
    ("PRE_COPY, and the device is closed or reset", |site| {
        let (vf, mut file) = begin(site, true)?;
        info(&file);
        drop(vf);
        let mut seen = vec![drain(&mut file)];
        let (vf, mut file) = begin(site, true)?;
        info(&file);
        vf.device().reset()?;
        seen.push(format!("{} {}", vf.device().state()?, drain(&mut file)));
        seen.push(info(&file));
        let (vf, mut file) = {
            drop(vf);
            begin(site, true)?
        };
        vf.device().set_state(State::PRE_COPY_P2P)?;
        vf.device().reset()?;
        seen.push(format!("{} {}", vf.device().state()?, drain(&mut file)));
        Ok(seen.join("; "))
    }),
    ("what is unread in PRE_COPY comes first in STOP_COPY", |site| {
        let (stream, digest) = whole_stream(site.vf)?;
        arrives(site, digest, &stream).map(str::to_string)
    }),
    ("tracking is lost: the stopped device is saved as a whole", |site| {
        let (vf, mut file) = begin(site, true)?;
        let mut stream = Vec::new();
        read(&mut file, usize::MAX, &mut stream);
        change(&vf, 4)?;
        vf.command(regs::CMD_LOSE_TRACKING, &[])?;
        let mut seen = vec![info(&file)];
        // The SAVE that this has started fails.
        seen.push(read(&mut file, usize::MAX, &mut stream));
        seen.push(info(&file));
        change(&vf, 4)?;
        seen.push(info(&file));
        vf.device().set_state(State::PRE_COPY_P2P)?;
        let digest = vf.digest()?;
        vf.device().set_state(State::STOP_COPY)?;
        seen.push(read(&mut file, usize::MAX, &mut stream));
        seen.push(arrives(site, digest, &stream)?.to_string());
        Ok(seen.join("; "))
    }),
    ("tracking is lost, and the device goes on", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_LOSE_TRACKING, &[])?;
        let mut seen = vec![info(&file), drain(&mut file)];
        seen.push(outcome(vf.device().set_state(State::RUNNING)));
        vf.work(1, 16)?;
        let mut file = vf.device().begin(State::PRE_COPY)?;
        seen.push(drain(&mut file));
        Ok(seen.join("; "))
    }),
    ("firmware fails to save the running device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_FAULT, &[SAVE_VHCA_STATE, BAD_PARAM])?;
        let mut seen = vec![info(&file), drain(&mut file), info(&file)];
        seen.push(vf.device().state()?.to_string());
        vf.device().reset()?;
        seen.push(vf.device().state()?.to_string());
        Ok(seen.join("; "))
    }),
    ("firmware fails to tell what has changed", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        change(&vf, 2)?;
        vf.command(regs::CMD_FAULT, &[QUERY_VHCA_MIGRATION_STATE, BAD_PARAM])?;
        Ok([info(&file), info(&file), drain(&mut file)].join("; "))
    }),
    ("firmware fails to begin", |site| {
        let vf = Vf::open(site.vf, 16)?;
        let mut seen = Vec::new();
        for opcode in [QUERY_VHCA_MIGRATION_STATE, SAVE_VHCA_STATE] {
            vf.command(regs::CMD_FAULT, &[opcode, BAD_PARAM])?;
            let (result, file) = match vf.device().set_state(State::PRE_COPY) {
                Ok(file) => ("ok".to_string(), file.map(File::from)),
                Err(err) => (err.errno().map_or_else(String::new, errno_name), None),
            };
            seen.push(format!("{result}, {}", vf.device().state()?));
            if let Some(mut file) = file {
                seen.push(info(&file));
                seen.push(drain(&mut file));
            }
            vf.device().reset()?;
        }
        Ok(seen.join("; "))
    }),
    ("firmware fails to stop the device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_FAULT, &[SUSPEND_VHCA, BAD_PARAM])?;
        let mut seen = vec![
            outcome(vf.device().set_state(State::STOP_COPY)),
            vf.device().state()?.to_string(),
            info(&file),
            drain(&mut file),
            outcome(vf.device().set_state(State::PRE_COPY_P2P)),
        ];
        vf.command(regs::CMD_FAULT, &[SUSPEND_VHCA, BAD_PARAM])?;
        seen.push(outcome(vf.device().set_state(State::STOP_COPY)));
        seen.push(vf.device().state()?.to_string());
        seen.push(outcome(vf.device().set_state(State::STOP_COPY)));
        seen.push(drain(&mut file));
        Ok(seen.join("; "))
    }),
    ("firmware fails to save the stopped device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.device().set_state(State::PRE_COPY_P2P)?;
        vf.command(regs::CMD_FAULT, &[QUERY_VHCA_MIGRATION_STATE, BAD_PARAM])?;
        let mut seen = vec![
            outcome(vf.device().set_state(State::STOP_COPY)),
            vf.device().state()?.to_string(),
            drain(&mut file),
            outcome(vf.device().set_state(State::RUNNING)),
        ];
        seen.push(vf.device().state()?.to_string());
        vf.device().reset()?;
        seen.push(format!("{:?}", vf.work(1, 16).is_ok()));
        Ok(seen.join("; "))
    }),
];

/// Asks with all fields set to something: what comes back of that?
fn with_garbage(file: &File) -> String {
    let asked = uapi::PrecopyInfo {
        argsz: 77,
        flags: 0xa5a5_a5a5,
        initial_bytes: 0x1111_2222_3333_4444,
        dirty_bytes: 0x5555_6666_7777_8888,
    };
    let field = |now: u64, before: u64| match now {
        0 => "zero",
        now if now == before => "kept",
        _ => "set",
    };
    match uapi::precopy_info(file.as_fd(), asked) {
        Ok(info) => format!(
            "(argsz {} flags {:#x} initial {} dirty {})",
            info.argsz,
            info.flags,
            field(info.initial_bytes, asked.initial_bytes),
            field(info.dirty_bytes, asked.dirty_bytes)
        ),
        Err(err) => errno_name(err.raw_os_error().unwrap_or(0)),
    }
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "without the opt-in, \"the flags field of struct vfio_precopy_info is reserved for bug-compatibility reasons\"",
        c: "(argsz 77 flags 0xa5a5a5a5 initial set dirty kept), \
            (argsz 77 flags 0xa5a5a5a5 initial kept dirty set)",
        rust: "(argsz 77 flags 0xa5a5a5a5 initial set dirty zero), \
               (argsz 77 flags 0xa5a5a5a5 initial zero dirty set)",
        reason: "the C driver leaves in initial_bytes and dirty_bytes what user \
                 space put there, where it has nothing to say; only flags is \
                 reserved",
    },
    Difference {
        name: "with the opt-in, \"the vfio_precopy_info.flags is a valid output field\"",
        c: "(argsz 77 flags 0x0 initial set dirty kept), \
            (argsz 77 flags 0x0 initial kept dirty set), \
            (argsz 77 flags 0x1 initial set dirty kept)",
        rust: "(argsz 77 flags 0x0 initial set dirty zero), \
               (argsz 77 flags 0x0 initial zero dirty set), \
               (argsz 77 flags 0x1 initial set dirty zero)",
        reason: "the C driver leaves in initial_bytes and dirty_bytes what user \
                 space put there, where it has nothing to say; they are output, too",
    },
    Difference {
        name: "firmware fails to save the stopped device",
        c: "EINVAL; PRE_COPY_P2P; 0, then ENODEV; ENODEV; PRE_COPY_P2P; true",
        rust: "EINVAL; PRE_COPY_P2P; 0, then ENODEV; ok; RUNNING; true",
        reason: "the C driver has suspended the device by then and does not resume \
                 it; the Rust driver undoes the first half of the arc, so that the \
                 guest can run on",
    },
];

/// What either driver has saved of a running device, either driver loads.
fn interchange(results: &mut Results, bench: &Bench) {
    for from in Driver::BOTH {
        for to in Driver::BOTH {
            let name = format!("pre-copied by {}, loaded by {}", from.name(), to.name());
            results.test(&name, |_| {
                let (bytes, digest) = whole_stream(bench.of(from).0)?;
                let mut slow = Cursor::new(&bytes);
                let vf = Vf::open(bench.of(to).1, 16)?;
                let mut file = vf.device().begin(State::RESUMING)?;
                stream::copy(&mut slow, &mut file, |_| ())?;
                vf.device().set_state(State::RUNNING)?;
                ensure!(vf.digest()? == digest, "digests differ");
                Ok(())
            });
        }
    }
    results.test(
        "both drivers make the same stream of the same running device",
        |_| {
            let (c, _) = whole_stream(bench.of(Driver::C).0)?;
            let (rust, _) = whole_stream(bench.of(Driver::Rust).0)?;
            streams::same(&c, &rust)
        },
    );
}

/// A reader that waits, and what it gets when the device is reset.
fn waiting_reader(site: &Site) -> Result<()> {
    for _ in 0..10 {
        let (vf, mut file) = begin(site, true)?;
        let reader = thread::spawn(move || drain(&mut file));
        thread::sleep(Duration::from_millis(2));
        vf.device().reset()?;
        let end = reader.join().ok().context("the reader panicked")?;
        ensure!(
            end.ends_with("ENOMSG") || end.ends_with("ENODEV"),
            "the reader got {end}"
        );
    }
    Ok(())
}

/// New initial state over and over, and nobody reads.
fn nobody_reads(site: &Site) -> Result<()> {
    let (vf, mut file) = begin(site, true)?;
    info(&file);
    for _ in 0..40 {
        create(&vf, 64)?;
        let seen = info_and_save(&file);
        ensure!(seen.ends_with("flags 0x1)"), "{seen}");
    }
    let mut stream = Vec::new();
    read(&mut file, usize::MAX, &mut stream);
    // Far less than forty times the size of those objects.
    ensure!(stream.len() < 6 << 20, "{} bytes", stream.len());
    vf.device().set_state(State::PRE_COPY_P2P)?;
    let digest = vf.digest()?;
    vf.device().set_state(State::STOP_COPY)?;
    read(&mut file, usize::MAX, &mut stream);
    ensure!(arrives(site, digest, &stream)? == "same state");
    Ok(())
}

/// As many new initial states as the driver saves, unread. `first`: the first image was read.
fn all_unread(site: &Site, first: bool) -> Result<(Vf, File, Vec<u8>)> {
    let (vf, mut file) = begin(site, true)?;
    info(&file);
    let mut stream = Vec::new();
    if first {
        read(&mut file, usize::MAX, &mut stream);
    }
    for _ in 0..12 {
        create(&vf, 20)?;
        info_and_save(&file);
    }
    Ok((vf, file, stream))
}

/// The device is stopped when all images wait to be read: there is a buffer for it.
fn stopped_unread(site: &Site) -> Result<()> {
    for first in [false, true] {
        let (vf, mut file, mut stream) = all_unread(site, first)?;
        vf.device().set_state(State::PRE_COPY_P2P)?;
        let digest = vf.digest()?;
        vf.device().set_state(State::STOP_COPY)?;
        let end = read(&mut file, usize::MAX, &mut stream);
        ensure!(end.ends_with("the end"), "{end}");
        ensure!(arrives(site, digest, &stream)? == "same state");
    }
    Ok(())
}

/// The migration is given up when all images wait to be read, which firmware refuses more
/// often than there are buffers.
fn given_up_unread(site: &Site) -> Result<()> {
    for first in [false, true] {
        let (vf, mut file, _) = all_unread(site, first)?;
        for _ in 0..12 {
            vf.command(regs::CMD_FAULT, &[SAVE_VHCA_STATE, BAD_PARAM])?;
            let refused = outcome(vf.device().set_state(State::RUNNING));
            ensure!(refused == "EINVAL", "{refused}");
        }
        // Nothing was lost by that.
        let unread = drain(&mut file);
        ensure!(unread.ends_with("ENOMSG"), "{unread}");
        create(&vf, 20)?;
        info_and_save(&file);
        let unread = drain(&mut file);
        ensure!(!unread.starts_with('0'), "{unread}");
        let (vf, file, _) = {
            drop((vf, file));
            all_unread(site, first)?
        };
        vf.device().set_state(State::RUNNING)?;
        drop(file);
        vf.work(1, 16)?;
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    interchange(results, &bench);
    let (vf, other) = bench.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("a reset while a reader waits", |_| waiting_reader(&site));
    results.test("memory where nobody reads is bounded", |_| {
        nobody_reads(&site)
    });
    results.test("stopped where nobody reads", |_| stopped_unread(&site));
    results.test("given up where nobody reads", |_| given_up_unread(&site));
    Ok(())
}

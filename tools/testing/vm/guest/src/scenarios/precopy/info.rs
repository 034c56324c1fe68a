// SPDX-License-Identifier: GPL-2.0

//! What VFIO_MIG_GET_PRECOPY_INFO says, and the opt-in to its flags.

use super::session::{
    begin,
    change,
    create,
    drain,
    info,
    read, //
};
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    scenarios::{
        compare::{
            errno_name,
            words,
            Difference,
            Observation, //
        },
        waits::{
            aside,
            within,
            LONG, //
        },
    },
    sys,
    vf::Vf, //
};
use anyhow::Context;
use std::{
    fs::File,
    os::fd::AsFd,
    sync::Arc,
    time::Duration, //
};
use vfio_mig::{
    state::State,
    uapi, //
};

pub(super) const OBSERVATIONS: &[Observation] = &[
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
        "in PRE_COPY_P2P, while the first image is saved",
        |site| {
            let vf = Vf::open(site.vf, 16)?;
            vf.work(2, 16)?;
            vf.device().set_state(State::RUNNING_P2P)?;
            let faults = Faults::open()?;
            let held = Fault::held(opcode::SAVE_VHCA_STATE);
            faults.arm(held.about(fault::vhca(site.vf)?))?;
            let file = Arc::new(vf.device().begin(State::PRE_COPY_P2P)?);
            faults.wait_for_held(1)?;
            let asked = Arc::clone(&file);
            let answer = aside(move || uapi::precopy_info(asked.as_fd(), Default::default()));
            let early = answer.recv_timeout(Duration::from_secs(2)).ok();
            faults.release()?;
            let when = if early.is_some() { "at once" } else { "then" };
            let info = match early {
                Some(info) => info?,
                None => within(&answer, LONG, "PRECOPY_INFO")??,
            };
            let mut file = Arc::into_inner(file).context("the caller is still there")?;
            let mut bytes = Vec::new();
            let end = read(&mut file, usize::MAX, &mut bytes);
            let initial = match info.initial_bytes {
                all if all == bytes.len() as u64 => "all".to_string(),
                part => format!("{part} bytes"),
            };
            let end = end.replace(&bytes.len().to_string(), "all");
            Ok(format!("{when}, {initial}; {end}"))
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
];

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "in PRE_COPY_P2P, while the first image is saved",
        c: "at once, 24 bytes; all, then ENOMSG",
        rust: "then, all; all, then ENOMSG",
        reason: "only in PRE_COPY the C driver waits for the SAVE; initial_bytes \
                 should decrease, so what is not yet known must not be left out",
    },
    Difference {
        name: "without the opt-in, \"the flags field of struct vfio_precopy_info is reserved for bug-compatibility reasons\"",
        c: "(argsz 77 flags 0xa5a5a5a5 initial set dirty kept), \
            (argsz 77 flags 0xa5a5a5a5 initial kept dirty set)",
        rust: "(argsz 77 flags 0xa5a5a5a5 initial set dirty zero), \
               (argsz 77 flags 0xa5a5a5a5 initial zero dirty set)",
        reason: "the C driver sets only one of initial_bytes and dirty_bytes, and \
                 leaves in the other what user space put there; only flags is \
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
        reason: "the C driver sets only one of initial_bytes and dirty_bytes, and \
                 leaves in the other what user space put there; both are output",
    },
];

/// Asks with garbage in all fields, and says which fields were changed.
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

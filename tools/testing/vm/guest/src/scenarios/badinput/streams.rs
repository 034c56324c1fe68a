// SPDX-License-Identifier: GPL-2.0

//! Hostile streams.

use super::resuming::{
    leave,
    resume,
    usable, //
};
use crate::{
    kmsg,
    records::header,
    scenarios::{
        compare::{
            words,
            Difference,
            Observation,
            Site, //
        },
        streams, //
    },
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    io::Write, //
};
use vfio_mig::{
    device::Device,
    state::State, //
};

/// What mlx5_core says of a LOAD that firmware has refused.
const REFUSED_LOAD: &str = "LOAD_VHCA_STATE(0x119)";

const OPTIONAL: u32 = 1;

pub(super) const OBSERVATIONS: &[Observation] = &[
    ("a record that is too large", |site| {
        let mut seen = Vec::new();
        for size in [1 << 32, u64::MAX, u64::MAX - 15] {
            for (flags, tag) in [(0, 0), (OPTIONAL, 1), (OPTIONAL, 99)] {
                seen.push(resume(site, &header(size, flags, tag))?);
            }
        }
        seen.dedup();
        Ok(seen.join("; "))
    }),
    ("a record that nobody knows", |site| {
        let mandatory = resume(site, &header(5, 0, 99))?;
        let mut optional = header(5, OPTIONAL, 99);
        optional.extend([7; 5]);
        Ok(format!(
            "{mandatory}; optional: {}",
            leave(site, &optional)?
        ))
    }),
    ("a large optional record is skipped", |site| {
        let mut bytes = header(300_000, OPTIONAL, 99);
        bytes.extend(vec![7; 300_000]);
        leave(site, &bytes)
    }),
    ("a size record that is too small", |site| {
        let mut bytes = header(4, OPTIONAL, 1);
        bytes.extend([1; 4]);
        leave(site, &bytes)
    }),
    ("a size record that is larger than needed", |site| {
        let mut bytes = header(12, OPTIONAL, 1);
        bytes.extend([0; 12]);
        leave(site, &bytes)
    }),
    ("an empty image", |site| resume(site, &header(0, 0, 0))),
    ("an image that is none", |site| {
        kmsg::expect(REFUSED_LOAD);
        let mut bytes = header(1000, 0, 0);
        bytes.extend([0xa5; 1000]);
        resume(site, &bytes)
    }),
    ("leaving RESUMING after an image that is none", |site| {
        kmsg::expect(REFUSED_LOAD);
        let mut bytes = header(1000, 0, 0);
        bytes.extend([0xa5; 1000]);
        leave(site, &bytes)
    }),
    ("an image with a flipped bit", |site| {
        kmsg::expect(REFUSED_LOAD);
        let (mut stream, _) = streams::save(site.other, 2)?;
        let middle = stream.len() / 2;
        stream[middle] ^= 0x10;
        resume(site, &stream)
    }),
    ("leaving RESUMING without any data", |site| leave(site, &[])),
    ("leaving RESUMING in a header", |site| leave(site, &[0; 9])),
    ("leaving RESUMING in an image", |site| {
        let (stream, _) = streams::save(site.other, 2)?;
        leave(site, &stream[..stream.len() - 1])
    }),
    ("a stream in single bytes", |site| {
        let (stream, digest) = streams::save(site.other, 2)?;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        let (slow, fast) = stream.split_at(5000.min(stream.len()));
        for byte in slow {
            ensure!(file.write(&[*byte])? == 1);
        }
        file.write_all(fast)?;
        device.set_state(State::RUNNING)?;
        drop(device);
        ensure!(streams::load(site.vf, &stream)? == digest);
        Ok("ok".to_string())
    }),
    ("data from nowhere", |site| {
        let device = Device::open(site.vf)?;
        let file = device.begin(State::RESUMING)?;
        let header_from_nowhere = words(sys::write_raw(&file, 8, 16));
        device.reset()?;
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&header(100, 0, 0))?;
        let image_from_nowhere = words(sys::write_raw(&file, 8, 100));
        let after = words(file.write(&[0; 1]));
        drop(device);
        usable(site)?;
        Ok(format!(
            "{header_from_nowhere}, {image_from_nowhere}, then {after}"
        ))
    }),
    ("memory for an image that never comes", |site| {
        const CLAIM: u64 = 256 << 20;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        let before = available_kib()?;
        file.write_all(&header(CLAIM, 0, 0))?;
        file.write_all(&[0; 100])?;
        let used = before.saturating_sub(available_kib()?) << 10;
        drop(file);
        drop(device);
        Ok(if used > CLAIM / 2 {
            "all that was claimed".to_string()
        } else if used < 16 << 20 {
            "next to none".to_string()
        } else {
            format!("{used} bytes")
        })
    }),
];

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "an empty image",
        c: "all, then EINVAL, then ENODEV",
        rust: "EINVAL, then ENODEV, then ENODEV",
        reason: "the Rust driver has an image loaded when its last byte is there, \
                 which an empty one's is with the header",
    },
    Difference {
        name: "a size record that is too small",
        c: "all, leaving: ok, STOP",
        rust: "EINVAL, leaving: EIO, ERROR",
        reason: "a size of less than eight bytes is no size: the C driver takes \
                 bytes of the header for the rest of it",
    },
    Difference {
        name: "a record that nobody knows",
        c: "EOPNOTSUPP, then ENODEV, then ENODEV; optional: all, leaving: ok, STOP",
        rust: "EOPNOTSUPP, then ENODEV, then ENODEV; \
               optional: all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data, here without an image, must fail the \
                 transition",
    },
    Difference {
        name: "a large optional record is skipped",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data, here without an image, must fail the \
                 transition",
    },
    Difference {
        name: "a size record that is larger than needed",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data, here without an image, must fail the \
                 transition",
    },
    Difference {
        name: "leaving RESUMING after an image that is none",
        c: "EINVAL, leaving: ok, STOP",
        rust: "EINVAL, leaving: EIO, ERROR",
        reason: "the uAPI: invalid data must fail the transition",
    },
    Difference {
        name: "leaving RESUMING in a header",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data must fail the transition",
    },
    Difference {
        name: "leaving RESUMING in an image",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data must fail the transition",
    },
    Difference {
        name: "memory for an image that never comes",
        c: "all that was claimed",
        rust: "next to none",
        reason: "the Rust driver allocates as data arrives",
    },
];

fn available_kib() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .context("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The driver's messages about bytes that are not a stream, and about an incomplete state.
pub(super) fn complaints(site: &Site) -> Result<()> {
    let sorts: [(&str, u64, u32, u32); 3] = [
        ("migration stream: a record of 4 GiB or more", 1 << 32, 0, 0),
        (
            "migration stream: an unknown record that must not be skipped",
            8,
            0,
            0x1234,
        ),
        (
            "migration stream: a record too small for what is in it",
            1,
            0,
            1,
        ),
    ];
    for (complaint, size, flags, tag) in sorts {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        kmsg::require(complaint, || {
            let written = file.write_all(&header(size, flags, tag));
            ensure!(written.is_err(), "{complaint}: it was taken");
            Ok(())
        })?;
    }
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&[0; 9])?;
    kmsg::require(
        "leaving RESUMING without a complete and valid state; reset the device",
        || {
            ensure!(device.set_state(State::STOP).is_err(), "it was left");
            Ok(())
        },
    )
}

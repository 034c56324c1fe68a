// SPDX-License-Identifier: GPL-2.0

//! Data files: what each call on them does, in each situation.

use super::{
    compare::{
        self,
        outcome,
        words,
        Observation,
        Site, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    sys,
    tap::Results, //
};
use anyhow::Result;
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd,
    os::unix::fs::FileExt, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("files", run)];

fn read(file: &mut File, len: usize) -> String {
    words(file.read(&mut vec![0; len]))
}

fn write(file: &mut File, bytes: &[u8]) -> String {
    words(file.write(bytes))
}

fn drain(file: &mut File) -> String {
    let mut all = Vec::new();
    words(file.read_to_end(&mut all))
}

fn precopy_info(file: &File) -> String {
    let info = uapi::precopy_info(file.as_fd(), uapi::PrecopyInfo::default());
    words(info.map(|info| format!("{info:?}")))
}

const OBSERVATIONS: &[Observation] = &[
    ("a saving file cannot be written or positioned", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        Ok(format!(
            "write {}, pread {}, lseek {}",
            write(&mut file, &[0; 16]),
            words(file.read_at(&mut [0; 16], 0)),
            words(sys::seek(&file, 0).map(|()| "ok")),
        ))
    }),
    ("a resuming file cannot be read or positioned", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        Ok(format!(
            "read {}, pwrite {}, lseek {}",
            read(&mut file, 16),
            words(file.write_at(&[0; 16], 0)),
            words(sys::seek(&file, 0).map(|()| "ok")),
        ))
    }),
    ("the end of a stream stays the end", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        let size = drain(&mut file);
        let ends: Vec<String> = (0..3).map(|_| read(&mut file, 100)).collect();
        let poll = uapi::poll(file.as_fd(), libc::POLLIN, 1000)?;
        Ok(format!("{size} bytes, then {ends:?}, poll {poll:#x}"))
    }),
    (
        "a stream is as long as the data size, and its headers",
        |site| {
            let device = Device::open(site.vf)?;
            let size = device.data_size()?;
            let mut file = device.begin(State::STOP_COPY)?;
            let stream: u64 = drain(&mut file).parse()?;
            Ok(format!("{} more", stream - size))
        },
    ),
    ("poll says when there is something to read", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        let mut polls = Vec::new();
        for _ in 0..3 {
            let ready = uapi::poll(file.as_fd(), libc::POLLIN | libc::POLLOUT, 5000)?;
            polls.push(format!("{ready:#x} {}", read(&mut file, 24)));
        }
        Ok(polls.join(", "))
    }),
    ("a read that may not wait", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        uapi::set_nonblocking(file.as_fd(), true)?;
        let mut bytes = 0;
        loop {
            match file.read(&mut [0; 4096]) {
                Ok(0) => return Ok(format!("{bytes} bytes, then the end")),
                Ok(n) => bytes += n,
                Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => {
                    uapi::poll(file.as_fd(), libc::POLLIN, 5000)?;
                }
                Err(err) => return Ok(format!("{bytes} bytes, then {err}")),
            }
        }
    }),
    ("PRECOPY_INFO outside of PRE_COPY", |site| {
        let device = Device::open(site.vf)?;
        let mut saving = device.begin(State::STOP_COPY)?;
        let in_stop_copy = precopy_info(&saving);
        // Firmware is done, so that the reset does not come in between.
        saving.read_exact(&mut [0; 100])?;
        device.reset()?;
        let resuming = precopy_info(&device.begin(State::RESUMING)?);
        Ok(format!("saving {in_stop_copy}, resuming {resuming}"))
    }),
    ("a saving file after its session", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        // More than what is there before firmware is done.
        file.read_exact(&mut [0; 100])?;
        device.set_state(State::STOP)?;
        let poll = uapi::poll(file.as_fd(), libc::POLLIN | libc::POLLRDHUP, 1000)?;
        Ok(format!("{}, poll {poll:#x}", read(&mut file, 100)))
    }),
    ("a resuming file after its session", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        device.set_state(State::STOP)?;
        Ok(write(&mut file, &[0; 16]))
    }),
    ("files after their device is closed", |site| {
        let device = Device::open(site.vf)?;
        let mut saving = device.begin(State::STOP_COPY)?;
        drop(device);
        let device = Device::open(site.vf)?;
        let mut resuming = device.begin(State::RESUMING)?;
        drop(device);
        Ok(format!(
            "read {}, write {}",
            read(&mut saving, 100),
            write(&mut resuming, &[0; 16])
        ))
    }),
    ("files after a reset", |site| {
        let device = Device::open(site.vf)?;
        let mut saving = device.begin(State::STOP_COPY)?;
        // Firmware is done, so that the reset does not come in between.
        saving.read_exact(&mut [0; 100])?;
        device.reset()?;
        let after_save = device.state()?;
        let mut resuming = device.begin(State::RESUMING)?;
        device.reset()?;
        Ok(format!(
            "{after_save}: read {}; {}: write {}",
            read(&mut saving, 100),
            device.state()?,
            write(&mut resuming, &[0; 16])
        ))
    }),
    ("a session without its file", |site| {
        let device = Device::open(site.vf)?;
        drop(device.begin(State::STOP_COPY)?);
        let left = outcome(device.set_state(State::STOP));
        drop(device.begin(State::RESUMING)?);
        Ok(format!(
            "{left}, {}",
            outcome(device.set_state(State::RUNNING))
        ))
    }),
    ("a file with two descriptors", |site| {
        let device = Device::open(site.vf)?;
        let mut one = device.begin(State::STOP_COPY)?;
        let mut two = one.try_clone()?;
        let parts = [read(&mut one, 10), read(&mut two, 6), read(&mut one, 8)];
        drop(one);
        Ok(format!("{parts:?}, then {}", drain(&mut two)))
    }),
    ("data size in each state", |site| {
        let device = Device::open(site.vf)?;
        let mut sizes = Vec::new();
        for state in [
            State::RUNNING,
            State::RUNNING_P2P,
            State::STOP,
            State::STOP_COPY,
            State::RESUMING,
        ] {
            let _data = device.set_state(state)?;
            sizes.push(format!("{state} {}", device.data_size()?));
        }
        Ok(sizes.join(", "))
    }),
    ("a read to nowhere", |site: &Site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        let bad = words(sys::read_raw(&file, 8, 24));
        Ok(format!("{bad}, then {}", drain(&mut file)))
    }),
];

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    compare::both(results, &vfs, OBSERVATIONS, &[]);
    Ok(())
}

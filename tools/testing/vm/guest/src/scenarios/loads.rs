// SPDX-License-Identifier: GPL-2.0

//! What write() returns for the LOADs that it starts, with a firmware that takes half a
//! second for a MiB. Where something is to happen during a LOAD, the LOAD is held until it has
//! happened.
//!
//! Clients take "write() returned" for "loaded". So a write that ends at a record
//! boundary returns when all is loaded, with the error if there is one. If it cannot
//! wait, the last byte of the record is not counted.

use super::{
    compare::{
        self,
        words,
        Site, //
    },
    pipeline::{
        now,
        soon,
        OUT, //
    },
    streams, //
};
use crate::{
    cgroup::Group,
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    records,
    sys, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    fs::File,
    io::{
        self,
        Write, //
    },
    os::fd::AsFd,
    thread,
    time::Duration, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi, //
};

/// `MLX5_CMD_STAT_LIM_ERR`, of which mlx5_core makes `ENOMEM`.
const LIM_ERR: u8 = 0x8;
/// When a LOAD fails that a write waits for.
const FAILS: Duration = Duration::from_millis(500);
/// How long a writer stands still.
const A_MOMENT: Duration = Duration::from_millis(50);

/// A VF in `RESUMING`, and a stream for it.
struct Load {
    /// Dropped first: what is held lets nothing be closed.
    faults: Faults,
    device: Device,
    file: File,
    bytes: Vec<u8>,
}

impl Load {
    fn new(site: &Site) -> Result<Self> {
        let (bytes, _) = streams::save(site.other, 2)?;
        let device = Device::open(site.vf)?;
        let file = device.begin(State::RESUMING)?;
        Ok(Self {
            faults: Faults::open()?,
            device,
            file,
            bytes,
        })
    }

    /// The first LOAD is held, and then carried out; with a status, it fails.
    fn held(site: &Site, status: Option<u8>) -> Result<Self> {
        let load = Self::new(site)?;
        let fault = Fault::held(opcode::LOAD_VHCA_STATE).about(fault::vhca(site.vf)?);
        load.faults.arm(match status {
            Some(status) => fault.status(status, 0),
            None => fault,
        })?;
        Ok(load)
    }

    /// Firmware goes on with the LOAD that is held.
    fn release(&self) -> Result<()> {
        self.faults.wait_for_held(1)?;
        self.faults.release()
    }

    fn last(&self) -> [u8; 1] {
        [self.bytes[self.bytes.len() - 1]]
    }

    /// Writes until a signal comes: all but the last byte is counted.
    fn broken_off(&mut self) -> Result<()> {
        let Self {
            file,
            bytes,
            faults,
            ..
        } = self;
        // If there is no LOAD, the write says so.
        let wait = || drop(faults.wait_for_held(1));
        let wrote = sys::interrupted_after(wait, || words(file.write(bytes)))?;
        self.is_owed(&wrote)
    }

    /// Writes in a process that stands still for a while when firmware loads: all but the last
    /// byte is counted.
    fn paused(&self, pause: Pause) -> Result<()> {
        let (mut file, bytes) = (self.file.try_clone()?, self.bytes.clone());
        let wrote = sys::in_child(
            move || words(file.write(&bytes)),
            |process| {
                self.faults.wait_for_held(1).map_err(io::Error::other)?;
                pause(process)
            },
        )?;
        self.is_owed(&wrote)
    }

    /// Everything was loaded when the last write returned, and the VF runs with it.
    fn is_loaded(&self) -> Result<()> {
        ensure!(
            now(&self.file, OUT)? == OUT,
            "write() has not waited for the load"
        );
        self.device.set_state(State::RUNNING)?;
        Ok(())
    }

    fn is_owed(&self, wrote: &str) -> Result<()> {
        let expected = self.bytes.len() - 1;
        ensure!(wrote == expected.to_string(), "{wrote} of {expected} + 1");
        ensure!(now(&self.file, OUT)? == 0, "writable while firmware loads");
        Ok(())
    }

    /// What leaving `RESUMING` ends with.
    fn leave(&self) -> Result<String> {
        let left = compare::outcome(self.device.set_state(State::STOP));
        Ok(format!("{left}, {}", self.device.state()?))
    }

    /// A LOAD has failed that no writer has waited for: the error is that of the next
    /// write, of `byte`, or of leaving `RESUMING`.
    fn fails_at_last(&mut self, write_on: bool, byte: [u8; 1]) -> Result<()> {
        if write_on {
            let wrote = words(self.file.write(&byte));
            return self.fails(&wrote);
        }
        let left = self.leave()?;
        ensure!(left == "ENOMEM, ERROR", "leaving RESUMING: {left}");
        Ok(())
    }

    /// The error is told once, and the device is lost.
    fn fails(&mut self, wrote: &str) -> Result<()> {
        ensure!(
            wrote == "ENOMEM",
            "{wrote} for an image that was not loaded"
        );
        let after = words(self.file.write(&[0]));
        ensure!(after == "ENODEV", "the write after the error: {after}");
        let polled = now(&self.file, OUT)?;
        ensure!(polled & libc::POLLERR != 0, "no POLLERR");
        let left = self.leave()?;
        ensure!(left == "EIO, ERROR", "leaving RESUMING: {left}");
        Ok(())
    }
}

/// Has a LOAD of the VF fail after a while.
fn failing(site: &Site, status: u8) -> Result<Load> {
    let load = Load::new(site)?;
    let fault = Fault::fail(opcode::LOAD_VHCA_STATE).about(fault::vhca(site.vf)?);
    load.faults.arm(fault.status(status, 0).after(FAILS))?;
    Ok(load)
}

fn whole(site: &Site) -> Result<()> {
    let mut load = Load::new(site)?;
    ensure!(now(&load.file, OUT)? == OUT, "not writable at first");
    load.file.write_all(&load.bytes)?;
    load.is_loaded()
}

fn whole_fails(site: &Site) -> Result<()> {
    let mut load = failing(site, LIM_ERR)?;
    let wrote = words(load.file.write(&load.bytes));
    ensure!(load.faults.fired()? == 1);
    load.fails(&wrote)
}

fn next_record(site: &Site) -> Result<()> {
    let mut load = Load::held(site, None)?;
    load.file.write_all(&load.bytes[..load.bytes.len() - 1])?;
    // The end of a record, and the next one but for its end.
    let mut next = load.last().to_vec();
    next.extend(&load.bytes[records::head(&load.bytes)?..load.bytes.len() - 1]);
    load.file.write_all(&next)?;
    ensure!(
        now(&load.file, OUT)? == 0,
        "write() has waited for the load"
    );
    load.release()?;
    let last = load.last();
    load.file.write_all(&last)?;
    load.is_loaded()
}

fn next_record_fails(site: &Site) -> Result<()> {
    for write_on in [true, false] {
        let mut load = Load::held(site, Some(LIM_ERR))?;
        let mut bytes = load.bytes.clone();
        bytes.push(0);
        load.file.write_all(&bytes)?;
        load.release()?;
        let polled = soon(&load.file, OUT)?;
        ensure!(polled & libc::POLLERR != 0, "no POLLERR");
        load.fails_at_last(write_on, [0])?;
    }
    Ok(())
}

fn signal(site: &Site) -> Result<()> {
    let mut load = Load::held(site, None)?;
    load.broken_off()?;
    let last = load.last();
    let wrong = words(load.file.write(&[!last[0]]));
    ensure!(wrong == "EINVAL", "another byte than the last: {wrong}");
    let file = &mut load.file;
    let again = sys::interrupted(A_MOMENT, || words(file.write(&last)))?;
    ensure!(again == "EINTR", "a signal, with nothing to count: {again}");
    load.release()?;
    load.file.write_all(&last)?;
    load.is_loaded()
}

fn signal_fails(site: &Site) -> Result<()> {
    for write_on in [true, false] {
        let mut load = Load::held(site, Some(LIM_ERR))?;
        load.broken_off()?;
        load.release()?;
        let last = load.last();
        load.fails_at_last(write_on, last)?;
    }
    Ok(())
}

fn left_owed(site: &Site) -> Result<()> {
    let mut load = Load::held(site, None)?;
    load.broken_off()?;
    load.release()?;
    ensure!(soon(&load.file, OUT)? == OUT, "never writable");
    let left = load.leave()?;
    ensure!(left == "EINVAL, ERROR", "without the last byte: {left}");
    Ok(())
}

fn nonblocking(site: &Site) -> Result<()> {
    let mut load = Load::held(site, None)?;
    uapi::set_nonblocking(load.file.as_fd(), true)?;
    let wrote = words(load.file.write(&load.bytes));
    load.is_owed(&wrote)?;
    let last = load.last();
    let again = words(load.file.write(&last));
    ensure!(again == "EAGAIN", "with nothing to count: {again}");
    load.release()?;
    ensure!(soon(&load.file, OUT)? == OUT, "never writable");
    let wrote = words(load.file.write(&last));
    ensure!(wrote == "1", "POLLOUT, and then {wrote}");
    load.device.set_state(State::RUNNING)?;
    Ok(())
}

/// Nothing is being loaded, so the file is writable; but the next byte completes an image.
fn nonblocking_completes(site: &Site) -> Result<()> {
    let mut load = Load::held(site, None)?;
    uapi::set_nonblocking(load.file.as_fd(), true)?;
    let before = load.bytes.len() - 1;
    let wrote = words(load.file.write(&load.bytes[..before]));
    ensure!(wrote == before.to_string(), "{wrote} of {before}");
    ensure!(now(&load.file, OUT)? == OUT, "not writable");
    let last = load.last();
    let wrote = words(load.file.write(&last));
    ensure!(wrote == "EAGAIN", "with nothing to count: {wrote}");
    ensure!(now(&load.file, OUT)? == 0, "writable while firmware loads");
    load.release()?;
    ensure!(soon(&load.file, OUT)? == OUT, "never writable");
    let wrote = words(load.file.write(&last));
    ensure!(wrote == "1", "POLLOUT, and then {wrote}");
    load.device.set_state(State::RUNNING)?;
    Ok(())
}

fn nonblocking_fails(site: &Site) -> Result<()> {
    let mut load = Load::held(site, Some(LIM_ERR))?;
    uapi::set_nonblocking(load.file.as_fd(), true)?;
    let wrote = words(load.file.write(&load.bytes));
    load.is_owed(&wrote)?;
    load.release()?;
    let polled = soon(&load.file, OUT)?;
    ensure!(polled & libc::POLLERR != 0, "no POLLERR");
    let last = load.last();
    let wrote = words(load.file.write(&last));
    load.fails(&wrote)
}

/// What makes a process stand still, and go on. It gets the process's number.
type Pause = fn(u32) -> io::Result<()>;

fn stop(process: u32) -> io::Result<()> {
    sys::kill(process, libc::SIGSTOP)?;
    thread::sleep(A_MOMENT);
    sys::kill(process, libc::SIGCONT)
}

fn freeze(process: u32) -> io::Result<()> {
    let freeze = || -> Result<()> {
        let group = Group::new("writer")?;
        group.add(process)?;
        group.set_frozen(true)?;
        thread::sleep(A_MOMENT);
        group.set_frozen(false)
    };
    freeze().map_err(io::Error::other)
}

fn paused(site: &Site, pause: Pause) -> Result<()> {
    let load = Load::held(site, None)?;
    load.paused(pause)?;
    // With nothing to count, the call begins again.
    let (mut file, last) = (load.file.try_clone()?, load.last());
    let wrote = sys::in_child(
        move || words(file.write(&last)),
        |process| {
            thread::sleep(A_MOMENT);
            pause(process)?;
            load.release().map_err(io::Error::other)
        },
    )?;
    ensure!(wrote == "1", "the last byte: {wrote}");
    load.is_loaded()
}

fn paused_fails(site: &Site, pause: Pause) -> Result<()> {
    let mut load = Load::held(site, Some(LIM_ERR))?;
    load.paused(pause)?;
    load.release()?;
    let last = load.last();
    let wrote = words(load.file.write(&last));
    load.fails(&wrote)
}

/// The error of a LOAD is kept, as one that gives no reason to try again.
fn kept(site: &Site) -> Result<()> {
    /// `MLX5_CMD_STAT_RESOURCE_BUSY`, of which mlx5_core makes `EBUSY`.
    const BUSY: u8 = 0x6;
    let mut load = Load::held(site, Some(BUSY))?;
    load.broken_off()?;
    load.release()?;
    let left = load.leave()?;
    ensure!(left == "EIO, ERROR", "leaving RESUMING: {left}");
    Ok(())
}

/// The tests.
pub const TESTS: [compare::Test; 15] = [
    ("a write that ends a record has loaded it", whole),
    ("a write that ends a record has its error", whole_fails),
    (
        "the next record is taken in while firmware loads",
        next_record,
    ),
    (
        "an error of a LOAD, for who writes on or leaves",
        next_record_fails,
    ),
    ("a signal while firmware loads", signal),
    ("a signal, and then the LOAD fails", signal_fails),
    ("a record without its last byte is incomplete", left_owed),
    ("a write that must not wait", nonblocking),
    (
        "a byte that must not wait, and completes an image",
        nonblocking_completes,
    ),
    (
        "a write that must not wait, and the LOAD fails",
        nonblocking_fails,
    ),
    ("stop and continue while firmware loads", |site| {
        paused(site, stop)
    }),
    ("stop and continue, and then the LOAD fails", |site| {
        paused_fails(site, stop)
    }),
    ("frozen while firmware loads", |site| paused(site, freeze)),
    ("frozen, and then the LOAD fails", |site| {
        paused_fails(site, freeze)
    }),
    ("an error of a LOAD that was refused is kept", kept),
];

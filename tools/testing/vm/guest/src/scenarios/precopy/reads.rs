// SPDX-License-Identifier: GPL-2.0

//! Reads and poll while the device runs, and how a session ends.

use super::{
    interchange::{
        arrives,
        whole_stream, //
    },
    session::{
        begin,
        change,
        drain,
        info, //
    },
};
use crate::scenarios::compare::{
    outcome,
    Observation,
    Site, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    os::fd::AsFd,
    thread,
    time::Duration, //
};
use vfio_mig::{
    state::State,
    uapi, //
};

pub(super) const OBSERVATIONS: &[Observation] = &[
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
    (
        "what is unread in PRE_COPY comes first in STOP_COPY",
        |site| {
            let (stream, digest) = whole_stream(site.vf)?;
            arrives(site, digest, &stream).map(str::to_string)
        },
    ),
];

/// A reader that waits, and what it gets when the device is reset.
pub(super) fn waiting_reader(site: &Site) -> Result<()> {
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

// SPDX-License-Identifier: GPL-2.0

//! The temporary end of a session in PRE_COPY, and poll.

use super::session::{
    change,
    each_precopy_state,
    info, //
};
use crate::{
    conformance::{
        require,
        require_errno,
        site::{
            drain,
            require_workload, //
        },
        Site,
        Verdict, //
    },
    state::State,
    stream::End,
    uapi, //
};
use std::{
    io::Read,
    os::fd::AsFd, //
};

pub(super) fn temporary_end(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let (_, end) = drain(file)?;
        require(end == End::Temporary, || {
            format!("read() returns 0 in {state}, as if that were all")
        })?;
        let info = info(file)?;
        require(info.initial_bytes == 0, || {
            format!("ENOMSG with {} initial bytes left", info.initial_bytes)
        })?;
        // The device may have changed since, but then that can be read.
        let (bytes, _) = drain(file)?;
        require(info.dirty_bytes == 0 || bytes > 0, || {
            format!("ENOMSG with {} dirty bytes left", info.dirty_bytes)
        })
    })
}

pub(super) fn temporary_end_again(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        drain(file)?;
        for _ in 0..3 {
            let read = file.read(&mut [0; 64]);
            require_errno(read, libc::ENOMSG, "read() of an idle device")?;
        }
        Ok(())
    })
}

pub(super) fn poll_waits_for_more(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        drain(file)?;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 0)?;
        require(ready & libc::POLLIN == 0, || {
            format!("poll says readable in {state}, and read() ENOMSG")
        })
    })
}

pub(super) fn poll_says_readable(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        let left = info(file)?.initial_bytes;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
        require(left == 0 || ready & libc::POLLIN != 0, || {
            format!("{left} initial bytes, but poll does not say readable")
        })
    })
}

pub(super) fn stop_copy_wakes_poll(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        drain(file)?;
        device.set_state(State::STOP_COPY)?;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
        require(ready & libc::POLLIN != 0, || {
            "poll does not say readable in STOP_COPY".to_string()
        })
    })
}

pub(super) fn more_data_wakes_poll(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    // A driver may only ask the device when user space asks for PRECOPY_INFO.
    info(&file)?;
    let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
    require(ready & libc::POLLIN != 0, || {
        "dirty bytes, but poll does not say readable".to_string()
    })
}

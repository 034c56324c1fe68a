// SPDX-License-Identifier: GPL-2.0

//! What VFIO_MIG_GET_PRECOPY_INFO says.

use super::session::{
    ask,
    change,
    each_precopy_state,
    info, //
};
use crate::{
    conformance::{
        require,
        require_errno,
        shown,
        site::{
            drain,
            require_workload, //
        },
        Site,
        Verdict, //
    },
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};
use std::{
    io::Read,
    os::fd::AsFd, //
};

pub(super) fn is_there(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| match ask(file) {
        Ok(_) => Ok(()),
        Err(err) => require(false, || format!("{} in {state}", shown(&err))),
    })
}

pub(super) fn only_in_precopy(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        device.set_state(State::STOP_COPY)?;
        require_errno(ask(file), libc::EINVAL, "PRECOPY_INFO in STOP_COPY")
    })?;
    let (_device, file) = site.open_session(State::STOP_COPY)?;
    require_errno(ask(&file), libc::EINVAL, "PRECOPY_INFO in STOP_COPY")
}

/// Any error is right: the header does not say which one a file whose session has ended
/// returns.
pub(super) fn not_after_precopy(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        device.set_state(State::RUNNING)?;
        require(ask(file).is_err(), || {
            "PRECOPY_INFO in RUNNING succeeds".to_string()
        })
    })
}

pub(super) fn initial_bytes_are_not_zero(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let info = info(file)?;
        require(info.initial_bytes > 0, || {
            format!("initial_bytes is 0 in {state}")
        })
    })
}

pub(super) fn initial_bytes_decrease(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let mut before = info(file)?.initial_bytes;
        for size in [1, 16, 4096] {
            let n = file.read(&mut vec![0; size])? as u64;
            let after = info(file)?.initial_bytes;
            require(after <= before && before - after <= n, || {
                format!("{n} bytes read in {state}: initial_bytes goes from {before} to {after}")
            })?;
            before = after;
            if before == 0 {
                break;
            }
        }
        drain(file)?;
        let left = info(file)?.initial_bytes;
        require(left == 0, || {
            format!("all was read, and initial_bytes is {left}")
        })
    })
}

pub(super) fn dirty_bytes_begin_at_zero(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let dirty = info(file)?.dirty_bytes;
        require(dirty == 0, || format!("dirty_bytes is {dirty} in {state}"))
    })
}

pub(super) fn dirty_bytes_follow_changes(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    let dirty = info(&file)?.dirty_bytes;
    require(dirty > 0, || {
        "the state has changed, but dirty_bytes is 0".to_string()
    })?;
    let (bytes, _) = drain(&mut file)?;
    require(bytes > 0, || "dirty bytes cannot be read".to_string())?;
    let left = info(&file)?.dirty_bytes;
    require(left < dirty, || {
        format!("all of {dirty} dirty bytes was read, and {left} are left")
    })
}

/// What user space left in the fields must not look like an answer.
pub(super) fn fields_are_output(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let asked = PrecopyInfo {
            initial_bytes: u64::MAX,
            dirty_bytes: u64::MAX,
            ..PrecopyInfo::default()
        };
        let info = uapi::precopy_info(file.as_fd(), asked)?;
        let echoed = info.initial_bytes == u64::MAX || info.dirty_bytes == u64::MAX;
        require(!echoed, || format!("{info:?} in {state}"))
    })
}

pub(super) fn argsz(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        for argsz in [0, 8, 23] {
            let asked = PrecopyInfo {
                argsz,
                ..PrecopyInfo::default()
            };
            let result = uapi::precopy_info(file.as_fd(), asked);
            require_errno(result, libc::EINVAL, &format!("argsz {argsz}"))?;
        }
        let larger = PrecopyInfo {
            argsz: 4096,
            ..PrecopyInfo::default()
        };
        // A larger structure, as a newer kernel may have it.
        uapi::precopy_info(file.as_fd(), larger)?;
        Ok(())
    })
}

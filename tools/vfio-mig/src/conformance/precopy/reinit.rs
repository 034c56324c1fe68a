// SPDX-License-Identifier: GPL-2.0

//! VFIO_PRECOPY_INFO_REINIT, and the opt-in to it.

use super::session::{
    change,
    create,
    each_precopy_state,
    info, //
};
use crate::{
    conformance::{
        require,
        site::{
            drain,
            require_workload, //
        },
        Site,
        Verdict, //
    },
    state::State,
    stream::End,
    uapi::{
        self,
        PrecopyInfo, //
    },
};
use std::os::fd::AsFd;

pub(super) fn no_reinit_without_opt_in(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, state| {
        // Where it can be made to have new initial data.
        if state == State::PRE_COPY && require_workload(device).is_ok() {
            drain(file)?;
            create(device)?;
        }
        let flags = info(file)?.flags;
        require(flags == 0, || format!("flags 0 became {flags:#x}"))
    })
}

/// "Without this opt-in, the flags field is reserved": with it, it is not.
pub(super) fn flags_are_output(site: &Site) -> Verdict {
    let (_device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    for _ in 0..2 {
        for flags in [0, u32::MAX, uapi::PRECOPY_INFO_REINIT, 0xffff_fffe] {
            let asked = PrecopyInfo {
                flags,
                ..PrecopyInfo::default()
            };
            let got = uapi::precopy_info(file.as_fd(), asked)?.flags;
            require(got & !uapi::PRECOPY_INFO_REINIT == 0, || {
                format!("asked with flags {flags:#x}, answered with {got:#x}")
            })?;
            // Nothing was created, so nothing is new.
            require(got == 0, || {
                format!("asked with flags {flags:#x}, answered with REINIT")
            })?;
        }
        drain(&mut file)?;
    }
    Ok(())
}

pub(super) fn reinit(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    create(&device)?;
    let new = info(&file)?;
    require(new.flags == uapi::PRECOPY_INFO_REINIT, || {
        format!("flags are {:#x}", new.flags)
    })?;
    let (bytes, end) = drain(&mut file)?;
    require(bytes > 0 && end == End::Temporary, || {
        format!("{bytes} bytes, and then {end:?}")
    })
}

/// A device with changes that nobody has read yet, and then new initial data.
pub(super) fn reinit_counts(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    create(&device)?;
    let new = info(&file)?;
    let reinit = new.flags == uapi::PRECOPY_INFO_REINIT;
    require(reinit && new.initial_bytes > 0, || {
        format!(
            "flags {:#x}, {} initial bytes",
            new.flags, new.initial_bytes
        )
    })?;
    require(new.dirty_bytes == 0, || {
        format!("REINIT with {} dirty bytes", new.dirty_bytes)
    })?;
    drain(&mut file)?;
    let left = info(&file)?;
    require(left.initial_bytes == 0 && left.flags == 0, || {
        format!(
            "all was read: flags {:#x}, {} initial bytes",
            left.flags, left.initial_bytes
        )
    })
}

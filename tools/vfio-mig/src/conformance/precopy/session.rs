// SPDX-License-Identifier: GPL-2.0

//! A session in PRE_COPY, and work for its device.

use crate::{
    conformance::{
        shown,
        site::require_state,
        Site,
        Stop,
        Verdict, //
    },
    device::Device,
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
    workload::Workload, //
};
use std::{
    fs::File,
    io,
    os::fd::AsFd, //
};

/// What each test of a workload has a device do.
const WORK: u64 = 64 << 10;

pub(super) fn ask(file: &File) -> io::Result<PrecopyInfo> {
    uapi::precopy_info(file.as_fd(), PrecopyInfo::default())
}

pub(super) fn info(file: &File) -> Result<PrecopyInfo, Stop> {
    ask(file).map_err(|err| Stop::Fail(format!("PRECOPY_INFO: {}", shown(&err))))
}

/// PRE_COPY states that the device has.
pub(super) fn each_precopy_state(
    site: &Site,
    test: impl Fn(&Device, &mut File, State) -> Verdict,
) -> Verdict {
    let features = site.open_running()?.1;
    require_state(features, State::PRE_COPY)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P] {
        if features.supports(state) {
            let (device, mut file) = site.open_session(state)?;
            test(&device, &mut file, state)?;
        }
    }
    Ok(())
}

pub(super) fn create(device: &Device) -> Result<(), Stop> {
    let work = Workload {
        create_bytes: WORK,
        change_bytes: 0,
    };
    Ok(work.step(device, 0)?)
}

pub(super) fn change(device: &Device) -> Result<(), Stop> {
    let work = Workload {
        create_bytes: 0,
        change_bytes: WORK,
    };
    Ok(work.step(device, 1)?)
}

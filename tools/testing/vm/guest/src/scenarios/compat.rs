// SPDX-License-Identifier: GPL-2.0

//! ioctls as programs of 32 bit make them: they take another way into the kernel,
//! and must do the same.

use super::{
    compare::Site,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::os::fd::AsFd;
use vfio_mig::{
    device::Device,
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("compat", run)];

/// `struct vfio_device_feature` with a `struct vfio_device_feature_mig_state`.
fn feature(flags: u32, data: [u32; 2]) -> [u32; 4] {
    [16, flags, data[0], data[1]]
}

/// The state of the device, which is also set.
fn state(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    let file = device.fd().try_clone_to_owned()?.into();
    let set = uapi::FEATURE_SET | uapi::FEATURE_MIG_DEVICE_STATE;
    let get = uapi::FEATURE_GET | uapi::FEATURE_MIG_DEVICE_STATE;
    let mut words = feature(set, [State::STOP.0, u32::MAX]);
    sys::compat_ioctl(&file, uapi::VFIO_DEVICE_FEATURE, &mut words).context("SET")?;
    ensure!(device.state()? == State::STOP);
    let mut words = feature(get, [0, 0]);
    sys::compat_ioctl(&file, uapi::VFIO_DEVICE_FEATURE, &mut words).context("GET")?;
    ensure!(words[2] == State::STOP.0, "{words:?}");
    Ok(())
}

/// PRECOPY_INFO of a data file.
fn precopy_info(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    let file = device.begin(State::PRE_COPY)?;
    let mut words = [24, 0, 0, 0, 0, 0];
    sys::compat_ioctl(&file, uapi::VFIO_MIG_GET_PRECOPY_INFO, &mut words)?;
    let low = [words[2], words[4]].map(u64::from);
    let info = uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    ensure!(
        low == [info.initial_bytes, info.dirty_bytes] && info.initial_bytes > 0,
        "{words:?} is not {info:?}"
    );
    device.set_state(State::STOP_COPY)?;
    let seen = sys::compat_ioctl(&file, uapi::VFIO_MIG_GET_PRECOPY_INFO, &mut words);
    let errno = seen.err().and_then(|err| err.raw_os_error());
    ensure!(
        errno == Some(libc::EINVAL),
        "outside of PRE_COPY: {errno:?}"
    );
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    for driver in Driver::BOTH {
        let (vf, other) = vfs.of(driver);
        let site = Site { vf, other };
        let name = driver.name();
        results.test(&format!("state, {name} driver"), |_| state(&site));
        results.test(&format!("PRECOPY_INFO, {name} driver"), |_| {
            precopy_info(&site)
        });
    }
    Ok(())
}

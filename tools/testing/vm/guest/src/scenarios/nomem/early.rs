// SPDX-License-Identifier: GPL-2.0

//! A device that is stopped before its first image was read.

use crate::{
    injection,
    scenarios::{
        compare::{
            errno_name,
            Site, //
        },
        streams, //
    },
    sys,
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    io::Read,
    os::fd::AsFd, //
};
use vfio_mig::{
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// No request allocates as often.
const MAX: u32 = 2000;

/// The device is stopped when nobody has read the first image yet, so that the last one
/// takes a buffer of its own, and one allocation fails: then the device runs again, and can
/// go on.
pub(super) fn stopped_early(site: &Site) -> Result<u32> {
    let one_by_one = sys::is_long()?;
    let (mut n, mut refused) = (0, 0);
    while n < MAX {
        n += if one_by_one { 1 } else { 1 + n / 8 };
        let vf = Vf::open(site.vf, 16)?;
        let mut file = vf.device().begin(State::PRE_COPY)?;
        // Waits for the first image.
        let info = uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        vf.command(
            regs::CMD_CHANGE_STATE,
            &[info.initial_bytes / regs::PAGE / 2, 0],
        )?;
        let digest = vf.digest()?;
        let stop = || uapi::set_state(vf.device().fd(), State::STOP_COPY.0);
        let (result, failed) = injection::with_failure(n, stop)?;
        let Err(err) = result else {
            let mut stream = Vec::new();
            file.read_to_end(&mut stream)?;
            let loaded = streams::load(site.other, &stream)?;
            ensure!(loaded == digest, "failure {n}: another state is loaded");
            if failed {
                continue;
            }
            ensure!(refused > 0, "no allocation was needed");
            return Ok(n - 1);
        };
        let errno = err.raw_os_error().unwrap_or(0);
        let explained = failed && injection::explains(errno);
        ensure!(explained, "failure {n}: {}", errno_name(errno));
        refused += 1;
        vf.device().set_state(State::RUNNING)?;
        vf.work(1, 16)
            .with_context(|| format!("after failure {n}, the device does not run"))?;
    }
    bail!("there is no end to its allocations")
}

// SPDX-License-Identifier: GPL-2.0

//! A session in PRE_COPY, and what it reads.

use crate::{
    scenarios::compare::{
        errno_name,
        Site, //
    },
    vf::Vf, //
};
use anyhow::Result;
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd, //
};
use vfio_mig::{
    state::State,
    uapi, //
};

/// `MLX5_CMD_OP_*`, as the fault command names them.
pub(super) const SUSPEND_VHCA: u64 = 0x115;
pub(super) const QUERY_VHCA_MIGRATION_STATE: u64 = 0x117;
pub(super) const SAVE_VHCA_STATE: u64 = 0x118;
/// `MLX5_CMD_STAT_BAD_PARAM_ERR`.
pub(super) const BAD_PARAM: u64 = 3;

/// Asks for PRECOPY_INFO, with zeroes.
pub(super) fn info(file: &File) -> String {
    match uapi::precopy_info(file.as_fd(), uapi::PrecopyInfo::default()) {
        Ok(info) => format!(
            "(initial {}, dirty {}, flags {:#x})",
            info.initial_bytes, info.dirty_bytes, info.flags
        ),
        Err(err) => errno_name(err.raw_os_error().unwrap_or(0)),
    }
}

/// As [`info`], and then waits for the SAVE that it may have started. A change during a SAVE
/// is in that image or in the next one.
pub(super) fn info_and_save(file: &File) -> String {
    let seen = info(file);
    info(file);
    seen
}

/// Reads up to `len` bytes, however many calls that takes. Says how many there
/// were, and what came instead of more.
pub(super) fn read(file: &mut File, len: usize, into: &mut Vec<u8>) -> String {
    let mut done = 0;
    let mut buf = vec![0; len.min(1 << 20)];
    while done < len {
        let want = buf.len().min(len - done);
        match file.read(&mut buf[..want]) {
            Ok(0) => return format!("{done}, then the end"),
            Ok(n) => {
                into.extend(&buf[..n]);
                done += n;
            }
            Err(err) => {
                let errno = errno_name(err.raw_os_error().unwrap_or(0));
                return format!("{done}, then {errno}");
            }
        }
    }
    done.to_string()
}

/// Reads all that there is.
pub(super) fn drain(file: &mut File) -> String {
    read(file, usize::MAX, &mut Vec::new())
}

/// A VF in PRE_COPY, and the file.
pub(super) fn begin(site: &Site, v2: bool) -> Result<(Vf, File)> {
    let vf = Vf::open(site.vf, 16)?;
    if v2 {
        vf.device().opt_in_precopy_info_v2()?;
    }
    vf.work(2, 16)?;
    let file = vf.device().begin(State::PRE_COPY)?;
    Ok((vf, file))
}

/// Changes some pages of the state.
pub(super) fn change(vf: &Vf, pages: u64) -> Result<()> {
    vf.command(regs::CMD_CHANGE_STATE, &[pages, 3])
}

/// Creates objects.
pub(super) fn create(vf: &Vf, pages: u64) -> Result<()> {
    vf.command(regs::CMD_CREATE_STATE, &[pages, 40])
}

// SPDX-License-Identifier: GPL-2.0

//! Images that nobody reads.

use super::{
    interchange::arrives,
    session::{
        begin,
        create,
        drain,
        info,
        info_and_save,
        read,
        BAD_PARAM,
        SAVE_VHCA_STATE, //
    },
};
use crate::{
    scenarios::compare::{
        outcome,
        Site, //
    },
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use std::fs::File;
use vfio_mig::state::State;

/// New initial state over and over, and nobody reads.
pub(super) fn nobody_reads(site: &Site) -> Result<()> {
    let (vf, mut file) = begin(site, true)?;
    info(&file);
    for _ in 0..40 {
        create(&vf, 64)?;
        let seen = info_and_save(&file);
        ensure!(seen.ends_with("flags 0x1)"), "{seen}");
    }
    let mut stream = Vec::new();
    read(&mut file, usize::MAX, &mut stream);
    // Far less than forty times the size of those objects.
    ensure!(stream.len() < 6 << 20, "{} bytes", stream.len());
    vf.device().set_state(State::PRE_COPY_P2P)?;
    let digest = vf.digest()?;
    vf.device().set_state(State::STOP_COPY)?;
    read(&mut file, usize::MAX, &mut stream);
    ensure!(arrives(site, digest, &stream)? == "same state");
    Ok(())
}

/// As many new initial states as the driver saves, unread. `first`: the first image was read.
fn all_unread(site: &Site, first: bool) -> Result<(Vf, File, Vec<u8>)> {
    let (vf, mut file) = begin(site, true)?;
    info(&file);
    let mut stream = Vec::new();
    if first {
        read(&mut file, usize::MAX, &mut stream);
    }
    for _ in 0..12 {
        create(&vf, 20)?;
        info_and_save(&file);
    }
    Ok((vf, file, stream))
}

/// The device is stopped when all images wait to be read: there is a buffer for it.
pub(super) fn stopped_unread(site: &Site) -> Result<()> {
    for first in [false, true] {
        let (vf, mut file, mut stream) = all_unread(site, first)?;
        vf.device().set_state(State::PRE_COPY_P2P)?;
        let digest = vf.digest()?;
        vf.device().set_state(State::STOP_COPY)?;
        let end = read(&mut file, usize::MAX, &mut stream);
        ensure!(end.ends_with("the end"), "{end}");
        ensure!(arrives(site, digest, &stream)? == "same state");
    }
    Ok(())
}

/// The migration is given up when all images wait to be read, which firmware refuses more
/// often than there are buffers.
pub(super) fn given_up_unread(site: &Site) -> Result<()> {
    for first in [false, true] {
        let (vf, mut file, _) = all_unread(site, first)?;
        for _ in 0..12 {
            vf.command(regs::CMD_FAULT, &[SAVE_VHCA_STATE, BAD_PARAM])?;
            let refused = outcome(vf.device().set_state(State::RUNNING));
            ensure!(refused == "EINVAL", "{refused}");
        }
        // Nothing was lost by that.
        let unread = drain(&mut file);
        ensure!(unread.ends_with("ENOMSG"), "{unread}");
        create(&vf, 20)?;
        info_and_save(&file);
        let unread = drain(&mut file);
        ensure!(!unread.starts_with('0'), "{unread}");
        let (vf, file, _) = {
            drop((vf, file));
            all_unread(site, first)?
        };
        vf.device().set_state(State::RUNNING)?;
        drop(file);
        vf.work(1, 16)?;
    }
    Ok(())
}

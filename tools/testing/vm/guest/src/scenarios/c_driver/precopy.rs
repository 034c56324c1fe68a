// SPDX-License-Identifier: GPL-2.0

//! Sessions in PRE_COPY: what they say, and how they are left.

use super::BAD_PARAM;
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        waits::{
            aside,
            within,
            LONG, //
        },
    },
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    time::Duration, //
};
use vfio_mig::{
    device::Device,
    state::State,
    stream,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// Bytes of a state of which only the expected size is known: its record.
const SIZE_RECORD: u64 = 24;

/// The data file outlives the open device: PRECOPY_INFO fails, and the kernel goes on.
pub(super) fn asked_after_close(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    let file = device.begin(State::PRE_COPY)?;
    drop(device);
    let asked = words(uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(|_| "ok"));
    ensure!(asked != "ok", "a device that is closed has bytes to read");
    Ok(())
}

/// Firmware refuses the SAVE that begins to track: the migration can be given up.
pub(super) fn first_save_refused(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let refusal = Fault::fail(opcode::SAVE_VHCA_STATE).status(BAD_PARAM, 0);
    faults.arm(refusal.about(fault::vhca(site.vf)?))?;
    let _file = vf.device().begin(State::PRE_COPY)?;
    let left = outcome(vf.device().set_state(State::RUNNING));
    ensure!(faults.fired()? == 1, "no SAVE was refused");
    ensure!(left == "ok", "PRE_COPY to RUNNING: {left}");
    vf.work(1, 16)
}

/// Firmware refuses to say how large the last image is: the migration can be given up, and the
/// VF works.
pub(super) fn last_query_refused(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    stream::copy_available(&mut file, &mut Vec::new(), |_| ())?;
    vf.device().set_state(State::PRE_COPY_P2P)?;
    let refusal = Fault::fail(opcode::QUERY_VHCA_MIGRATION_STATE).status(BAD_PARAM, 0);
    faults.arm(refusal.about(fault::vhca(site.vf)?))?;
    let stopped = outcome(vf.device().set_state(State::STOP_COPY));
    ensure!(stopped != "ok", "no query was refused");
    let flags = vf.read(regs::FLAGS)?;
    let state = vf.device().state()?;
    let left = outcome(vf.device().set_state(State::RUNNING));
    ensure!(
        left == "ok",
        "in {state}, the VF has flags {flags:#x}; to RUNNING: {left}"
    );
    vf.work(1, 16)
}

/// PRECOPY_INFO sets both sizes, whatever was there before.
pub(super) fn info_onto_garbage(site: &Site) -> Result<()> {
    let garbage = PrecopyInfo {
        initial_bytes: 0x1111_2222_3333_4444,
        dirty_bytes: 0x5555_6666_7777_8888,
        ..Default::default()
    };
    let ask = |file: &File| uapi::precopy_info(file.as_fd(), garbage);
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::PRE_COPY)?;
    let first = ask(&file)?;
    stream::copy_available(&mut file, &mut Vec::new(), |_| ())?;
    let last = ask(&file)?;
    ensure!(
        first.dirty_bytes == 0 && last.initial_bytes == 0,
        "dirty_bytes {:#x}, and then initial_bytes {:#x}",
        first.dirty_bytes,
        last.initial_bytes
    );
    Ok(())
}

/// How large the first image is, is not known before it was saved: PRECOPY_INFO waits for it.
pub(super) fn info_in_first_save(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    device.set_state(State::RUNNING_P2P)?;
    // It is not held for as long as a command may take.
    let late = Fault::late(opcode::SAVE_VHCA_STATE, Duration::from_millis(500));
    faults.arm(late.about(fault::vhca(site.vf)?))?;
    let file = device.begin(State::PRE_COPY_P2P)?;
    let answer = aside(move || uapi::precopy_info(file.as_fd(), PrecopyInfo::default()));
    let info = within(&answer, LONG, "PRECOPY_INFO")??;
    ensure!(
        info.initial_bytes > SIZE_RECORD,
        "{} bytes are left of the state",
        info.initial_bytes
    );
    Ok(())
}

/// While what has changed is being saved, a reader that does not wait is told to come again.
pub(super) fn read_in_save(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    stream::copy_available(&mut file, &mut Vec::new(), |_| ())?;
    vf.command(regs::CMD_CHANGE_STATE, &[4, 0])?;
    let late = Fault::late(opcode::SAVE_VHCA_STATE, Duration::from_millis(500));
    faults.arm(late.about(fault::vhca(site.vf)?))?;
    let info = uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    ensure!(info.dirty_bytes > 0, "nothing has changed");
    uapi::set_nonblocking(file.as_fd(), true)?;
    let read = words(file.read(&mut [0; 1]));
    ensure!(read == "EAGAIN", "read() of what is announced: {read}");
    Ok(())
}

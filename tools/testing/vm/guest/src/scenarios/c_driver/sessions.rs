// SPDX-License-Identifier: GPL-2.0

//! Sessions that end: by a reload of the PF, a reset, an unbind or a SAVE that fails.

use super::BAD_PARAM;
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        self,
        Pf, //
    },
    kmsg,
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        streams, //
    },
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd,
    thread,
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

/// Long enough for a command to be under way.
const SHORT: Duration = Duration::from_millis(300);

/// A device in PRE_COPY whose PF is reloaded.
fn reloaded_in_precopy(site: &Site) -> Result<(Device, File)> {
    let device = Device::open(site.vf)?;
    let file = device.begin(State::PRE_COPY)?;
    Pf::find()?.reload()?;
    Ok((device, file))
}

/// The arc may fail, and the kernel goes on.
pub(super) fn left_after_reload(site: &Site) -> Result<()> {
    let (device, _file) = reloaded_in_precopy(site)?;
    outcome(device.set_state(State::RUNNING));
    Ok(())
}

/// The same with PRECOPY_INFO.
pub(super) fn asked_after_reload(site: &Site) -> Result<()> {
    let (_device, file) = reloaded_in_precopy(site)?;
    words(uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(|_| "ok"));
    Ok(())
}

/// A reload of the PF makes the VF forget what was loaded, so RESUMING cannot be left.
pub(super) fn loaded_then_reloaded(site: &Site) -> Result<()> {
    let (stream, _) = streams::save(site.other, 2)?;
    let device = Device::open(site.vf)?;
    device.begin(State::RESUMING)?.write_all(&stream)?;
    Pf::find()?.reload()?;
    let left = outcome(device.set_state(State::STOP));
    ensure!(left != "ok", "RESUMING was left with success");
    Ok(())
}

/// The file is open for longer than the driver is bound to the VF.
pub(super) fn write_after_unbind(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    drop(device);
    hca::unbind(site.vf)?;
    let written = words(file.write(&[0; 16]));
    ensure!(written == "ENODEV", "write(): {written}");
    Ok(())
}

/// A device in PRE_COPY, of which all was read, and the next SAVE of which is refused.
fn refused(site: &Site, faults: &Faults) -> Result<(Vf, File)> {
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    stream::copy_available(&mut file, &mut Vec::new(), |_| ())?;
    vf.command(regs::CMD_CHANGE_STATE, &[4, 0])?;
    let refusal = Fault::fail(opcode::SAVE_VHCA_STATE).status(BAD_PARAM, 0);
    faults.arm(refusal.about(fault::vhca(site.vf)?))?;
    Ok((vf, file))
}

/// Firmware refuses to save what has changed: the migration can be given up.
pub(super) fn save_refused(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let (vf, file) = refused(site, &faults)?;
    uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
    thread::sleep(SHORT);
    ensure!(faults.fired()? == 1, "no SAVE was refused");
    let left = outcome(vf.device().set_state(State::RUNNING));
    ensure!(left == "ok", "PRE_COPY to RUNNING: {left}");
    Ok(())
}

/// Firmware refuses the SAVE that ends tracking: the arc fails.
pub(super) fn last_save_refused(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let (vf, file) = refused(site, &faults)?;
    let left = outcome(vf.device().set_state(State::RUNNING));
    ensure!(faults.fired()? == 1, "no SAVE was refused");
    vf.device().reset()?;
    drop((vf, file));
    hca::unbind(site.vf)?;
    ensure!(left != "ok", "the arc was a success");
    Ok(())
}

/// A reset ends a SAVE, and the session with it: nothing is left that keeps the module loaded.
/// That it is unloaded is a test of its own.
pub(super) fn reset_in_save(site: &Site) -> Result<()> {
    // The SAVE that it ends.
    kmsg::expect("SAVE_VHCA_STATE");
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm(Fault::late(opcode::SAVE_VHCA_STATE, SHORT).about(fault::vhca(site.vf)?))?;
    let mut file = device.begin(State::STOP_COPY)?;
    device.reset()?;
    let state = device.state()?;
    ensure!(state == State::RUNNING, "the state is {state}");
    let read = words(file.read(&mut [0; 1]));
    ensure!(read == "ENODEV", "a read: {read}");
    Ok(())
}

/// A reset while an arc waits for a SAVE, which the reset ends: RUNNING means that the VF runs.
pub(super) fn reset_in_arc(site: &Site) -> Result<()> {
    kmsg::expect("SAVE_VHCA_STATE");
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    faults.arm(Fault::held(opcode::SAVE_VHCA_STATE).about(fault::vhca(site.vf)?))?;
    let _file = vf.device().begin(State::PRE_COPY)?;
    faults.wait_for_held(1)?;
    let arc = thread::scope(|scope| -> Result<String> {
        let arc = scope.spawn(|| outcome(vf.device().set_state(State::PRE_COPY_P2P)));
        thread::sleep(SHORT);
        ensure!(!arc.is_finished(), "the arc has not waited for the SAVE");
        vf.device().reset()?;
        arc.join().ok().context("a thread panicked")
    })?;
    let state = vf.device().state()?;
    let flags = vf.read(regs::FLAGS)? as u32;
    ensure!(
        state != State::RUNNING || flags == 0,
        "the arc: {arc}; in {state}, the VF has flags {flags:#x}"
    );
    Ok(())
}

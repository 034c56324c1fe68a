// SPDX-License-Identifier: GPL-2.0

//! Firmware that carries out what mlx5_core has given up.

use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    kmsg, records,
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        dirty::{
            self,
            ALL,
            PAGE, //
        },
        streams, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use std::io::{
    Read,
    Write, //
};
use vfio_mig::{
    device::Device,
    state::State, //
};

/// Has a command held, until the session that sent it is over. The device then uses only
/// memory that is there for it: else the IOMMU complains.
fn held(site: &Site, opcode: u16, session: impl FnOnce(&Device) -> Result<()>) -> Result<()> {
    // Firmware does not destroy an mkey that it uses.
    kmsg::expect("DESTROY_MKEY");
    kmsg::expect("DEALLOC_PD");
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm(Fault::held(opcode).about(fault::vhca(site.vf)?))?;
    session(&device)?;
    faults.wait_for_held(1)?;
    // After a LOAD that has failed, that fails, too.
    outcome(device.set_state(State::STOP));
    faults.release()?;
    faults.wait_for_held(0)
}

/// A SAVE.
pub(super) fn save(site: &Site) -> Result<()> {
    held(site, opcode::SAVE_VHCA_STATE, |device| {
        let mut file = device.begin(State::STOP_COPY)?;
        records::read_head(&mut file)?;
        let read = words(file.read(&mut [0; 1]));
        ensure!(read == "ENODEV", "read(): {read}");
        Ok(())
    })
}

/// A LOAD.
pub(super) fn load(site: &Site) -> Result<()> {
    let (stream, _) = streams::save(site.other, 2)?;
    held(site, opcode::LOAD_VHCA_STATE, |device| {
        let written = words(device.begin(State::RESUMING)?.write(&stream));
        ensure!(written == "ETIMEDOUT", "write(): {written}");
        Ok(())
    })
}

/// SUSPEND_VHCA. The state does not say that the VF runs, which it soon does not.
pub(super) fn suspend(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm(Fault::held(opcode::SUSPEND_VHCA).about(fault::vhca(site.vf)?))?;
    let stopped = outcome(device.set_state(State::RUNNING_P2P));
    ensure!(stopped == "ETIMEDOUT", "RUNNING to RUNNING_P2P: {stopped}");
    let state = device.state()?;
    faults.release()?;
    faults.wait_for_held(0)?;
    ensure!(state == State::ERROR, "the state is {state}");
    Ok(())
}

/// A report of dirty pages, whose messages come when it was given up: the next report has all
/// pages, or says that tracking has failed.
pub(super) fn report(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = dirty::tracked(site)?;
    let mut written = dirty::scatter(&vf, 10)?;
    faults.arm(Fault::held(opcode::MODIFY_GENERAL_OBJECT))?;
    let first = outcome(dirty::pages_of(vf.device(), ALL));
    ensure!(first == "ETIMEDOUT", "the first report: {first}");
    faults.release()?;
    faults.wait_for_held(0)?;
    written.extend(dirty::scatter(&vf, 10)?);
    if outcome(dirty::pages_of(vf.device(), ALL)) == "EIO" {
        return dirty::works_again(&vf);
    }
    let reported = dirty::pages(vf.device(), ALL, PAGE)?;
    let missing = written.difference(&reported).count();
    ensure!(
        missing == 0,
        "{missing} of {} pages are missing",
        written.len()
    );
    Ok(())
}

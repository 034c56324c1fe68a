// SPDX-License-Identifier: GPL-2.0

//! Firmware that refuses a command, is late, or does not answer.

use super::resuming::usable;
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::Pf,
    kmsg, records,
    scenarios::{
        compare::{
            outcome,
            Observation,
            Site, //
        },
        streams, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    device::Device,
    state::State, //
};
use vm_common::judge::UNDESTROYED;

/// `MLX5_CMD_STAT_BAD_RES_ERR`
const BAD_RES: u8 = 0x5;

pub(super) const OBSERVATIONS: &[Observation] = &[
    ("firmware refuses to stop the second side", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        let fault = Fault::fail(opcode::SUSPEND_VHCA).about(fault::vhca(site.vf)?);
        faults.arm(fault.nth(2))?;
        let other = Device::open(site.other)?;
        other.set_state(State::STOP)?;
        let seen = [
            outcome(device.set_state(State::STOP)),
            device.state()?.to_string(),
            outcome(device.set_state(State::STOP)),
        ];
        Ok(format!("{}, fired {}", seen.join(", "), faults.fired()?))
    }),
    ("firmware refuses what is loaded", |site| {
        let (stream, _) = streams::save(site.other, 2)?;
        let faults = Faults::open()?;
        // Opening a device resets it, but does not disarm the fault.
        let fault = Fault::fail(opcode::LOAD_VHCA_STATE).about(fault::vhca(site.vf)?);
        faults.arm(fault.status(BAD_RES, 0x1234))?;
        ensure!(streams::load(site.vf, &stream).is_err(), "it was loaded");
        let seen = format!("fired {}, armed {}", faults.fired()?, faults.armed()?);
        usable(site)?;
        Ok(seen)
    }),
    ("firmware is late", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        let delay = Duration::from_millis(300);
        faults.arm(Fault::late(opcode::SUSPEND_VHCA, delay).times(2))?;
        let begin = Instant::now();
        device.set_state(State::STOP)?;
        ensure!(begin.elapsed() >= 2 * delay, "it was not late");
        Ok(format!("fired {}", faults.fired()?))
    }),
    ("firmware does not answer until it is told to", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        faults.arm(Fault::held(opcode::SUSPEND_VHCA))?;
        let stopping = thread::spawn(move || outcome(device.set_state(State::RUNNING_P2P)));
        faults.wait_for_held(1)?;
        thread::sleep(Duration::from_millis(300));
        ensure!(!stopping.is_finished(), "it was answered");
        faults.release()?;
        Ok(stopping.join().unwrap_or_default())
    }),
];

/// Firmware does not destroy an object when a session ends: the VF still works, and the PF
/// can be reloaded.
pub(super) fn undestroyed(site: &Site, opcode: u16) -> Result<()> {
    let faults = Faults::open()?;
    faults.arm(Fault::fail(opcode))?;
    kmsg::require(UNDESTROYED, || streams::save(site.vf, 2))?;
    ensure!(faults.fired()? == 1, "it was destroyed");
    faults.arm(Fault::fail(opcode))?;
    let (stream, digest) = streams::save(site.other, 2)?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Ok(())
}

/// Firmware does not destroy the mkey of one image: the session goes on with the next.
pub(super) fn undestroyed_between(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    let twice = [&stream[..], &stream[records::head(&stream)?..]].concat();
    let faults = Faults::open()?;
    faults.arm(Fault::fail(opcode::DESTROY_MKEY))?;
    let loaded = kmsg::require(UNDESTROYED, || streams::load(site.vf, &twice))?;
    ensure!(loaded == digest, "another state");
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &twice)? == digest, "another state");
    Ok(())
}

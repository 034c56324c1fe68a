// SPDX-License-Identifier: GPL-2.0

//! Firmware that answers when mlx5_core does not wait for it any more: after a
//! second here, and five more in which it hopes that only an event was lost.

use super::{
    compare::{self, outcome, Difference, Observation, Site},
    Bench,
};
use crate::{
    fault::{self, opcode, Fault, Faults},
    tap::Results,
    vf::Vf,
};
use anyhow::{ensure, Result};
use std::{
    thread,
    time::{Duration, Instant},
};
use vfio_mig::{device::Device, state::State};

/// When the answer comes.
const LATE: Duration = Duration::from_secs(8);

/// The VF works, whatever firmware has done in the end.
fn works(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    vf.work(3, 16)?;
    vf.device().set_state(State::STOP)?;
    Ok(vf.device().set_state(State::RUNNING).map(drop)?)
}

const OBSERVATIONS: &[Observation] = &[
    ("a device that is stopped too late", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        let fault = Fault::late(opcode::SUSPEND_VHCA, LATE).about(fault::vhca(site.vf)?);
        faults.arm(fault)?;
        let begin = Instant::now();
        let mut seen = vec![outcome(device.set_state(State::RUNNING_P2P))];
        ensure!(begin.elapsed() < LATE, "it has waited for firmware");
        seen.push(device.state()?.to_string());
        // Another one does not wait for it.
        let other = Device::open(site.other)?;
        other.set_state(State::STOP)?;
        thread::sleep(LATE);
        drop((device, other));
        works(site)?;
        Ok(format!("{}, fired {}", seen.join(", "), faults.fired()?))
    }),
    ("a device that is never stopped", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        faults.arm(Fault::held(opcode::SUSPEND_VHCA).about(fault::vhca(site.vf)?))?;
        let seen = outcome(device.set_state(State::RUNNING_P2P));
        faults.wait_for_held(1)?;
        drop(device);
        // Released when the VF was reset.
        works(site)?;
        faults.release()?;
        faults.wait_for_held(0)?;
        works(site)?;
        Ok(seen)
    }),
];

const DIFFERENCES: &[Difference] = &[Difference {
    name: "a device that is stopped too late",
    c: "ETIMEDOUT, RUNNING, fired 1",
    rust: "ETIMEDOUT, ERROR, fired 1",
    reason: "firmware stops the device in the end: a state that says that it runs is \
             not true",
}];

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    Ok(())
}

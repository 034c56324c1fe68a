// SPDX-License-Identifier: GPL-2.0

//! Firmware that answers when mlx5_core does not wait for it any more: after a
//! second here, and five more in which it hopes that only an event was lost.

use super::{
    compare::{self, outcome, words, Difference, Observation, Site},
    streams, Bench,
};
use crate::{
    fault::{self, opcode, Fault, Faults},
    hca::{Driver, Pf},
    kmsg,
    tap::Results,
    vf::Vf,
};
use anyhow::{ensure, Result};
use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};
use vfio_mig::{device::Device, state::State};
use vm_common::judge::UNDESTROYED;

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

/// Firmware saves or loads, and answers only when the session is over and its memory
/// should be given back. What the memory is for was not destroyed then: it stays.
///
/// Only with the Rust driver: the C driver frees it.
fn late_transfer(site: &Site, opcode: u16) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm(Fault::held(opcode).about(fault::vhca(site.vf)?))?;
    // Firmware does not destroy the mkey while it uses it.
    kmsg::expect("DESTROY_MKEY");
    kmsg::require(UNDESTROYED, || {
        if opcode == opcode::LOAD_VHCA_STATE {
            let written = words(device.begin(State::RESUMING)?.write(&stream));
            ensure!(written == "ETIMEDOUT", "write(): {written}");
        } else {
            let mut file = device.begin(State::STOP_COPY)?;
            file.read_exact(&mut [0; 24])?;
            let read = words(file.read(&mut [0; 1]));
            ensure!(read == "ENODEV", "read(): {read}");
        }
        faults.wait_for_held(1)?;
        drop(device);
        Ok(())
    })?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    faults.release()?;
    faults.wait_for_held(0)?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    let (vf, other) = bench.of(Driver::Rust);
    let site = Site { vf, other };
    for (what, opcode) in [
        ("SAVE", opcode::SAVE_VHCA_STATE),
        ("LOAD", opcode::LOAD_VHCA_STATE),
    ] {
        let name = format!("a {what} that ends after its session");
        results.test(&name, |_| late_transfer(&site, opcode));
    }
    Ok(())
}

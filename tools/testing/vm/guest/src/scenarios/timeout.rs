// SPDX-License-Identifier: GPL-2.0

//! Firmware that answers when mlx5_core has given up the command: after a second here, and
//! five more in which mlx5_core looks for an answer whose event was lost.

use super::{
    compare::{
        self,
        outcome,
        words,
        Difference,
        Observation,
        Site, //
    },
    dirty::{
        self,
        ALL, //
    },
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg::{
        self,
        Refused, //
    },
    records,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    io::{
        Read,
        Write, //
    },
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

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("timeout", run)];

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

/// Firmware saves or loads, and answers only when the session is over and its memory should
/// be freed. The mkey of the memory could not be destroyed then, so the memory is kept.
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
            records::read_head(&mut file)?;
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

/// Firmware destroys an mkey, and answers when nobody waits any more. The driver does not
/// send the command again: the number may be that of another object by then.
fn late_destroy(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    let faults = Faults::open()?;
    faults.arm(Fault::held(opcode::DESTROY_MKEY))?;
    kmsg::require(UNDESTROYED, || {
        let device = Device::open(site.vf)?;
        let _file = device.begin(State::STOP_COPY)?;
        Ok(device.set_state(State::RUNNING)?)
    })?;
    faults.wait_for_held(1)?;
    let mut refused = Refused::from_now_on()?;
    // Each of these destroys an mkey, and would try that of before.
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    faults.release()?;
    faults.wait_for_held(0)?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    refused.none()?;
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Ok(())
}

/// The first SAVE of a running device is given up. Firmware may carry it out later and track
/// the device, so leaving PRE_COPY for RUNNING must not succeed.
fn late_tracking(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm(Fault::held(opcode::SAVE_VHCA_STATE).about(fault::vhca(site.vf)?))?;
    // Firmware does not destroy the mkey while it uses it.
    kmsg::expect("DESTROY_MKEY");
    kmsg::require(UNDESTROYED, || {
        let mut file = device.begin(State::PRE_COPY)?;
        records::read_head(&mut file)?;
        let read = words(file.read(&mut [0; 1]));
        ensure!(read == "ENODEV", "read(): {read}");
        let left = outcome(device.set_state(State::RUNNING));
        let state = device.state()?;
        ensure!(
            left == "ETIMEDOUT" && state == State::ERROR,
            "{left}, {state}"
        );
        drop(device);
        Ok(())
    })?;
    faults.release()?;
    faults.wait_for_held(0)?;
    works(site)
}

/// Firmware makes a report that nobody waits for any more. What it sends is not taken for
/// the next one.
fn late_report(site: &Site) -> Result<()> {
    let vf = dirty::tracked(site)?;
    dirty::scatter(&vf, 10)?;
    let faults = Faults::open()?;
    faults.arm(Fault::held(opcode::MODIFY_GENERAL_OBJECT))?;
    let complaint = "the page tracker does not answer; stop DMA logging";
    let end = kmsg::require(complaint, || Ok(outcome(dirty::pages_of(vf.device(), ALL))))?;
    ensure!(end == "ETIMEDOUT", "{end}");
    faults.release()?;
    faults.wait_for_held(0)?;
    dirty::works_again(&vf)
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    compare::both(results, &vfs, OBSERVATIONS, DIFFERENCES);
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("an mkey that is destroyed too late", |_| {
        late_destroy(&site)
    });
    results.test("a first SAVE that ends too late", |_| late_tracking(&site));
    results.test("a report that is begun too late", |_| late_report(&site));
    for (what, opcode) in [
        ("SAVE", opcode::SAVE_VHCA_STATE),
        ("LOAD", opcode::LOAD_VHCA_STATE),
    ] {
        let name = format!("a {what} that ends after its session");
        results.test(&name, |_| late_transfer(&site, opcode));
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A PF that is reloaded, or goes away.

use super::resuming::usable;
use crate::{
    fault::{
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    kmsg,
    records::{
        self,
        header, //
    },
    scenarios::{
        compare::{
            outcome,
            words,
            Difference,
            Observation,
            Site, //
        },
        streams, //
    },
};
use anyhow::{
    ensure,
    Context,
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

pub(super) const OBSERVATIONS: &[Observation] = &[
    ("the PF is reloaded during a save", |site| {
        // The device runs.
        kmsg::expect("SAVE_VHCA_STATE");
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        Pf::find()?.reload()?;
        let read = words(file.read(&mut [0; 100]));
        let state = device.state()?;
        let stop = outcome(device.set_state(State::STOP));
        // The device runs, since the PF was reloaded: there is nothing to save. The
        // C driver loses a reference to its file if that is closed before it has
        // dealt with the answer.
        let again = match device.begin(State::STOP_COPY) {
            // Firmware may have answered before the size record was read.
            Ok(mut file) => words(file.read_exact(&mut [0; 100]).map(|()| "all")),
            Err(err) => format!("{err:#}"),
        };
        thread::sleep(Duration::from_millis(100));
        drop((device, file));
        usable(site)?;
        Ok(format!(
            "read {read}, {state}, to STOP {stop}, to STOP_COPY {again}"
        ))
    }),
    ("the PF is reloaded during a load", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&header(1000, 0, 0))?;
        Pf::find()?.reload()?;
        let write = words(file.write(&[0; 100]));
        let state = device.state()?;
        let stop = outcome(device.set_state(State::STOP));
        let end = device.state()?;
        drop((device, file));
        usable(site)?;
        Ok(format!("write {write}, {state}, to STOP {stop}, {end}"))
    }),
];

pub(super) const DIFFERENCES: &[Difference] = &[Difference {
    name: "the PF is reloaded during a load",
    c: "write ENODEV, RESUMING, to STOP ok, STOP",
    rust: "write ENODEV, RESUMING, to STOP EIO, ERROR",
    reason: "the uAPI: incomplete data must fail the transition",
}];

/// Takes VFs away.
pub(super) type Removal = fn(&Pf) -> Result<()>;

/// User space resets a device while firmware saves it. Only with the Rust driver: when the C
/// driver cancels the work that would have dropped a reference to its file, it loses the
/// reference, and can then not be unloaded.
pub(super) fn reset_while_saving(site: &Site) -> Result<()> {
    for _ in 0..10 {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            words(file.read_to_end(&mut all))
        });
        device.reset()?;
        ensure!(device.state()? == State::RUNNING);
        // Done before the reset, or failed by it; never stuck.
        let read = reader.join().unwrap_or_default();
        ensure!(read == "ENODEV" || read.parse::<usize>().is_ok(), "{read}");
    }
    usable(site)
}

/// The PF's driver is unbound while VFs are in use: the unbind waits for them, and calls on
/// them fail, but nothing else does.
pub(super) fn pf_removed(site: &Site, remove: Removal) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    let remover = thread::spawn(move || remove(&Pf::find()?));
    // It cannot finish while the device is open.
    thread::sleep(Duration::from_millis(500));
    let waits = !remover.is_finished();
    let read = words(file.read(&mut [0; records::HEADER]));
    drop(device);
    let begin = Instant::now();
    while !remover.is_finished() && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(remover.is_finished(), "the removal is stuck");
    remover
        .join()
        .map_err(|_| anyhow::anyhow!("the remover panicked"))??;
    let after = words(file.read(&mut [0; records::HEADER]));
    Ok(format!("waits: {waits}, read {read}, then {after}"))
}

/// When the PF is reloaded, enabling a VF that is in use fails. mlx5_core announces that the
/// VF is there, but never that it goes.
pub(super) fn not_enabled(site: &Site, number: u32) -> Result<()> {
    let faults = Faults::open()?;
    for end in ["the PF is reloaded", "the VF is unbound"] {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        // After the PF itself, and the VFs before it.
        faults.arm(Fault::fail(opcode::ENABLE_HCA).nth(number + 2))?;
        Pf::find()?.reload()?;
        let seen = [
            words(file.read(&mut [0; 1])),
            device.state()?.to_string(),
            outcome(device.set_state(State::STOP)),
            outcome(device.data_size()),
        ];
        ensure!(
            seen == ["ENODEV", "STOP_COPY", "ok", "ENOTCONN"],
            "{end}: {seen:?}"
        );
        let again = outcome(device.set_state(State::STOP_COPY));
        ensure!(again == "ENOTCONN", "{end}: to STOP_COPY: {again}");
        drop(file);
        if end == "the VF is unbound" {
            drop(device);
            hca::unbind(site.vf)?;
            Pf::find()?.reload()?;
            hca::bind(site.vf, Driver::Rust)?;
        } else {
            Pf::find()?.reload()?;
            drop(device);
        }
        streams::migrate(site.other, site.vf, 2).context(end)?;
    }
    Ok(())
}

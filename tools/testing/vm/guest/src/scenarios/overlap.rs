// SPDX-License-Identifier: GPL-2.0

//! Benchmark: records that arrive as fast as firmware loads them, and how far arriving and
//! loading overlap.
//!
//! The machine counts time in instructions: what it measures does not depend on the host.

use super::{
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    fault,
    records,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use serde_json::json;
use std::{
    io::Write,
    thread,
    time::Duration, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("overlap", run), ("bench-overlap", run)];

/// A MiB arrives in this time, and firmware loads it in the same: the property
/// `load-us-per-mib` in the table of scenarios.
const PER_MIB: Duration = Duration::from_millis(20);
/// Images of a stream, of a MiB each: the properties `state-size` and `chunk-size`.
const IMAGES: usize = 16;

/// The pieces that a stream arrives in.
type Pieces = fn(&[u8]) -> Result<Vec<&[u8]>>;

const PATTERNS: &[(&str, Pieces)] = &[
    ("16 records of 1 MiB, 64 KiB writes", |stream| {
        Ok(stream.chunks(64 << 10).collect())
    }),
    ("16 records of 1 MiB, a write for each", records::all),
    // QEMU moves a state in such pieces, wherever its records begin.
    ("16 records of 1 MiB, 1 MiB writes", |stream| {
        Ok(stream.chunks(1 << 20).collect())
    }),
];

/// Loads a stream. Nothing arrives while its writer waits.
fn load(vf: Bdf, pieces: &[&[u8]]) -> Result<()> {
    let device = Device::open(vf)?;
    let mut file = device.begin(State::RESUMING)?;
    for piece in pieces {
        thread::sleep(PER_MIB.mul_f64(piece.len() as f64 / f64::from(1 << 20)));
        file.write_all(piece)?;
    }
    drop(file);
    device.set_state(State::RUNNING)?;
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    sys::exact_sleep()?;
    for run in 0..super::runs()? {
        for (name, pieces) in PATTERNS {
            for driver in super::in_turn(run) {
                let title = format!("run {run}, {name}, {} driver", driver.name());
                results.test(&title, |results| {
                    let (vf, other) = vfs.of(driver);
                    let stream = streams::saved(&Device::open(other)?)?;
                    let images = records::images(&stream)?.len();
                    ensure!(images == IMAGES, "{images} images");
                    load(vf, &pieces(&stream)?)?;
                    results.json(&json!({
                        "pattern": name,
                        "driver": driver.name(),
                        "vhca": fault::vhca(vf)?,
                    }));
                    Ok(())
                });
            }
        }
    }
    Ok(())
}

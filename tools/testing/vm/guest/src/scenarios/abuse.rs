// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig stress` and `vfio-mig fuzz`: whatever user space does, the kernel and
//! the device are well afterwards.

use super::{conformance, Bench};
use crate::{hca::Driver, sys, tap::Results};
use anyhow::{Context, Result};
use vfio_mig::{
    address::Address,
    fuzz::{self, Rounds},
    stress::{self, Limits},
};

const MIGRATIONS: u64 = 60;
const ROUNDS: u64 = 150;

fn abuse(results: &mut Results, name: &str, devices: [Address; 2], seed: u64) {
    let [device, second] = devices;
    results.test(&format!("{name}: stress, seed {seed}"), |results| {
        let limits = Limits {
            seed,
            count: MIGRATIONS,
            time: None,
        };
        let done = stress::run(device, Some(second), limits, |done| {
            results.progress(&format!("{name}: stress, {}", done.count()));
        })?;
        results.progress(&format!("{name}: {done:?}"));
        Ok(())
    });
    results.test(&format!("{name}: fuzz, seed {seed}"), |results| {
        let rounds = Rounds {
            seed,
            first: 0,
            count: ROUNDS,
        };
        let done = fuzz::run(device, rounds, |round| {
            results.progress(&format!("{name}: fuzz, round {round}"));
        })?;
        results.progress(&format!("{name}: {done:?}"));
        Ok(())
    });
}

pub fn run(results: &mut Results) -> Result<()> {
    let seed = sys::kernel_parameter("vmtest.seed")?.map_or(Ok(1), |seed| seed.parse());
    let seed = seed.context("vmtest.seed=")?;
    let bench = Bench::new()?;
    let (vf, other) = bench.of(Driver::Rust);
    abuse(
        results,
        "mlx5_vfio_pci_rust",
        [vf.into(), other.into()],
        seed,
    );
    let devices = conformance::bind_samples()?;
    abuse(
        results,
        "vfio_ivshmem_rust",
        devices.map(Address::from),
        seed,
    );
    Ok(())
}

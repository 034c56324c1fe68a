// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig stress`: however migrations end, kernel and device work afterwards. What
//! `vfio-mig fuzz` does is in [`hostile`](super::hostile).

use super::{
    conformance,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use vfio_mig::{
    address::Address,
    stress::{
        self,
        Limits, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("abuse", run)];

/// Migrations under stress, in `make check` and in `make check-all`.
const MIGRATIONS: [u32; 2] = [60, 200];

/// What mlx5_core says of a command that firmware refuses. That is expected here, of invalid
/// states, ranges that are not tracked, and sessions that are given up.
const REFUSED: &str = "mlx5_cmd_out_err:";

/// `works`: whether the devices can work, so that their states can be compared.
fn abuse(
    results: &mut Results,
    name: &str,
    devices: [Address; 2],
    works: bool,
    (seed, count): (u64, u64),
) {
    let [device, second] = devices;
    results.test(&format!("{name}: stress"), |results| {
        kmsg::expect(REFUSED);
        let limits = Limits {
            seed,
            count,
            time: None,
        };
        let done = stress::run(device, Some(second), limits, |done| {
            results.progress(&format!("{name}: stress, {}", done.count()));
        })
        .with_context(|| format!("seed {seed}"))?;
        results.progress(&format!("{name}: {done:?}"));
        let compared = if works {
            done.stop_copy + done.precopy
        } else {
            0
        };
        ensure!(done.compared == compared, "{done:?}");
        Ok(())
    });
}

pub fn run(results: &mut Results) -> Result<()> {
    let seed = sys::seed()?;
    let count = sys::rounds(MIGRATIONS)?.into();
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    abuse(
        results,
        "mlx5_vfio_pci_rust",
        [vf.into(), other.into()],
        true,
        (seed, count),
    );
    let devices = conformance::bind_samples()?;
    abuse(
        results,
        "vfio_ivshmem_rust",
        devices.map(Address::from),
        false,
        (seed, count),
    );
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! What a machine can be started for.

mod abuse;
mod amounts;
mod badinput;
mod c_driver;
mod compare;
mod compat;
mod config_space;
mod conformance;
mod core;
mod dirty;
mod dirty_paths;
mod dmabuf;
mod eswitch;
mod files;
mod firmware_fails;
mod hooks;
mod hostile;
mod hwtest;
mod kunit;
mod life;
mod loads;
mod many;
mod matrix;
mod memory;
mod migrate;
mod net;
mod net_bench;
mod net_faults;
mod net_suite;
mod nic;
mod nic_wires;
mod nomem;
mod overlap;
mod packages;
mod paths;
mod pipeline;
mod precopy;
mod qemu;
mod qemu_faults;
mod races;
mod random;
mod rdma;
mod reinit;
mod resets;
mod sample;
mod selftests;
mod setup;
mod soak;
mod streams;
mod swiotlb;
mod timeout;
mod tool;
mod trace;
mod track;
mod unlike;
mod waits;

pub use badinput::hold;
pub use dirty::report_for_ever;
pub use life::use_vf;

use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use vfio_mig::{
    bdf::Bdf,
    precopy::InfoVersion, //
};

/// The function of a scenario.
type Run = fn(&mut Results) -> Result<()>;

/// The name of a scenario in the table, and its function.
type NamedRun = (&'static str, Run);

/// The scenarios of each file.
const ALL: &[&[NamedRun]] = &[
    abuse::SCENARIOS,
    badinput::SCENARIOS,
    c_driver::SCENARIOS,
    compat::SCENARIOS,
    conformance::SCENARIOS,
    core::SCENARIOS,
    dirty::SCENARIOS,
    dmabuf::SCENARIOS,
    eswitch::SCENARIOS,
    files::SCENARIOS,
    firmware_fails::SCENARIOS,
    hooks::SCENARIOS,
    hostile::SCENARIOS,
    hwtest::SCENARIOS,
    kunit::SCENARIOS,
    life::SCENARIOS,
    many::SCENARIOS,
    matrix::SCENARIOS,
    memory::SCENARIOS,
    migrate::SCENARIOS,
    net::SCENARIOS,
    net_bench::SCENARIOS,
    net_faults::SCENARIOS,
    net_suite::SCENARIOS,
    nic::SCENARIOS,
    nic_wires::SCENARIOS,
    nomem::SCENARIOS,
    overlap::SCENARIOS,
    packages::SCENARIOS,
    paths::SCENARIOS,
    pipeline::SCENARIOS,
    precopy::SCENARIOS,
    qemu::SCENARIOS,
    qemu_faults::SCENARIOS,
    races::SCENARIOS,
    random::SCENARIOS,
    rdma::SCENARIOS,
    reinit::SCENARIOS,
    resets::SCENARIOS,
    sample::SCENARIOS,
    selftests::SCENARIOS,
    setup::SCENARIOS,
    soak::SCENARIOS,
    streams::SCENARIOS,
    swiotlb::SCENARIOS,
    timeout::SCENARIOS,
    tool::SCENARIOS,
    trace::SCENARIOS,
    track::SCENARIOS,
    unlike::SCENARIOS,
    waits::SCENARIOS,
];

/// Returns the function of the scenario with a name.
pub fn find(name: &str) -> Option<Run> {
    ALL.iter()
        .copied()
        .flatten()
        .find(|(one, _)| *one == name)
        .map(|(_, run)| *run)
}

/// Two VFs of each driver.
pub struct Vfs {
    vfs: Vec<Bdf>,
}

impl Vfs {
    /// Creates and binds them.
    pub fn new() -> Result<Self> {
        let vfs = pairs(&[Driver::C, Driver::Rust])?;
        Ok(Self { vfs })
    }

    /// The two VFs of a driver.
    pub fn of(&self, driver: Driver) -> (Bdf, Bdf) {
        match driver {
            Driver::C => (self.vfs[0], self.vfs[1]),
            Driver::Rust => (self.vfs[2], self.vfs[3]),
        }
    }
}

/// Creates two VFs for each of the drivers, and binds them.
pub fn pairs(drivers: &[Driver]) -> Result<Vec<Bdf>> {
    let pf = Pf::find()?;
    let count = 2 * drivers.len();
    pf.set_vfs(0)?;
    pf.set_vfs(count.try_into()?)?;
    let vfs = pf.vfs()?;
    ensure!(vfs.len() == count, "{} VFs instead of {count}", vfs.len());
    for (pair, driver) in vfs.chunks(2).zip(drivers) {
        for vf in pair {
            hca::bind(*vf, *driver)?;
        }
    }
    Ok(vfs)
}

/// How often a benchmark is to measure: the first time may be discarded.
fn runs() -> Result<u32> {
    let runs = sys::kernel_parameter("vmtest.runs")?;
    Ok(runs.map_or(Ok(2), |runs| runs.parse())?)
}

/// The drivers, in an order that changes with each run, so that changes over time, such as
/// how busy the host is, favour neither driver.
fn in_turn(run: u32) -> [Driver; 2] {
    let mut drivers = Driver::BOTH;
    drivers.rotate_left(run as usize % 2);
    drivers
}

/// Measures each driver with each version of PRECOPY_INFO.
fn each_version(
    results: &mut Results,
    measure: impl Fn(&mut Results, u32, Driver, InfoVersion) -> Result<()>,
) -> Result<()> {
    for run in 0..runs()? {
        for driver in in_turn(run) {
            for info in [InfoVersion::V1, InfoVersion::V2] {
                let name = format!("run {run}, {} driver, {info:?}", driver.name());
                results.test(&name, |results| measure(results, run, driver, info));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::scenarios;

    #[test]
    fn the_table_has_each_function() {
        let mut here: Vec<&str> = ALL.concat().iter().map(|(name, _)| *name).collect();
        let mut table: Vec<&str> = scenarios::ALL.iter().map(|one| one.name).collect();
        here.sort_unstable();
        table.sort_unstable();
        assert_eq!(here, table);
    }
}

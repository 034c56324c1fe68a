// SPDX-License-Identifier: GPL-2.0

//! What a machine can be started for.

mod abuse;
mod badinput;
mod compare;
mod compat;
mod conformance;
mod core;
mod dirty;
mod dirty_paths;
mod files;
mod loads;
mod many;
mod matrix;
mod memory;
mod migrate;
mod nomem;
mod overlap;
mod paths;
mod pipeline;
mod precopy;
mod qemu;
mod qemu_faults;
mod races;
mod random;
mod reinit;
mod resets;
mod sample;
mod selftests;
mod streams;
mod swiotlb;
mod timeout;
mod tool;
mod tool_faults;
mod trace;
mod track;
mod waits;

pub use badinput::hold;
pub use dirty::report_for_ever;

use crate::{
    hca::{self, Driver, Pf},
    sys,
    tap::Results,
};
use anyhow::{ensure, Result};
use vfio_mig::{bdf::Bdf, precopy::InfoVersion};

/// What a scenario does.
type Run = fn(&mut Results) -> Result<()>;

/// A function for each name in the table of scenarios.
const ALL: &[(&str, Run)] = &[
    ("core", core::run),
    ("migrate", migrate::run),
    ("run", migrate::run),
    ("streams", streams::run),
    ("chunks", streams::run_chunks),
    ("chunks-grow", streams::run_growing_chunks),
    ("unwritten", streams::run_unwritten),
    ("small-pages", streams::run_small_pages),
    ("precopy", precopy::run),
    ("precopy-chunks", precopy::run),
    ("pipeline", pipeline::run),
    ("resets", resets::run),
    ("resets-chunks", resets::run_chunks),
    ("races", races::run),
    ("timeout", timeout::run),
    ("waits", waits::run),
    ("many", many::run),
    ("compat", compat::run),
    ("memory", memory::run),
    ("nomem", nomem::run),
    ("swiotlb", swiotlb::run),
    ("random", random::run),
    ("random-chunks", random::run),
    ("dirty", dirty::run),
    ("dirty-slow", dirty::run_slow),
    ("dirty-limits", dirty::run_limits),
    ("dirty-flood", dirty::run_flood),
    ("matrix", matrix::run),
    ("files", files::run),
    ("badinput", badinput::run),
    ("tool", tool::run),
    ("selftests", selftests::run),
    ("trace", trace::run),
    ("qemu", qemu::run),
    ("qemu-suite", qemu::run_suite),
    ("qemu-fault", qemu_faults::run),
    ("qemu-faults", qemu_faults::run_suite),
    ("abuse", abuse::run),
    ("conformance", conformance::run),
    ("conformance-c", conformance::run_c),
    ("conformance-mtty", conformance::run_mtty),
    ("sample", sample::run),
    ("paths", paths::run),
    ("overlap", overlap::run),
    ("bench-paths", paths::run),
    ("bench-paths-0", paths::run_0),
    ("bench-paths-274", paths::run_chunks),
    ("bench-paths-1g", paths::run_1g),
    ("bench-paths-vfs", paths::run_vfs),
    ("bench-profile", paths::run_profile),
    ("bench-overlap", overlap::run),
    ("bench-reinit", reinit::run),
    ("bench-dirty", track::run),
    ("bench-qemu", qemu::run_bench),
];

/// What the scenario with a name does.
pub fn find(name: &str) -> Option<Run> {
    ALL.iter()
        .find(|(one, _)| *one == name)
        .map(|(_, run)| *run)
}

/// Two VFs of each driver.
pub struct Bench {
    vfs: Vec<Bdf>,
}

impl Bench {
    /// Creates and binds them.
    pub fn new() -> Result<Self> {
        let pf = Pf::find()?;
        pf.set_vfs(0)?;
        pf.set_vfs(4)?;
        let vfs = pf.vfs()?;
        ensure!(vfs.len() == 4, "{} VFs instead of 4", vfs.len());
        for (vf, driver) in vfs
            .iter()
            .zip([Driver::C, Driver::C, Driver::Rust, Driver::Rust])
        {
            hca::bind(*vf, driver)?;
        }
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

/// How often a benchmark is to measure: the first time may be discarded.
fn runs() -> Result<u32> {
    let runs = sys::kernel_parameter("vmtest.runs")?;
    Ok(runs.map_or(Ok(2), |runs| runs.parse())?)
}

/// The drivers, in an order that changes with each run: what changes with time, such as
/// how busy the host is, is not to the advantage of one.
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
    fn each_scenario_of_the_table_can_be_run() {
        for scenario in scenarios::ALL {
            assert!(find(scenario.name).is_some(), "{}", scenario.name);
        }
        assert_eq!(ALL.len(), scenarios::ALL.len());
    }
}

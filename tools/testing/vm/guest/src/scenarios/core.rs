// SPDX-License-Identifier: GPL-2.0

//! The emulated HCA under the unmodified mlx5_core, on which all other scenarios depend.

use super::{
    config_space,
    conformance,
    NamedRun, //
};
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    leaks,
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    collections::BTreeSet,
    thread,
    time::Duration, //
};
use vfio_mig::sysfs;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("core", run)];

/// Health is polled every two seconds, and a counter that stands still is noticed after
/// three times: fifteen polls.
const HEALTH_WATCH: Duration = Duration::from_secs(30);
/// As many as the emulated HCA can have.
const VFS: u16 = 64;
/// VFs of which the last one is bound: in `make check`, if the kernel has checkers, which take
/// a second for each, and in `make check-all`.
const EACH: [u32; 2] = [8, 1];

/// Messages of mlx5_core about something that is missing, which are right for an emulated
/// HCA; the first is about one without an Ethernet port, and the last comes with promiscuous
/// mode on any adapter.
const HARMLESS: &[&str] = &[
    "Missing eth_net_offloads capability",
    "S-tagged traffic will be dropped while C-tag vlan stripping is enabled",
];

/// Fails if mlx5_core has complained since the test began.
pub(super) fn no_complaints(results: &mut Results) -> Result<()> {
    let mut lines = results.kernel_lines();
    lines.retain(|line| {
        line.contains("mlx5_core") && !HARMLESS.iter().any(|known| line.contains(known))
    });
    // A line about the device that is not about a module is a complaint.
    lines.retain(|line| line.contains(":(pid "));
    if lines.is_empty() {
        Ok(())
    } else {
        bail!("{}", lines.join("\n"))
    }
}

pub fn run(results: &mut Results) -> Result<()> {
    results.test("mlx5_core drives the PF", |_| {
        ensure!(Pf::find()?.driver()? == "mlx5_core");
        Ok(())
    });
    results.test("64 VFs, each in its IOMMU group", |results| {
        let pf = Pf::find()?;
        pf.set_vfs(VFS)?;
        let groups: Result<BTreeSet<_>, _> =
            pf.vfs()?.into_iter().map(sysfs::iommu_group).collect();
        ensure!(groups?.len() == usize::from(VFS));
        no_complaints(results)
    });
    config_space::run(results);
    results.test("each VF binds to either driver", |results| {
        let each = match leaks::kernel_has_checkers() {
            true => sys::rounds(EACH)? as usize,
            false => 1,
        };
        for vf in Pf::find()?.vfs()?.into_iter().skip(each - 1).step_by(each) {
            for driver in Driver::BOTH {
                hca::bind(vf, driver)?;
                let vf = Vf::open(vf, 1)?;
                vf.device().features().context(driver.name())?;
            }
        }
        no_complaints(results)
    });
    results.test("health polling stays quiet", |results| {
        thread::sleep(HEALTH_WATCH);
        no_complaints(results)
    });
    results.test("no VF", |results| {
        let pf = Pf::find()?;
        pf.set_vfs(0)?;
        ensure!(pf.vfs()?.is_empty());
        no_complaints(results)
    });
    results.test("mlx5_core lets the PF go, and takes it again", |results| {
        let pf = Pf::find()?;
        pf.set_bound(false)?;
        pf.set_bound(true)?;
        ensure!(pf.driver()? == "mlx5_core");
        no_complaints(results)
    });
    results.test("nothing violated the firmware interface", |_| {
        let pf = Pf::find()?;
        pf.set_vfs(1)?;
        let vf = pf.vfs()?[0];
        hca::bind(vf, Driver::C)?;
        let violations = Vf::open(vf, 1)?.violations()?;
        ensure!(violations == 0, "{violations} violations");
        Ok(())
    });
    results.test("a data file keeps its driver loaded", |_| {
        let pf = Pf::find()?;
        pf.set_vfs(1)?;
        let vf = pf.vfs()?[0];
        hca::bind(vf, Driver::Rust)?;
        conformance::file_keeps_module(vf, Driver::Rust.sysfs_name())
    });
    results.test("mlx5_core unloads", |results| {
        Pf::find()?.set_vfs(0)?;
        for module in ["mlx5_vfio_pci_rust", "mlx5_vfio_pci", "mlx5_core"] {
            sys::unload_module(module).with_context(|| module)?;
        }
        no_complaints(results)?;
        for module in ["mlx5_core", "mlx5_vfio_pci", "mlx5_vfio_pci_rust"] {
            sys::load_module(module, "")?;
        }
        Ok(())
    });
    Ok(())
}

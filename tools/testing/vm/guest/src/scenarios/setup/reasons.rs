// SPDX-License-Identifier: GPL-2.0

//! Our driver says in the kernel log, when it is bound, why a VF cannot be migrated.

use crate::{
    fault::{
        opcode,
        Faults, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    kmsg,
    lie::{
        answer,
        capability,
        Lie, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::fs;
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    sysfs, //
};

/// Binds a VF to our driver, which must say `reason`.
fn logs(vf: Bdf, reason: &str) -> Result<()> {
    kmsg::require(&format!("{vf}: not migratable: {reason}"), || {
        hca::bind(vf, Driver::Rust)
    })
}

/// Does so, and looks whether it is so. Takes the VF away again.
fn says(vf: Bdf, reason: &str) -> Result<()> {
    logs(vf, reason)?;
    let features = Device::open(vf)?.features();
    ensure!(
        matches!(features, Err(Error::NotMigratable { .. })),
        "{features:?}"
    );
    hca::unbind(vf)
}

fn one_vf(pf: &Pf) -> Result<Bdf> {
    pf.set_vfs(0)?;
    pf.set_vfs(1)?;
    pf.vfs()?.first().copied().context("no VF")
}

fn not_enabled(pf: &Pf) -> Result<()> {
    let vf = one_vf(pf)?;
    let faults = Faults::of(pf)?;
    let lie = Lie::answer(opcode::QUERY_HCA_CAP, answer::MIGRATABLE, 0);
    faults.lie(&lie.op_mod(capability::GENERAL_2))?;
    says(vf, "that is not enabled for this VF")
}

/// mlx5_core asks for what the PF can do when it sets the PF up: first for what SET_HCA_CAP is to
/// change, in which firmware takes no lie, and then for what there is.
fn old_firmware(pf: &Pf) -> Result<()> {
    let vf = one_vf(pf)?;
    let faults = Faults::of(pf)?;
    let lie = Lie::answer(opcode::QUERY_HCA_CAP, answer::MIGRATION, 0);
    faults.lie(&lie.op_mod(capability::GENERAL).nth(2).always())?;
    pf.reload()?;
    faults.disarm()?;
    let said = says(vf, "the firmware of its PF does not offer that");
    pf.reload()?;
    said
}

/// vfio-pci can make VFs, too. It lets nobody open them who does not know its token.
fn other_driver(pf: &Pf) -> Result<()> {
    pf.set_vfs(0)?;
    sys::load_module("vfio_pci", "enable_sriov=1")?;
    hca::bind_to(pf.address(), "vfio-pci")?;
    let said = one_vf(pf).and_then(|vf| logs(vf, "its PF is not ready, or not of mlx5_core"));
    pf.set_vfs(0)?;
    hca::unbind(pf.address())?;
    fs::write(
        sysfs::device_dir(pf.address()).join("driver_override"),
        "\n",
    )?;
    pf.set_bound(true)?;
    sys::unload_module("vfio_pci")?;
    said
}

/// A VF with which nothing is wrong.
fn no_reason(pf: &Pf) -> Result<()> {
    let vf = one_vf(pf)?;
    hca::bind(vf, Driver::Rust)?;
    Device::open(vf)?.features()?;
    pf.set_vfs(0)
}

/// A test of one reason: its name, and what it does with the PF.
type Test = (&'static str, fn(&Pf) -> Result<()>);

/// All of them.
pub fn run(results: &mut Results, pf: &Pf) {
    let tests: [Test; 4] = [
        ("a VF for which migration is not enabled", not_enabled),
        ("a PF whose firmware cannot migrate", old_firmware),
        ("a PF of another driver", other_driver),
        ("a VF that can be migrated", no_reason),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(pf));
    }
}

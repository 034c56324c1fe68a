// SPDX-License-Identifier: GPL-2.0

//! The driver as a package has installed it: DKMS has built it, and modprobe loads it with what
//! it stands on. No module was loaded before. The machine's firmware has the key that DKMS has
//! signed it with.

use super::NamedRun;
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
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
    fs,
    process::Command, //
};
use vfio_mig::{
    migrate,
    target::DeviceTarget, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("packages", run)];

const DRIVER: &str = "mlx5_vfio_pci_rust";
/// What it stands on.
const BELOW: &[&str] = &[
    "vfio_rust",
    "vfio_pci_core",
    "vfio_iommu_type1",
    "mlx5_core",
];
/// Pages of memory that each VF writes to, and rounds of that.
const PAGES: u64 = 64;
const ROUNDS: u64 = 10;
/// From the moment in which this is written, only modules with a signature that the kernel trusts
/// are loaded.
const ENFORCE: &str = "/sys/module/module/parameters/sig_enforce";
/// The same modules, signed by a key that nobody knows, and not signed at all.
const FOREIGN: &str = "/foreign";
const UNSIGNED: &str = "/unsigned";

/// Calls modprobe. The error is what it says.
fn modprobe(args: &[&str]) -> Result<()> {
    let output = Command::new("/usr/bin/modprobe").args(args).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn is_loaded(module: &str) -> Result<bool> {
    Ok(fs::exists(format!("/sys/module/{module}"))?)
}

/// The state of one VF goes to another.
fn migrate(pf: &Pf) -> Result<()> {
    pf.set_vfs(2)?;
    let vfs = pf.vfs()?;
    let [source, destination] = vfs[..] else {
        bail!("{} VFs instead of 2", vfs.len());
    };
    for vf in vfs {
        hca::bind(vf, Driver::Rust)?;
    }
    let source = Vf::open(source, PAGES)?;
    let destination = Vf::open(destination, PAGES)?;
    source.work(ROUNDS, PAGES)?;
    let (seq, digest) = (source.seq()?, source.digest()?);
    ensure!(
        digest != destination.digest()?,
        "the VFs do not differ to begin with"
    );
    migrate::stop_copy(
        source.device(),
        &mut DeviceTarget::new(destination.device()),
        &mut (),
    )?;
    ensure!(
        destination.digest()? == digest,
        "the state is another one now"
    );
    ensure!(destination.seq()? == seq, "the sequence does not go on");
    destination.work(ROUNDS, PAGES)
}

/// Loads the driver, and what it needs. A module that the kernel does not trust has an E.
fn load() -> Result<()> {
    modprobe(&[DRIVER])?;
    for module in BELOW.iter().chain([&DRIVER]) {
        ensure!(is_loaded(module)?, "{module} is not loaded");
        let taint = fs::read_to_string(format!("/sys/module/{module}/taint"))?;
        ensure!(!taint.contains('E'), "{module} has no signature: {taint}");
    }
    Ok(())
}

fn unload() -> Result<()> {
    for module in [DRIVER, "vfio_rust"] {
        sys::unload_module(module).with_context(|| format!("unloading {module}"))?;
    }
    Ok(())
}

/// The kernel refuses modules, and says why.
fn refuse(results: &mut Results, modules: &str, why: &str) -> Result<()> {
    let refused = modprobe(&["-d", modules, DRIVER]).err();
    let refused = refused.context("the driver was loaded")?.to_string();
    // As the documentation quotes it.
    ensure!(
        refused.ends_with("could not insert 'mlx5_vfio_pci_rust': Key was rejected by service"),
        "modprobe said: {refused}"
    );
    let text = format!("Loading of {why} is rejected");
    let lines = results.kernel_lines();
    ensure!(
        lines.iter().any(|line| line.contains(&text)),
        "the kernel did not say \"{text}\", but\n{}",
        lines.join("\n")
    );
    Ok(())
}

fn run(results: &mut Results) -> Result<()> {
    results.test("modprobe loads the driver, and all that it needs", |_| {
        for module in BELOW.iter().chain([&DRIVER]) {
            ensure!(!is_loaded(module)?, "{module} was loaded before");
        }
        load()
    });
    let pf = Pf::find()?;
    results.test("VFs bind and migrate", |_| migrate(&pf));
    results.test("what the driver stands on is removed after it", |_| {
        pf.set_vfs(0)?;
        ensure!(sys::unload_module("vfio_rust").is_err());
        unload()
    });
    results.test("it loads if signatures are enforced", |_| {
        fs::write(ENFORCE, "1").context(ENFORCE)?;
        load()?;
        unload()
    });
    results.test("what is signed by another key does not", |results| {
        refuse(results, FOREIGN, "module with unavailable key")
    });
    results.test("what is not signed does not", |results| {
        refuse(results, UNSIGNED, "unsigned module")
    });
    Ok(())
}

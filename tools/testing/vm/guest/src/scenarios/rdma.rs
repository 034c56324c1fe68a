// SPDX-License-Identifier: GPL-2.0

//! rdma-core's user-space driver on a VF of the emulated HCA: vfio-pci and our driver give it
//! the VF, and it commands firmware by itself.

use super::{
    core::no_complaints,
    selftests::{
        self,
        Verdict, //
    },
    NamedRun, //
};
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
    Context,
    Result, //
};
use std::process::Command;
use vfio_mig::bdf::Bdf;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("rdma-core", run)];

/// The program, and how many tests it has.
const PROGRAM: &str = "/usr/bin/mlx5_vfio_test";
const TESTS: usize = 9;

/// Runs the program on a VF. All of its tests must pass.
fn pass(vf: Bdf) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    let output = command.arg(vf.to_string()).output().context(PROGRAM)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    println!("{text}");
    let verdicts: Vec<Verdict> = text
        .lines()
        .filter_map(|line| Some(selftests::result(line)?.0))
        .collect();
    let good = verdicts.iter().all(|verdict| *verdict == Verdict::Ok);
    ensure!(
        good && verdicts.len() == TESTS && output.status.success(),
        "{}\n{text}",
        output.status
    );
    Ok(())
}

fn run(results: &mut Results) -> Result<()> {
    let pf = Pf::find()?;
    pf.set_vfs(2)?;
    let vfs = pf.vfs()?;
    let vf = *vfs.first().context("no VF")?;
    results.test("vfio-pci loads", |_| Ok(sys::load_module("vfio_pci", "")?));
    for driver in ["vfio-pci", Driver::Rust.sysfs_name()] {
        results.test(&format!("{driver}: all works"), |results| {
            hca::bind_to(vf, driver)?;
            pass(vf)?;
            no_complaints(results)
        });
    }
    results.test("mlx5_core takes the VF after that", |results| {
        hca::bind_to(vf, "mlx5_core")?;
        hca::interface(vf)?;
        hca::unbind(vf)?;
        pf.set_vfs(0)?;
        no_complaints(results)
    });
    Ok(())
}

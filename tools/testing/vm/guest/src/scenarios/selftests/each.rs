// SPDX-License-Identifier: GPL-2.0

//! The selftests of migration with each driver that the kernel has: what a series of patches
//! leaves may have but some of ours.

use super::{
    on_mttys,
    on_samples,
    prepare,
    run_programs,
    subjects,
    MIGRATION, //
};
use crate::{
    hca::Driver,
    scenarios::pairs,
    sys,
    tap::Results, //
};
use anyhow::Result;
use std::fs;

/// Whether the kernel has a module, which init has loaded.
fn has(module: &str) -> Result<bool> {
    Ok(fs::exists(format!("/sys/module/{module}"))?)
}

pub fn run(results: &mut Results) -> Result<()> {
    let (_, folder) = prepare()?;
    let has_ours = has("mlx5_vfio_pci_rust")?;
    let drivers: &[Driver] = match has_ours {
        true => &[Driver::C, Driver::Rust],
        false => &[Driver::C],
    };
    let vfs: Vec<_> = pairs(drivers)?.iter().map(|vf| vf.to_string()).collect();
    if has_ours {
        run_programs(results, &subjects::OURS, &folder, MIGRATION, &vfs[2..]);
    }
    if has("vfio_ivshmem_rust")? {
        on_samples(results, &folder)?;
    }
    on_mttys(results, &folder)?;
    // Last: lockdep does not survive it without the fixes.
    let tip = sys::kernel_parameter("vmtest.tip")?;
    let c = match tip.as_deref() {
        Some("fixes") => &subjects::FIXED_C,
        _ => &subjects::C,
    };
    run_programs(results, c, &folder, MIGRATION, &vfs[..2]);
    Ok(())
}

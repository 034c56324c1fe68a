// SPDX-License-Identifier: GPL-2.0

//! Memory that the drivers have lost, where the kernel can tell.

use crate::{
    hca::Pf,
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use std::{
    fs,
    thread,
    time::Duration, //
};
use vm_common::drivers;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// Where the checks of the DMA API report.
const DMA_DEBUG: &str = "/sys/kernel/debug/dma-api";
/// Younger objects are not reported.
const MIN_AGE: Duration = Duration::from_secs(6);

fn scan() -> Result<String> {
    fs::write(KMEMLEAK, "scan").context(KMEMLEAK)?;
    Ok(fs::read_to_string(KMEMLEAK)?)
}

/// Whether the kernel has checkers, which take their time.
pub fn kernel_has_checkers() -> bool {
    fs::exists(DMA_DEBUG).unwrap_or(false)
}

fn is_off() -> Result<bool> {
    Ok(sys::kernel_parameter("kmemleak")?.as_deref() == Some("off"))
}

/// Unloads the drivers, and fails on what they leave behind.
pub fn check(results: &mut Results) {
    results.test("the drivers unload", |_| {
        Pf::find()?.set_vfs(0)?;
        let ours = drivers::ours().chain([drivers::ABSTRACTIONS]);
        for module in ours.chain(["mlx5_vfio_pci"]) {
            if sys::is_module(module)? {
                sys::unload_module(module).with_context(|| format!("unloading {module}"))?;
            }
        }
        Ok(())
    });
    if kernel_has_checkers() {
        // The VFs' drivers map memory for the PF. When the PF is unbound, the kernel warns
        // about mappings that are left.
        results.test("no DMA mapping is leaked", |_| {
            let pf = Pf::find()?;
            if pf.driver().is_ok() {
                pf.set_bound(false)?;
            }
            Ok(())
        });
    }
    if !fs::exists(KMEMLEAK).unwrap_or(false) {
        return;
    }
    let name = "no memory is leaked";
    if is_off().unwrap_or(false) {
        return results.skip(name, "kmemleak is off in this machine");
    }
    results.test(name, |_| {
        thread::sleep(MIN_AGE);
        scan()?;
        let report = scan()?;
        if report.is_empty() {
            return Ok(());
        }
        bail!("{report}")
    });
}

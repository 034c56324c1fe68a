// SPDX-License-Identifier: GPL-2.0

//! The driver takes functions, lets them go, and is unloaded.

use super::{
    super::core::no_complaints,
    hosts,
    ping,
    traffic::stream,
    with_vf,
    FULL, //
};
use crate::{
    hca::Pf,
    net::Host,
    sys,
    tap::Results, //
};
use anyhow::Context;

pub fn run(results: &mut Results, here: Host, there: Host) {
    results.test("a VF and both PFs hear each other", |results| {
        with_vf(|vf| {
            for other in [&here, &there] {
                ping(vf, other, FULL)?;
                stream(vf, other)?;
            }
            Ok(())
        })?;
        no_complaints(results)
    });
    drop((here, there));
    results.test(
        "mlx5_core lets the PFs go, and takes them again",
        |results| {
            for pf in Pf::all()? {
                pf.set_bound(false)?;
            }
            for pf in Pf::all()? {
                pf.set_bound(true)?;
            }
            let [here, there] = hosts()?;
            ping(&here, &there, 56)?;
            no_complaints(results)
        },
    );
    results.test("mlx5_core reloads PFs after traffic", |results| {
        let [here, there] = hosts()?;
        stream(&here, &there)?;
        drop((here, there));
        for pf in Pf::all()? {
            pf.reload()?;
        }
        let [here, there] = hosts()?;
        stream(&here, &there)?;
        no_complaints(results)
    });
    results.test("mlx5_core unloads and loads after traffic", |results| {
        let [here, there] = hosts()?;
        stream(&here, &there)?;
        // The interfaces are the driver's, wherever they are.
        for module in ["mlx5_vfio_pci_rust", "mlx5_vfio_pci", "mlx5_core"] {
            sys::unload_module(module).with_context(|| module)?;
        }
        drop((here, there));
        for module in ["mlx5_core", "mlx5_vfio_pci", "mlx5_vfio_pci_rust"] {
            sys::load_module(module, "").with_context(|| module)?;
        }
        let [here, there] = hosts()?;
        stream(&here, &there)?;
        no_complaints(results)
    });
}

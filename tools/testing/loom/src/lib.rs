// SPDX-License-Identifier: GPL-2.0

//! Those files of the kernel side that synchronise threads by hand, or the CPU and a device,
//! run in every order of their steps. They are the files of the driver and of its abstractions
//! themselves.
//! `kernel-loom` has what they use of the kernel.

#![cfg(test)]

// What the kernel crate and `vfio_rust` have is in one crate.
extern crate kernel as vfio_rust;

#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/cqe.rs"]
mod cqe;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/gate.rs"]
mod gate;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/ownership.rs"]
mod ownership;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/report.rs"]
mod report;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/track_events.rs"]
mod track_events;
#[path = "../../../../drivers/vfio/pci/mlx5_rust/fw/track_limits.rs"]
mod track_limits;
#[path = "../../../../drivers/vfio/rust/kernel/sync/turns.rs"]
mod turns;
use vfio_rust::kernel::sync::changes;

mod gate_tests;
mod ownership_tests;
mod track_events_tests;
mod turns_tests;

/// Runs `test` in each order of its threads' steps, with at most three preemptions.
///
/// Most faults need two at most, and without a limit this takes hours.
fn in_every_order(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

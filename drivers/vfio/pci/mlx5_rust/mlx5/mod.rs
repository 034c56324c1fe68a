// SPDX-License-Identifier: GPL-2.0

//! The mlx5 command layer: firmware commands about one VF, sent through its PF.
//!
//! All calls into `mlx5_core` are made here, and all `unsafe` of the driver is
//! here. What a command creates is an object that destroys it again.
//!
//! # Invariants
//!
//! `mlx5_core` promises that a PF's `struct mlx5_core_dev` stays valid while a
//! driver is bound to one of its VFs, and that it takes commands from the time
//! the VF was probed, or was last reported by `MLX5_PF_NOTIFY_ENABLE_VF`, to
//! the return of the notifier's `MLX5_PF_NOTIFY_DISABLE_VF`. [`CoreDev`] holds
//! the pointer; [`VfNotifier`] makes it refuse commands outside of that time.
//!
//! [`CoreDev`]: core_dev::CoreDev
//! [`VfNotifier`]: notifier::VfNotifier

#![allow(unsafe_code)]

mod bindings;
mod bits;
mod cq;
mod cqe;
mod ifc;
mod qp;
mod report;
mod track_limits;
mod uar;

pub(crate) mod core_dev;
pub(crate) mod dma_buffer;
pub(crate) mod notifier;
pub(crate) mod page_track;
pub(crate) mod pd;
pub(crate) mod save;
mod track_events;
pub(crate) mod tracking;
pub(crate) mod vhca;

// SPDX-License-Identifier: GPL-2.0

//! Firmware: commands about one VF, sent through its PF.
//!
//! All calls into `mlx5_core` are made here, and all `unsafe` of the driver is here.
//!
//! - [`gate`]: whether a command may be sent now; its guards are proof of that,
//! - [`registry`]: the objects that exist on the PF, and how they are destroyed,
//! - [`device`], [`binding`]: a VF and its PF, and the time for which the PF may be used,
//! - [`async_command`]: a command that is sent without waiting for its end,
//! - the rest: one file for each kind of command or object.
//!
//! # Invariants
//!
//! `mlx5_core` keeps a PF's `struct mlx5_core_dev` while a driver is bound to one of its VFs. It
//! takes commands about an enabled VF until the notification `MLX5_PF_NOTIFY_DISABLE_VF` has
//! returned, and again from `MLX5_PF_NOTIFY_ENABLE_VF` on. Objects that were created before must be
//! gone when the first notification returns, since mlx5_core then takes their PF away.
//! [`Binding`](binding::Binding) has the gate closed and everything destroyed by then.
//!
//! # Why no safe call can break this
//!
//! - The pointer to the core device is only given out by a guard, and closing the
//!   gate waits for the guards.
//! - A resource is made with a guard, and its number is only given out for a command through a
//!   guard of the same device, while it exists.
//! - Dropping, leaking or keeping a handle ([`registry::Owned`]) changes nothing:
//!   the registry has the resource as well, and destroys it when the PF goes.
//! - Memory that the device can access belongs to a resource, and is freed after firmware has
//!   destroyed the resource. If firmware does not, the memory stays mapped.
//! - A command's output belongs to the resource that sends it, which waits for the
//!   command's end before it is freed.

#![allow(unsafe_code)]

mod binding;
mod bindings;
mod bits;
mod cq;
mod cqe;
mod ifc;
mod ownership;
mod qp;
mod registry;
mod remainder;
mod report;
mod stream_header;
mod track_events;
mod track_limits;
mod track_memory;
mod track_notifier;
mod track_object;
mod uar;

pub(crate) mod async_command;
pub(crate) mod device;
pub(crate) mod gate;
pub(crate) mod image;
pub(crate) mod load;
pub(crate) mod mkey;
mod page_track;
pub(crate) mod pd;
pub(crate) mod save;
pub(crate) mod tracking;
pub(crate) mod vhca;

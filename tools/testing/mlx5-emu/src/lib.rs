// SPDX-License-Identifier: GPL-2.0

//! A model of a ConnectX HCA, good enough for the kernel's own drivers.
//!
//! The model is a [`hca::Hca`] with a PF and VFs. It is driven from outside by
//! register accesses, resets and a timer, and acts on a [`host::Host`]: memory,
//! interrupts, time. It knows nothing of QEMU; [`ffi`] is what a C shim needs
//! to make a device of it.
//!
//! What the interface is comes from the kernel's `include/linux/mlx5`
//! (mlx5_ifc.h, device.h). Where that leaves a question, the model does what
//! the kernel's drivers rely on, and is strict about everything else: what a
//! real firmware would refuse gets the status that it would give, and is
//! counted as a violation that a test can see.

pub mod caps;
pub mod cmdq;
pub mod commands;
pub mod config;
pub mod control;
pub mod cq;
pub mod encoded;
pub mod eq;
pub mod eswitch;
pub mod events;
pub mod faults;
pub mod ffi;
pub mod flow_counter;
pub mod hca;
pub mod host;
pub mod ifc;
pub mod image;
pub mod initseg;
pub mod lies;
pub mod log;
pub mod migration;
pub mod mkey;
pub mod moderation;
pub mod mpfs;
pub mod numbers;
pub mod objects;
pub mod packet;
pub mod pages;
pub mod pool;
pub mod port;
pub mod ppcnt;
pub mod qp;
pub mod queue;
pub mod records;
pub mod resources;
pub mod rq;
pub mod rqt;
pub mod sq;
pub mod state;
pub mod steering;
pub mod suspended;
pub mod times;
pub mod tir;
pub mod tis;
pub mod track;
pub mod turn;
pub mod vport;
pub mod workload;
pub mod wq;

#[cfg(test)]
mod tests;

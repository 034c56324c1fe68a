// SPDX-License-Identifier: GPL-2.0

//! The model on a machine made of a hash map.

mod chunks;
mod driver;
mod eswitch;
mod events;
mod faults;
mod functions;
mod lies;
mod limits;
mod migration;
mod nic;
mod nic_counters;
mod nic_images;
mod nic_state;
mod objects;
mod queue;
mod replay;
mod state;
mod track;
mod tracker;
mod turns;

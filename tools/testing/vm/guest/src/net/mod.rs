// SPDX-License-Identifier: GPL-2.0

//! Hosts on the network of emulated HCAs, and traffic between them whose every byte is known.

mod connection;
mod control;
mod datagrams;
mod figures;
pub mod guest;
mod host;
mod interface;
mod lost;
mod peer;
mod sequence;
mod statistics;
mod stream;
mod tally;
mod timeline;
mod until;

pub use connection::PEER;
pub use figures::{
    judge,
    Sides, //
};
pub use host::Host;
pub use interface::Change;
pub use peer::Peer;
pub use sequence::{
    End,
    Received,
    Sequence, //
};
pub use statistics::Statistics;
pub use tally::GuestTally;
pub use timeline::now;

// SPDX-License-Identifier: GPL-2.0

//! Frames without a protocol, to see where they go.

use crate::{
    net::Host,
    packet_socket::PacketSocket,
    vf_links::Mac, //
};
use anyhow::Result;
use std::time::{
    Duration,
    Instant, //
};

/// An EtherType for experiments (IEEE 802).
const ETHERTYPE: u16 = 0x88b5;
/// TPID of a VLAN tag.
const TAG: u16 = 0x8100;
/// Where the number of a frame is, behind addresses and EtherType.
const NUMBER: usize = 14;
/// Bytes of a frame.
const LEN: usize = 60;

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Whom it is for.
    pub to: Mac,
    /// Whom it says that it is from.
    pub from: Mac,
    /// The VLAN tag that it has.
    pub tag: Option<u16>,
}

/// An interface that sends and hears frames.
pub struct Ear {
    socket: PacketSocket,
}

impl Frame {
    fn bytes(&self, number: u64) -> Vec<u8> {
        let mut bytes = [self.to, self.from].concat();
        if let Some(tag) = self.tag {
            bytes.extend([TAG, tag].map(u16::to_be_bytes).concat());
        }
        bytes.extend(ETHERTYPE.to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.resize(LEN, 0);
        bytes
    }
}

impl Ear {
    /// That of a host.
    pub fn new(host: &Host) -> Result<Self> {
        Ok(Self {
            socket: host.configure(PacketSocket::open)?,
        })
    }

    /// Sends a frame with a number.
    pub fn send(&self, frame: Frame, number: u64) -> Result<()> {
        Ok(self.socket.send(&frame.bytes(number))?)
    }

    /// Waits until it hears the frame with this number, for so long. Returns the frame's VLAN
    /// tag, 0 without one; `None` if it has not heard it.
    pub fn hear(&self, number: u64, patience: Duration) -> Result<Option<u16>> {
        let end = Instant::now() + patience;
        let wanted = [&ETHERTYPE.to_be_bytes()[..], &number.to_be_bytes()].concat();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if let Some((bytes, tag)) = self.socket.receive(left)? {
                if bytes.get(NUMBER - 2..NUMBER + 8) == Some(&wanted) {
                    return Ok(Some(tag));
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Changes of what an interface receives: flow rules (`ethtool -N`), promiscuous mode, and the
//! number of its queues (`ethtool -L`).

use crate::sys;
use std::io;

// include/uapi/linux/ethtool.h
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;
const ETHTOOL_SRXCLSRLDEL: u32 = 0x31;
const ETHTOOL_SRXCLSRLINS: u32 = 0x32;
const UDP_V4_FLOW: u32 = 2;
const RX_CLS_FLOW_DISC: u64 = u64::MAX;
/// Bytes of a struct ethtool_rxnfc.
const RXNFC: usize = 192;
/// Words of a struct ethtool_channels.
const CHANNELS: usize = 9;
/// Where its words are.
const MAX_COMBINED: usize = 4;
const COMBINED: usize = 8;

/// Where its fields are.
mod rxnfc {
    /// Of its struct ethtool_rx_flow_spec.
    const FLOW: usize = 16;
    pub const FLOW_TYPE: usize = FLOW;
    /// `pdst` of a struct ethtool_tcpip4_spec: the value, and its mask.
    pub const PORT: usize = FLOW + 4 + 10;
    pub const PORT_MASK: usize = FLOW + 76 + 10;
    pub const RING_COOKIE: usize = FLOW + 152;
    pub const LOCATION: usize = FLOW + 160;
}

fn request(command: u32, location: u32) -> [u8; RXNFC] {
    let mut request = [0; RXNFC];
    request[..4].copy_from_slice(&command.to_ne_bytes());
    request[rxnfc::LOCATION..][..4].copy_from_slice(&location.to_ne_bytes());
    request
}

/// Has the interface drop what comes for a UDP port, as the rule with a number.
pub fn add_rule(interface: &str, location: u32, port: u16) -> io::Result<()> {
    let mut request = request(ETHTOOL_SRXCLSRLINS, location);
    request[rxnfc::FLOW_TYPE..][..4].copy_from_slice(&UDP_V4_FLOW.to_ne_bytes());
    request[rxnfc::PORT..][..2].copy_from_slice(&port.to_be_bytes());
    request[rxnfc::PORT_MASK..][..2].copy_from_slice(&[0xff; 2]);
    request[rxnfc::RING_COOKIE..][..8].copy_from_slice(&RX_CLS_FLOW_DISC.to_ne_bytes());
    sys::ethtool(interface, &mut request)
}

/// Takes the rule with a number away.
pub fn remove_rule(interface: &str, location: u32) -> io::Result<()> {
    sys::ethtool(interface, &mut request(ETHTOOL_SRXCLSRLDEL, location))
}

/// Has the interface receive what is for others, or not.
pub fn set_promiscuous(interface: &str, on: bool) -> io::Result<()> {
    sys::set_interface_flags(interface, libc::IFF_PROMISC, on)
}

/// Has a command about queues carried out. Returns all words as they are then.
fn with_channels(interface: &str, words: [u32; CHANNELS]) -> io::Result<[u32; CHANNELS]> {
    let mut bytes = words.map(u32::to_ne_bytes);
    sys::ethtool(interface, bytes.as_flattened_mut())?;
    Ok(bytes.map(u32::from_ne_bytes))
}

fn all_channels(interface: &str) -> io::Result<[u32; CHANNELS]> {
    let mut words = [0; CHANNELS];
    words[0] = ETHTOOL_GCHANNELS;
    with_channels(interface, words)
}

/// How many queues of each kind the interface has, and how many it can have.
pub fn channels(interface: &str) -> io::Result<[u32; 2]> {
    let words = all_channels(interface)?;
    Ok([words[COMBINED], words[MAX_COMBINED]])
}

/// Sets how many queues of each kind the interface has.
pub fn set_channels(interface: &str, count: u32) -> io::Result<()> {
    let mut words = all_channels(interface)?;
    words[0] = ETHTOOL_SCHANNELS;
    words[COMBINED] = count;
    with_channels(interface, words).map(|_| ())
}

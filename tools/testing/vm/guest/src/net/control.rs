// SPDX-License-Identifier: GPL-2.0

//! Changes of what an interface receives: flow rules (`ethtool -N`) and promiscuous mode.

use crate::sys;
use std::io;

// include/uapi/linux/ethtool.h
const ETHTOOL_SRXCLSRLDEL: u32 = 0x31;
const ETHTOOL_SRXCLSRLINS: u32 = 0x32;
const UDP_V4_FLOW: u32 = 2;
const RX_CLS_FLOW_DISC: u64 = u64::MAX;
/// Bytes of a struct ethtool_rxnfc.
const RXNFC: usize = 192;

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

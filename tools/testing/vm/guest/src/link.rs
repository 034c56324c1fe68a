// SPDX-License-Identifier: GPL-2.0

//! `ip link set netns`, and what else takes rtnetlink.

use crate::sys;
use anyhow::{
    Context,
    Result, //
};
use std::os::fd::{
    AsRawFd,
    BorrowedFd, //
};
use vfio_mig::host::netlink::{
    attribute,
    Netlink, //
};

// include/uapi/linux/rtnetlink.h, if_link.h
pub const RTM_SETLINK: u16 = 19;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// Bytes of a struct ifinfomsg.
pub const INTERFACE_HEADER: usize = 16;

/// A struct ifinfomsg about an interface: of any family and type, its flags as they are.
pub fn interface_header(name: &str) -> Result<Vec<u8>> {
    let mut message = vec![0; 4];
    message.extend(sys::interface_index(name)?.to_ne_bytes());
    message.resize(INTERFACE_HEADER, 0);
    Ok(message)
}

/// Sends a request about an interface. Returns the answer, if there is one.
pub fn request(kind: u16, message: &[u8]) -> Result<Vec<u8>> {
    let answers = Netlink::route()?.request(kind, message)?;
    Ok(answers.into_iter().next_back().unwrap_or_default())
}

/// Moves a network interface to a namespace. It keeps its name, or gets the first one there that
/// a pattern with `%d` gives.
pub fn move_interface(name: &str, namespace: BorrowedFd<'_>, pattern: Option<&str>) -> Result<()> {
    let namespace = namespace.as_raw_fd().to_ne_bytes();
    let mut message = interface_header(name)?;
    message.extend(attribute(IFLA_NET_NS_FD, &namespace));
    if let Some(pattern) = pattern {
        message.extend(attribute(IFLA_IFNAME, format!("{pattern}\0").as_bytes()));
    }
    request(RTM_SETLINK, &message).context("RTM_SETLINK")?;
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! What takes netlink: `devlink dev reload`, which restarts the PF's driver while its VFs
//! stay, and `ip link set netns`.

use crate::sys;
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    io,
    os::fd::{
        AsRawFd,
        BorrowedFd,
        FromRawFd,
        OwnedFd, //
    },
};

// include/uapi/linux/netlink.h, genetlink.h, devlink.h
pub const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const DEVLINK_CMD_RELOAD: u8 = 37;
const DEVLINK_ATTR_BUS_NAME: u16 = 1;
const DEVLINK_ATTR_DEV_NAME: u16 = 2;
// rtnetlink.h, if_link.h
pub const RTM_SETLINK: u16 = 19;
const IFLA_NET_NS_FD: u16 = 28;

/// Bytes of a struct ifinfomsg.
pub const INTERFACE_HEADER: usize = 16;

/// A netlink socket.
pub struct Netlink(OwnedFd);

fn attribute(kind: u16, text: &str) -> Vec<u8> {
    let len = 4 + text.len() + 1;
    let mut bytes = (len as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(len.next_multiple_of(4), 0);
    bytes
}

/// A struct ifinfomsg about an interface: of any family and type, its flags as they are.
pub fn interface_header(name: &str) -> Result<Vec<u8>> {
    let mut message = vec![0; 4];
    message.extend(sys::interface_index(name)?.to_ne_bytes());
    message.resize(INTERFACE_HEADER, 0);
    Ok(message)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Netlink {
    /// Opens one of a protocol, in the caller's network namespace.
    pub fn open(protocol: libc::c_int) -> Result<Self> {
        // SAFETY: Just a system call.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol) };
        ensure!(fd >= 0, "socket: {}", io::Error::last_os_error());
        // SAFETY: The kernel just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a request, and returns what comes before its acknowledgement.
    pub fn request(&self, kind: u16, payload: &[u8]) -> Result<Vec<u8>> {
        let len = NLMSG_HEADER + payload.len();
        let mut message = (len as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        // SAFETY: The message is valid for its length.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        ensure!(
            sent as usize == message.len(),
            "send: {}",
            io::Error::last_os_error()
        );
        let mut answer = Vec::new();
        loop {
            let mut buf = vec![0; 1 << 16];
            // SAFETY: The buffer is valid for its length.
            let n =
                unsafe { libc::recv(self.0.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
            ensure!(n > 0, "recv: {}", io::Error::last_os_error());
            buf.truncate(n as usize);
            if u16_at(&buf, 4) == Some(NLMSG_ERROR) {
                return match i32_at(&buf, NLMSG_HEADER) {
                    Some(0) => Ok(answer),
                    Some(errno) => Err(io::Error::from_raw_os_error(-errno).into()),
                    None => bail!("a short answer"),
                };
            }
            answer = buf;
        }
    }

    /// The same, of a family of generic netlink.
    fn generic(&self, family: u16, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
        self.request(family, &[&[command, 1, 0, 0], attributes].concat())
    }

    fn family(&self, name: &str) -> Result<u16> {
        let name = attribute(CTRL_ATTR_FAMILY_NAME, name);
        let answer = self.generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)?;
        let mut at = NLMSG_HEADER + GENL_HEADER;
        while let (Some(len), Some(kind)) = (u16_at(&answer, at), u16_at(&answer, at + 2)) {
            if kind == CTRL_ATTR_FAMILY_ID {
                return u16_at(&answer, at + 4).context("a short attribute");
            }
            at += usize::from(len).max(4).next_multiple_of(4);
        }
        bail!("no family id")
    }
}

/// Reloads a PCI device, and returns once that is done.
pub fn reload(bdf: &str) -> Result<()> {
    let netlink = Netlink::open(libc::NETLINK_GENERIC)?;
    let family = netlink.family("devlink")?;
    let mut attributes = attribute(DEVLINK_ATTR_BUS_NAME, "pci");
    attributes.extend(attribute(DEVLINK_ATTR_DEV_NAME, bdf));
    netlink
        .generic(family, DEVLINK_CMD_RELOAD, &attributes)
        .context("devlink reload")?;
    Ok(())
}

/// Moves a network interface to a namespace.
pub fn move_interface(name: &str, namespace: BorrowedFd<'_>) -> Result<()> {
    let mut message = interface_header(name)?;
    message.extend(8u16.to_ne_bytes());
    message.extend(IFLA_NET_NS_FD.to_ne_bytes());
    message.extend(namespace.as_raw_fd().to_ne_bytes());
    Netlink::open(libc::NETLINK_ROUTE)?.request(RTM_SETLINK, &message)?;
    Ok(())
}

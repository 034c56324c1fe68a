// SPDX-License-Identifier: GPL-2.0

//! A socket for the frames of an interface.

use crate::sys;
use std::{
    io,
    mem,
    os::fd::{
        AsRawFd,
        FromRawFd,
        OwnedFd, //
    },
    ptr,
    time::Duration, //
};

/// ETH_P_ALL: frames of any protocol.
const ANY_PROTOCOL: u16 = 3;
/// Longest frame that is looked at.
const LEN: usize = 2048;
/// struct tpacket_auxdata: where `tp_vlan_tci` is, and TP_STATUS_VLAN_VALID in
/// `tp_status`, its first word.
const VLAN_TCI: usize = 16;
const VLAN_VALID: u32 = 1 << 4;
const AUXDATA_LEN: usize = 20;

/// Hears what comes in, and sends.
pub struct PacketSocket {
    fd: OwnedFd,
}

fn check(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

impl PacketSocket {
    /// Opens one of an interface, in the caller's network namespace.
    pub fn open(name: &str) -> io::Result<Self> {
        let protocol = ANY_PROTOCOL.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: Just a system call.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) };
        check(fd as isize)?;
        // SAFETY: The kernel just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd };
        for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
            socket.set(libc::SOL_PACKET, option, &1i32)?;
        }
        // SAFETY: All zeroes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = sys::interface_index(name)? as i32;
        let len = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: The address is valid for its length.
        let bound = unsafe { libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), len) };
        check(bound as isize)?;
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: The value is valid for its length, and only read.
        let set = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                ptr::from_ref(value).cast(),
                len,
            )
        };
        check(set as isize).map(drop)
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: The frame is valid for its length, and only read.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        check(sent).map(drop)
    }

    /// Waits for a frame for so long. Returns it, and its VLAN tag, 0 without one.
    pub fn receive(&self, patience: Duration) -> io::Result<Option<(Vec<u8>, u16)>> {
        let timeout = libc::timeval {
            tv_sec: patience.as_secs() as libc::time_t,
            // 0 would be for ever.
            tv_usec: (patience.subsec_micros() as libc::suseconds_t).max(1),
        };
        self.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        let mut frame = vec![0; LEN];
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: All zeroes are a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: The message has one part and a buffer for control messages, both valid for
        // their lengths.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, 0) };
        let len = match check(received) {
            Ok(len) => len,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(err) => return Err(err),
        };
        frame.truncate(len);
        let mut tag = 0;
        // SAFETY: The kernel has filled the message in; its control buffer is still there.
        let first = unsafe { libc::CMSG_FIRSTHDR(&message) };
        // SAFETY: The header is null, or that of a message that the kernel has written.
        let header = unsafe { first.as_ref() };
        let is_auxdata = |header: &&libc::cmsghdr| {
            (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
        };
        if header.filter(is_auxdata).is_some() {
            // SAFETY: That message has a tpacket_auxdata, which is as long as the array.
            let auxdata: [u8; AUXDATA_LEN] =
                unsafe { ptr::read_unaligned(libc::CMSG_DATA(first).cast()) };
            let [a, b, c, d, ..] = auxdata;
            if u32::from_ne_bytes([a, b, c, d]) & VLAN_VALID != 0 {
                tag = u16::from_ne_bytes([auxdata[VLAN_TCI], auxdata[VLAN_TCI + 1]]);
            }
        }
        Ok(Some((frame, tag)))
    }
}

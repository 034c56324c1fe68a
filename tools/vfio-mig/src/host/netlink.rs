// SPDX-License-Identifier: GPL-2.0

//! Netlink: requests, and what the kernel answers.

mod attributes;

use crate::{
    reason::reason,
    uapi, //
};
use attributes::u16_at;
pub use attributes::{
    attribute,
    attributes,
    text_attribute,
    text_of,
    u32_at,
    NESTED, //
};
use nix::sys::socket::{
    recv,
    send,
    socket,
    AddressFamily,
    MsgFlags,
    SockFlag,
    SockProtocol,
    SockType, //
};
use std::{
    fmt, io,
    os::fd::{
        AsFd,
        AsRawFd,
        OwnedFd, //
    },
};

// include/uapi/linux/netlink.h
const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// A list has changed between two of its pieces: entries may be missing, or there twice.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// An answer repeats the request without its payload.
const NLM_F_CAPPED: u16 = 0x100;
/// An answer has attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

// include/uapi/linux/genetlink.h
const GENERIC_HEADER: usize = 4;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Largest answer: the kernel fills 32 KiB at most of each piece of a list.
const ANSWER: usize = 1 << 16;

/// Why a request has failed.
#[derive(Debug)]
pub struct Failure {
    /// The errno.
    pub source: io::Error,
    /// What the kernel says about it.
    pub words: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{words}: {}", reason(&self.source)),
            None => f.write_str(&reason(&self.source)),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self {
            source,
            words: None,
        }
    }
}

impl From<nix::Error> for Failure {
    fn from(errno: nix::Error) -> Self {
        io::Error::from(errno).into()
    }
}

impl Failure {
    /// The kernel says something that no kernel should say.
    pub(super) fn malformed() -> Self {
        io::Error::new(io::ErrorKind::InvalidData, "a malformed answer").into()
    }
}

/// How often a list is asked for that changes all the time.
const MAX_LISTS: usize = 20;

/// What a datagram says.
#[derive(Debug)]
enum End {
    /// There is more to come.
    Open,
    /// That is all.
    Done,
}

/// An answer.
#[derive(Default, Debug)]
struct Answer {
    /// The payloads of its messages.
    payloads: Vec<Vec<u8>>,
    /// Whether it is a list that has changed meanwhile.
    changed: bool,
}

/// Takes the messages of a datagram.
fn take(mut datagram: &[u8], answer: &mut Answer) -> Result<End, Failure> {
    while !datagram.is_empty() {
        let len = u32_at(datagram, 0).ok_or_else(Failure::malformed)? as usize;
        let kind = u16_at(datagram, 4).ok_or_else(Failure::malformed)?;
        let flags = u16_at(datagram, 6).ok_or_else(Failure::malformed)?;
        let payload = datagram.get(HEADER..len).ok_or_else(Failure::malformed)?;
        answer.changed |= flags & NLM_F_DUMP_INTR != 0;
        match kind {
            NLMSG_ERROR => return answered(payload, flags).map(|()| End::Done),
            // A list that has failed half way says so at its end.
            NLMSG_DONE => {
                let status = u32_at(payload, 0).unwrap_or(0) as i32;
                return match status {
                    0.. => Ok(End::Done),
                    _ => Err(io::Error::from_raw_os_error(status.wrapping_neg()).into()),
                };
            }
            _ => answer.payloads.push(payload.to_vec()),
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(End::Open)
}

/// What an acknowledgement says: a struct nlmsgerr, and maybe attributes.
fn answered(payload: &[u8], flags: u16) -> Result<(), Failure> {
    let status = u32_at(payload, 0).ok_or_else(Failure::malformed)? as i32;
    if status == 0 {
        return Ok(());
    }
    let request = match flags & NLM_F_CAPPED {
        0 => u32_at(payload, 4).unwrap_or(0) as usize,
        _ => HEADER,
    };
    let rest = payload.get(4 + request.next_multiple_of(4)..);
    let words = rest
        .filter(|_| flags & NLM_F_ACK_TLVS != 0)
        .and_then(|rest| {
            let all = attributes(rest);
            let (_, words) = all
                .into_iter()
                .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
            Some(text_of(words))
        });
    Err(Failure {
        source: io::Error::from_raw_os_error(status.wrapping_neg()),
        words,
    })
}

/// A netlink socket.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one of rtnetlink, in the caller's network namespace.
    pub fn route() -> Result<Self, Failure> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    fn open(protocol: SockProtocol) -> Result<Self, Failure> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // Without them there are fewer words, and that is all.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = uapi::set_socket_option(fd.as_fd(), libc::SOL_NETLINK, option, 1);
        }
        Ok(Self(fd))
    }

    /// Sends a request. Returns the messages that come before its acknowledgement.
    pub fn request(&self, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let answer = self.exchange(kind, NLM_F_REQUEST | NLM_F_ACK, payload)?;
        Ok(answer.payloads)
    }

    /// Asks for a list, again if it changes meanwhile. Returns its messages.
    fn list(&self, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        for _ in 0..MAX_LISTS {
            let answer = self.exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)?;
            if !answer.changed {
                return Ok(answer.payloads);
            }
        }
        let why = "the list changes all the time; try again when nothing else changes the host";
        Err(io::Error::new(io::ErrorKind::Interrupted, why).into())
    }

    fn exchange(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<Answer, Failure> {
        let len = HEADER + payload.len();
        let mut message = (len as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = Answer::default();
        let mut datagram = vec![0; ANSWER];
        loop {
            let len = match recv(self.0.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => continue,
                received => received?,
            };
            if let End::Done = take(&datagram[..len], &mut answer)? {
                return Ok(answer);
            }
        }
    }
}

/// A family of generic netlink.
pub struct Generic {
    netlink: Netlink,
    family: u16,
}

impl Generic {
    /// Looks a family up. ENOENT if the kernel does not have it.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let netlink = Netlink::open(SockProtocol::NetlinkGeneric)?;
        let name = text_attribute(CTRL_ATTR_FAMILY_NAME, name);
        let answers = netlink.request(GENL_ID_CTRL, &request(CTRL_CMD_GETFAMILY, &name))?;
        let family = answers.iter().find_map(|answer| {
            let all = attributes(answer.get(GENERIC_HEADER..)?);
            let (_, id) = all
                .into_iter()
                .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)?;
            u16_at(id, 0)
        });
        Ok(Self {
            netlink,
            family: family.ok_or_else(Failure::malformed)?,
        })
    }

    /// Sends a command. Returns the attributes of each answer.
    pub fn command(&self, command: u8, attributes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let answers = self
            .netlink
            .request(self.family, &request(command, attributes))?;
        Ok(without_headers(answers))
    }

    /// Asks for a list. Returns the attributes of each entry.
    pub fn list(&self, command: u8, attributes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let entries = self
            .netlink
            .list(self.family, &request(command, attributes))?;
        Ok(without_headers(entries))
    }
}

/// A request of generic netlink.
fn request(command: u8, attributes: &[u8]) -> Vec<u8> {
    [&[command, 1, 0, 0], attributes].concat()
}

fn without_headers(answers: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let attributes = |answer: Vec<u8>| answer.get(GENERIC_HEADER..).map(<[u8]>::to_vec);
    answers.into_iter().filter_map(attributes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// A message as the kernel sends it.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let len = HEADER + payload.len();
        let mut bytes = (len as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_list_goes_on_until_its_end() {
        let mut found = Answer::default();
        let two = [message(0x20, 2, b"one"), message(0x20, 2, b"two!")].concat();
        assert!(matches!(take(&two, &mut found), Ok(End::Open)));
        let done = message(NLMSG_DONE, 2, &[0; 4]);
        assert!(matches!(take(&done, &mut found), Ok(End::Done)));
        assert_eq!(found.payloads, [b"one".to_vec(), b"two!".to_vec()]);
        let failed = message(NLMSG_DONE, 2, &(-libc::ENODEV).to_ne_bytes());
        let err = take(&failed, &mut found).unwrap_err();
        assert_eq!(err.source.raw_os_error(), Some(libc::ENODEV));
    }

    /// What comes of a list, to whose requests these datagrams are the answers.
    fn listed(answers: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let kernel = std::thread::spawn(move || {
            let mut request = [0; 64];
            for answer in answers {
                theirs.recv(&mut request).unwrap();
                assert_eq!(u16_at(&request, 6), Some(NLM_F_REQUEST | NLM_F_DUMP));
                theirs.send(&answer).unwrap();
            }
        });
        let list = Netlink(ours.into()).list(0x20, b"what");
        kernel.join().unwrap();
        list
    }

    #[test]
    fn a_list_that_changes_is_asked_for_again() {
        let list = |entry, flags| {
            let entry = message(0x20, 2 | flags, entry);
            [entry, message(NLMSG_DONE, 2, &[0; 4])].concat()
        };
        let changed = [
            message(0x20, 2, b"some"),
            message(NLMSG_DONE, 2 | NLM_F_DUMP_INTR, &[0; 4]),
        ]
        .concat();
        let answers = vec![list(b"old", NLM_F_DUMP_INTR), changed, list(b"new", 0)];
        assert_eq!(listed(answers).unwrap(), [b"new"]);
        let err = listed(vec![list(b"old", NLM_F_DUMP_INTR); MAX_LISTS]).unwrap_err();
        assert!(err.to_string().contains("changes all the time"), "{err}");
    }

    #[test]
    fn the_kernel_says_why() {
        let status = (-libc::EOPNOTSUPP).to_ne_bytes();
        let words = text_attribute(NLMSGERR_ATTR_MSG, "Device doesn't support migration");
        let request = message(0x20, 5, b"1234");
        for (repeated, capped) in [(&request[..HEADER], NLM_F_CAPPED), (&request[..], 0)] {
            let payload = [&status[..], repeated, &words].concat();
            let flags = NLM_F_ACK_TLVS | capped;
            let err = take(
                &message(NLMSG_ERROR, flags, &payload),
                &mut Answer::default(),
            )
            .unwrap_err();
            assert_eq!(
                err.words.as_deref(),
                Some("Device doesn't support migration")
            );
            assert_eq!(
                err.to_string(),
                "Device doesn't support migration: Operation not supported (EOPNOTSUPP)"
            );
        }
        let bare = message(NLMSG_ERROR, 0, &[&status[..], &request].concat());
        assert!(take(&bare, &mut Answer::default())
            .unwrap_err()
            .words
            .is_none());
        // No errno is that large, and none is a panic.
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let least = message(kind, 0, &i32::MIN.to_ne_bytes());
            assert!(take(&least, &mut Answer::default()).is_err());
        }
        for cut in [&bare[..3], &bare[..17]] {
            let err = take(cut, &mut Answer::default()).unwrap_err();
            assert_eq!(err.source.kind(), io::ErrorKind::InvalidData);
        }
    }
}

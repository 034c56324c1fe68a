// SPDX-License-Identifier: GPL-2.0

//! Frames: the messages of the two sides.

use crate::text;
use std::io;

pub(super) const HELLO: u8 = 1;
pub(super) const DATA: u8 = 2;
pub(super) const BARRIER: u8 = 3;
pub(super) const END: u8 = 4;
pub(super) const START: u8 = 5;
pub(super) const ABANDON: u8 = 6;
pub(super) const DONE: u8 = 0x80;
pub(super) const FAILED: u8 = 0x81;

/// What `HELLO` says.
pub(super) const VERSION: &[u8] = b"vfio-mig 1";

/// Most bytes of what `HELLO` says, in any version.
pub(super) const MAX_VERSION: usize = 64;

/// Most bytes of a frame. Without a limit, the other side could make us allocate any amount.
pub(super) const MAX_FRAME: u32 = 1 << 20;

/// Most bytes that are shown of a peer's reason.
pub(super) const MAX_REASON: usize = 1 << 10;

/// Bytes that a frame has before its contents.
pub(super) const HEADER: usize = 5;

pub(super) fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// What comes before the contents of a frame.
pub(super) fn header(kind: u8, bytes: &[u8]) -> io::Result<[u8; HEADER]> {
    let len = u32::try_from(bytes.len()).map_err(|_| bad("a frame is too long"))?;
    let [a, b, c, d] = len.to_le_bytes();
    Ok([kind, a, b, c, d])
}

/// The kind of a frame, and the length of its contents.
pub(super) fn parse_header(header: [u8; HEADER]) -> io::Result<(u8, usize)> {
    let [kind, a, b, c, d] = header;
    let is_frame = matches!(kind, HELLO..=ABANDON | DONE | FAILED);
    match u32::from_le_bytes([a, b, c, d]) {
        // Such as a greeting of a shell. As a length, four of its bytes are always too much.
        _ if !is_frame && !header.contains(&0) => {
            let words = String::from_utf8_lossy(&header);
            Err(bad(format!(
                "no vfio-mig: what it says begins with {words:?}; nothing else may write to the \
                 standard output of a receiver or a sender"
            )))
        }
        len if len > MAX_FRAME => Err(bad(format!("a frame of {len} bytes is too long"))),
        len => Ok((kind, len as usize)),
    }
}

/// The reason of a peer that has failed, without control characters, which a terminal would
/// obey.
pub(super) fn reason(answer: &[u8]) -> String {
    let words = String::from_utf8_lossy(&answer[..answer.len().min(MAX_REASON)]);
    text::shown(&words.replace('\n', " "))
}

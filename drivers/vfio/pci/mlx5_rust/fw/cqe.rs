// SPDX-License-Identifier: GPL-2.0

//! Completion queue entries (`struct mlx5_cqe64`).
//!
//! No kernel types: the file is also compiled and tested on the host.

/// 32-bit words of an entry.
pub(crate) const WORDS: usize = 16;
/// The word that has `op_own` in its lowest byte; written last by the device.
pub(crate) const OWNER_WORD: usize = WORDS - 1;
/// What `op_own` is before the device has ever written it.
pub(crate) const NEVER_WRITTEN: u32 = INVALID << 4;

// Values and places of the C headers, as `super::cq` asserts.

/// `MLX5_CQE_INVALID`.
pub(crate) const INVALID: u32 = 15;
/// `MLX5_CQE_RESP_SEND_IMM`.
pub(crate) const RESP_SEND_IMM: u32 = 3;
/// `MLX5_PAGE_TRACK_STATE_TRACKING`.
pub(crate) const STATE_TRACKING: u32 = 0;
/// `MLX5_PAGE_TRACK_STATE_REPORTING`.
pub(crate) const STATE_REPORTING: u32 = 1;
/// The word that is `immediate`.
pub(crate) const IMMEDIATE: usize = 9;
/// The word that is `byte_cnt`.
pub(crate) const BYTE_COUNT: usize = 11;

/// Whether the device has written an entry: `owner_word` is its last word, `index`
/// counts entries from the beginning, `log_size` is of the queue.
///
/// Whose an entry is shows a bit that changes each time around.
pub(crate) fn is_written(owner_word: u32, index: u32, log_size: u32) -> bool {
    let op_own = owner_word & 0xff;
    op_own >> 4 != INVALID && op_own & 1 == (index >> log_size) & 1
}

/// What the tracker does after a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It tracks: this was the last message of the report.
    Tracking,
    /// There is more to report.
    Reporting,
    /// It has failed.
    Failed,
}

/// A message of the page tracker that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    /// The entry of the receive queue that it is in.
    pub(crate) slot: u32,
    /// Bytes of it.
    pub(crate) len: usize,
    /// What comes next.
    pub(crate) state: State,
}

/// Takes an entry apart. `None` where it is not about a message that fits into
/// `room` bytes, in a queue of `slots`, a power of two.
pub(crate) fn parse(cqe: &[u32; WORDS], slots: u32, room: usize) -> Option<Message> {
    if (cqe[OWNER_WORD] & 0xff) >> 4 != RESP_SEND_IMM {
        return None;
    }
    // CAST: To a type that is not smaller.
    let len = cqe[BYTE_COUNT] as usize;
    if len > room {
        return None;
    }
    Some(Message {
        slot: (cqe[OWNER_WORD] >> 16) & slots.checked_sub(1)?,
        len,
        state: match cqe[IMMEDIATE] >> 28 {
            STATE_TRACKING => State::Tracking,
            STATE_REPORTING => State::Reporting,
            _ => State::Failed,
        },
    })
}

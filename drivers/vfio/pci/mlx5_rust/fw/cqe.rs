// SPDX-License-Identifier: GPL-2.0

//! Completion queue entries (`struct mlx5_cqe64`).
//!
//! No kernel types: the file is also compiled and tested on the host.

use super::track_limits::LOG_ENTRY;

/// What `op_own` is before the device has ever written it.
pub(crate) const NEVER_WRITTEN: u32 = INVALID << 4;

// Values of the C headers, as `super::cq` asserts.

/// `MLX5_CQE_INVALID`.
pub(crate) const INVALID: u32 = 15;
/// `MLX5_CQE_RESP_SEND_IMM`.
pub(crate) const RESP_SEND_IMM: u32 = 3;
/// `MLX5_PAGE_TRACK_STATE_TRACKING`.
pub(crate) const STATE_TRACKING: u32 = 0;
/// `MLX5_PAGE_TRACK_STATE_REPORTING`.
pub(crate) const STATE_REPORTING: u32 = 1;

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

impl Message {
    /// Returns where its entries are in memory that has slots of `room` bytes, and how many
    /// bytes those are: a multiple of an entry's.
    pub(crate) fn place(&self, room: usize) -> (usize, usize) {
        // CAST: To a type that is not smaller.
        (
            self.slot as usize * room,
            self.len >> LOG_ENTRY << LOG_ENTRY,
        )
    }
}

/// What an entry says: the words of it that matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// `wqe_counter`, and `op_own` in the lowest byte; written last by the device.
    pub(crate) owner: u32,
    /// `byte_cnt`.
    pub(crate) byte_count: u32,
    /// `immediate`.
    pub(crate) immediate: u32,
}

/// Takes an entry apart. `None` where it is not about a message that fits into
/// `room` bytes, in a queue of `slots`, a power of two.
pub(crate) fn parse(entry: Entry, slots: u32, room: usize) -> Option<Message> {
    if (entry.owner & 0xff) >> 4 != RESP_SEND_IMM {
        return None;
    }
    // CAST: To a type that is not smaller.
    let len = entry.byte_count as usize;
    if len > room {
        return None;
    }
    Some(Message {
        slot: (entry.owner >> 16) & slots.checked_sub(1)?,
        len,
        state: match entry.immediate >> 28 {
            STATE_TRACKING => State::Tracking,
            STATE_REPORTING => State::Reporting,
            _ => State::Failed,
        },
    })
}

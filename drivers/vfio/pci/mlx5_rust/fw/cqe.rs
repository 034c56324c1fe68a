// SPDX-License-Identifier: GPL-2.0

//! Completion queue entries (`struct mlx5_cqe64`).
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

use super::track_limits::LOG_ENTRY;

/// Value of `op_own` before the device has written the entry for the first time.
pub(crate) const NEVER_WRITTEN: u32 = INVALID << 4;

// Values of the C headers, as `super::cq` asserts.

/// Size of an entry, in bytes.
pub(crate) const BYTES: usize = 64;
/// Offset of the word with `wqe_counter` and `op_own`.
pub(crate) const OWNER: usize = 60;
/// Offset of `byte_cnt`.
pub(crate) const BYTE_COUNT: usize = 44;
/// Offset of `immediate`.
pub(crate) const IMMEDIATE: usize = 36;
/// `MLX5_CQE_INVALID`.
pub(crate) const INVALID: u32 = 15;
/// `MLX5_CQE_RESP_SEND_IMM`.
pub(crate) const RESP_SEND_IMM: u32 = 3;
/// `MLX5_PAGE_TRACK_STATE_TRACKING`.
pub(crate) const STATE_TRACKING: u32 = 0;
/// `MLX5_PAGE_TRACK_STATE_REPORTING`.
pub(crate) const STATE_REPORTING: u32 = 1;

/// Returns whether the device has written an entry: `owner_word` is its last word, `index` counts
/// entries from the beginning, `log_size` is the size of the queue, as a shift.
///
/// The owner bit of an entry changes each time the queue wraps around.
pub(crate) fn is_written(owner_word: u32, index: u32, log_size: u32) -> bool {
    let op_own = owner_word & 0xff;
    op_own >> 4 != INVALID && op_own & 1 == (index >> log_size) & 1
}

/// What the tracker does after a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The tracker goes on tracking: this was the last message of the report.
    Tracking,
    /// There is more to report.
    Reporting,
    /// The tracker has failed.
    Failed,
}

/// A message of the page tracker that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    /// The entry of the receive queue that the message is in.
    pub(crate) slot: u32,
    /// Length of the message, in bytes.
    pub(crate) len: usize,
    /// What the tracker does next.
    pub(crate) state: State,
}

impl Message {
    /// Returns the offset of the message in memory that has slots of `room` bytes, and its length
    /// in bytes, rounded down to whole entries.
    pub(crate) fn place(&self, room: usize) -> (usize, usize) {
        // CAST: The new type is not smaller.
        (
            self.slot as usize * room,
            self.len >> LOG_ENTRY << LOG_ENTRY,
        )
    }
}

/// The words of an entry that the driver reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// `wqe_counter`, and `op_own` in the lowest byte; written last by the device.
    pub(crate) owner: u32,
    /// `byte_cnt`.
    pub(crate) byte_count: u32,
    /// `immediate`.
    pub(crate) immediate: u32,
}

/// Parses entry `index`, counted from the beginning. Returns `None` if the entry is not about a
/// message that fits into `room` bytes, or is about another message than the next one. `slots`, a
/// power of two, is the size of the queue.
///
/// A receive queue is filled in order, so an entry about another slot repeats a message, or hides
/// one: pages would be lost.
pub(crate) fn parse(entry: Entry, index: u32, slots: u32, room: usize) -> Option<Message> {
    if (entry.owner & 0xff) >> 4 != RESP_SEND_IMM {
        return None;
    }
    let in_queue = slots.checked_sub(1)?;
    let slot = (entry.owner >> 16) & in_queue;
    if slot != index & in_queue {
        return None;
    }
    // CAST: The new type is not smaller.
    let len = entry.byte_count as usize;
    if len > room {
        return None;
    }
    Some(Message {
        slot,
        len,
        state: match entry.immediate >> 28 {
            STATE_TRACKING => State::Tracking,
            STATE_REPORTING => State::Reporting,
            _ => State::Failed,
        },
    })
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_cqe)
)]
mod tests {
    use super::*;

    fn entry(immediate: u32, byte_count: u32, counter: u32, op_own: u32) -> Entry {
        Entry {
            owner: (counter << 16) | op_own,
            byte_count,
            immediate,
        }
    }

    #[test]
    fn an_entry_is_the_drivers_once_each_time_around() {
        let op_own = RESP_SEND_IMM << 4;
        for index in 0..40 {
            let owner = (index >> 3) & 1;
            assert!(!is_written(NEVER_WRITTEN, index, 3));
            assert!(!is_written(NEVER_WRITTEN | 1, index, 3));
            assert!(is_written(op_own | owner, index, 3));
            assert!(!is_written(op_own | (owner ^ 1), index, 3));
        }
    }

    #[test]
    fn a_message_is_taken_apart() {
        let message = |state| {
            Some(Message {
                slot: 5,
                len: 24,
                state,
            })
        };
        for (raw, state) in [
            (0, State::Tracking),
            (1, State::Reporting),
            (2, State::Failed),
            (15, State::Failed),
        ] {
            let cqe = entry(raw << 28, 24, 8 + 5, 3 << 4);
            assert_eq!(parse(cqe, 16 + 5, 8, 4096), message(state));
        }
    }

    #[test]
    fn an_error_and_a_message_that_is_too_long_are_refused() {
        for opcode in [0, 1, 2, 4, 13, 14, 15] {
            assert_eq!(parse(entry(0, 8, 0, opcode << 4), 0, 8, 4096), None);
        }
        assert!(parse(entry(0, 4096, 0, 3 << 4), 0, 8, 4096).is_some());
        assert_eq!(parse(entry(0, 4097, 0, 3 << 4), 0, 8, 4096), None);
    }

    #[test]
    fn a_message_that_comes_again_or_too_early_is_refused() {
        // 16 bits count entries, so the counter has wrapped around.
        for (counter, index) in [(7, 8), (9, 8), (0, 7), (0xffff, 0x1_0000)] {
            let cqe = entry(0, 8, counter, 3 << 4);
            assert_eq!(parse(cqe, index, 8, 4096), None);
        }
        assert!(parse(entry(0, 8, 1, 3 << 4), 0x1_0001, 8, 4096).is_some());
    }

    #[test]
    fn the_place_of_a_message_has_whole_entries() {
        let message = Message {
            slot: 3,
            len: 23,
            state: State::Reporting,
        };
        assert_eq!(message.place(4096), (3 * 4096, 16));
    }
}

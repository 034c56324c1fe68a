// SPDX-License-Identifier: GPL-2.0

//! What a page tracker is made with, within the limits of firmware.
//!
//! No kernel types: the file is also compiled and tested on the host.

/// Bytes of an entry of a message, `page_track_report_entry`, as a shift.
pub(crate) const LOG_ENTRY: u32 = 3;
/// Bytes of memory for messages, as a shift: 2 MiB, as in the C driver.
const LOG_RING: u32 = 21;
/// Fewest messages that there is memory for, as a shift. Firmware makes no QP
/// with fewer receive entries.
const LOG_MIN_SLOTS: u32 = 2;
/// Most messages that there is memory for, as a shift. Entries are counted with
/// 16 bits, and each has a completion queue entry of 64 bytes.
const LOG_MAX_SLOTS: u32 = 12;
/// Largest message that firmware may insist on, as a shift: four of them are
/// 16 MiB.
const LOG_MAX_MESSAGE: u32 = 22;

/// The `pg_track_*` capabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackLimits {
    /// Fewest and most bytes of a message, as shifts.
    pub(crate) log_message: (u32, u32),
    /// Fewest and most bytes of a page, as shifts.
    pub(crate) log_page: (u32, u32),
    /// Fewest and most bytes of all ranges together, as shifts.
    pub(crate) log_space: (u32, u32),
}

/// The memory that messages are received into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    /// Most bytes of a message, as a shift.
    pub(crate) log_message: u32,
    /// Number of messages, as a shift.
    pub(crate) log_slots: u32,
}

impl Ring {
    /// Returns the most bytes of a message.
    pub(crate) fn message_len(self) -> usize {
        1 << self.log_message
    }

    /// Returns the number of messages.
    pub(crate) fn slots(self) -> u32 {
        1 << self.log_slots
    }

    /// Returns the number of bytes.
    pub(crate) fn len(self) -> usize {
        1 << (self.log_message + self.log_slots)
    }

    /// Returns the most entries that all messages have.
    pub(crate) fn entries(self) -> u64 {
        1 << (self.log_message + self.log_slots - LOG_ENTRY)
    }
}

impl TrackLimits {
    /// Returns the page size, as a shift, that is nearest to `page_size`.
    pub(crate) fn log_page(&self, page_size: u64) -> u32 {
        let (min, max) = self.log_page;
        page_size.max(1).ilog2().max(min).min(max)
    }

    /// Returns the memory to make for messages, or `None` if a message has no
    /// entry, or more bytes than there is ever memory for.
    ///
    /// Messages are as large as firmware can make them, if there is memory for
    /// enough of them. A larger message saves interrupts, nothing else.
    pub(crate) fn ring(&self) -> Option<Ring> {
        let (min, max) = self.log_message;
        let log_message = max.min(LOG_RING - LOG_MIN_SLOTS).max(min.min(max));
        if !(LOG_ENTRY..=LOG_MAX_MESSAGE).contains(&log_message) {
            return None;
        }
        let log_slots = LOG_RING
            .saturating_sub(log_message)
            .clamp(LOG_MIN_SLOTS, LOG_MAX_SLOTS);
        Some(Ring {
            log_message,
            log_slots,
        })
    }

    /// Returns the size of the address space that holds ranges of these lengths,
    /// as a shift, or `None` if firmware cannot track as little, or as much.
    pub(crate) fn log_space(&self, lens: impl IntoIterator<Item = u64>) -> Option<u32> {
        let (min, max) = self.log_space;
        let total = lens.into_iter().try_fold(0u64, u64::checked_add)?;
        let log_space = total.checked_next_power_of_two()?.ilog2();
        (min..=max).contains(&log_space).then_some(log_space)
    }
}

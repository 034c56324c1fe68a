// SPDX-License-Identifier: GPL-2.0

//! Properties of a page tracker, within the limits of firmware.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Size of an entry of a message, `page_track_report_entry`, in bytes, as a shift.
pub(crate) const LOG_ENTRY: u32 = 3;
/// Size of the memory for messages, in bytes, as a shift: 2 MiB, as in the C driver.
const LOG_RING: u32 = 21;
/// Smallest number of messages that there is memory for, as a shift. Firmware makes no QP with
/// fewer receive entries.
const LOG_MIN_SLOTS: u32 = 2;
/// Largest number of messages that there is memory for, as a shift. Entries are counted with 16
/// bits, and each has a completion queue entry of 64 bytes.
const LOG_MAX_SLOTS: u32 = 12;
/// Largest message that firmware may require, in bytes, as a shift: memory for four of them has 16
/// MiB.
const LOG_MAX_MESSAGE: u32 = 22;

/// The `pg_track_*` capabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackLimits {
    /// Smallest and largest size of a message, in bytes, as shifts.
    pub(crate) log_message: (u32, u32),
    /// Smallest and largest size of a page, in bytes, as shifts.
    pub(crate) log_page: (u32, u32),
    /// Smallest and largest size of all ranges together, in bytes, as shifts.
    pub(crate) log_space: (u32, u32),
}

/// The memory that messages are received into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    /// Largest size of a message, in bytes, as a shift.
    pub(crate) log_message: u32,
    /// Number of messages, as a shift.
    pub(crate) log_slots: u32,
}

impl Ring {
    /// Returns the largest size of a message, in bytes.
    pub(crate) fn message_len(self) -> usize {
        1 << self.log_message
    }

    /// Returns the number of messages.
    pub(crate) fn slots(self) -> u32 {
        1 << self.log_slots
    }

    /// Returns the size of the memory, in bytes.
    pub(crate) fn len(self) -> usize {
        1 << (self.log_message + self.log_slots)
    }

    /// Returns the largest number of entries that all messages together have.
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

    /// Returns the sizes of the memory for messages, or `None` if a message has no room for an
    /// entry, or is larger than firmware may require.
    ///
    /// Messages are as large as firmware can make them, if there is memory for enough of them. A
    /// larger message only saves interrupts.
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

    /// Returns the size of the address space that holds ranges of these lengths, as a shift, or
    /// `None` if that is outside of firmware's limits.
    pub(crate) fn log_space(&self, lens: impl IntoIterator<Item = u64>) -> Option<u32> {
        let (min, max) = self.log_space;
        let total = lens.into_iter().try_fold(0u64, u64::checked_add)?;
        let log_space = total.checked_next_power_of_two()?.ilog2();
        (min..=max).contains(&log_space).then_some(log_space)
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_track_limits)
)]
pub(crate) mod tests {
    use super::*;

    /// Limits of a ConnectX.
    const USUAL: TrackLimits = TrackLimits {
        log_message: (9, 12),
        log_page: (12, 21),
        log_space: (12, 44),
    };

    const PAGE: u64 = 4096;

    pub(crate) fn ring(min: u32, max: u32) -> Option<Ring> {
        TrackLimits {
            log_message: (min, max),
            ..USUAL
        }
        .ring()
    }

    fn log_space(lens: &[u64]) -> Option<u32> {
        USUAL.log_space(lens.iter().copied())
    }

    #[test]
    fn there_are_512_messages_of_4_kib() {
        let figures = |ring: Ring| (ring.message_len(), ring.slots(), ring.len());
        assert_eq!(ring(9, 12).map(figures), Some((4096, 512, 2 << 20)));
        assert_eq!(ring(9, 12).map(Ring::entries), Some((2 << 20) / 8));
    }

    #[test]
    fn a_larger_message_than_there_is_memory_for_becomes_a_smaller_one() {
        let figures = |ring: Ring| (ring.message_len(), ring.slots());
        for max in 19..=31 {
            assert_eq!(ring(9, max).map(figures), Some((512 << 10, 4)));
        }
    }

    #[test]
    fn a_large_message_is_made_if_firmware_insists() {
        assert_eq!(
            ring(22, 22).map(|ring| (ring.log_message, ring.log_slots)),
            Some((22, 2))
        );
        assert_eq!(ring(23, 31), None);
    }

    #[test]
    fn a_message_has_an_entry() {
        for max in 0..3 {
            assert_eq!(ring(0, max), None);
        }
        assert!(ring(0, 3).is_some());
    }

    #[test]
    fn a_page_is_the_nearest_that_firmware_tells_apart() {
        for (wanted, log) in [
            (0, 12),
            (1, 12),
            (PAGE, 12),
            (PAGE + 1, 12),
            (64 << 10, 16),
            (2 << 20, 21),
            (4 << 20, 21),
            (u64::MAX, 21),
        ] {
            assert_eq!(USUAL.log_page(wanted), log);
        }
    }

    #[test]
    fn a_space_holds_all_ranges() {
        assert_eq!(log_space(&[PAGE]), Some(12));
        assert_eq!(log_space(&[PAGE + 1]), Some(13));
        assert_eq!(log_space(&[PAGE, PAGE, PAGE]), Some(14));
        assert_eq!(log_space(&[1 << 44]), Some(44));
    }

    #[test]
    fn a_space_that_is_too_small_or_too_large_is_none() {
        for lens in [
            &[][..],
            &[PAGE / 2],
            &[(1 << 44) + 1],
            &[u64::MAX - PAGE + 1],
            &[u64::MAX],
            &[1 << 63, 1 << 63],
            &[u64::MAX, u64::MAX, PAGE],
        ] {
            assert_eq!(log_space(lens), None);
        }
    }
}

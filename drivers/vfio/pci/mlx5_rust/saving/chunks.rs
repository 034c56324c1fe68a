// SPDX-License-Identifier: GPL-2.0

//! When the next chunk of a stopped device is saved.
//!
//! Firmware may save a state in chunks. With each, it tells how much memory the next one needs. Two
//! buffers alternate: while one is read, the other is filled, and firmware waits if the reader is
//! slower.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Largest number of chunks in memory, including the one that is being saved.
pub(crate) const BUFFERS: usize = 2;

/// The chunks of one state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Chunks {
    /// Chunks that were saved, and not read to their end.
    unread: usize,
    /// Bytes that the next chunk needs, if there is one and it is not being saved.
    due: Option<usize>,
}

impl Chunks {
    /// Notes that a chunk was saved, and that the next one needs `next` bytes; 0 for the last.
    ///
    /// Returns whether it was the last.
    pub(crate) fn saved(&mut self, next: usize) -> bool {
        self.unread += 1;
        self.due = (next > 0).then_some(next);
        self.due.is_none()
    }

    /// Notes that a chunk was read to its end.
    pub(crate) fn consumed(&mut self) {
        self.unread = self.unread.saturating_sub(1);
    }

    /// Returns whether a chunk can be saved now.
    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some() && self.unread < BUFFERS
    }

    /// Returns the bytes that the chunk to be saved now needs, and counts that chunk as being
    /// saved.
    pub(crate) fn take_due(&mut self) -> Option<usize> {
        if self.is_due() {
            self.due.take()
        } else {
            None
        }
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_chunks)
)]
mod tests {
    use super::*;

    #[test]
    fn a_state_in_one_chunk_is_over_at_once() {
        let mut chunks = Chunks::default();
        assert!(chunks.saved(0));
        chunks.consumed();
        assert_eq!(chunks.take_due(), None);
    }

    #[test]
    fn firmware_waits_for_a_reader_who_is_slower() {
        let mut chunks = Chunks::default();
        assert!(!chunks.saved(20));
        assert_eq!(chunks.take_due(), Some(20));
        // That chunk is being saved.
        assert_eq!(chunks.take_due(), None);
        assert!(!chunks.saved(30));
        // Both buffers are full.
        assert!(!chunks.is_due());
        assert_eq!(chunks.take_due(), None);
        chunks.consumed();
        assert_eq!(chunks.take_due(), Some(30));
        assert!(chunks.saved(0));
        assert_eq!(chunks.take_due(), None);
    }
}

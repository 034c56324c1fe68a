// SPDX-License-Identifier: GPL-2.0

//! Who owns an entry of the tracker's queues: the driver or the device.
//!
//! The device writes an entry of the completion queue, and its owner word last. The driver gives
//! entries back by their count in a doorbell record, and posts receive entries by their count in
//! another one.
//!
//! The file uses no kernel types, so that it can also be run in user space, in every order in which
//! the driver and the device can access the words.

use super::cqe::{
    self,
    Entry, //
};

/// Memory that the driver and the device access at any time, in words of 32 bits.
pub(crate) trait Words {
    /// Reads the word at `offset`, in bytes.
    fn read(&self, offset: usize) -> u32;

    /// Writes the word at `offset`, in bytes.
    fn write(&self, offset: usize, value: u32);

    /// Orders earlier reads before later ones.
    fn read_barrier();

    /// Orders earlier writes before later ones.
    fn write_barrier();
}

/// Returns the offset of entry `index` in a ring of `1 << log_size` entries.
fn offset(index: u32, log_size: u32) -> usize {
    // CAST: The new type is not smaller.
    (index & ((1 << log_size) - 1)) as usize * cqe::BYTES
}

/// Marks all entries of a completion queue as not written, before the device gets the queue.
pub(crate) fn mark_unwritten<W: Words>(ring: &W, log_size: u32) {
    for index in 0..1 << log_size {
        ring.write(offset(index, log_size) + cqe::OWNER, cqe::NEVER_WRITTEN);
    }
}

/// Reads entry `index` of a completion queue, counted from the beginning, if the device has written
/// it.
pub(crate) fn read_entry<W: Words>(ring: &W, index: u32, log_size: u32) -> Option<Entry> {
    let at = offset(index, log_size);
    let owner = ring.read(at + cqe::OWNER);
    if !cqe::is_written(owner, index, log_size) {
        return None;
    }
    // The device writes the owner word last. Words that were read before it may be old, and so may
    // the message.
    W::read_barrier();
    Some(Entry {
        owner,
        byte_count: ring.read(at + cqe::BYTE_COUNT),
        immediate: ring.read(at + cqe::IMMEDIATE),
    })
}

/// Gives all entries of a completion queue before `index` back to the device.
pub(crate) fn release<W: Words>(record: &W, index: u32) {
    record.write(0, index & 0xff_ffff);
}

/// Tells the device that `count` receive entries were posted in all.
pub(crate) fn post<W: Words>(record: &W, count: u32) {
    // The device may fill a receive entry as soon as it is posted. It must find the entry written,
    // and the completion queue entries released.
    W::write_barrier();
    record.write(0, count & 0xffff);
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_ownership)
)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Memory of four entries, which nobody else accesses.
    struct Memory([Cell<u32>; 4 * cqe::BYTES / 4]);

    impl Memory {
        fn new() -> Self {
            Self([const { Cell::new(0) }; 4 * cqe::BYTES / 4])
        }
    }

    impl Words for Memory {
        fn read(&self, offset: usize) -> u32 {
            self.0[offset / 4].get()
        }

        fn write(&self, offset: usize, value: u32) {
            self.0[offset / 4].set(value);
        }

        fn read_barrier() {}

        fn write_barrier() {}
    }

    #[test]
    fn an_entry_is_read_once_it_is_written() {
        let ring = Memory::new();
        mark_unwritten(&ring, 2);
        for index in 0..12 {
            assert!(read_entry(&ring, index, 2).is_none());
            let at = offset(index, 2);
            let owner = (index << 16) | (cqe::RESP_SEND_IMM << 4) | ((index >> 2) & 1);
            ring.write(at + cqe::BYTE_COUNT, 8 * index);
            ring.write(at + cqe::IMMEDIATE, index << 28);
            ring.write(at + cqe::OWNER, owner);
            let entry = read_entry(&ring, index, 2);
            let words = entry.map(|entry| (entry.owner, entry.byte_count, entry.immediate));
            assert_eq!(words, Some((owner, 8 * index, index << 28)));
        }
    }

    #[test]
    fn records_have_as_many_bits_as_the_device_counts_with() {
        let record = Memory::new();
        release(&record, 0x1234_5678);
        assert_eq!(record.read(0), 0x34_5678);
        post(&record, 0x1234_5678);
        assert_eq!(record.read(0), 0x5678);
    }
}

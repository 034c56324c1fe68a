// SPDX-License-Identifier: GPL-2.0

//! The buffers of a saving session, and the use of each.
//!
//! The first image of a running device is as large as the whole state, and the image of the stopped
//! device may be, too: one buffer is for both. Incremental images in between have other buffers,
//! whatever their size: the image of the stopped device must not wait until they are read, nor for
//! memory.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

use super::chunks::BUFFERS;

/// Largest number of buffers of a session: those for the stopped device, and those for images of
/// the running device, of which there are several only if a reader does not keep up.
const SLOTS: usize = BUFFERS + 6;

/// Memory for an image.
pub(crate) trait Capacity {
    /// Returns the number of bytes that fit.
    fn capacity(&self) -> usize;
}

/// Whether an image can wait for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// An image of what has changed while the device runs.
    Deferrable,
    /// The first image, and those of the stopped device.
    Urgent,
}

/// Use of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Usage {
    /// The buffer is not used.
    Free,
    /// Firmware writes to the buffer.
    Saving,
    /// The buffer holds an image that was not read to its end.
    Readable,
}

/// Index of a buffer in [`Buffers`], valid as long as the buffer is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Index(usize);

struct Slot<B> {
    buffer: B,
    /// Images that are less urgent do not get the buffer.
    kept_for: Urgency,
    usage: Usage,
}

impl<B> Slot<B> {
    /// Returns whether an image can have the buffer, if it fits.
    fn is_free_for(&self, urgency: Urgency) -> bool {
        let kept = self.kept_for == Urgency::Urgent && urgency == Urgency::Deferrable;
        self.usage == Usage::Free && !kept
    }
}

/// All buffers of a session.
pub(crate) struct Buffers<B> {
    slots: [Option<Slot<B>>; SLOTS],
}

impl<B: Capacity> Buffers<B> {
    /// Makes a set without any buffer.
    pub(crate) fn new() -> Self {
        Self {
            slots: [const { None }; SLOTS],
        }
    }

    /// Returns whether there is an empty slot for a buffer. The last empty slot is not for images
    /// that can wait: the stopped device must have one, however many images are unread.
    fn has_empty(&self, urgency: Urgency) -> bool {
        let empty = self.slots.iter().filter(|slot| slot.is_none()).count();
        match urgency {
            Urgency::Deferrable => empty > 1,
            Urgency::Urgent => empty > 0,
        }
    }

    /// Adds a buffer that less urgent images do not get. Returns the buffer if there is no slot for
    /// it.
    pub(crate) fn add(&mut self, buffer: B, kept_for: Urgency) -> Result<(), B> {
        if !self.has_empty(kept_for) {
            return Err(buffer);
        }
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) else {
            return Err(buffer);
        };
        *slot = Some(Slot {
            buffer,
            kept_for,
            usage: Usage::Free,
        });
        Ok(())
    }

    /// Returns whether an image of any size can have a buffer: a free one, or one that
    /// [`Self::add`] accepts once free ones that are too small were removed.
    pub(crate) fn can_grow(&self, urgency: Urgency) -> bool {
        let free = |slot: &Slot<B>| slot.is_free_for(urgency);
        self.slots.iter().flatten().any(free) || self.has_empty(urgency)
    }

    /// Takes the smallest buffer that `need` bytes fit in, to save into.
    pub(crate) fn take(&mut self, need: usize, urgency: Urgency) -> Option<Index> {
        let mut smallest = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let capacity = slot.buffer.capacity();
            let fits = slot.is_free_for(urgency) && capacity >= need;
            if fits && smallest.is_none_or(|(_, other)| capacity < other) {
                smallest = Some((Index(index), capacity));
            }
        }
        let (index, _) = smallest?;
        self.set(index, Usage::Saving);
        Some(index)
    }

    /// Removes a buffer that is free for the image, but too small for `need` bytes.
    pub(crate) fn remove_small(&mut self, need: usize, urgency: Urgency) -> Option<B> {
        let small = |slot: &Slot<B>| slot.is_free_for(urgency) && slot.buffer.capacity() < need;
        self.slots
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(small))?
            .take()
            .map(|slot| slot.buffer)
    }

    /// Returns a buffer.
    pub(crate) fn get(&self, index: Index) -> Option<&B> {
        Some(&self.slots.get(index.0)?.as_ref()?.buffer)
    }

    /// Notes that an image was saved into a buffer.
    pub(crate) fn saved(&mut self, index: Index) {
        self.set(index, Usage::Readable);
    }

    /// Notes that a buffer is not used any more.
    pub(crate) fn release(&mut self, index: Index) {
        self.set(index, Usage::Free);
    }

    /// Releases the buffers of all images that were not read.
    pub(crate) fn release_unread(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            if slot.usage == Usage::Readable {
                slot.usage = Usage::Free;
            }
        }
    }

    fn set(&mut self, index: Index, usage: Usage) {
        if let Some(Some(slot)) = self.slots.get_mut(index.0) {
            slot.usage = usage;
        }
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_buffers)
)]
mod tests {
    use super::*;

    impl Capacity for usize {
        fn capacity(&self) -> usize {
            *self
        }
    }

    /// A buffer for the whole state, and one for incremental images.
    fn two() -> Result<Buffers<usize>, usize> {
        let mut buffers = Buffers::new();
        buffers.add(1100, Urgency::Urgent)?;
        buffers.add(100, Urgency::Deferrable)?;
        Ok(buffers)
    }

    fn capacity(buffers: &Buffers<usize>, index: Option<Index>) -> Option<usize> {
        buffers.get(index?).copied()
    }

    #[test]
    fn the_first_image_and_the_last_one_have_the_same_buffer() -> Result<(), usize> {
        let mut buffers = two()?;
        let first = buffers.take(1000, Urgency::Urgent);
        assert_eq!(capacity(&buffers, first), Some(1100));
        // The image is unread.
        let index = first.ok_or(0usize)?;
        buffers.saved(index);
        assert_eq!(buffers.take(1000, Urgency::Urgent), None);
        buffers.release(index);
        assert_eq!(buffers.take(1000, Urgency::Urgent), first);
        Ok(())
    }

    #[test]
    fn a_buffer_has_one_image_at_a_time() -> Result<(), usize> {
        let mut buffers = two()?;
        let change = buffers.take(60, Urgency::Deferrable).ok_or(0usize)?;
        assert_eq!(buffers.take(1, Urgency::Deferrable), None);
        buffers.saved(change);
        assert_eq!(buffers.take(1, Urgency::Deferrable), None);
        buffers.release(change);
        assert_eq!(buffers.take(1, Urgency::Deferrable), Some(change));
        Ok(())
    }

    #[test]
    fn an_image_gets_the_smallest_buffer_that_it_fits_in() -> Result<(), usize> {
        for (need, smallest) in [(1, 50), (50, 50), (51, 200), (201, 300)] {
            let mut buffers = Buffers::new();
            for size in [300, 50, 200] {
                buffers.add(size, Urgency::Deferrable)?;
            }
            let index = buffers.take(need, Urgency::Deferrable);
            assert_eq!(capacity(&buffers, index), Some(smallest));
            assert_eq!(buffers.take(301, Urgency::Deferrable), None);
        }
        Ok(())
    }

    #[test]
    fn changes_leave_the_buffer_for_the_stopped_device_alone() -> Result<(), usize> {
        let mut buffers = two()?;
        let change = buffers.take(60, Urgency::Deferrable);
        assert_eq!(capacity(&buffers, change), Some(100));
        assert_eq!(buffers.take(60, Urgency::Deferrable), None);
        assert_eq!(buffers.remove_small(200, Urgency::Deferrable), None);
        let last = buffers.take(60, Urgency::Urgent);
        assert_eq!(capacity(&buffers, last), Some(1100));
        Ok(())
    }

    #[test]
    fn a_buffer_that_is_too_small_makes_room_for_another() -> Result<(), usize> {
        let mut buffers = two()?;
        assert_eq!(buffers.take(200, Urgency::Deferrable), None);
        assert_eq!(buffers.remove_small(200, Urgency::Deferrable), Some(100));
        assert_eq!(buffers.remove_small(200, Urgency::Deferrable), None);
        buffers.add(200, Urgency::Deferrable)?;
        let change = buffers.take(200, Urgency::Deferrable);
        assert_eq!(capacity(&buffers, change), Some(200));
        assert_eq!(buffers.take(200, Urgency::Deferrable), None);
        Ok(())
    }

    #[test]
    fn there_is_an_end_to_images_that_nobody_reads() -> Result<(), usize> {
        let mut buffers = two()?;
        let first = buffers.take(1000, Urgency::Urgent).ok_or(0usize)?;
        buffers.saved(first);
        let mut images = 0;
        while buffers.can_grow(Urgency::Deferrable) {
            let mut index = buffers.take(100, Urgency::Deferrable);
            if index.is_none() {
                buffers.add(100, Urgency::Deferrable)?;
                index = buffers.take(100, Urgency::Deferrable);
            }
            buffers.saved(index.ok_or(0usize)?);
            images += 1;
        }
        assert_eq!(images, 6);
        assert_eq!(buffers.add(100, Urgency::Deferrable), Err(100));
        // The stopped device is not affected.
        assert!(buffers.can_grow(Urgency::Urgent));
        buffers.add(1100, Urgency::Urgent)?;
        let last = buffers.take(1100, Urgency::Urgent).ok_or(0usize)?;
        assert!(!buffers.can_grow(Urgency::Urgent));
        // All images but the one that is being saved are given up.
        buffers.release_unread();
        let mut free = 0;
        while let Some(index) = buffers.take(1, Urgency::Urgent) {
            assert!(index != last);
            free += 1;
        }
        assert_eq!(free, 7);
        Ok(())
    }
}

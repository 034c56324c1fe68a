// SPDX-License-Identifier: GPL-2.0

//! The buffers of a saving session, and what each one is for right now.
//!
//! No kernel types: the file is also compiled and tested on the host.

use super::chunks::BUFFERS;

/// Most buffers of a session: those kept for the stopped device, and images of
/// the running one, of which there are several only where a reader does not
/// keep up.
const SLOTS: usize = BUFFERS + 6;

/// Something that has room for an image.
pub(crate) trait Room {
    /// Bytes of it.
    fn room(&self) -> usize;
}

/// What a buffer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Nothing: the next image goes there.
    Free,
    /// As `Free`, but only for an image of the stopped device, which must not
    /// wait for memory.
    Reserved,
    /// Firmware writes to it.
    Saving,
    /// An image is in it, which is not read to its end.
    Readable,
}

/// Which images a buffer is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// Images of the running device.
    Running,
    /// Images of the stopped device.
    Stopped,
}

impl Device {
    fn may_have(self, buffer: Use) -> bool {
        match buffer {
            Use::Free => true,
            Use::Reserved => self == Self::Stopped,
            Use::Saving | Use::Readable => false,
        }
    }
}

/// Names a buffer of a [`Buffers`], as long as it is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Index(usize);

struct Slot<B> {
    buffer: B,
    used: Use,
}

/// All buffers of a session.
pub(crate) struct Buffers<B> {
    slots: [Option<Slot<B>>; SLOTS],
}

impl<B: Room> Buffers<B> {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            slots: [const { None }; SLOTS],
        }
    }

    /// Keeps a buffer for images of `device`. Gives it back where there is no
    /// room for it.
    pub(crate) fn add(&mut self, buffer: B, device: Device) -> Result<(), B> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) else {
            return Err(buffer);
        };
        *slot = Some(Slot {
            buffer,
            used: match device {
                Device::Running => Use::Free,
                Device::Stopped => Use::Reserved,
            },
        });
        Ok(())
    }

    /// Whether [`Self::add`] has room, if what is too small goes.
    pub(crate) fn can_grow(&self, device: Device) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.as_ref().is_none_or(|slot| device.may_have(slot.used)))
    }

    /// Takes the smallest buffer with room for `need` bytes, to save into.
    pub(crate) fn take(&mut self, need: usize, device: Device) -> Option<Index> {
        let fits = |slot: &Slot<B>| device.may_have(slot.used) && slot.buffer.room() >= need;
        let (index, slot) = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| Some((index, slot.as_mut()?)))
            .filter(|(_, slot)| fits(slot))
            .min_by_key(|(_, slot)| slot.buffer.room())?;
        slot.used = Use::Saving;
        Some(Index(index))
    }

    /// Removes a buffer that images of `device` may have and that has no room
    /// for `need` bytes.
    pub(crate) fn remove_small(&mut self, need: usize, device: Device) -> Option<B> {
        let small = |slot: &Slot<B>| device.may_have(slot.used) && slot.buffer.room() < need;
        self.slots
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(small))?
            .take()
            .map(|slot| slot.buffer)
    }

    /// Removes a buffer that was taken.
    pub(crate) fn remove(&mut self, index: Index) -> Option<B> {
        let slot = self.slots.get_mut(index.0)?.take()?;
        Some(slot.buffer)
    }

    /// A buffer.
    pub(crate) fn get(&self, index: Index) -> Option<&B> {
        Some(&self.slots.get(index.0)?.as_ref()?.buffer)
    }

    /// An image was saved into a buffer.
    pub(crate) fn saved(&mut self, index: Index) {
        self.set(index, Use::Readable);
    }

    /// A buffer is of no more use.
    pub(crate) fn release(&mut self, index: Index) {
        self.set(index, Use::Free);
    }

    fn set(&mut self, index: Index, used: Use) {
        if let Some(Some(slot)) = self.slots.get_mut(index.0) {
            slot.used = used;
        }
    }
}

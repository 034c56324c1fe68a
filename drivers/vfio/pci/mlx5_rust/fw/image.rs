// SPDX-License-Identifier: GPL-2.0

//! Memory that images are written to, one after the other, and that firmware loads from.
//!
//! Nobody writes to it while firmware may read: an [`ImageBuffer`] can be written to, and
//! is turned into an [`Image`], which cannot. [`LoadCommand`](super::load::LoadCommand)
//! keeps that until firmware has loaded it, and makes an [`ImageBuffer`] of it again.

use super::{
    device::PfGuard,
    mkey::DmaBuffer,
    pd::Pd, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    sync::Arc, //
};
use vfio_rust::kernel::{
    page::runs::{
        Fill,
        Pages, //
    },
    uaccess::cursor::UserReader, //
};

enum Memory {
    /// Grows as an image arrives. Firmware cannot reach it.
    Growing(Pages),
    /// Firmware can reach all of it, and loads nothing from it now.
    Reachable(DmaBuffer),
}

/// Memory for an image that arrives.
pub(crate) struct ImageBuffer(Memory);

/// A whole image, which firmware can reach.
pub(crate) struct Image {
    pub(super) buffer: DmaBuffer,
    pub(super) len: usize,
}

impl ImageBuffer {
    /// Makes a buffer without memory.
    pub(crate) fn new() -> Self {
        Self(Memory::Growing(Pages::new()))
    }

    /// Makes a buffer of the memory of an image that firmware has loaded.
    pub(super) fn of_loaded(image: Image) -> Self {
        Self(Memory::Reachable(image.buffer))
    }

    /// Returns the number of bytes in the memory.
    fn len(&self) -> usize {
        match &self.0 {
            Memory::Growing(pages) => pages.len(),
            Memory::Reachable(buffer) => buffer.pages().len(),
        }
    }

    /// Returns the number of bytes that have room from offset `at` on, or `None` if more memory is
    /// needed there.
    pub(crate) fn room(&self, at: usize) -> Option<usize> {
        self.len().checked_sub(at).filter(|room| *room > 0)
    }

    /// Returns the length of the largest image that firmware could reach without a new mapping.
    pub(crate) fn reachable(&self) -> usize {
        match &self.0 {
            Memory::Growing(_) => 0,
            Memory::Reachable(_) => self.len(),
        }
    }

    /// Writes `n` bytes from user space to offset `at` of an image of `len` bytes. Memory is
    /// allocated as bytes arrive.
    pub(crate) fn write(
        &mut self,
        at: usize,
        n: usize,
        len: usize,
        from: &mut UserReader,
    ) -> Result {
        match &mut self.0 {
            Memory::Growing(pages) => {
                pages.grow_for(at + n, len, Fill::Any)?;
                pages.write(at, n, from)
            }
            Memory::Reachable(buffer) => buffer.pages().write(at, n, from),
        }
    }

    /// Makes the first `len` bytes an image that firmware can reach. Returns `EINVAL` if `len` is
    /// 0, or if the memory is shorter.
    ///
    /// Frees the memory of `other` if only one of the two can be mapped, since bounce buffers are
    /// scarce.
    pub(crate) fn complete(
        self,
        pf: &PfGuard<'_>,
        pd: &Pd,
        len: usize,
        other: &mut Self,
    ) -> Result<Image> {
        if len == 0 || len > self.len() {
            return Err(EINVAL);
        }
        let buffer = match self.0 {
            Memory::Growing(pages) => {
                let pages = Arc::new(pages, GFP_KERNEL_ACCOUNT)?;
                let map =
                    || DmaBuffer::new(pf, pd, pages.clone(), pages.len(), DataDirection::ToDevice);
                match map() {
                    Err(_) if other.reachable() > 0 => {
                        *other = Self::new();
                        map()?
                    }
                    mapped => mapped?,
                }
            }
            Memory::Reachable(buffer) => {
                buffer.sync_for_device(len)?;
                buffer
            }
        };
        Ok(Image { buffer, len })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Memory that the CPU and a device share for as long as it is there.

use super::{bindings, dma::DmaDevice};
use core::ptr::NonNull;
use kernel::prelude::*;

/// Zeroed memory that is coherent between CPU and device.
///
/// No Rust reference to the contents is ever made: the device may write at any
/// time. Words are read and written as a whole.
///
/// # Invariants
///
/// `cpu` and `dma` are `len` bytes of one allocation for `dev`.
pub(crate) struct Coherent {
    dev: NonNull<bindings::device>,
    cpu: NonNull<u8>,
    dma: u64,
    len: usize,
}

// SAFETY: The allocation is owned, and `DmaDevice::from_raw` has its caller
// promise that the device outlives it.
unsafe impl Send for Coherent {}
// SAFETY: `&Coherent` allows volatile accesses to words, which do not tear.
unsafe impl Sync for Coherent {}

impl Coherent {
    /// `len` bytes, aligned to the power of two that is not less.
    pub(crate) fn new(dev: &DmaDevice, len: usize) -> Result<Self> {
        let dev = dev.as_raw();
        let mut dma = 0;
        // SAFETY: The device is valid by the invariant of `DmaDevice`.
        let cpu = unsafe { bindings::vfio_rust_dma_alloc_coherent(dev.as_ptr(), len, &mut dma) };
        // INVARIANT: Just allocated.
        Ok(Self {
            dev,
            cpu: NonNull::new(cpu.cast()).ok_or(ENOMEM)?,
            dma,
            len,
        })
    }

    /// Where it is for the device.
    pub(crate) fn dma(&self) -> u64 {
        self.dma
    }

    /// Where it is for C code that is to be given a word of it.
    ///
    /// `None` where that word is not within it.
    pub(crate) fn word_ptr(&self, offset: usize) -> Option<NonNull<u32>> {
        let within = offset % 4 == 0 && offset.checked_add(4)? <= self.len;
        // SAFETY: Within the allocation.
        within.then(|| unsafe { self.cpu.add(offset) }.cast())
    }

    /// Writes a big endian word. Nothing where it is not within.
    pub(crate) fn write_be32(&self, offset: usize, value: u32) {
        if let Some(at) = self.word_ptr(offset) {
            // SAFETY: `word_ptr` returns an aligned pointer into the allocation.
            unsafe { at.as_ptr().write_volatile(value.to_be()) };
        }
    }

    /// Returns `count` big endian words of 64 bits from `offset` on, a multiple of
    /// 8, as far as they are within.
    pub(crate) fn iter_be64(&self, offset: usize, count: usize) -> impl Iterator<Item = u64> + '_ {
        let within = match offset % 8 {
            0 => self.len.saturating_sub(offset) / 8,
            _ => 0,
        };
        // SAFETY: Within the allocation, or just behind it.
        let first: NonNull<u64> = unsafe { self.cpu.add(offset.min(self.len)) }.cast();
        (0..count.min(within)).map(move |word| {
            // SAFETY: Within the allocation, and aligned.
            u64::from_be(unsafe { first.as_ptr().add(word).read_volatile() })
        })
    }

    /// Reads a big endian word; 0 where it is not within.
    pub(crate) fn read_be32(&self, offset: usize) -> u32 {
        self.word_ptr(offset).map_or(0, |at| {
            // SAFETY: As above.
            u32::from_be(unsafe { at.as_ptr().read_volatile() })
        })
    }
}

impl Drop for Coherent {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::vfio_rust_dma_free_coherent(
                self.dev.as_ptr(),
                self.len,
                self.cpu.as_ptr().cast(),
                self.dma,
            );
        }
    }
}

/// What was read before this was read before what comes after it.
pub(crate) fn dma_rmb() {
    // SAFETY: Just a barrier.
    unsafe { bindings::vfio_rust_dma_rmb() }
}

/// What was written before this is there before what comes after it.
pub(crate) fn dma_wmb() {
    // SAFETY: Just a barrier.
    unsafe { bindings::vfio_rust_dma_wmb() }
}

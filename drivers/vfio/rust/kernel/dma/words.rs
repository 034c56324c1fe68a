// SPDX-License-Identifier: GPL-2.0

//! Coherent DMA memory, which the CPU and a device may access at any time.
//!
//! The kernel crate's `Coherent` needs a `Device<Bound>`, which a driver has only for its own
//! device, and the function that returns its DMA address has another name in each kernel. Its
//! barriers for coherent memory are not in every kernel.

use crate::{
    bindings,
    kernel::dma::streaming::DmaDevice, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// Memory, zeroed at first, that is coherent between CPU and device.
///
/// No Rust reference to the contents is ever made: the device may write at any
/// time. Words are read and written as a whole.
///
/// # Invariants
///
/// - `cpu` and `dma` are the two addresses of one coherent allocation of `len`
///   bytes for `dev`, which this object owns. `cpu` is page-aligned.
/// - `dev` is valid and bound as long as this object exists.
pub struct CoherentWords {
    dev: NonNull<bindings::device>,
    cpu: NonNull<u8>,
    dma: u64,
    len: usize,
}

// SAFETY: The allocation is owned, and may be freed on another thread: `dev` is
// valid on all of them until then (type invariant).
unsafe impl Send for CoherentWords {}
// SAFETY: `&CoherentWords` allows volatile accesses to aligned words, which do not
// tear, and to which the device adds its own at any time.
unsafe impl Sync for CoherentWords {}

impl CoherentWords {
    /// Allocates `len` bytes, aligned to `len` rounded up to a power of two.
    pub fn new(dev: &DmaDevice, len: usize) -> Result<Self> {
        if len == 0 {
            return Err(EINVAL);
        }
        let dev = dev.as_raw();
        let mut dma = 0;
        // SAFETY: `dev` is valid and bound (invariant of `DmaDevice`).
        let cpu = unsafe {
            bindings::dma_alloc_attrs(dev.as_ptr(), len, &mut dma, bindings::GFP_KERNEL_ACCOUNT, 0)
        };
        // INVARIANT: `cpu` and `dma` were allocated just now, in whole pages of at
        // least `len` bytes. `dev` stays valid and bound until this is dropped
        // (invariant of `DmaDevice`).
        Ok(Self {
            dev,
            cpu: NonNull::new(cpu.cast()).ok_or(ENOMEM)?,
            dma,
            len,
        })
    }

    /// Returns the address of the memory for the device.
    #[inline]
    pub fn dma(&self) -> u64 {
        self.dma
    }

    /// Returns the address of the word of 32 bits at `offset`, for C code that keeps it no longer
    /// than this object. Returns `None` if the word is not aligned or not within the memory.
    #[inline]
    pub fn word_ptr(&self, offset: usize) -> Option<NonNull<u32>> {
        let within = offset % 4 == 0 && offset.checked_add(4)? <= self.len;
        // SAFETY: `cpu` is valid for `len` bytes (type invariant), and
        // `offset + 4` is not more than that.
        within.then(|| unsafe { self.cpu.add(offset) }.cast())
    }

    /// Writes a big endian word of 32 bits at `offset`. Does nothing if it is not
    /// aligned or not within the memory.
    #[inline]
    pub fn write_be32(&self, offset: usize, value: u32) {
        if let Some(at) = self.word_ptr(offset) {
            // SAFETY: `word_ptr()` returns an aligned pointer to 4 bytes of the
            // allocation, which this object owns.
            unsafe { at.as_ptr().write_volatile(value.to_be()) };
        }
    }

    /// Reads the big endian word of 32 bits at `offset`. Returns 0 if it is not
    /// aligned or not within the memory.
    #[inline]
    pub fn read_be32(&self, offset: usize) -> u32 {
        self.word_ptr(offset).map_or(0, |at| {
            // SAFETY: `word_ptr()` returns an aligned pointer to 4 bytes of the
            // allocation, which this object owns.
            u32::from_be(unsafe { at.as_ptr().read_volatile() })
        })
    }
}

impl Drop for CoherentWords {
    fn drop(&mut self) {
        // SAFETY: `cpu` and `dma` are an allocation of `len` bytes for `dev`, which
        // this object owns, and `dev` is valid and bound (type invariant). Nobody
        // uses the memory after this.
        unsafe {
            bindings::dma_free_attrs(
                self.dev.as_ptr(),
                self.len,
                self.cpu.as_ptr().cast(),
                self.dma,
                0,
            );
        }
    }
}

/// Orders earlier reads of coherent memory before later ones.
#[inline]
pub fn dma_rmb() {
    // SAFETY: A barrier has no requirements.
    unsafe { bindings::vfio_rust_dma_rmb() }
}

/// Orders earlier writes to coherent memory before later ones.
#[inline]
pub fn dma_wmb() {
    // SAFETY: A barrier has no requirements.
    unsafe { bindings::vfio_rust_dma_wmb() }
}

// SPDX-License-Identifier: GPL-2.0

//! Streaming DMA mappings of [`Pages`].
//!
//! The kernel crate's `scatterlist::SGTable` maps all of its pages or none, cannot be synced in
//! part, and takes its pages one by one from vmalloc(); its mapping ends with the binding of a
//! `Device<Bound>`, which a driver has only for its own device.

use crate::{
    bindings,
    kernel::page::runs::Pages, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    dma::DataDirection,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

/// A device that can do DMA.
///
/// # Invariants
///
/// The device is valid, and bound to a driver that has set up its DMA masks, until
/// this object and all that was made with it is dropped.
pub struct DmaDevice(NonNull<bindings::device>);

impl DmaDevice {
    /// Makes a `DmaDevice` for `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must be valid, and bound to a driver that has set up its DMA masks, until the last of
    /// these has been dropped: the returned object, and every [`DmaMapping`] and
    /// [`CoherentWords`](super::words::CoherentWords) that was made with it. Mappings and memory
    /// are released when they are dropped, and only then. So the caller must know where each of
    /// them is kept, and drop it before the driver of `dev` is unbound. A leaked one is never
    /// dropped, so `dev` must stay bound for good.
    pub unsafe fn from_raw(dev: NonNull<kernel::bindings::device>) -> Self {
        // INVARIANT: By the requirements of this function.
        Self(dev)
    }

    /// Returns the device, to map or to unmap for.
    #[inline]
    pub(super) fn as_raw(&self) -> NonNull<bindings::device> {
        self.0
    }
}

/// A pointer that keeps its [`Pages`] alive.
///
/// # Safety
///
/// `deref()` must return the same `Pages` whenever it is called and wherever the
/// pointer is moved to, and those must not be dropped before the pointer is: not
/// even if the pointer is leaked.
pub unsafe trait KeepsPages: Deref<Target = Pages> {}

// SAFETY: An `Arc` points to one allocation, and owns a reference to it.
unsafe impl KeepsPages for Arc<Pages> {}
// SAFETY: A `KBox` points to one allocation, and owns it.
unsafe impl KeepsPages for KBox<Pages> {}

/// A contiguous piece of a mapping.
struct Segment {
    addr: u64,
    len: usize,
}

/// A mapping of a buffer, or of the beginning of one, for one device.
///
/// # Invariants
///
/// - `segments` are mapped for `dev` in direction `dir`, each with its `addr` and
///   `len`, and map the runs of `pages` from the first on, in their order, whole
///   or in pieces.
/// - `dev` is valid and bound as long as this object exists.
/// - The pages that are mapped are not freed before `pages` is dropped.
pub struct DmaMapping<P: KeepsPages> {
    dev: NonNull<bindings::device>,
    segments: KVVec<Segment>,
    dir: DataDirection,
    pages: P,
}

// SAFETY: The DMA API may unmap on another thread than the one that mapped, and
// `dev` is valid on all of them until the mapping is dropped (type invariant).
unsafe impl<P: KeepsPages + Send> Send for DmaMapping<P> {}
// SAFETY: `&DmaMapping` gives out addresses, and syncs segments, which the DMA API
// lets several threads do at once.
unsafe impl<P: KeepsPages + Sync> Sync for DmaMapping<P> {}

impl<P: KeepsPages> DmaMapping<P> {
    /// Maps the runs of `pages` that hold the first `len` bytes, in pieces as large as the
    /// device can have.
    ///
    /// If DMA goes through bounce buffers, there may be room for small pieces only. So a piece that
    /// cannot be mapped is halved, down to one page.
    pub fn new(dev: &DmaDevice, pages: P, len: usize, dir: DataDirection) -> Result<Self> {
        if dir == DataDirection::None {
            return Err(EINVAL);
        }
        let dev = dev.as_raw();
        // SAFETY: `dev` is valid and bound (invariant of `DmaDevice`).
        let max = unsafe { bindings::dma_max_mapping_size(dev.as_ptr()) };
        // Round down to a power of two, so that each piece is aligned to its length.
        let mut max = 1 << max.max(PAGE_SIZE).ilog2();
        let count = pages.runs_of(len).map(|(_, len)| len.div_ceil(max)).sum();
        // INVARIANT: Nothing is mapped yet. `dev` stays valid and bound until this
        // is dropped (invariant of `DmaDevice`), and `KeepsPages` keeps the pages.
        let mut mapping = Self {
            dev,
            segments: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            dir,
            pages,
        };
        for (page, run_len) in mapping.pages.runs_of(len) {
            let mut offset = 0;
            while offset < run_len {
                // There may be more pieces than `count`.
                mapping.segments.reserve(1, GFP_KERNEL_ACCOUNT)?;
                // Runs, and so pieces, are a power of two of pages.
                let len = max.min(run_len - offset);
                let mut addr = 0;
                // SAFETY: `dev` is valid and bound. The run that begins with
                // `page` is `run_len` bytes long, of which `offset..offset + len`
                // are a part, and its pages are not freed before `mapping` is
                // dropped, which unmaps them.
                let mapped = to_result(unsafe {
                    bindings::vfio_rust_dma_map(
                        dev.as_ptr(),
                        page.as_ptr(),
                        offset,
                        len,
                        dir.into(),
                        &mut addr,
                    )
                });
                if mapped.is_err() && len > PAGE_SIZE {
                    // Do not try larger pieces again: an attempt that fails has searched all bounce
                    // buffers.
                    max = len / 2;
                    continue;
                }
                mapped?;
                // INVARIANT: `len` bytes were mapped at `addr` just now. There is
                // room for the segment, so this cannot fail and lose it.
                mapping.segments.push(Segment { addr, len }, GFP_KERNEL)?;
                offset += len;
            }
        }
        Ok(mapping)
    }

    /// Returns the pages that are mapped.
    pub fn pages(&self) -> &P {
        &self.pages
    }

    /// Returns the number of bytes that are mapped.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|seg| seg.len).sum()
    }

    /// Returns whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the largest page size, as a shift, that all segments can be cut
    /// into.
    pub fn page_shift(&self) -> u32 {
        self.segments
            .iter()
            .map(|seg| (seg.addr | seg.len as u64).trailing_zeros())
            .min()
            .unwrap_or(PAGE_SHIFT as u32)
    }

    /// Returns the device addresses of the buffer in pages of `1 << shift` bytes.
    ///
    /// If `shift` is larger than [`Self::page_shift`], pages are missing.
    pub fn addresses(&self, shift: u32) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().flat_map(move |seg| {
            let pages = seg.len.checked_shr(shift).unwrap_or(0);
            (0..pages).map(move |i| seg.addr + ((i as u64) << shift))
        })
    }

    /// Makes visible to the CPU what the device has written to `len` bytes at `offset`. Does
    /// nothing if the device only reads.
    ///
    /// The device may write there again without a sync for the device, since the CPU does not write
    /// there.
    pub fn sync_part_for_cpu(&self, mut offset: usize, mut len: usize) {
        if self.dir == DataDirection::ToDevice {
            return;
        }
        let dev = self.dev.as_ptr();
        for seg in &self.segments {
            if len == 0 {
                return;
            }
            if offset >= seg.len {
                offset -= seg.len;
                continue;
            }
            let n = len.min(seg.len - offset);
            let addr = seg.addr + offset as u64;
            // SAFETY: `dev` is valid and bound, and `seg.len` bytes, of which these are a
            // part, are mapped for it at `seg.addr` in direction `dir` (type invariant).
            unsafe { bindings::vfio_rust_dma_sync_for_cpu(dev, addr, n, self.dir.into()) };
            len -= n;
            offset = 0;
        }
    }

    /// Makes visible to the CPU what the device has written to the first `len` bytes. Does nothing
    /// if the device only reads.
    pub fn sync_for_cpu(&self, len: usize) {
        if self.dir == DataDirection::ToDevice {
            return;
        }
        let dev = self.dev.as_ptr();
        for (addr, n) in self.segments_of(len) {
            // SAFETY: `dev` is valid and bound, and the first `n` bytes of a segment are
            // at `addr` (`segments_of`), mapped in direction `dir` (type invariant).
            unsafe { bindings::vfio_rust_dma_sync_for_cpu(dev, addr, n, self.dir.into()) };
        }
    }

    /// Makes visible to the device what the CPU has written to the first `len` bytes since they
    /// were mapped. Does nothing if the device only writes.
    pub fn sync_for_device(&self, len: usize) {
        if self.dir == DataDirection::FromDevice {
            return;
        }
        let dev = self.dev.as_ptr();
        for (addr, n) in self.segments_of(len) {
            // SAFETY: `dev` is valid and bound, and the first `n` bytes of a segment are
            // at `addr` (`segments_of`), mapped in direction `dir` (type invariant).
            unsafe { bindings::vfio_rust_dma_sync_for_device(dev, addr, n, self.dir.into()) };
        }
    }

    /// Returns the segments that hold the first `len` bytes: the address of each, and how
    /// many of those bytes are there.
    fn segments_of(&self, len: usize) -> impl Iterator<Item = (u64, usize)> + '_ {
        let mut left = len;
        self.segments.iter().map_while(move |seg| {
            let n = seg.len.min(left);
            left -= n;
            (n > 0).then_some((seg.addr, n))
        })
    }
}

impl<P: KeepsPages> Drop for DmaMapping<P> {
    fn drop(&mut self) {
        for seg in &self.segments {
            // SAFETY: `dev` is valid and bound, and `seg.len` bytes are mapped for
            // it at `seg.addr` in direction `dir` (type invariant). Nobody uses
            // the mapping after this.
            unsafe {
                bindings::vfio_rust_dma_unmap(
                    self.dev.as_ptr(),
                    seg.addr,
                    seg.len,
                    self.dir.into(),
                );
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Streaming DMA mappings of [`Pages`].

use super::{bindings, pages::Pages};
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};

/// Who writes the memory while it is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The CPU has written, the device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
}

/// A device that can do DMA.
///
/// # Invariants
///
/// The pointer is valid for as long as the object lives.
pub(crate) struct DmaDevice(NonNull<bindings::device>);

impl DmaDevice {
    /// # Safety
    ///
    /// `dev` must be valid, and bound to a driver that has set up its DMA
    /// masks, until the returned object and every mapping made with it is gone.
    pub(crate) unsafe fn from_raw(dev: NonNull<kernel::bindings::device>) -> Self {
        // INVARIANT: By the requirements of this function.
        Self(dev)
    }

    pub(super) fn as_raw(&self) -> NonNull<bindings::device> {
        self.0
    }
}

struct Segment {
    addr: u64,
    len: usize,
}

/// A mapping of a buffer, or of the beginning of one, for one device.
///
/// `P` keeps the pages: borrowed, where the mapping does not outlive a call, or
/// counted.
///
/// # Invariants
///
/// `segments` are mapped for `dev` in direction `dir`, and map the runs of
/// `pages` from the first on, in their order, whole or in pieces.
pub(crate) struct DmaMapping<P: Deref<Target = Pages>> {
    dev: NonNull<bindings::device>,
    segments: KVVec<Segment>,
    dir: Direction,
    pages: P,
}

// SAFETY: Mapping and unmapping may happen on any thread; `DmaDevice::from_raw`
// has its caller promise that the device outlives this.
unsafe impl<P: Deref<Target = Pages> + Send> Send for DmaMapping<P> {}
// SAFETY: `&DmaMapping` gives out addresses, and syncs, which may be done in
// parallel.
unsafe impl<P: Deref<Target = Pages> + Sync> Sync for DmaMapping<P> {}

impl<P: Deref<Target = Pages>> DmaMapping<P> {
    /// Maps those runs of `pages` that hold the first `len` bytes.
    pub(crate) fn new(dev: &DmaDevice, pages: P, len: usize, dir: Direction) -> Result<Self> {
        // SAFETY: `dev` is valid by its type invariant.
        let max = unsafe { bindings::vfio_rust_dma_max_mapping_size(dev.0.as_ptr()) };
        // What is cut must stay as aligned as it is long.
        let max = 1 << max.max(PAGE_SIZE).ilog2();
        let count = pages.runs_of(len).map(|(_, len)| len.div_ceil(max)).sum();
        let mut mapping = Self {
            dev: dev.0,
            segments: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
            dir,
            pages,
        };
        for (page, run_len) in mapping.pages.runs_of(len) {
            for offset in (0..run_len).step_by(max) {
                let len = max.min(run_len - offset);
                let mut addr = 0;
                // SAFETY: As above, and the run of pages at `page` is
                // `run_len` bytes long.
                let err = unsafe {
                    bindings::vfio_rust_dma_map(
                        mapping.dev.as_ptr(),
                        page.as_ptr(),
                        offset,
                        len,
                        matches!(dir, Direction::ToDevice),
                        &mut addr,
                    )
                };
                kernel::error::to_result(err)?;
                // INVARIANT: The piece was mapped just now. There is room for
                // it, so this cannot fail and lose the address.
                mapping.segments.push(Segment { addr, len }, GFP_KERNEL)?;
            }
        }
        Ok(mapping)
    }

    /// The pages that are mapped.
    pub(crate) fn pages(&self) -> &P {
        &self.pages
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(|seg| seg.len).sum()
    }

    /// The largest page size, as a shift, that all segments can be cut into.
    pub(crate) fn page_shift(&self) -> u32 {
        self.segments
            .iter()
            .map(|seg| (seg.addr | seg.len as u64).trailing_zeros())
            .min()
            .unwrap_or(PAGE_SHIFT as u32)
    }

    /// The device addresses of the buffer in pages of `1 << shift` bytes.
    ///
    /// `shift` must not be larger than [`Self::page_shift`].
    pub(crate) fn addresses(&self, shift: u32) -> impl Iterator<Item = u64> + '_ {
        self.segments.iter().flat_map(move |seg| {
            (0..seg.len >> shift).map(move |i| seg.addr + ((i as u64) << shift))
        })
    }

    /// Makes what the device has written visible to the CPU.
    pub(crate) fn sync_for_cpu(&self) {
        for seg in &self.segments {
            // SAFETY: By the type invariants the segment is mapped.
            unsafe {
                bindings::vfio_rust_dma_sync_for_cpu(self.dev.as_ptr(), seg.addr, seg.len);
            }
        }
    }
}

impl<P: Deref<Target = Pages>> Drop for DmaMapping<P> {
    fn drop(&mut self) {
        for seg in &self.segments {
            // SAFETY: By the type invariants the segment is mapped, in this
            // direction.
            unsafe {
                bindings::vfio_rust_dma_unmap(
                    self.dev.as_ptr(),
                    seg.addr,
                    seg.len,
                    matches!(self.dir, Direction::ToDevice),
                );
            }
        }
    }
}

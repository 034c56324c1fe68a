// SPDX-License-Identifier: GPL-2.0

//! Device DMA logging: `struct vfio_log_ops`.

use crate::{
    bindings,
    dirty_pages::{
        self,
        Addresses,
        Span,
        BLOCK, //
    },
    kernel::page::runs::Words,
    migration::VfioDevice,
    pci::Driver, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// A range of I/O virtual addresses.
///
/// # Examples
///
/// ```
/// use vfio_rust::dirty_log::IovaRange;
///
/// let range = IovaRange {
///     start: 0x1000,
///     last: 0x2fff,
/// };
/// assert_eq!(range.len(), Some(0x2000));
/// // More than a `u64` can say.
/// let all = IovaRange {
///     start: 0,
///     last: u64::MAX,
/// };
/// assert_eq!(all.len(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IovaRange {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
}

impl IovaRange {
    /// Returns the length in bytes, or `None` if the range is empty or spans all
    /// 2^64 addresses.
    #[inline]
    pub fn len(self) -> Option<u64> {
        self.last.checked_sub(self.start)?.checked_add(1)
    }
}

/// The ranges that user space wants logged: in order, without overlap, none of
/// them empty.
///
/// # Invariants
///
/// `root` is a valid interval tree of `count` nodes, at least one, which nobody
/// else accesses during `'a`.
pub struct IovaRanges<'a> {
    root: NonNull<kernel::bindings::rb_root_cached>,
    count: u32,
    _tree: PhantomData<&'a mut ()>,
}

impl<'a> IovaRanges<'a> {
    /// Returns `EINVAL` if one of the ranges is empty, since VFIO does not check that.
    ///
    /// # Safety
    ///
    /// `root` must be a valid interval tree of `count` nodes, at least one, and
    /// nobody else may access it during `'a`.
    unsafe fn new(root: NonNull<kernel::bindings::rb_root_cached>, count: u32) -> Result<Self> {
        // INVARIANT: By the requirements of this function.
        let ranges = Self {
            root,
            count,
            _tree: PhantomData,
        };
        if ranges.iter().any(|range| range.len().is_none()) {
            return Err(EINVAL);
        }
        Ok(ranges)
    }
}

impl IovaRanges<'_> {
    /// Joins neighbouring ranges until at most `max` are left. The gaps between joined ranges are
    /// logged, too.
    pub fn combine(&mut self, max: u32) {
        if max > 0 && self.count > max {
            // SAFETY: `root` is a valid interval tree of `count` nodes, which
            // nobody else accesses (type invariant), and `max` is at least 1.
            // The nodes that it unlinks are VFIO's to free.
            unsafe { bindings::vfio_combine_iova_ranges(self.root.as_ptr(), self.count, max) };
            // INVARIANT: `max` nodes are left.
            self.count = max;
        }
    }

    /// Returns the number of ranges.
    #[inline]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns the ranges in ascending order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = IovaRange> + '_ {
        // SAFETY: `root` is a valid interval tree, which does not change as long
        // as `self` is borrowed (type invariant).
        let mut node =
            unsafe { bindings::interval_tree_iter_first(self.root.as_ptr(), 0, c_ulong::MAX) };
        core::iter::from_fn(move || {
            // SAFETY: `node` is null or a node of the tree at `root`, which does
            // not change as long as `self` is borrowed (type invariant).
            let now = unsafe { node.as_ref() }?;
            let range = IovaRange {
                start: now.start as u64,
                last: now.last as u64,
            };
            // SAFETY: `node` is a node of the tree at `root`, which does not
            // change as long as `self` is borrowed (type invariant).
            node = unsafe { bindings::interval_tree_iter_next(node, 0, c_ulong::MAX) };
            Some(range)
        })
    }
}

/// Addresses that are read directly from memory that a device has written.
impl Addresses for Words<'_> {
    #[inline(always)]
    fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
        Words::block(self, index)
    }

    #[inline(always)]
    fn get(&self, index: usize) -> Option<u64> {
        Words::get(self, index)
    }
}

/// A bitmap in user memory that dirty pages are reported into.
///
/// # Invariants
///
/// `bitmap` is valid and covers `range`, and nobody else accesses it during `'a`.
pub struct DirtyBitmap<'a> {
    bitmap: NonNull<bindings::iova_bitmap>,
    range: IovaRange,
    _bitmap: PhantomData<&'a mut ()>,
}

impl DirtyBitmap<'_> {
    /// Returns the range that user space asks about.
    #[inline]
    pub fn range(&self) -> IovaRange {
        self.range
    }

    #[inline]
    fn span(&self) -> Span {
        let IovaRange { start, last } = self.range;
        Span { start, last }
    }

    /// Reports `len` bytes from `iova` on as dirty, as far as they are in the range.
    ///
    /// Pins pages of user memory: takes `mmap_lock`, and may wait without a bound for a page that
    /// another process serves (userfaultfd). So the caller must hold no lock or guard that is
    /// needed by an arc, a reset, closing the device, or a notifier of the PF's driver.
    pub fn set(&mut self, iova: u64, len: u64) {
        if let Some((start, len)) = self.span().part(iova, len) {
            // SAFETY: `part()` returns a part of the range that is not empty. `bitmap` covers the
            // range, and nobody else accesses it (type invariant).
            unsafe { set_part(self.bitmap, start, len) };
        }
    }

    /// Reports `pages`, each of `page_size` bytes, as far as they are in the range. What
    /// [`Self::set`] says about locks applies here, too.
    #[inline]
    pub fn set_pages(&mut self, page_size: u64, pages: &impl Addresses) {
        let bitmap = self.bitmap;
        dirty_pages::set_pages(pages, page_size, self.span(), move |start, len| {
            // SAFETY: `dirty_pages::set_pages()` passes parts of the span that it was given,
            // which is the range, and none that is empty. `bitmap` covers the range, and
            // nobody else accesses it (type invariant).
            unsafe { set_part(bitmap, start, len) }
        });
    }
}

/// Sets the bits of `len` bytes from `start` on.
///
/// # Safety
///
/// `bitmap` must be valid, and nobody else may access it. The bytes must be a part of the range
/// that it covers, and there must be at least one.
#[inline]
unsafe fn set_part(bitmap: NonNull<bindings::iova_bitmap>, start: u64, len: u64) {
    // SAFETY: By the requirements of this function. The addresses of the range fit `unsigned long`:
    // VFIO has passed its start and length as such.
    unsafe { bindings::iova_bitmap_set(bitmap.as_ptr(), start as c_ulong, len as usize) }
}

/// DMA logging of a driver.
///
/// VFIO serialises none of these calls, and makes them in any order.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::atomic::{
///         Atomic,
///         Full, //
///     },
/// };
/// use vfio_rust::{
///     dirty_log::{
///         DirtyBitmap,
///         DirtyLog,
///         IovaRanges, //
///     },
///     migration::VfioDevice, //
/// };
///
/// /// DMA logging of a device that cannot track its writes: all logged pages are always dirty.
/// struct Everything {
///     started: Atomic<u32>,
/// }
///
/// impl DirtyLog for Everything {
///     fn start(
///         &self,
///         _vdev: &VfioDevice<'_>,
///         _ranges: IovaRanges<'_>,
///         page_size: u64,
///     ) -> Result<u64> {
///         match self.started.xchg(1, Full) {
///             0 => Ok(page_size),
///             _ => Err(EINVAL),
///         }
///     }
///
///     fn stop(&self, _vdev: &VfioDevice<'_>) {
///         self.started.xchg(0, Full);
///     }
///
///     fn report(&self, _vdev: &VfioDevice<'_>, dirty: &mut DirtyBitmap<'_>) -> Result {
///         let range = dirty.range();
///         dirty.set(range.start, range.len().ok_or(EINVAL)?);
///         Ok(())
///     }
/// }
/// ```
pub trait DirtyLog: Send + Sync {
    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_START: logs `ranges` in pages of about
    /// `page_size` bytes, a power of two. Returns the page size that it logs in.
    /// Fails if logging was started before.
    fn start(&self, vdev: &VfioDevice<'_>, ranges: IovaRanges<'_>, page_size: u64) -> Result<u64>;

    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP. Not called when user space closes the device, nor when
    /// the device is reset: [`Driver::closing`] and the hooks of resets end logging then.
    fn stop(&self, vdev: &VfioDevice<'_>);

    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: reports the pages that the device
    /// has written to since the last report, and forgets them.
    fn report(&self, vdev: &VfioDevice<'_>, dirty: &mut DirtyBitmap<'_>) -> Result;
}

/// `struct vfio_log_ops` of a driver.
pub(super) struct Operations<T: Driver>(PhantomData<T>);

impl<T: Driver> Operations<T> {
    pub(super) const TABLE: bindings::vfio_log_ops = bindings::vfio_log_ops {
        log_start: Some(Self::log_start),
        log_stop: Some(Self::log_stop),
        log_read_and_clear: Some(Self::log_read_and_clear),
    };

    /// # Safety
    ///
    /// `vdev` must be a device that VFIO passes to a function of
    /// [`Self::TABLE`], and that function must not return during `'a`.
    unsafe fn log<'a>(
        vdev: *mut bindings::vfio_device,
    ) -> Result<(&'a dyn DirtyLog, VfioDevice<'a>)> {
        // SAFETY: `TABLE` is only set for the `vfio_device` of a
        // `pci::Device<T>` that is initialised, and VFIO keeps it registered, and
        // open, until the function that it calls has returned.
        let (driver, device) = unsafe {
            (
                super::pci::Device::<T>::data(vdev),
                VfioDevice::from_raw(vdev),
            )
        };
        Ok((driver.dirty_log().ok_or(ENOTTY)?, device))
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`], with a valid tree of `count` nodes, at
    /// least one, and a valid `page_size`. Nobody else accesses either until this returns.
    unsafe extern "C" fn log_start(
        vdev: *mut bindings::vfio_device,
        ranges: *mut kernel::bindings::rb_root_cached,
        count: u32,
        page_size: *mut u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` is VFIO's argument to this function.
            let (log, vdev) = unsafe { Self::log(vdev) }?;
            let root = NonNull::new(ranges).ok_or(EINVAL)?;
            // SAFETY: `root` has `count` nodes, and nobody else accesses it until
            // this returns (requirements of this function).
            let ranges = unsafe { IovaRanges::new(root, count) }?;
            // SAFETY: `page_size` is valid, and nobody else accesses it until
            // this returns (requirements of this function).
            let hint = unsafe { *page_size };
            let tracked = log.start(&vdev, ranges, hint)?;
            // SAFETY: `page_size` is valid, and nobody else accesses it until
            // this returns (requirements of this function).
            unsafe { *page_size = tracked };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`].
    unsafe extern "C" fn log_stop(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` is VFIO's argument to this function.
            let (log, vdev) = unsafe { Self::log(vdev) }?;
            log.stop(&vdev);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`], with a valid bitmap that covers
    /// `length` bytes from `iova` on, and that nobody else accesses until this returns.
    unsafe extern "C" fn log_read_and_clear(
        vdev: *mut bindings::vfio_device,
        iova: c_ulong,
        length: c_ulong,
        bitmap: *mut bindings::iova_bitmap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` is VFIO's argument to this function.
            let (log, vdev) = unsafe { Self::log(vdev) }?;
            let (start, len) = (iova as u64, length as u64);
            let last = len.checked_sub(1).and_then(|len| start.checked_add(len));
            // INVARIANT: `bitmap` covers these addresses, and nobody else accesses
            // it until this returns (requirements of this function).
            let mut dirty = DirtyBitmap {
                bitmap: NonNull::new(bitmap).ok_or(EINVAL)?,
                range: IovaRange {
                    start,
                    last: last.ok_or(EINVAL)?,
                },
                _bitmap: PhantomData,
            };
            log.report(&vdev, &mut dirty)?;
            Ok(0)
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Device DMA logging: `struct vfio_log_ops`.

use super::{bindings, pci::Driver};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{error::from_result, prelude::*};

/// A range of IOVAs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct IovaRange {
    /// First.
    pub(crate) start: u64,
    /// Last.
    pub(crate) last: u64,
}

impl IovaRange {
    /// Bytes in it. `None` where it is empty, or all that there is.
    pub(crate) fn len(self) -> Option<u64> {
        self.last.checked_sub(self.start)?.checked_add(1)
    }
}

/// The ranges that user space wants logged: in order, without overlap.
///
/// # Invariants
///
/// `root` is a valid interval tree of `count` nodes, at least one, that nobody
/// else uses.
pub(crate) struct IovaRanges<'a> {
    root: NonNull<kernel::bindings::rb_root_cached>,
    count: u32,
    _tree: PhantomData<&'a mut ()>,
}

impl IovaRanges<'_> {
    /// Joins neighbours until there are no more than `max`: gaps between them are
    /// logged, too.
    pub(crate) fn combine(&mut self, max: u32) {
        if max > 0 && self.count > max {
            // SAFETY: By the type invariants.
            unsafe { bindings::vfio_combine_iova_ranges(self.root.as_ptr(), self.count, max) };
            // INVARIANT: So many are left.
            self.count = max;
        }
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// The ranges.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IovaRange> + '_ {
        // SAFETY: By the type invariants.
        let mut node =
            unsafe { bindings::interval_tree_iter_first(self.root.as_ptr(), 0, c_ulong::MAX) };
        core::iter::from_fn(move || {
            // SAFETY: A node of the tree, which does not change meanwhile.
            let now = unsafe { node.as_ref() }?;
            let range = IovaRange {
                start: now.start as u64,
                last: now.last as u64,
            };
            // SAFETY: As above.
            node = unsafe { bindings::interval_tree_iter_next(node, 0, c_ulong::MAX) };
            Some(range)
        })
    }
}

/// Where dirty pages are reported.
///
/// # Invariants
///
/// The pointer is valid; `range` is what the bitmap covers.
pub(crate) struct DirtyBitmap<'a> {
    bitmap: NonNull<bindings::iova_bitmap>,
    range: IovaRange,
    _bitmap: PhantomData<&'a mut ()>,
}

impl DirtyBitmap<'_> {
    /// The range that is asked about.
    pub(crate) fn range(&self) -> IovaRange {
        self.range
    }

    /// Reports `len` bytes from `iova` on, as far as they are in the range.
    pub(crate) fn set(&mut self, iova: u64, len: u64) {
        let end = iova
            .saturating_add(len.saturating_sub(1))
            .min(self.range.last);
        let start = iova.max(self.range.start);
        if len > 0 && start <= end {
            // SAFETY: By the type invariants; the range is within the bitmap's.
            unsafe {
                bindings::vfio_rust_iova_bitmap_set(
                    self.bitmap.as_ptr(),
                    start as c_ulong,
                    (end - start + 1) as usize,
                );
            }
        }
    }
}

/// The logging of a driver.
pub(crate) trait DirtyLog: Send + Sync {
    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_START: logs `ranges` in pages of about
    /// `page_size` bytes, a power of two. Returns what they are.
    fn start(&self, ranges: IovaRanges<'_>, page_size: u64) -> Result<u64>;

    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP.
    fn stop(&self);

    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: reports the pages that the device
    /// has written to, and forgets them.
    fn report(&self, dirty: &mut DirtyBitmap<'_>) -> Result;
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
    /// Only called by VFIO, through [`Self::TABLE`], which is set for devices
    /// that were initialised with logging.
    unsafe fn log<'a>(vdev: *mut bindings::vfio_device) -> Result<&'a dyn DirtyLog> {
        // SAFETY: By the requirements of this function.
        unsafe { super::pci::Device::<T>::data(vdev) }
            .dirty_log()
            .ok_or(ENOTTY)
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`], with a valid tree of `count`
    /// nodes and a valid `page_size`.
    unsafe extern "C" fn log_start(
        vdev: *mut bindings::vfio_device,
        ranges: *mut kernel::bindings::rb_root_cached,
        count: u32,
        page_size: *mut u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let log = unsafe { Self::log(vdev) }?;
            // INVARIANT: By the requirements of this function.
            let ranges = IovaRanges {
                root: NonNull::new(ranges).ok_or(EINVAL)?,
                count,
                _tree: PhantomData,
            };
            // SAFETY: By the requirements of this function.
            let hint = unsafe { *page_size };
            let tracked = log.start(ranges, hint)?;
            // SAFETY: As above.
            unsafe { *page_size = tracked };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`].
    unsafe extern "C" fn log_stop(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            unsafe { Self::log(vdev) }?.stop();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`], with a bitmap of that range.
    unsafe extern "C" fn log_read_and_clear(
        vdev: *mut bindings::vfio_device,
        iova: c_ulong,
        length: c_ulong,
        bitmap: *mut bindings::iova_bitmap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let log = unsafe { Self::log(vdev) }?;
            let (start, len) = (iova as u64, length as u64);
            let last = len.checked_sub(1).and_then(|len| start.checked_add(len));
            // INVARIANT: By the requirements of this function.
            let mut dirty = DirtyBitmap {
                bitmap: NonNull::new(bitmap).ok_or(EINVAL)?,
                range: IovaRange {
                    start,
                    last: last.ok_or(EINVAL)?,
                },
                _bitmap: PhantomData,
            };
            log.report(&mut dirty)?;
            Ok(0)
        })
    }
}

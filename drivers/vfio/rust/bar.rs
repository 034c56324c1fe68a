// SPDX-License-Identifier: GPL-2.0

//! Memory BARs: for a device whose state, or part of it, is kept there.
//!
//! A BAR is used through the mapping that `vfio_pci_core` makes when user space
//! opens the device, and only inside a call that VFIO makes for an open device.
//! So there is nothing of ours to unmap before the device goes.

use super::{bindings, migration::VfioDevice, pages::Pages, pci::BoundDevice};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{error::to_result, prelude::*};

impl BoundDevice<'_> {
    /// Bytes of a memory BAR; 0 where there is none of this index. They stay
    /// the same while the device is bound.
    pub(crate) fn bar_len(&self, index: u32) -> Result<usize> {
        // SAFETY: A bound device is valid; the index may be any value.
        Ok(unsafe { bindings::vfio_rust_bar_len(self.as_raw(), index) }.try_into()?)
    }
}

/// A memory BAR of a device that user space has open.
///
/// # Invariants
///
/// For as long as `'a`, `core` is valid and open, and `base` is `len` bytes of
/// its BAR, which is mapped until the device is closed.
pub(crate) struct Bar<'a> {
    core: NonNull<bindings::vfio_pci_core_device>,
    base: NonNull<c_void>,
    len: usize,
    _open: PhantomData<&'a ()>,
}

impl<'a> Bar<'a> {
    /// The BAR of this index. `EIO` where it could not be mapped when the device
    /// was opened.
    pub(crate) fn of(vdev: &'a VfioDevice<'_>, index: u32) -> Result<Self> {
        let core = vdev.as_core();
        // SAFETY: By the type invariant of `VfioDevice` the device is valid, and
        // open: its BARs are mapped. The index may be any value.
        let base = unsafe { bindings::vfio_rust_bar_base(core.as_ptr(), index) };
        // SAFETY: As above; `pdev` is set for as long as the device is there.
        let len = unsafe { bindings::vfio_rust_bar_len((*core.as_ptr()).pdev, index) };
        // INVARIANT: `vdev` is borrowed for `'a`, so the device stays open. A
        // mapping is of the whole BAR.
        Ok(Self {
            core,
            base: NonNull::new(base).ok_or(EIO)?,
            len: len.try_into()?,
            _open: PhantomData,
        })
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies the whole BAR to the beginning of `pages`. `EIO` where the device
    /// does not answer, `EINTR` where the process was killed meanwhile.
    pub(crate) fn read_into(&self, pages: &Pages) -> Result {
        self.for_each_run(pages, |page, at, n| {
            // SAFETY: `for_each_run` gives `n` bytes of pages, and of the BAR,
            // which answers.
            unsafe { bindings::vfio_rust_copy_from_bar(page.as_ptr(), at, n) }
        })
    }

    /// Copies the beginning of `pages` to the whole BAR. Errors as above; the BAR
    /// may then be half written.
    pub(crate) fn write_from(&self, pages: &Pages) -> Result {
        self.for_each_run(pages, |page, at, n| {
            // SAFETY: As above.
            unsafe { bindings::vfio_rust_copy_to_bar(at, page.as_ptr(), n) }
        })
    }

    /// Calls `copy(first page, where in the BAR, len)` for each run of `pages`
    /// and the piece of the BAR that corresponds to it.
    fn for_each_run(
        &self,
        pages: &Pages,
        copy: impl Fn(NonNull<bindings::page>, *mut c_void, usize),
    ) -> Result {
        if pages.len() < self.len {
            return Err(EINVAL);
        }
        let _access = MemoryAccess::new(self)?;
        let mut at = 0;
        for (page, run_len) in pages.runs_of(self.len) {
            // SAFETY: Just looks at the current task.
            if unsafe { bindings::vfio_rust_fatal_signal_pending() } {
                return Err(EINTR);
            }
            let n = run_len.min(self.len - at);
            copy(page, self.base.as_ptr().wrapping_byte_add(at), n);
            at += n;
        }
        Ok(())
    }
}

/// The device is powered up and decodes memory, whatever user space wrote to its
/// configuration, and cannot be told otherwise.
///
/// # Invariants
///
/// vfio_rust_memory_lock() succeeded, and said `was_decoding`.
struct MemoryAccess<'a> {
    bar: &'a Bar<'a>,
    was_decoding: bool,
}

impl<'a> MemoryAccess<'a> {
    fn new(bar: &'a Bar<'a>) -> Result<Self> {
        let mut was_decoding = false;
        // SAFETY: Open by the type invariants of `Bar`.
        to_result(unsafe {
            bindings::vfio_rust_memory_lock(bar.core.as_ptr(), &mut was_decoding)
        })?;
        // INVARIANT: It succeeded.
        Ok(Self { bar, was_decoding })
    }
}

impl Drop for MemoryAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: Undoes the call that the type invariant is about.
        unsafe {
            bindings::vfio_rust_memory_unlock(self.bar.core.as_ptr(), self.was_decoding);
        }
    }
}

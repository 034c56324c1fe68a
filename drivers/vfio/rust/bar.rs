// SPDX-License-Identifier: GPL-2.0

//! Access to memory BARs, for devices that keep their state, or a part of it, there.
//!
//! A BAR is used through the mapping that `vfio_pci_core` makes when user space opens the device,
//! and only inside a call that VFIO makes for an open device. So a driver has no mapping of its own
//! to undo when the device is removed.

use crate::{
    bindings,
    kernel::{
        page::runs::Pages,
        task, //
    },
    migration::VfioDevice, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A memory BAR of a device that user space has open.
///
/// # Invariants
///
/// During `'a`, `core` is valid and open, and `base` is the mapping of one of its
/// BARs, `len` bytes long, which `vfio_pci_core` keeps until the device is closed. This
/// object has a reference to the device's runtime power management, by
/// vfio_rust_power_up(): the device is powered up.
pub struct Bar<'a> {
    core: NonNull<bindings::vfio_pci_core_device>,
    base: NonNull<c_void>,
    len: usize,
    _open: PhantomData<&'a ()>,
}

impl<'a> Bar<'a> {
    /// Returns the BAR of this index, and keeps the device powered up as long as the result exists.
    /// Returns `EIO` if the BAR could not be mapped when the device was opened, or if the device
    /// cannot be powered up.
    ///
    /// This may resume the device, which takes `memory_lock` and `igate` of `vfio_pci_core`.
    /// It is not for [`Driver::mmap`](crate::pci::Driver::mmap), which may be called with the
    /// lock of the caller's memory map held: no C code takes `igate` with that.
    pub fn of(vdev: &'a VfioDevice<'_>, index: u32) -> Result<Self> {
        let core = vdev.as_core();
        // SAFETY: `core` is valid and open during `'a` (invariant of
        // `VfioDevice`): its BARs are mapped. `index` may have any value: the
        // function checks it.
        let base = unsafe { bindings::vfio_rust_bar_base(core.as_ptr(), index) };
        // SAFETY: `core` is valid during `'a` (invariant of `VfioDevice`), and so
        // is its `pdev`, which was set when it was initialised. `index` may have
        // any value: the function checks it.
        let len = unsafe { bindings::vfio_rust_bar_len((*core.as_ptr()).pdev, index) };
        let (base, len) = (NonNull::new(base).ok_or(EIO)?, len.try_into()?);
        // SAFETY: `core` is valid and open during `'a` (invariant of `VfioDevice`).
        to_result(unsafe { bindings::vfio_rust_power_up(core.as_ptr()) })?;
        // INVARIANT: `vdev` is borrowed for `'a`, so the device stays open that
        // long. `vfio_pci_core` maps whole BARs. vfio_rust_power_up() succeeded.
        Ok(Self {
            core,
            base,
            len,
            _open: PhantomData,
        })
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of a register of `LEN` bytes. Returns `EINVAL` if it is not aligned, or
    /// not within the BAR.
    fn register<const LEN: usize>(&self, offset: usize) -> Result<*mut c_void> {
        let end = offset.checked_add(LEN).filter(|end| *end <= self.len);
        if end.is_none() || offset % LEN != 0 {
            return Err(EINVAL);
        }
        Ok(self.base.as_ptr().wrapping_byte_add(offset))
    }

    /// Reads a little endian register of 16 bits. Returns `EIO` if user space has turned memory
    /// decoding off.
    pub fn read16(&self, offset: usize) -> Result<u16> {
        let mut value = 0;
        let at = self.register::<2>(offset)?;
        // SAFETY: `core` is valid and open (type invariant), and `at` is the address of two
        // bytes of its BAR. `value` is a local variable.
        to_result(unsafe {
            bindings::vfio_pci_core_ioread16(self.core.as_ptr(), true, &mut value, at)
        })?;
        Ok(u16::from_le(value))
    }

    /// Writes a little endian register of 16 bits. Returns `EIO` if user space has turned memory
    /// decoding off.
    pub fn write16(&self, offset: usize, value: u16) -> Result {
        let (at, value) = (self.register::<2>(offset)?, value.to_le());
        // SAFETY: `core` is valid and open (type invariant), and `at` is the address of two
        // bytes of its BAR.
        to_result(unsafe { bindings::vfio_pci_core_iowrite16(self.core.as_ptr(), true, value, at) })
    }

    /// Reads a little endian register of 32 bits. Returns `EIO` if user space has turned memory
    /// decoding off.
    pub fn read32(&self, offset: usize) -> Result<u32> {
        let mut value = 0;
        let at = self.register::<4>(offset)?;
        // SAFETY: `core` is valid and open (type invariant), and `at` is the address of four
        // bytes of its BAR. `value` is a local variable.
        to_result(unsafe {
            bindings::vfio_pci_core_ioread32(self.core.as_ptr(), true, &mut value, at)
        })?;
        Ok(u32::from_le(value))
    }

    /// Writes a little endian register of 32 bits. Returns `EIO` if user space has turned memory
    /// decoding off.
    pub fn write32(&self, offset: usize, value: u32) -> Result {
        let (at, value) = (self.register::<4>(offset)?, value.to_le());
        // SAFETY: `core` is valid and open (type invariant), and `at` is the address of four
        // bytes of its BAR.
        to_result(unsafe { bindings::vfio_pci_core_iowrite32(self.core.as_ptr(), true, value, at) })
    }

    /// Writes a little endian register of 32 bits, unless `check` fails. Returns `EIO` if user
    /// space has turned memory decoding off.
    ///
    /// `check` is called with `memory_lock` of `vfio_pci_core` held for reading, which is released
    /// only after the register was written. VFIO holds that lock for writing when it announces a
    /// reset that it carries out. So `check` must neither access the BAR nor reset the device, nor
    /// wait for another thread that does.
    pub fn write32_if(&self, offset: usize, value: u32, check: impl FnOnce() -> Result) -> Result {
        let (at, value) = (self.register::<4>(offset)?, value.to_le());
        let _decoding = Decoding::new(self)?;
        check()?;
        // SAFETY: `core` is valid and open (type invariant), and `at` is the address of four
        // bytes of its BAR, which is decoded as long as `_decoding` exists.
        to_result(unsafe {
            bindings::vfio_pci_core_iowrite32(self.core.as_ptr(), false, value, at)
        })
    }

    /// Copies the whole BAR to the beginning of `pages`. Returns `EIO` if the device does not
    /// answer, `EINTR` if the process is killed.
    pub fn read_into(&self, pages: &Pages) -> Result {
        self.for_each_run(pages, |page, at, n| {
            // SAFETY: `for_each_run` gives `n` bytes of pages that begin with
            // `page`, which are borrowed, and `n` bytes of the BAR at `at`, which
            // is mapped (type invariant) and decoded.
            unsafe { bindings::vfio_rust_copy_from_bar(page.as_ptr(), at, n) }
        })
    }

    /// Copies the beginning of `pages` to the whole BAR. Returns `EIO` if the device does not
    /// answer, `EINTR` if the process is killed: a part of the BAR may have been written then.
    pub fn write_from(&self, pages: &Pages) -> Result {
        self.for_each_run(pages, |page, at, n| {
            // SAFETY: `for_each_run` gives `n` bytes of pages that begin with
            // `page`, which are borrowed, and `n` bytes of the BAR at `at`, which
            // is mapped (type invariant) and decoded.
            unsafe { bindings::vfio_rust_copy_to_bar(at, page.as_ptr(), n) }
        })
    }

    /// Calls `copy(first page, address in the BAR, len)` for each run of `pages`
    /// and the piece of the BAR that corresponds to it, with decoding enabled.
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
            task::check_killed()?;
            let n = run_len.min(self.len - at);
            copy(page, self.base.as_ptr().wrapping_byte_add(at), n);
            at += n;
        }
        Ok(())
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        // SAFETY: `core` is valid, and the reference is this object's, which does not use it
        // any more (type invariant).
        unsafe { bindings::vfio_rust_power_release(self.core.as_ptr()) }
    }
}

/// Keeps memory decoding of a device on, if user space has turned it on.
///
/// # Invariants
///
/// vfio_rust_memory_read_lock() succeeded for the device of the BAR: its `memory_lock` is held
/// for reading.
struct Decoding<'a>(&'a Bar<'a>);

impl<'a> Decoding<'a> {
    /// Locks `memory_lock` for reading. Returns `EIO` if user space has turned memory decoding off.
    fn new(bar: &'a Bar<'a>) -> Result<Self> {
        // SAFETY: `bar.core` is valid and open as long as `bar` is borrowed (invariant of
        // `Bar`).
        to_result(unsafe { bindings::vfio_rust_memory_read_lock(bar.core.as_ptr()) })?;
        // INVARIANT: The call above succeeded.
        Ok(Self(bar))
    }
}

impl Drop for Decoding<'_> {
    fn drop(&mut self) {
        // SAFETY: `core` is valid and open as long as the BAR is borrowed (invariant of
        // `Bar`), and vfio_rust_memory_read_lock() succeeded for it (type invariant).
        unsafe { bindings::vfio_rust_memory_read_unlock(self.0.core.as_ptr()) }
    }
}

/// Keeps a device in `D0` and decoding memory, whatever user space writes to
/// its configuration space.
///
/// # Invariants
///
/// vfio_rust_memory_lock() succeeded for the device of `bar`, and set `was_decoding`; its
/// `memory_lock` is held for writing.
struct MemoryAccess<'a> {
    bar: &'a Bar<'a>,
    was_decoding: bool,
}

impl<'a> MemoryAccess<'a> {
    fn new(bar: &'a Bar<'a>) -> Result<Self> {
        let mut was_decoding = false;
        // SAFETY: `bar.core` is valid, open and powered up as long as `bar` is borrowed
        // (invariant of `Bar`). `was_decoding` is a local variable.
        to_result(unsafe {
            bindings::vfio_rust_memory_lock(bar.core.as_ptr(), &mut was_decoding)
        })?;
        // INVARIANT: The call above succeeded.
        Ok(Self { bar, was_decoding })
    }
}

impl Drop for MemoryAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: `bar.core` is valid and open as long as `bar` is borrowed (invariant of `Bar`),
        // and vfio_rust_memory_lock() succeeded for it and set `was_decoding` (type invariant).
        unsafe {
            bindings::vfio_rust_memory_unlock(self.bar.core.as_ptr(), self.was_decoding);
        }
    }
}

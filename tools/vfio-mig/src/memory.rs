// SPDX-License-Identifier: GPL-2.0

//! Memory for devices.

use std::{
    io,
    ptr::NonNull, //
};

/// Anonymous memory that a device may be given.
///
/// A device can write it at any time, so it is only read a word at a time, and
/// never borrowed.
#[derive(Debug)]
pub struct DeviceMemory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: The mapping belongs to the process, not to a thread.
unsafe impl Send for DeviceMemory {}
// SAFETY: A shared reference only reads, one word at a time, and no thread writes.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Maps `len` zeroes, a multiple of the page size.
    pub fn new(len: usize) -> io::Result<Self> {
        Self::with_flags(len, 0)
    }

    /// Maps `len` zeroes, a multiple of the huge page size, in huge pages.
    pub fn new_huge(len: usize) -> io::Result<Self> {
        Self::with_flags(len, libc::MAP_HUGETLB)
    }

    fn with_flags(len: usize, flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: A new mapping, wherever there is room.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Its address.
    pub fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Returns its size, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The word at `offset`, a multiple of 8 within.
    pub fn word(&self, offset: usize) -> u64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.len);
        // SAFETY: Within the mapping, and aligned.
        unsafe { self.base.as_ptr().add(offset).cast::<u64>().read_volatile() }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: Our mapping; devices have their own reference to its pages.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! User memory that a read() fills, or that a write() takes data from, piece by piece.
//!
//! The kernel crate's `UserSliceReader` and `UserSliceWriter` copy from and to slices only:
//! `UserSliceWriter::write_raw()`, which takes a pointer, is private. Memory that a device
//! may write at any time must not be behind a reference.

use kernel::prelude::*;

/// User memory that a read() fills.
///
/// # Invariants
///
/// `ptr` is `left` bytes before the end of a piece of memory that user space
/// named. Nothing is known about whether that memory can be written.
pub struct UserWriter {
    ptr: *mut u8,
    left: usize,
}

/// User memory that a write() takes data from.
///
/// # Invariants
///
/// `ptr` is `taken` bytes behind the beginning of a piece of memory that user
/// space named, and `left` bytes before its end. Nothing is known about whether
/// that memory can be read.
pub struct UserReader {
    ptr: *const u8,
    left: usize,
    taken: usize,
}

impl UserWriter {
    /// Makes a writer for the arguments of a read().
    #[inline]
    pub(in crate::kernel) fn new(ptr: *mut c_char, len: usize) -> Self {
        // INVARIANT: Nothing was filled yet.
        Self {
            ptr: ptr.cast(),
            left: len,
        }
    }

    /// Returns the number of bytes that still fit.
    #[inline]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves past `n` bytes and returns where they begin.
    #[inline]
    pub(in crate::kernel) fn take(&mut self, n: usize) -> Result<*mut u8> {
        // INVARIANT: `ptr` moves by `n`, which is at most `left`.
        self.left = self.left.checked_sub(n).ok_or(EINVAL)?;
        let at = self.ptr;
        self.ptr = at.wrapping_add(n);
        Ok(at)
    }

    /// Copies `bytes` to user space. Returns `EFAULT` if not all of them can be written there.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        let to = self.take(bytes.len())?;
        // SAFETY: `bytes` is valid for reads of its length, and borrowed for this
        // call. `to` may be any address: the function checks that it and the
        // bytes behind it are user memory that can be written.
        let left = unsafe {
            kernel::bindings::copy_to_user(to.cast(), bytes.as_ptr().cast(), bytes.len())
        };
        if left == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }
}

impl UserReader {
    /// Makes a reader for the arguments of a write().
    #[inline]
    pub(in crate::kernel) fn new(ptr: *const c_char, len: usize) -> Self {
        // INVARIANT: Nothing was taken yet.
        Self {
            ptr: ptr.cast(),
            left: len,
            taken: 0,
        }
    }

    /// Returns the number of bytes that have not been taken yet.
    #[inline]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves past `n` bytes and returns where they begin.
    #[inline]
    pub(in crate::kernel) fn take(&mut self, n: usize) -> Result<*const u8> {
        // INVARIANT: `ptr` moves by `n`, which is at most `left`; `taken` cannot
        // overflow, since the sum of `left` and `taken` does not change.
        self.left = self.left.checked_sub(n).ok_or(EINVAL)?;
        self.taken += n;
        let at = self.ptr;
        self.ptr = at.wrapping_add(n);
        Ok(at)
    }

    /// Moves past `n` bytes unread.
    #[inline]
    pub fn skip(&mut self, n: usize) -> Result {
        self.take(n).map(|_| ())
    }

    /// Moves back by `n` bytes, which are then read again. Returns `EINVAL` if fewer were taken.
    ///
    /// User space may have changed them in between.
    #[inline]
    pub fn rewind(&mut self, n: usize) -> Result {
        // INVARIANT: `ptr` moves back by `n`, which is at most `taken`.
        self.taken = self.taken.checked_sub(n).ok_or(EINVAL)?;
        self.left += n;
        self.ptr = self.ptr.wrapping_sub(n);
        Ok(())
    }

    /// Reads the next byte, without moving past it. Returns `EINVAL` if none is left, `EFAULT` if
    /// it cannot be read.
    #[inline]
    pub fn peek_byte(&self) -> Result<u8> {
        if self.left == 0 {
            return Err(EINVAL);
        }
        let mut byte = 0;
        copy_from_user(core::slice::from_mut(&mut byte), self.ptr)?;
        Ok(byte)
    }

    /// Fills `bytes`. Returns `EFAULT` if not all of them can be read.
    #[inline]
    pub fn read(&mut self, bytes: &mut [u8]) -> Result {
        let from = self.take(bytes.len())?;
        copy_from_user(bytes, from)
    }
}

/// Fills `bytes` from user memory at `from`. Returns `EFAULT` if not all of them can be read.
#[inline]
fn copy_from_user(bytes: &mut [u8], from: *const u8) -> Result {
    // SAFETY: `bytes` is valid for writes of its length, and borrowed for this
    // call. `from` may be any address: the function checks that it and the
    // bytes behind it are user memory that can be read.
    let left = unsafe {
        kernel::bindings::copy_from_user(bytes.as_mut_ptr().cast(), from.cast(), bytes.len())
    };
    if left == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

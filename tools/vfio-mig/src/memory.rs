// SPDX-License-Identifier: GPL-2.0

//! Memory for devices, and memory that is shared with the kernel and other processes.

use std::{
    io,
    ops::Deref,
    os::fd::{
        AsRawFd,
        BorrowedFd, //
    },
    ptr::NonNull,
    slice,
    sync::atomic::AtomicU64, //
};

/// Maps `len` bytes, of a file or of none.
fn map(len: usize, flags: libc::c_int, file: Option<BorrowedFd<'_>>) -> io::Result<NonNull<u8>> {
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: A new mapping, wherever there is room.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory.into())
}

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
        let base = map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags, None)?;
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

/// Words that others may write at any time: the kernel, or copies of this process.
///
/// # Invariants
///
/// `base` is the address of a mapping of `len` words, which is unmapped when this is dropped.
#[derive(Debug)]
pub struct SharedWords {
    base: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: The mapping belongs to the process, not to a thread.
unsafe impl Send for SharedWords {}
// SAFETY: A shared reference only gives access to atomic words.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `len` words that are zero. A copy of this process has the same.
    pub fn new(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_ANONYMOUS, None)
    }

    /// Maps the first `len` words of a file that does not become shorter.
    pub fn of_file(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Self::map(len, 0, Some(file))
    }

    fn map(len: usize, flags: libc::c_int, file: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<AtomicU64>());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        // INVARIANT: A mapping of `len` words; a page is aligned for them.
        Ok(Self {
            base: map(bytes, libc::MAP_SHARED | flags, file)?.cast(),
            len,
        })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: The mapping has `len` words and lives as long as `self` (type invariant). What
        // others write to them meanwhile is for atomics to see.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: Our mapping (type invariant), which nothing borrows any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len * size_of::<AtomicU64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{
        memfd_create,
        MemFdCreateFlag, //
    };
    use std::{
        fs::File,
        os::{
            fd::AsFd,
            unix::fs::FileExt, //
        },
        sync::atomic::Ordering::Relaxed,
    };

    #[test]
    fn words_of_a_file_are_shared() {
        let file = memfd_create(c"words", MemFdCreateFlag::empty()).unwrap();
        let file = File::from(file);
        file.set_len(24).unwrap();
        let words = SharedWords::of_file(file.as_fd(), 3).unwrap();
        let others = SharedWords::of_file(file.as_fd(), 3).unwrap();
        words[1].store(5, Relaxed);
        file.write_all_at(&7u64.to_ne_bytes(), 16).unwrap();
        assert_eq!(others.len(), 3);
        assert_eq!(
            others.iter().map(|word| word.load(Relaxed)).sum::<u64>(),
            12
        );
    }

    #[test]
    fn words_are_zero_and_fit_into_memory() {
        let words = SharedWords::new(1000).unwrap();
        assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        assert!(SharedWords::new(usize::MAX).is_err());
        assert!(SharedWords::new(0).is_err());
    }
}

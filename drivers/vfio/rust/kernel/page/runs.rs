// SPDX-License-Identifier: GPL-2.0

//! Buffers made of runs of pages, each as long as the allocator can provide.
//!
//! The kernel crate's `Page` is a single one, and its `Flags` lack `__GFP_NORETRY`, without
//! which an allocation of many pages reclaims hard.

use crate::{
    bindings,
    kernel::{
        task,
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sizes::{
        SZ_2M,
        SZ_4M, //
    }, //
};

/// Order of the largest allocation that is tried: 4 MiB. A run of 2 MiB, the size of a huge page,
/// would be slower to free: the allocator puts it into a list of the CPU, and moves other pages
/// from that list back to the zone, one by one.
const MAX_ORDER: u32 = (SZ_4M / PAGE_SIZE).ilog2();

/// Size of the largest page that devices use, in bytes.
const LARGE_PAGE: usize = SZ_2M;

/// Contents of fresh pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Zeroes: for memory that a device fills and user space reads. A device
    /// that fills less than it reports must not leak older contents.
    Zero,
    /// Anything: for memory that is written before it is read.
    Any,
}

/// One physically contiguous run of pages.
///
/// # Invariants
///
/// `page` is the first of `1 << order` pages, which this object owns.
struct Run {
    page: NonNull<bindings::page>,
    order: u32,
    /// Offset in the buffer, in bytes.
    start: usize,
}

impl Run {
    #[inline]
    fn len(&self) -> usize {
        PAGE_SIZE << self.order
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: This object owns the `1 << order` pages that begin with `page`
        // (type invariant). Nobody uses them after this: `Pages` lends them for
        // copies that end before it is dropped, and a `DmaMapping` keeps the
        // `Pages` that it has mapped.
        unsafe { bindings::__free_pages(self.page.as_ptr(), self.order) }
    }
}

/// A buffer of whole pages.
///
/// No Rust reference to the contents is ever made: they are copied from and to
/// user space, and by devices, through raw pointers only. So a device (or a
/// second user) that writes at the wrong moment garbles data, and does no other
/// harm.
///
/// # Examples
///
/// ```
/// use kernel::{
///     page::PAGE_SIZE,
///     prelude::*, //
/// };
/// use vfio_rust::kernel::page::runs::{
///     Fill,
///     Pages, //
/// };
///
/// let mut pages = Pages::with_len(PAGE_SIZE + 1, Fill::Zero)?;
/// assert_eq!(pages.len(), 2 * PAGE_SIZE);
/// // Data goes from and to user space by `read()` and `write()`. Words that a device has
/// // written are looked at one by one.
/// let mut zeroes = true;
/// pages.for_words(0, pages.len(), |words| zeroes &= words.get(0) == Some(0))?;
/// assert!(zeroes);
/// assert_eq!(pages.for_words(0, pages.len() + 8, |_| ()), Err(EINVAL));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `runs` are in the order of their `start`, without gaps, beginning at 0.
pub struct Pages {
    runs: KVVec<Run>,
    len: usize,
    /// Order of the next allocation at most: larger ones have failed.
    max_order: u32,
}

// SAFETY: The pages are owned, and may be freed on another thread.
unsafe impl Send for Pages {}
// SAFETY: `&Pages` allows copying from and to the contents, of which nobody has a
// Rust reference. Copies that several threads make at once garble data.
unsafe impl Sync for Pages {}

impl Default for Pages {
    fn default() -> Self {
        Self::new()
    }
}

impl Pages {
    /// Makes a buffer without any page.
    pub fn new() -> Self {
        // INVARIANT: No runs, no gaps.
        Self {
            runs: KVVec::new(),
            len: 0,
            max_order: MAX_ORDER,
        }
    }

    /// Makes a buffer of at least `len` bytes. Returns `ENOMEM` at once if the machine has less
    /// memory than that: a device may say any length.
    pub fn with_len(len: usize, fill: Fill) -> Result<Self> {
        // SAFETY: The function only reads a counter.
        if !unsafe { bindings::vfio_rust_memory_has(len) } {
            return Err(ENOMEM);
        }
        let mut pages = Self::new();
        pages.grow_for(len, len, fill)?;
        Ok(pages)
    }

    /// Grows the buffer to at least `need` bytes. It will need at most `len` bytes later.
    ///
    /// `len` is rounded up to whole pages, or by a 64th at most, so that the buffer does not end
    /// with a small run: a device that needs pages of one size would use that size for the whole
    /// buffer. `fill` applies to the memory that `len` fills; a last piece that it fills only in
    /// part is zeroed. At most 4 MiB are allocated beyond `need`.
    pub fn grow_for(&mut self, need: usize, len: usize, fill: Fill) -> Result {
        let unit = (len / 64).clamp(PAGE_SIZE, LARGE_PAGE);
        let unit = 1 << unit.ilog2();
        let filled = len / unit * unit;
        let whole = len.checked_next_multiple_of(unit).ok_or(EOVERFLOW)?;
        // The last unit comes as a whole.
        let need = if need > filled { whole } else { need };
        while self.len < need {
            let (until, fill) = if self.len < filled {
                (filled, fill)
            } else {
                (whole, Fill::Zero)
            };
            self.grow(until - self.len, fill)?;
        }
        Ok(())
    }

    /// Returns the capacity in bytes: a multiple of the page size.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no page.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one run of pages, no larger than `want` bytes need.
    ///
    /// Callers that receive a stream grow their buffer one run at a time, so that the kernel
    /// allocates little more memory than data has arrived for.
    pub fn grow(&mut self, want: usize, fill: Fill) -> Result {
        // A signal that does not kill must not end a stream: data that was taken
        // cannot be taken again.
        task::check_killed()?;
        let pages = want.div_ceil(PAGE_SIZE).max(1);
        let mut order = pages.ilog2().min(self.max_order);
        let page = loop {
            // SAFETY: `order` is at most `max_order`, which begins as `MAX_ORDER` and only falls.
            // The function may sleep, and so may callers of `grow`.
            let page = unsafe { bindings::vfio_rust_alloc_run(order, matches!(fill, Fill::Zero)) };
            match NonNull::new(page) {
                Some(page) => break page,
                None if order == 0 => return Err(ENOMEM),
                None => {
                    order -= 1;
                    self.max_order = order;
                }
            }
        };
        // INVARIANT: The pages were allocated just now, with this order, for this object.
        let run = Run {
            page,
            order,
            start: self.len,
        };
        let len = self.len.checked_add(run.len()).ok_or(EOVERFLOW)?;
        // INVARIANT: The run begins where the last one ended.
        self.runs.push(run, GFP_KERNEL_ACCOUNT)?;
        self.len = len;
        Ok(())
    }

    /// Returns the runs that hold the first `len` bytes: the first page and the
    /// length in bytes of each.
    #[inline]
    pub fn runs_of(
        &self,
        len: usize,
    ) -> impl Iterator<Item = (NonNull<bindings::page>, usize)> + '_ {
        self.runs
            .iter()
            .take_while(move |run| run.start < len)
            .map(|run| (run.page, run.len()))
    }

    /// Returns the first page of the run that all of `offset..offset + len` lies in, and the offset
    /// in that run. May return `None`, too, if a run before that one is smaller than the largest
    /// order, as few are.
    #[inline]
    fn in_one_run(&self, offset: usize, len: usize) -> Option<(NonNull<bindings::page>, usize)> {
        let run = self.runs.get(offset / (PAGE_SIZE << MAX_ORDER))?;
        let at = offset.checked_sub(run.start)?;
        (at.checked_add(len)? <= run.len()).then_some((run.page, at))
    }

    /// Calls `copy(page, offset in the run, len)` for the piece of each run
    /// that lies in `offset..offset + len`.
    fn for_each_piece(
        &self,
        mut offset: usize,
        mut len: usize,
        mut copy: impl FnMut(NonNull<bindings::page>, usize, usize) -> Result,
    ) -> Result {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(EINVAL);
        }
        let mut index = self.runs.partition_point(|run| run.start <= offset);
        index = index.saturating_sub(1);
        while len > 0 {
            let run = self.runs.get(index).ok_or(EINVAL)?;
            let at = offset - run.start;
            let n = len.min(run.len() - at);
            copy(run.page, at, n)?;
            offset += n;
            len -= n;
            index += 1;
        }
        Ok(())
    }

    /// Copies `len` bytes at `offset` to user space. Returns `EFAULT` if not all of them can be
    /// written there.
    // Inlined, so that a read from one run does not pay for the general case.
    #[inline(always)]
    pub fn read(&self, offset: usize, len: usize, out: &mut UserWriter) -> Result {
        let copy = |page: NonNull<bindings::page>, at, n, out: &mut UserWriter| {
            let to = out.take(n)?;
            // SAFETY: `at..at + n` is within the run that begins with `page`
            // (`in_one_run`, `for_each_piece`), whose pages `self` owns. `to` may be
            // any address: the function checks that it and the bytes behind it are
            // user memory that can be written.
            let left =
                unsafe { bindings::vfio_rust_copy_page_to_user(to.cast(), page.as_ptr(), at, n) };
            if left == 0 {
                Ok(())
            } else {
                Err(EFAULT)
            }
        };
        match self.in_one_run(offset, len) {
            Some((page, at)) => copy(page, at, len, out),
            None => self.for_each_piece(offset, len, |page, at, n| copy(page, at, n, out)),
        }
    }

    /// Copies `len` bytes from user space to `offset`. Returns `EFAULT` if not all of them can be
    /// read there.
    pub fn write(&self, offset: usize, len: usize, from: &mut UserReader) -> Result {
        self.for_each_piece(offset, len, |page, at, n| {
            let from = from.take(n)?;
            // SAFETY: `at..at + n` is within the run that begins with `page`
            // (`for_each_piece`), whose pages `self` owns. `from` may be any
            // address: the function checks that it and the bytes behind it are
            // user memory that can be read.
            let left = unsafe {
                bindings::vfio_rust_copy_page_from_user(page.as_ptr(), at, from.cast(), n)
            };
            if left == 0 {
                Ok(())
            } else {
                Err(EFAULT)
            }
        })
    }

    /// Calls `each` once for each run, with the words of 64 bits that lie in `offset..offset +
    /// len`. Returns `EINVAL` if the range is not within the buffer, or not made of whole words.
    pub fn for_words(&self, offset: usize, len: usize, mut each: impl FnMut(&Words<'_>)) -> Result {
        if offset % WORD != 0 || len % WORD != 0 {
            return Err(EINVAL);
        }
        self.for_each_piece(offset, len, |page, at, n| {
            // SAFETY: `page` is the first one of a run that `grow()` has allocated.
            let run = unsafe { bindings::vfio_rust_page_address(page.as_ptr()) };
            let run: NonNull<u8> = NonNull::new(run.cast()).ok_or(EINVAL)?;
            // SAFETY: `at..at + n` is within the run (`for_each_piece`), which is mapped as
            // a whole.
            let first = unsafe { run.add(at) };
            // INVARIANT: The run begins with a page, and is owned by `self`, which is
            // borrowed until `each` returns. `at` and `n` are multiples of a word: so are
            // `offset`, `len` and the length of each run.
            each(&Words {
                first: first.cast(),
                count: n / WORD,
                pages: PhantomData,
            });
            Ok(())
        })
    }
}

/// Size of a word, in bytes.
const WORD: usize = size_of::<u64>();

/// Big endian words of 64 bits in a run of a buffer, which a device may write at any time.
///
/// # Invariants
///
/// `first` is aligned, and valid for reads of `count` words during `'a`.
pub struct Words<'a> {
    first: NonNull<u64>,
    count: usize,
    pages: PhantomData<&'a Pages>,
}

impl Words<'_> {
    /// # Safety
    ///
    /// `index` must be less than `self.count`.
    #[inline(always)]
    unsafe fn read(&self, index: usize) -> u64 {
        // SAFETY: This is one of `count` words from `first` on (requirements of this
        // function), which are aligned, and valid for reads (type invariant).
        u64::from_be(unsafe { self.first.as_ptr().add(index).read_volatile() })
    }
}

impl Words<'_> {
    /// Returns words number `index * N` to `index * N + N - 1`, or `None` if there are fewer.
    #[inline(always)]
    pub fn block<const N: usize>(&self, index: usize) -> Option<[u64; N]> {
        // SAFETY: There are more than `index` whole blocks of `N` words, and `i` is less than `N`,
        // so `index * N + i` is less than `count`.
        let read = |i| unsafe { self.read(index * N + i) };
        (index < self.count / N).then(|| core::array::from_fn(read))
    }

    /// Returns word number `index`, or `None` if there are fewer.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<u64> {
        // SAFETY: `index` is less than `count`.
        (index < self.count).then(|| unsafe { self.read(index) })
    }
}

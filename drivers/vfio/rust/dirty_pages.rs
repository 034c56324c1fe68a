// SPDX-License-Identifier: GPL-2.0

//! Sets the pages that a device reports as dirty in a bitmap.
//!
//! A call that sets bits costs about a hundred instructions, however many bits it sets. So pages
//! that follow each other are set with one call, and for other pages little is done besides the
//! call.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Number of pages in a block. The addresses of that many fit into registers that a call preserves.
pub const BLOCK: usize = 4;

/// Addresses of pages, in the order of the device.
pub trait Addresses {
    /// Returns block number `index`, or `None` if there are fewer whole blocks.
    fn block(&self, index: usize) -> Option<[u64; BLOCK]>;

    /// Returns address number `index`, or `None` if there are fewer.
    fn get(&self, index: usize) -> Option<u64>;
}

/// Memory that a report is about.
#[derive(Clone, Copy)]
pub struct Span {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
}

impl Span {
    /// Returns the part of `start..start + len` inside the span, as start and length; `None`
    /// if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use vfio_rust::dirty_pages::Span;
    ///
    /// let span = Span {
    ///     start: 0x1000,
    ///     last: 0x2fff,
    /// };
    /// assert_eq!(span.part(0x800, 0x1000), Some((0x1000, 0x800)));
    /// assert_eq!(span.part(0x3000, 0x1000), None);
    /// ```
    #[inline]
    pub fn part(self, start: u64, len: u64) -> Option<(u64, u64)> {
        let last = start.saturating_add(len.checked_sub(1)?).min(self.last);
        let start = start.max(self.start);
        let len = last.checked_sub(start)?.checked_add(1)?;
        Some((start, len))
    }
}

/// Pages that follow each other.
#[derive(Clone, Copy)]
struct Run {
    start: u64,
    /// End of the last page. It is before `start` if the run wraps around the end of the address
    /// space.
    end: u64,
}

impl Run {
    /// Returns an empty run, which a page at `start` can be added to.
    #[inline]
    fn before(start: u64) -> Self {
        Self { start, end: start }
    }

    /// Sets the bits of the part of the run that is inside the span.
    #[inline(always)]
    fn set(self, span: Span, set: &mut impl FnMut(u64, u64)) {
        let Self { start, end } = self;
        if span.start <= start && start < end && end - 1 <= span.last {
            set(start, end - start);
        } else {
            self.set_part(span, set);
        }
    }

    /// Does what [`Self::set`] does, for a run that is partly outside of the span or wraps around.
    #[cold]
    fn set_part(self, span: Span, set: &mut impl FnMut(u64, u64)) {
        let Self { start, end } = self;
        let pieces = if end < start {
            [(start, start.wrapping_neg()), (0, end)]
        } else {
            [(start, end - start), (0, 0)]
        };
        for (start, len) in pieces {
            if let Some((start, len)) = span.part(start, len) {
                set(start, len);
            }
        }
    }
}

/// Bounds for whole blocks, so that not every page has to be checked.
struct Bounds {
    page_size: u64,
    /// Lowest address that the first page may have.
    first: u64,
    /// Highest address that the last page may have.
    last: u64,
}

impl Bounds {
    /// The highest bit of an address: a page at an address without it does not wrap around the end
    /// of the address space.
    const TOP: u64 = 1 << 63;

    #[inline]
    fn new(page_size: u64, span: Span) -> Self {
        let last = span.last.checked_sub(page_size.wrapping_sub(1));
        let (first, last) = match last {
            Some(last) if page_size < Self::TOP => (span.start, last),
            // No page of this size is in the span.
            _ => (1, 0),
        };
        Self {
            page_size,
            first,
            last,
        }
    }

    /// Returns whether four pages in ascending order are in the span.
    #[inline(always)]
    fn have(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        self.first <= a && d <= self.last && (a | b | c) & Self::TOP == 0
    }

    /// Returns whether four pages are in the span, ascend, and none follows another.
    #[inline(always)]
    fn have_lone(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        let size = self.page_size;
        self.have(a, b, c, d)
            && a.wrapping_add(size) < b
            && b.wrapping_add(size) < c
            && c.wrapping_add(size) < d
    }

    /// Returns whether four pages are in the span and ascend. Some may follow each other, but not
    /// all four.
    #[inline(always)]
    fn have_some_lone(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        let size = self.page_size;
        self.have(a, b, c, d)
            && a.wrapping_add(size) <= b
            && b.wrapping_add(size) <= c
            && c.wrapping_add(size) <= d
            && a.wrapping_add(size.wrapping_mul(3)) != d
    }
}

/// Sets `pages`, each of `page_size` bytes, as far as they are in the span. `set` is called with
/// start and length of parts of the span. None of them is empty.
///
/// # Examples
///
/// ```
/// use vfio_rust::dirty_pages::{
///     set_pages,
///     Addresses,
///     Span,
///     BLOCK, //
/// };
///
/// /// What a device has reported.
/// struct Reported(&'static [u64]);
///
/// impl Addresses for Reported {
///     fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
///         self.0.chunks_exact(BLOCK).nth(index)?.try_into().ok()
///     }
///
///     fn get(&self, index: usize) -> Option<u64> {
///         self.0.get(index).copied()
///     }
/// }
///
/// let reported = Reported(&[0x2000, 0x3000, 0x4000, 0x9000]);
/// let asked = Span {
///     start: 0x3000,
///     last: 0xffff,
/// };
/// let mut calls = 0;
/// let mut bytes = 0;
/// set_pages(&reported, 0x1000, asked, |_start, len| {
///     calls += 1;
///     bytes += len;
/// });
/// // Pages that follow each other are set with one call. The page before `asked` is not set.
/// assert_eq!((calls, bytes), (2, 3 * 0x1000));
/// ```
#[inline]
pub fn set_pages(
    pages: &impl Addresses,
    page_size: u64,
    span: Span,
    mut set: impl FnMut(u64, u64),
) {
    let bounds = Bounds::new(page_size, span);
    let mut run = Run::before(0);
    let mut index = 0;
    loop {
        index = set_lone(pages, index, &bounds, &mut set);
        if pages.block(index).is_none() {
            break;
        }
        (index, run) = set_runs(pages, index, &bounds, span, &mut set);
    }
    let mut index = index * BLOCK;
    while let Some(page) = pages.get(index) {
        if page != run.end {
            run.set(span, &mut set);
            run = Run::before(page);
        }
        run.end = run.end.wrapping_add(page_size);
        index += 1;
    }
    run.set(span, &mut set);
}

/// Sets blocks from number `index` on, up to the first one whose pages all follow each other, do
/// not ascend, or are not all in the span. Returns the number of that block.
///
/// Not inlined, so that this loop has all registers: reports of little dirty memory spend their
/// time here.
#[inline(never)]
fn set_lone(
    pages: &impl Addresses,
    mut index: usize,
    bounds: &Bounds,
    set: &mut impl FnMut(u64, u64),
) -> usize {
    let size = bounds.page_size;
    while let Some([a, b, c, d]) = pages.block(index) {
        if bounds.have_lone(a, b, c, d) {
            set(a, size);
            set(b, size);
            set(c, size);
            set(d, size);
        } else if !set_some_lone(pages, index, bounds, set) {
            break;
        }
        index += 1;
    }
    index
}

/// Sets block number `index`, if [`Bounds::have_some_lone()`] holds for it. Returns whether it
/// does.
///
/// Reads the block again, so that [`set_lone()`] need not keep its addresses for this call.
#[inline(never)]
fn set_some_lone(
    pages: &impl Addresses,
    index: usize,
    bounds: &Bounds,
    set: &mut impl FnMut(u64, u64),
) -> bool {
    let Some([a, b, c, d]) = pages.block(index) else {
        return false;
    };
    if !bounds.have_some_lone(a, b, c, d) {
        return false;
    }
    let mut start = a;
    for (page, next) in [(a, b), (b, c), (c, d)] {
        let end = page.wrapping_add(bounds.page_size);
        if next != end {
            set(start, end.wrapping_sub(start));
            start = next;
        }
    }
    set(start, d.wrapping_add(bounds.page_size).wrapping_sub(start));
    true
}

/// Joins pages to runs, from block number `index` on, and sets each run that has ended, up to the
/// first block of lone pages. Returns the number of that block, and the run that has not ended.
/// Block number `index` is joined in any case: the device may have changed it since [`set_lone()`]
/// read it, and the loop in [`set_pages()`] must come to an end.
#[inline(never)]
fn set_runs(
    pages: &impl Addresses,
    mut index: usize,
    bounds: &Bounds,
    span: Span,
    set: &mut impl FnMut(u64, u64),
) -> (usize, Run) {
    let size = bounds.page_size;
    let mut run = Run::before(0);
    let from = index;
    while let Some([a, b, c, d]) = pages.block(index) {
        let follow = a == run.end
            && b == a.wrapping_add(size)
            && c == b.wrapping_add(size)
            && d == c.wrapping_add(size);
        if follow {
            run.end = d.wrapping_add(size);
        } else if index != from && a != run.end && bounds.have_lone(a, b, c, d) {
            run.set(span, set);
            return (index, Run::before(0));
        } else {
            for page in [a, b, c, d] {
                if page != run.end {
                    run.set(span, set);
                    run = Run::before(page);
                }
                run.end = run.end.wrapping_add(size);
            }
        }
        index += 1;
    }
    (index, run)
}

#[cfg(any(test, CONFIG_VFIO_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_VFIO_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(vfio_rust_dirty_pages)
)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PAGE: u64 = 4096;

    /// All addresses but the last: the longest range that a report can have.
    pub(crate) const ALL: Span = Span {
        start: 0,
        last: u64::MAX - 1,
    };

    pub(crate) struct List<'a>(pub(crate) &'a [u64]);

    impl Addresses for List<'_> {
        fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
            self.0.chunks_exact(BLOCK).nth(index)?.try_into().ok()
        }

        fn get(&self, index: usize) -> Option<u64> {
            self.0.get(index).copied()
        }
    }

    /// Returns whether `set_pages()` makes exactly these calls for the addresses.
    fn are_calls(addresses: &[u64], page_size: u64, span: Span, calls: &[(u64, u64)]) -> bool {
        let mut expected = calls.iter();
        let mut same = true;
        set_pages(&List(addresses), page_size, span, |start, len| {
            same &= expected.next() == Some(&(start, len));
        });
        same && expected.next().is_none()
    }

    /// Returns whether `set_pages()` makes exactly these calls for the pages. All arguments are in
    /// pages.
    fn are_page_calls<const N: usize>(pages: [u64; N], calls: &[(u64, u64)]) -> bool {
        let mut expected = calls.iter();
        let mut same = true;
        set_pages(
            &List(&pages.map(|page| page * PAGE)),
            PAGE,
            ALL,
            |start, len| {
                same &= expected.next() == Some(&(start / PAGE, len / PAGE));
            },
        );
        same && expected.next().is_none()
    }

    #[test]
    fn pages_that_follow_each_other_are_set_together() {
        let all: [u64; 100] = core::array::from_fn(|i| 7 + i as u64);
        assert!(are_page_calls(all, &[(7, 100)]));
        assert!(are_page_calls([3, 4, 5, 9], &[(3, 3), (9, 1)]));
        assert!(are_page_calls([3, 4, 9], &[(3, 2), (9, 1)]));
        // Not joined across the border of two blocks that have lone pages.
        assert!(are_page_calls(
            [1, 2, 3, 5, 6, 8, 9, 12],
            &[(1, 3), (5, 1), (6, 1), (8, 2), (12, 1)]
        ));
    }

    #[test]
    fn lone_pages_are_set_one_by_one() {
        let lone: [u64; 50] = core::array::from_fn(|i| 3 * i as u64);
        assert!(are_page_calls(lone, &lone.map(|page| (page, 1))));
        let back: [u64; 50] = core::array::from_fn(|i| lone[lone.len() - 1 - i]);
        assert!(are_page_calls(back, &back.map(|page| (page, 1))));
    }

    #[test]
    fn a_run_goes_on_behind_lone_pages() {
        assert!(are_page_calls(
            [1, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 20, 22, 24, 26],
            &[
                (1, 1),
                (3, 1),
                (5, 1),
                (7, 1),
                (9, 8),
                (20, 1),
                (22, 1),
                (24, 1),
                (26, 1)
            ]
        ));
        // The block after the run begins with a page of the run; its other pages are lone.
        assert!(are_page_calls(
            [1, 2, 3, 4, 5, 7, 9, 11],
            &[(1, 5), (7, 1), (9, 1), (11, 1)]
        ));
    }

    #[test]
    fn what_is_outside_of_the_span_is_left_out() {
        let span = Span {
            start: 2 * PAGE + 16,
            last: 5 * PAGE + 15,
        };
        let pages: [u64; 9] = core::array::from_fn(|i| i as u64 * PAGE);
        assert!(are_calls(&pages, PAGE, span, &[(span.start, 3 * PAGE)]));
        let lone: [u64; 8] = core::array::from_fn(|i| 2 * i as u64 * PAGE);
        let parts = [(span.start, PAGE - 16), (4 * PAGE, PAGE)];
        assert!(are_calls(&lone, PAGE, span, &parts));
        assert!(are_calls(&[0], 1 << 30, span, &[(span.start, 3 * PAGE)]));
    }

    #[test]
    fn pages_at_both_ends_of_the_address_space_are_no_run() {
        let top = u64::MAX - PAGE + 1;
        let around = [top - PAGE, top, 0, PAGE];
        let runs = [(top - PAGE, 2 * PAGE - 1), (0, 2 * PAGE)];
        assert!(are_calls(&around, PAGE, ALL, &runs));
        assert!(are_calls(&[top], PAGE, ALL, &[(top, PAGE - 1)]));
    }

    #[test]
    fn addresses_that_no_page_has_do_no_harm() {
        let is_harmless = |addresses: &[u64], page_size: u64| {
            let mut harmless = true;
            set_pages(&List(addresses), page_size, ALL, |start, len| {
                let last = len.checked_sub(1).and_then(|more| start.checked_add(more));
                harmless &= last.is_some_and(|last| last <= ALL.last);
            });
            harmless
        };
        let top = u64::MAX - PAGE / 2;
        for block in [
            [top, 0, 2 * PAGE, 4 * PAGE],
            [0, top, 0, 2 * PAGE],
            [1, 2, 3, top],
        ] {
            assert!(is_harmless(&block, PAGE));
        }
        for page_size in [0, 1, 1 << 63, u64::MAX] {
            assert!(is_harmless(&[0, 1 << 20, 1 << 40, 1 << 62], page_size));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! From the pages that a device reports as dirty to what is set in a bitmap.
//!
//! A call that sets bits costs about a hundred instructions, whatever it sets. So pages that
//! follow each other are set together, and little else is done for those that do not.
//!
//! No kernel types: the file is also compiled and tested on the host.

/// Pages of a block. As many addresses fit into registers that a call leaves alone.
pub(crate) const BLOCK: usize = 4;

/// Addresses of pages, in the order of the device.
pub(crate) trait Addresses {
    /// Takes a block. `None` if less than that is left.
    fn next_block(&mut self) -> Option<[u64; BLOCK]>;

    /// Takes one.
    fn next(&mut self) -> Option<u64>;
}

/// Memory that a report is about.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// First address.
    pub(crate) start: u64,
    /// Last address.
    pub(crate) last: u64,
}

impl Span {
    /// Returns start and length of what of `len` bytes from `start` on is in the span, or
    /// `None` if nothing is.
    pub(crate) fn part(self, start: u64, len: u64) -> Option<(u64, u64)> {
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
    /// Where a page would be that follows: before `start` if the run goes around the
    /// address space.
    end: u64,
}

impl Run {
    /// Returns a run of no pages, which a page at `start` follows.
    fn before(start: u64) -> Self {
        Self { start, end: start }
    }

    /// Sets what of it is in the span.
    #[inline(always)]
    fn set(self, span: Span, set: &mut impl FnMut(u64, u64)) {
        let Self { start, end } = self;
        if span.start <= start && start < end && end - 1 <= span.last {
            set(start, end - start);
        } else {
            self.set_part(span, set);
        }
    }

    /// As [`Self::set`], of any run.
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

/// What blocks must be like that are set page by page, without a look at each page.
#[derive(Clone, Copy)]
struct Lone {
    page_size: u64,
    /// The first page may be here, at least.
    first: u64,
    /// The last page may be here, at most.
    last: u64,
}

impl Lone {
    /// The highest bit of an address: a page without it does not go around the address
    /// space.
    const TOP: u64 = 1 << 63;

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

    /// Returns whether all pages are in the span, ascend, and do not follow each other.
    #[inline(always)]
    fn are(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        let size = self.page_size;
        self.are_in_span(a, b, c, d)
            && a.wrapping_add(size) < b
            && b.wrapping_add(size) < c
            && c.wrapping_add(size) < d
    }

    /// Returns whether all pages are in the span, and ascend. Some may follow each other, but
    /// not all.
    #[inline(always)]
    fn are_some(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        let size = self.page_size;
        self.are_in_span(a, b, c, d)
            && a.wrapping_add(size) <= b
            && b.wrapping_add(size) <= c
            && c.wrapping_add(size) <= d
            && a.wrapping_add(size.wrapping_mul(3)) != d
    }

    /// Returns whether pages that ascend are in the span.
    #[inline(always)]
    fn are_in_span(&self, a: u64, b: u64, c: u64, d: u64) -> bool {
        self.first <= a && d <= self.last && (a | b | c) & Self::TOP == 0
    }
}

/// Sets `pages`, each of `page_size` bytes, as far as they are in the span. `set` is called
/// with start and length of parts of the span only, none of them empty.
#[inline]
pub(crate) fn set_pages(
    mut pages: impl Addresses,
    page_size: u64,
    span: Span,
    mut set: impl FnMut(u64, u64),
) {
    let lone = Lone::new(page_size, span);
    let mut run = Run::before(0);
    while let Some(block) = set_lone(&mut pages, &lone, &mut set) {
        run = set_runs(&mut pages, block, &lone, span, &mut set);
    }
    while let Some(page) = pages.next() {
        if page != run.end {
            run.set(span, &mut set);
            run = Run::before(page);
        }
        run.end = run.end.wrapping_add(page_size);
    }
    run.set(span, &mut set);
}

/// Sets blocks of which some pages at least are lone. Returns the first block that is none.
///
/// Not inlined: reports of little dirty memory spend their time here, and all registers are
/// needed.
#[inline(never)]
fn set_lone<A: Addresses>(
    pages: &mut A,
    lone: &Lone,
    set: &mut impl FnMut(u64, u64),
) -> Option<[u64; BLOCK]> {
    let size = lone.page_size;
    while let Some([a, b, c, d]) = pages.next_block() {
        if lone.are(a, b, c, d) {
            set(a, size);
            set(b, size);
            set(c, size);
            set(d, size);
        } else if !set_some_lone(a, b, c, d, lone, set) {
            return Some([a, b, c, d]);
        }
    }
    None
}

/// Sets a block, if some of its pages are lone. Returns whether that is so.
#[inline(never)]
fn set_some_lone(
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    lone: &Lone,
    set: &mut impl FnMut(u64, u64),
) -> bool {
    if !lone.are_some(a, b, c, d) {
        return false;
    }
    let mut run = Run::before(a);
    for page in [a, b, c, d] {
        if page != run.end {
            set(run.start, run.end - run.start);
            run = Run::before(page);
        }
        run.end += lone.page_size;
    }
    set(run.start, run.end - run.start);
    true
}

/// Joins the pages of `block`, and of those behind it, to runs, and sets runs that end, until
/// there is a block of lone pages, which is set as well. Returns the run that has not ended.
#[inline(never)]
fn set_runs<A: Addresses>(
    pages: &mut A,
    mut block: [u64; BLOCK],
    lone: &Lone,
    span: Span,
    set: &mut impl FnMut(u64, u64),
) -> Run {
    let size = lone.page_size;
    let mut run = Run::before(block[0]);
    loop {
        let [a, b, c, d] = block;
        let all_follow = a == run.end
            && b == a.wrapping_add(size)
            && c == b.wrapping_add(size)
            && d == c.wrapping_add(size);
        if all_follow {
            run.end = d.wrapping_add(size);
        } else if a != run.end && lone.are(a, b, c, d) {
            run.set(span, set);
            for page in block {
                set(page, size);
            }
            return Run::before(0);
        } else {
            for page in block {
                if page != run.end {
                    run.set(span, set);
                    run = Run::before(page);
                }
                run.end = run.end.wrapping_add(size);
            }
        }
        match pages.next_block() {
            Some(next) => block = next,
            None => return run,
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Dirty memory that the page tracker has reported, and that user space has not asked about.
//!
//! The tracker counts in pages of its own, and forgets a page once it has reported it. If user
//! space asks about a part of such a page, the rest of the page is kept here until user space asks
//! about the rest: a log is cleared "for the IOVA range" that was asked about
//! (include/uapi/linux/vfio.h), and for no other.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Largest number of pieces that are kept. A report about whole pages leaves none, and a report
/// about any other range leaves two at most.
const ROOM: usize = 16;

/// Memory, by its first and its last address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// First address.
    pub(crate) first: u64,
    /// Last address.
    pub(crate) last: u64,
}

impl Piece {
    /// Returns the memory of `len` bytes from `start` on, or `None` if `len` is 0.
    fn of(start: u64, len: u64) -> Option<Self> {
        Some(Self {
            first: start,
            last: start.saturating_add(len.checked_sub(1)?),
        })
    }

    /// Returns the overlap of the two pieces.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        };
        (both.first <= both.last).then_some(both)
    }

    /// Returns the part of this piece that is before `other`.
    fn before(self, other: Self) -> Option<Self> {
        let last = self.last.min(other.first.checked_sub(1)?);
        (self.first <= last).then_some(Self { last, ..self })
    }

    /// Returns the part of this piece that is behind `other`.
    fn behind(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.last.checked_add(1)?);
        (first <= self.last).then_some(Self { first, ..self })
    }

    /// Returns the smallest piece that covers both.
    fn around(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// Returns the length in bytes.
    pub(crate) fn len(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Dirty memory that was not asked about. If there are too many pieces, some are joined
/// with the memory between them: clean memory may be taken for dirty, never the other way.
pub(crate) struct Remainder {
    pieces: [Option<Piece>; ROOM],
    /// Whether there was ever a piece.
    used: bool,
}

impl Remainder {
    /// Returns an empty remainder.
    pub(crate) const fn new() -> Self {
        Self {
            pieces: [None; ROOM],
            used: false,
        }
    }

    fn add(&mut self, mut piece: Piece) {
        self.used = true;
        // Join pieces that overlap: a page may be reported again and again.
        for slot in &mut self.pieces {
            if let Some(known) = slot.filter(|known| known.and(piece).is_some()) {
                piece = piece.around(known);
                *slot = None;
            }
        }
        match self.pieces.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(piece),
            None => {
                let nearest = self.pieces.iter_mut().flatten();
                let grown = |known: &Piece| known.around(piece).len() - known.len();
                if let Some(known) = nearest.min_by_key(|known| grown(known)) {
                    *known = known.around(piece);
                }
            }
        }
    }

    /// Returns whether a report about `asked` may get more than `asked` from a tracker with pages
    /// of `page_size` bytes, a power of two.
    pub(crate) fn is_part(asked: Piece, page_size: u64) -> bool {
        Self::whole_pages(asked, page_size) != asked
    }

    /// Returns the pages that `asked` covers, wholly or in part.
    fn whole_pages(asked: Piece, page_size: u64) -> Piece {
        let in_page = page_size.saturating_sub(1);
        Piece {
            first: asked.first & !in_page,
            last: asked.last | in_page,
        }
    }

    /// Keeps the parts of a page that are outside of `asked`, if `asked` covers a part of the page.
    /// A report about `asked` has got the page, which is at `start`, from a tracker with pages of
    /// `page_size` bytes, a power of two.
    pub(crate) fn keep(&mut self, start: u64, asked: Piece, page_size: u64) {
        let pages = Self::whole_pages(asked, page_size);
        let page = Piece::of(start, page_size).and_then(|page| page.and(pages));
        if let Some(page) = page {
            for beyond in [page.before(asked), page.behind(asked)]
                .into_iter()
                .flatten()
            {
                self.add(beyond);
            }
        }
    }

    /// Returns whether there was ever a piece. Most reports are about whole pages, and leave none.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Returns the pieces that are in `asked`.
    pub(crate) fn find(&self, asked: Piece) -> impl Iterator<Item = Piece> {
        let found = self.pieces.into_iter().flatten();
        found.filter_map(move |piece| piece.and(asked))
    }

    /// Removes the pieces in `asked`, after a report about `asked` was successful.
    pub(crate) fn forget(&mut self, asked: Piece) {
        if !self.used {
            return;
        }
        for at in 0..ROOM {
            let Some(piece) = self.pieces[at].filter(|piece| piece.and(asked).is_some()) else {
                continue;
            };
            self.pieces[at] = None;
            for left in [piece.before(asked), piece.behind(asked)]
                .into_iter()
                .flatten()
            {
                self.add(left);
            }
        }
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_remainder)
)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PAGE: u64 = 16;

    pub(crate) fn piece(first: u64, last: u64) -> Piece {
        Piece { first, last }
    }

    /// Returns whether exactly `pieces` are in `asked`, and removes them.
    fn takes<const N: usize>(remainder: &mut Remainder, asked: Piece, pieces: [Piece; N]) -> bool {
        let found = remainder.find(asked).eq(pieces);
        remainder.forget(asked);
        found
    }

    #[test]
    fn the_rest_of_a_page_is_kept_until_it_is_asked_for() {
        let mut remainder = Remainder::new();
        remainder.keep(2 * PAGE, piece(36, 39), PAGE);
        assert!(takes(&mut remainder, piece(36, 39), []));
        assert!(takes(&mut remainder, piece(0, 33), [piece(32, 33)]));
        assert!(takes(&mut remainder, piece(40, 40), [piece(40, 40)]));
        let rest = [piece(34, 35), piece(41, 47)];
        assert!(takes(&mut remainder, piece(0, u64::MAX), rest));
        assert!(takes(&mut remainder, piece(0, u64::MAX), []));
    }

    #[test]
    fn a_report_that_fails_takes_nothing() {
        let mut remainder = Remainder::new();
        remainder.keep(0, piece(0, 3), PAGE);
        assert!(remainder.find(piece(0, 7)).eq([piece(4, 7)]));
        assert!(takes(&mut remainder, piece(0, u64::MAX), [piece(4, 15)]));
    }

    #[test]
    fn whole_pages_leave_nothing() {
        let mut remainder = Remainder::new();
        assert!(!Remainder::is_part(piece(2 * PAGE, 4 * PAGE - 1), PAGE));
        assert!(Remainder::is_part(piece(2 * PAGE, 4 * PAGE - 2), PAGE));
        assert!(Remainder::is_part(piece(2 * PAGE + 1, 4 * PAGE - 1), PAGE));
        // A page that is not in `asked` belongs to an earlier report.
        for page in 0..100 {
            remainder.keep(page * PAGE, piece(2 * PAGE, 4 * PAGE - 1), PAGE);
        }
        assert!(!remainder.is_used());
        remainder.keep(0, piece(0, 3), PAGE);
        assert!(remainder.is_used());
    }

    #[test]
    fn the_last_page_of_all() {
        let mut remainder = Remainder::new();
        remainder.keep(u64::MAX / PAGE * PAGE, piece(0, u64::MAX - 4), PAGE);
        let last = [piece(u64::MAX - 3, u64::MAX)];
        assert!(takes(&mut remainder, piece(0, u64::MAX), last));
    }

    #[test]
    fn too_many_pieces_become_one_with_what_is_between_them() {
        let mut remainder = Remainder::new();
        for page in 0..=ROOM as u64 {
            let first = page * 4 * PAGE;
            remainder.keep(first, piece(first, first + 3), PAGE);
        }
        assert_eq!(remainder.find(piece(0, u64::MAX)).count(), ROOM);
        for page in 0..=ROOM as u64 {
            let rest = piece(page * 4 * PAGE + 4, page * 4 * PAGE + 15);
            assert!(remainder.find(rest).eq([rest]));
        }
    }
}

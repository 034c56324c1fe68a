// SPDX-License-Identifier: GPL-2.0

//! [`dirty_pages`](crate::dirty_pages) and [`remainder`](crate::remainder): a device reports
//! any addresses, and user space asks about any range.

use super::{
    Input,
    Seed, //
};
use crate::{
    dirty_pages::{
        set_pages,
        Addresses,
        Span,
        BLOCK, //
    },
    remainder::{
        Piece,
        Remainder, //
    },
};
use std::cell::Cell;

/// Most addresses of a message.
const MOST: usize = 64;
/// Largest page, as a shift.
const LOG_MAX_PAGE: u8 = 40;

/// The addresses of a message.
struct Message<'a> {
    addresses: &'a [u64],
    /// Whether the device goes on writing to the message, so that a second read differs.
    changes: bool,
    reads: Cell<usize>,
}

impl Message<'_> {
    fn read(&self, index: usize) -> u64 {
        let reads = self.reads.replace(self.reads.get() + 1);
        assert!(reads <= 16 * (self.addresses.len() + BLOCK), "no end");
        let shift = if self.changes { reads / 3 } else { 0 };
        self.addresses[(index + shift) % self.addresses.len()]
    }
}

impl Addresses for Message<'_> {
    fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
        let first = index * BLOCK;
        (first + BLOCK <= self.addresses.len())
            .then(|| std::array::from_fn(|i| self.read(first + i)))
    }

    fn get(&self, index: usize) -> Option<u64> {
        (index < self.addresses.len()).then(|| self.read(index))
    }
}

/// Joins ranges that overlap or follow each other.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Sets the pages of a message. They must be those of the message that are in the span.
fn set(input: &mut Input<'_>) {
    let page_size = 1 << (input.byte() % (LOG_MAX_PAGE + 1));
    let options = input.byte();
    let (start, last) = (input.u64(), input.u64());
    let span = Span {
        start: start.min(last),
        last: start.max(last),
    };
    // As many bytes as there are addresses in the whole address space do not fit into a u64.
    if (span.start, span.last) == (0, u64::MAX) {
        return;
    }
    let mut addresses = Vec::new();
    let mut address = span.start;
    while addresses.len() < MOST && !input.is_empty() {
        // A page near the one before it, or any address.
        address = match input.byte() {
            0xff => input.u64(),
            step if options & 2 > 0 => address.wrapping_sub(page_size * u64::from(step)),
            step => address.wrapping_add(page_size * u64::from(step)),
        };
        addresses.push(address);
    }
    let changes = options & 1 > 0;
    let message = Message {
        addresses: &addresses,
        changes,
        reads: Cell::new(0),
    };
    let mut set = Vec::new();
    set_pages(&message, page_size, span, |start, len| {
        assert!(len > 0, "nothing is set");
        let last = start.checked_add(len - 1).expect("around the end");
        assert!(start >= span.start && last <= span.last, "beyond the span");
        set.push((start, last));
    });
    // A run that goes around the end is two parts.
    assert!(set.len() <= 2 * addresses.len(), "too many calls");
    if changes {
        return;
    }
    let mut expected = Vec::new();
    for first in addresses {
        let parts = match first.checked_add(page_size - 1) {
            Some(last) => [(first, last), (first, last)],
            None => [(first, u64::MAX), (0, first.wrapping_add(page_size - 1))],
        };
        for (first, last) in parts {
            let (first, last) = (first.max(span.start), last.min(span.last));
            if first <= last {
                expected.push((first, last));
            }
        }
    }
    assert_eq!(joined(set), joined(expected));
}

/// Most pieces that a remainder keeps apart.
const PIECES: usize = 16;

/// Returns whether a remainder has room for another piece. If so, it does not join pieces.
pub(super) fn has_room(remainder: &Remainder) -> bool {
    let all = Piece {
        first: 0,
        last: u64::MAX,
    };
    let pieces = remainder.find(all).count();
    assert!(pieces <= PIECES);
    pieces < PIECES
}

/// Bytes of a page of the tracker.
const PAGE: u64 = 16;
/// Addresses that the VF writes to.
const SPACE: usize = 1024;

/// Writes and reports: nothing that was written may be missed.
fn remain(input: &mut Input<'_>) {
    // The first addresses, or the last ones.
    let base = match input.byte() & 1 {
        0 => 0,
        _ => u64::MAX - (SPACE as u64 - 1),
    };
    let mut remainder = Remainder::new();
    let mut tracked = [false; SPACE / PAGE as usize];
    let mut dirty = [false; SPACE];
    while !input.is_empty() {
        let kind = input.byte();
        let first = usize::from(input.u16()) % SPACE;
        if kind & 1 == 0 {
            tracked[first / PAGE as usize] = true;
            dirty[first] = true;
            continue;
        }
        let last = (first + usize::from(input.byte())).min(SPACE - 1);
        let asked = Piece {
            first: base + first as u64,
            last: base + last as u64,
        };
        let mut reported = [false; SPACE];
        for piece in remainder.find(asked) {
            assert!(piece.first <= piece.last);
            assert!(asked.first <= piece.first && piece.last <= asked.last);
            let len = piece.len() as usize;
            reported[(piece.first - base) as usize..][..len].fill(true);
        }
        let kept = reported;
        let pages = first / PAGE as usize..=last / PAGE as usize;
        for page in pages.filter(|page| std::mem::take(&mut tracked[*page])) {
            let at = page * PAGE as usize;
            reported[at..at + PAGE as usize].fill(true);
            if Remainder::is_part(asked, PAGE) {
                remainder.keep(base + at as u64, asked, PAGE);
            }
        }
        // A report that fails is not told to user space, and may be asked for again.
        let fails = kind & 2 > 0;
        for address in first..=last {
            assert!(!dirty[address] || reported[address], "missed: {address}");
            dirty[address] &= fails && kept[address];
        }
        if !fails {
            let room = has_room(&remainder);
            remainder.forget(asked);
            assert!(
                !room || remainder.find(asked).next().is_none(),
                "reported again"
            );
        }
    }
}

/// Runs one input: a byte that says which of two tests is run, and the input of that test.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() & 1 {
        0 => set(&mut input),
        _ => remain(&mut input),
    }
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let set = |options: u8, (start, last): (u64, u64), steps: &[u8]| {
        let span = [start.to_le_bytes(), last.to_le_bytes()].concat();
        [&[0, 12, options], &span[..], steps].concat()
    };
    let space = (1 << 20, (1 << 30) - 1);
    let remain = |at_end: u8, steps: &[[u8; 4]]| {
        let mut bytes = vec![1, at_end];
        for [kind, low, high, len] in steps {
            bytes.extend([*kind, *low, *high]);
            // Only a report has a length.
            if kind & 1 == 1 {
                bytes.push(*len);
            }
        }
        bytes
    };
    let steps = [[0, 20, 0, 0], [1, 18, 0, 4], [3, 0, 0, 17], [1, 0, 0, 255]];
    vec![
        ("a run", set(0, space, &[1; 40])),
        ("lone pages", set(0, space, &[2; 40])),
        ("pages that descend", set(2, space, &[0, 1, 2, 1, 2])),
        (
            "pages that follow lone ones",
            set(0, space, &[2, 2, 2, 2, 1, 1, 1, 1, 3]),
        ),
        (
            "a message that changes",
            set(1, space, &[1, 2, 1, 1, 2, 1, 1, 1, 2]),
        ),
        ("part of a page", set(0, (100, 200), &[0, 1])),
        (
            "around the end",
            set(
                0,
                (1, u64::MAX),
                &[0xff, 0, 0xf8, 255, 255, 255, 255, 255, 255],
            ),
        ),
        ("parts of pages", remain(0, &steps)),
        ("parts of pages at the end", remain(1, &steps)),
        (
            "many pieces",
            remain(
                0,
                &(0..80)
                    .map(|i| [i & 1, i * 3, i / 27, 1])
                    .collect::<Vec<_>>(),
            ),
        ),
    ]
}

// SPDX-License-Identifier: GPL-2.0

//! What a VF remembers, and what of it has changed.

use mlx5_emu_regs::{
    PAGE,
    SCRATCH_COUNT, //
};
use std::{
    borrow::Cow,
    collections::{
        BTreeMap,
        BTreeSet, //
    },
};

/// Bytes of a page of the table.
pub const PAGE_LEN: usize = PAGE as usize;

/// A page of the table.
pub type Page = Box<[u8; PAGE_LEN]>;

/// A command between its first argument and the use of its result. A VF can be
/// stopped there as anywhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Command {
    /// For the next command.
    pub args: [u64; 4],
    /// Of the last one.
    pub status: u32,
    /// Of the last one that computed it.
    pub digest: u64,
}

/// The state of a VF: all that migrates.
#[derive(Clone, Debug)]
pub struct VfState {
    /// Number of commands that changed something.
    pub seq: u64,
    /// Interrupts raised.
    pub irqs: u64,
    /// Bytes written.
    pub dma_bytes: u64,
    /// Registers for anything.
    pub scratch: [u64; SCRATCH_COUNT],
    /// Not in [`Self::digest`], which is a command itself.
    pub command: Command,
    pages: u64,
    /// Pages that are not as at power-on. A table of 1 GiB costs nothing until
    /// it is used.
    changed: BTreeMap<u64, Page>,
    /// Pages changed since the last image, while that is tracked.
    dirty: Option<BTreeSet<u64>>,
    /// Of each page, where it is known. A guest that asks all the time for the
    /// digest of a large table would stop its machine otherwise.
    digests: Vec<Option<u64>>,
}

/// 64-bit words of page `index` of the table written by command `seq`; the
/// content at power-on is that of command 0.
fn fill(index: u64, seq: u64) -> Page {
    let mut page = Box::new([0; PAGE_LEN]);
    for (i, word) in page.chunks_exact_mut(8).enumerate() {
        let word_index = index * (PAGE / 8) + i as u64;
        word.copy_from_slice(&mlx5_emu_regs::pattern(seq, word_index).to_le_bytes());
    }
    page
}

/// A running 64-bit digest of words.
#[derive(Clone, Copy)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes one word in.
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    /// Takes bytes in, in words.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// The digest of all that was taken in.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl VfState {
    /// The state at power-on, with a table of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            seq: 0,
            irqs: 0,
            dma_bytes: 0,
            scratch: [0; SCRATCH_COUNT],
            command: Command::default(),
            pages: size.div_ceil(PAGE),
            changed: BTreeMap::new(),
            dirty: None,
            digests: Vec::new(),
        }
    }

    /// Number of pages of the table.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Bytes of the table.
    pub fn size(&self) -> u64 {
        self.pages * PAGE
    }

    /// The content of a page.
    pub fn page(&self, index: u64) -> Cow<'_, [u8; PAGE_LEN]> {
        match self.changed.get(&index) {
            Some(page) => Cow::Borrowed(page),
            None => Cow::Owned(*fill(index, 0)),
        }
    }

    /// Replaces a page. `index` must be in the table.
    pub fn set_page(&mut self, index: u64, page: Page) {
        debug_assert!(index < self.pages);
        self.changed.insert(index, page);
        if let Some(digest) = self.digests.get_mut(index as usize) {
            *digest = None;
        }
        if let Some(dirty) = &mut self.dirty {
            dirty.insert(index);
        }
    }

    /// Rewrites `count` pages from `first` on, around the end of the table, as
    /// the command with the current sequence number.
    pub fn rewrite(&mut self, first: u64, count: u64) {
        for index in self.around(first, count) {
            self.set_page(index, fill(index, self.seq));
        }
    }

    /// `count` pages from `first` on, around the end of the table.
    pub fn around(&self, first: u64, count: u64) -> impl Iterator<Item = u64> + use<> {
        let pages = self.pages;
        (0..count).map(move |i| (first % pages + i) % pages)
    }

    /// Begins to track changes, from none; or stops.
    pub fn track(&mut self, on: bool) {
        self.dirty = on.then(BTreeSet::new);
    }

    /// Tracks as if every page had changed.
    pub fn track_all(&mut self) {
        self.dirty = Some((0..self.pages).collect());
    }

    /// Takes up to `count` of the changed pages out.
    pub fn take_dirty(&mut self, count: u64) -> Vec<u64> {
        let mut pages = Vec::new();
        let dirty = self.dirty.as_mut();
        if let Some(dirty) = dirty {
            while (pages.len() as u64) < count {
                let Some(page) = dirty.pop_first() else {
                    break;
                };
                pages.push(page);
            }
        }
        pages
    }

    /// The pages changed since tracking began; `None` where it has not.
    pub fn dirty(&self) -> Option<&BTreeSet<u64>> {
        self.dirty.as_ref()
    }

    /// A digest of all that migrates and that commands act on.
    pub fn digest(&mut self) -> u64 {
        let mut digest = Digest::default();
        digest.word(self.seq);
        digest.word(self.irqs);
        digest.word(self.dma_bytes);
        for word in self.scratch {
            digest.word(word);
        }
        let mut digests = std::mem::take(&mut self.digests);
        digests.resize(self.pages as usize, None);
        for (index, known) in (0..).zip(&mut digests) {
            digest.word(*known.get_or_insert_with(|| {
                let mut digest = Digest::default();
                digest.bytes(&self.page(index)[..]);
                digest.value()
            }));
        }
        self.digests = digests;
        digest.value()
    }
}

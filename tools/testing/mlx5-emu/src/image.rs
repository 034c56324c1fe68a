// SPDX-License-Identifier: GPL-2.0

//! The image that SAVE_VHCA_STATE writes and LOAD_VHCA_STATE reads.
//!
//! Opaque to drivers. An image comes from user space, so nothing in it is
//! believed: it is taken whole, or refused without a trace.
//!
//! It begins with words of 64 bits, little endian, which [`Word`] names. Then come pages of
//! the state table: all of them, or some, each after its index. Then come parts of records
//! ([`Part`]), each after a header: its kind (2 bytes), whether the record is gone (2), bytes
//! (4), its number (4), where in the record they are (4), bytes of the record (4), and 4 that
//! are 0. What does not fit comes in the next image ([`Word::More`]).

use crate::{
    records::{
        Key,
        Kind,
        Part, //
    },
    state::{
        Command,
        Digest,
        Page,
        VfState,
        PAGE_LEN, //
    },
};
use mlx5_emu_regs::{
    PAGE,
    SCRATCH_COUNT, //
};

const MAGIC: u64 = u64::from_le_bytes(*b"ML5EMUIM");
/// Of the layout. 2 had no records, 3 no WQEs that are sent in part, and 4 no flow counters.
const VERSION: u64 = 5;

/// Where what is in the header, in words.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Word {
    Magic,
    Version,
    /// [`FULL`], [`INCREMENTAL`] or [`FIRST`].
    Kind,
    /// Bytes of the state table.
    StateSize,
    Seq,
    Irqs,
    DmaBytes,
    /// Over everything else.
    Digest,
    /// Of the capabilities that the driver was told, and of what its objects can have.
    Capabilities,
    /// How many pages come first.
    Pages,
    /// 1 if more images are needed for what is in this one to be whole.
    More,
    Scratch,
}

/// Words of a [`Command`].
const COMMAND_WORDS: usize = 6;
const COMMAND_WORD: usize = Word::Scratch as usize + SCRATCH_COUNT;
const WORDS: usize = COMMAND_WORD + COMMAND_WORDS;

/// Bytes before the pages.
pub const HEADER_LEN: usize = WORDS * 8;
/// Has all pages, without their indices.
const FULL: u64 = 0;
/// Has what has changed.
const INCREMENTAL: u64 = 1;
/// The first of several that have all between them: [`INCREMENTAL`] images follow.
const FIRST: u64 = 2;

/// Bytes of an image of the whole table, without records.
pub fn full_len(state: &VfState) -> u64 {
    HEADER_LEN as u64 + state.size()
}

/// Bytes of an image of `pages` pages, without records.
pub fn partial_len(pages: u64) -> u64 {
    HEADER_LEN as u64 + pages * (8 + PAGE)
}

/// How many pages fit into an image of `room` bytes.
pub fn pages_in(room: u64) -> u64 {
    room.saturating_sub(HEADER_LEN as u64) / (8 + PAGE)
}

/// Why an image is refused; the number is the syndrome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Refused {
    /// Shorter than its header, or of another length than that says.
    Length = 0x10001,
    /// Not an image.
    Magic = 0x10002,
    /// Of another version.
    Version = 0x10003,
    /// Of a VF with another table.
    StateSize = 0x10004,
    /// Damaged.
    Digest = 0x10005,
    /// Has a page that the table has not.
    Page = 0x10006,
    /// Of no kind that there is.
    Kind = 0x10007,
    /// Of a VF with other capabilities.
    Capabilities = 0x10008,
    /// Has a record that no VF can come to, or more of them.
    Record = 0x10009,
    /// Something is missing that something else needs.
    Missing = 0x1000a,
}

fn put(out: &mut [u8], word: usize, value: u64) {
    out[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(image: &[u8], word: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&image[word * 8..word * 8 + 8]);
    u64::from_le_bytes(bytes)
}

fn digest(image: &[u8]) -> u64 {
    let at = Word::Digest as usize * 8;
    let mut digest = Digest::default();
    digest.bytes(&image[..at]);
    digest.bytes(&image[at + 8..]);
    digest.value()
}

/// What an image is to have beside the registers, all of which it has.
#[derive(Clone, Debug)]
pub struct Content {
    /// Digest of the capabilities that the driver was told, and of what its objects can have.
    pub capabilities: u64,
    /// The pages that have changed; `None` for all.
    pub pages: Option<Vec<u64>>,
    /// Whether what was sent before it means nothing any more.
    pub begins: bool,
    /// What has changed of records.
    pub parts: Vec<Part>,
    /// Whether there is more, which does not fit.
    pub more: bool,
}

/// Makes an image.
pub fn save(state: &VfState, content: &Content) -> Vec<u8> {
    let (kind, count, len) = match &content.pages {
        None => (FULL, state.pages(), full_len(state)),
        Some(pages) => {
            let count = pages.len() as u64;
            let kind = if content.begins { FIRST } else { INCREMENTAL };
            (kind, count, partial_len(count))
        }
    };
    let parts: usize = content.parts.iter().map(Part::size).sum();
    let mut image = Vec::with_capacity(len as usize + parts);
    image.resize(HEADER_LEN, 0);
    for (word, value) in [
        (Word::Magic, MAGIC),
        (Word::Version, VERSION),
        (Word::Kind, kind),
        (Word::StateSize, state.size()),
        (Word::Seq, state.seq),
        (Word::Irqs, state.irqs),
        (Word::DmaBytes, state.dma_bytes),
        (Word::Capabilities, content.capabilities),
        (Word::Pages, count),
        (Word::More, content.more.into()),
    ] {
        put(&mut image, word as usize, value);
    }
    for (i, scratch) in state.scratch.into_iter().enumerate() {
        put(&mut image, Word::Scratch as usize + i, scratch);
    }
    let Command {
        args: [a, b, c, d],
        status,
        digest: of_table,
    } = state.command;
    let command: [u64; COMMAND_WORDS] = [a, b, c, d, u64::from(status), of_table];
    for (i, value) in command.into_iter().enumerate() {
        put(&mut image, COMMAND_WORD + i, value);
    }
    match &content.pages {
        None => (0..count).for_each(|index| image.extend_from_slice(&state.page(index)[..])),
        Some(pages) => {
            for index in pages {
                image.extend_from_slice(&index.to_le_bytes());
                image.extend_from_slice(&state.page(*index)[..]);
            }
        }
    }
    for part in &content.parts {
        save_part(&mut image, part);
    }
    seal(&mut image);
    image
}

/// Gives an image the digest of what is in it. It must have a header.
pub fn seal(image: &mut [u8]) {
    let value = digest(image);
    put(image, Word::Digest as usize, value);
}

fn save_part(image: &mut Vec<u8>, part: &Part) {
    let (key, gone, offset, total, bytes) = match part {
        Part::Gone(key) => (key, true, 0, 0, &[][..]),
        Part::Piece {
            key,
            offset,
            total,
            bytes,
        } => (key, false, *offset, *total, bytes.as_slice()),
    };
    image.extend((key.kind as u16).to_le_bytes());
    image.extend(u16::from(gone).to_le_bytes());
    for word in [bytes.len() as u32, key.number, offset, total, 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend(bytes);
}

/// Takes the first part out of `bytes`.
fn load_part(bytes: &mut &[u8]) -> Option<Part> {
    let (header, rest) = bytes.split_first_chunk::<{ Part::HEADER }>()?;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from(half(at)) | (u32::from(half(at + 2)) << 16);
    let (data, rest) = rest.split_at_checked(word(4) as usize)?;
    *bytes = rest;
    let key = Key {
        kind: Kind::from_number(half(0))?,
        number: word(8),
    };
    match (half(2), word(20)) {
        (0, 0) if !data.is_empty() => Some(Part::Piece {
            key,
            offset: word(12),
            total: word(16),
            bytes: data.to_vec(),
        }),
        (1, 0) if data.is_empty() => Some(Part::Gone(key)),
        _ => None,
    }
}

/// An image that was checked.
#[derive(Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    pages: Vec<(u64, &'a [u8])>,
    /// What it has of records.
    pub parts: Vec<Part>,
    /// Whether what was loaded before it means nothing any more.
    pub begins: bool,
    /// Whether there are more, without which it is not whole.
    pub more: bool,
}

impl<'a> Image<'a> {
    /// Checks an image for a VF with this table and these capabilities.
    pub fn parse(state: &VfState, capabilities: u64, bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.len() < HEADER_LEN {
            return Err(Refused::Length);
        }
        let word = |word: Word| get(bytes, word as usize);
        if word(Word::Magic) != MAGIC {
            return Err(Refused::Magic);
        }
        if word(Word::Version) != VERSION {
            return Err(Refused::Version);
        }
        if word(Word::StateSize) != state.size() {
            return Err(Refused::StateSize);
        }
        let (is_full, begins) = match word(Word::Kind) {
            FULL => (true, true),
            INCREMENTAL => (false, false),
            FIRST => (false, true),
            _ => return Err(Refused::Kind),
        };
        let entry = if is_full { PAGE_LEN } else { 8 + PAGE_LEN };
        let count = word(Word::Pages);
        let data = &bytes[HEADER_LEN..];
        let table = usize::try_from(count).ok();
        let table = table.and_then(|count| count.checked_mul(entry));
        let split = table.and_then(|table| data.split_at_checked(table));
        let (table, mut records) = split.ok_or(Refused::Length)?;
        if is_full && count != state.pages() {
            return Err(Refused::Length);
        }
        if word(Word::Digest) != digest(bytes) {
            return Err(Refused::Digest);
        }
        if word(Word::Capabilities) != capabilities {
            return Err(Refused::Capabilities);
        }
        let entries = table.chunks_exact(entry);
        let pages: Vec<(u64, &[u8])> = match is_full {
            true => (0..).zip(entries).collect(),
            false => entries.map(|entry| (get(entry, 0), &entry[8..])).collect(),
        };
        if pages.iter().any(|(index, _)| *index >= state.pages()) {
            return Err(Refused::Page);
        }
        let mut parts = Vec::new();
        while !records.is_empty() {
            parts.push(load_part(&mut records).ok_or(Refused::Record)?);
        }
        Ok(Self {
            bytes,
            pages,
            parts,
            begins,
            more: word(Word::More) != 0,
        })
    }

    /// Loads its registers and pages.
    pub fn load(&self, state: &mut VfState) {
        for (index, bytes) in &self.pages {
            let mut page: Page = Box::new([0; PAGE_LEN]);
            page.copy_from_slice(bytes);
            state.set_page(*index, page);
        }
        let word = |word: usize| get(self.bytes, word);
        state.seq = word(Word::Seq as usize);
        state.irqs = word(Word::Irqs as usize);
        state.dma_bytes = word(Word::DmaBytes as usize);
        for (i, scratch) in state.scratch.iter_mut().enumerate() {
            *scratch = word(Word::Scratch as usize + i);
        }
        let of_command = |i| word(COMMAND_WORD + i);
        state.command = Command {
            args: [0, 1, 2, 3].map(of_command),
            status: of_command(4) as u32,
            digest: of_command(5),
        };
    }
}

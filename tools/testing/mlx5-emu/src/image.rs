// SPDX-License-Identifier: GPL-2.0

//! The image that SAVE_VHCA_STATE writes and LOAD_VHCA_STATE reads.
//!
//! Opaque to drivers. An image comes from user space, so nothing in it is
//! believed: it is taken whole, or refused without a trace.

use crate::state::{
    Command,
    Digest,
    Page,
    VfState,
    PAGE_LEN, //
};
use mlx5_emu_regs::{
    PAGE,
    SCRATCH_COUNT, //
};

const MAGIC: u64 = u64::from_le_bytes(*b"ML5EMUIM");
const VERSION: u64 = 2;
const WORDS: usize = 8 + SCRATCH_COUNT + COMMAND_WORDS;
/// Words of a [`Command`].
const COMMAND_WORDS: usize = 6;

/// Bytes before the pages.
pub const HEADER_LEN: usize = WORDS * 8;
const FULL: u64 = 0;
const INCREMENTAL: u64 = 1;

/// Bytes of an image of the whole state.
pub fn full_len(state: &VfState) -> u64 {
    HEADER_LEN as u64 + state.size()
}

/// Bytes of an image of `pages` pages.
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
    /// Neither whole nor incremental.
    Kind = 0x10007,
}

fn put(out: &mut [u8], word: usize, value: u64) {
    out[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(image: &[u8], word: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&image[word * 8..word * 8 + 8]);
    u64::from_le_bytes(bytes)
}

/// Where the digest is, which is over everything else.
const DIGEST_WORD: usize = 7;
const COMMAND_WORD: usize = DIGEST_WORD + 1 + SCRATCH_COUNT;

fn digest(image: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.bytes(&image[..DIGEST_WORD * 8]);
    digest.bytes(&image[(DIGEST_WORD + 1) * 8..]);
    digest.value()
}

/// Makes an image of the whole state.
pub fn save(state: &VfState) -> Vec<u8> {
    let mut image = begin(state, FULL, full_len(state));
    for index in 0..state.pages() {
        image.extend_from_slice(&state.page(index)[..]);
    }
    finish(image)
}

/// Makes an image of some pages of the table, and of all registers.
pub fn save_pages<'a>(
    state: &VfState,
    pages: impl IntoIterator<Item = &'a u64, IntoIter: ExactSizeIterator>,
) -> Vec<u8> {
    let pages = pages.into_iter();
    let mut image = begin(state, INCREMENTAL, partial_len(pages.len() as u64));
    for index in pages {
        image.extend_from_slice(&index.to_le_bytes());
        image.extend_from_slice(&state.page(*index)[..]);
    }
    finish(image)
}

/// The header of an image that will have `len` bytes.
fn begin(state: &VfState, kind: u64, len: u64) -> Vec<u8> {
    let mut image = Vec::with_capacity(len as usize);
    image.resize(HEADER_LEN, 0);
    let header = [
        MAGIC,
        VERSION,
        kind,
        state.size(),
        state.seq,
        state.irqs,
        state.dma_bytes,
    ];
    for (word, value) in header.into_iter().enumerate() {
        put(&mut image, word, value);
    }
    for (i, scratch) in state.scratch.into_iter().enumerate() {
        put(&mut image, DIGEST_WORD + 1 + i, scratch);
    }
    let Command {
        args: [a, b, c, d],
        status,
        digest,
    } = state.command;
    let command: [u64; COMMAND_WORDS] = [a, b, c, d, u64::from(status), digest];
    for (i, value) in command.into_iter().enumerate() {
        put(&mut image, COMMAND_WORD + i, value);
    }
    image
}

fn finish(mut image: Vec<u8>) -> Vec<u8> {
    let value = digest(&image);
    put(&mut image, DIGEST_WORD, value);
    image
}

fn page(bytes: &[u8]) -> Page {
    let mut page = Box::new([0; PAGE_LEN]);
    page.copy_from_slice(bytes);
    page
}

/// Loads an image.
pub fn load(state: &mut VfState, image: &[u8]) -> Result<(), Refused> {
    if image.len() < HEADER_LEN {
        return Err(Refused::Length);
    }
    if get(image, 0) != MAGIC {
        return Err(Refused::Magic);
    }
    if get(image, 1) != VERSION {
        return Err(Refused::Version);
    }
    if get(image, 3) != state.size() {
        return Err(Refused::StateSize);
    }
    let data = &image[HEADER_LEN..];
    let pages: Vec<(u64, &[u8])> = match get(image, 2) {
        FULL if data.len() as u64 == state.size() => {
            (0..).zip(data.chunks_exact(PAGE_LEN)).collect()
        }
        INCREMENTAL if data.len() % (8 + PAGE_LEN) == 0 => data
            .chunks_exact(8 + PAGE_LEN)
            .map(|entry| (get(entry, 0), &entry[8..]))
            .collect(),
        FULL | INCREMENTAL => return Err(Refused::Length),
        _ => return Err(Refused::Kind),
    };
    if get(image, DIGEST_WORD) != digest(image) {
        return Err(Refused::Digest);
    }
    if pages.iter().any(|(index, _)| *index >= state.pages()) {
        return Err(Refused::Page);
    }
    for (index, bytes) in pages {
        state.set_page(index, page(bytes));
    }
    state.seq = get(image, 4);
    state.irqs = get(image, 5);
    state.dma_bytes = get(image, 6);
    for (i, scratch) in state.scratch.iter_mut().enumerate() {
        *scratch = get(image, DIGEST_WORD + 1 + i);
    }
    let word = |i| get(image, COMMAND_WORD + i);
    state.command = Command {
        args: [word(0), word(1), word(2), word(3)],
        status: word(4) as u32,
        digest: word(5),
    };
    Ok(())
}

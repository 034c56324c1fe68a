// SPDX-License-Identifier: GPL-2.0

//! Records of a saved stream that wait to be read.

use super::buffers::Index;
use crate::stream::{
    HEADER_LEN,
    SIZE_LEN, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_rust::kernel::{
    page::runs::Pages,
    uaccess::cursor::UserWriter, //
};

/// Largest number of bytes of a record before its image.
const HEAD: usize = HEADER_LEN + SIZE_LEN;

/// An image that was saved.
pub(super) struct StoredImage {
    pub(super) pages: Arc<Pages>,
    /// The buffer to release once the image was read.
    pub(super) buffer: Index,
    /// The image is one of the chunks that [`Chunks`](super::chunks::Chunks) counts.
    pub(super) chunk: bool,
}

/// A record of the stream that user space has not read to its end.
pub(super) struct Record {
    /// The header of the record, and all data that are no image.
    pub(super) head: [u8; HEAD],
    /// Length of `head`.
    pub(super) head_len: usize,
    pub(super) image: Option<StoredImage>,
    /// Offset of the next byte to read.
    pub(super) at: usize,
    /// Number of bytes from `at` on.
    pub(super) left: usize,
    /// Position in the stream where the record ends.
    pub(super) end: u64,
}

impl Record {
    /// Makes a record that begins with `head` and ends at `end` in the stream.
    pub(super) fn new<const N: usize>(head: [u8; N], end: u64) -> Self {
        const { assert!(N <= HEAD) };
        let mut bytes = [0; HEAD];
        bytes[..N].copy_from_slice(&head);
        Self {
            head: bytes,
            head_len: N,
            image: None,
            at: 0,
            left: N,
            end,
        }
    }

    /// Adds an image of `len` bytes.
    pub(super) fn with_image(self, image: StoredImage, len: usize) -> Self {
        Self {
            image: Some(image),
            left: self.left + len,
            ..self
        }
    }

    /// Returns the number of bytes that can be copied at once.
    pub(super) fn piece(&self) -> usize {
        match self.head_len.checked_sub(self.at) {
            None | Some(0) => self.left,
            Some(head) => head,
        }
    }

    /// Removes the next `n` bytes, and returns the position in the stream after them.
    pub(super) fn consume(&mut self, n: usize) -> u64 {
        self.at += n;
        self.left -= n;
        self.end - self.left as u64
    }

    /// Copies the next `n` bytes, of one piece, to user space. They stay unread.
    pub(super) fn copy(&self, n: usize, out: &mut UserWriter) -> Result {
        match (self.at.checked_sub(self.head_len), &self.image) {
            (Some(offset), Some(image)) => image.pages.read(offset, n, out),
            _ => out.write(&self.head[self.at..self.at + n]),
        }
    }
}

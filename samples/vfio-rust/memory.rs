// SPDX-License-Identifier: GPL-2.0

//! The contents of the memory, as a migration stream: a header (magic, version, 32 reserved bits of
//! zero, size of the copy; little endian) and a copy.

use kernel::{
    prelude::*,
    ThisModule, //
};
use vfio_rust::{
    bar::Bar,
    kernel::{
        page::runs::{
            Fill,
            Pages, //
        },
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    },
    session::Stream,
    this_module, //
};

const MAGIC: u64 = u64::from_le_bytes(*b"ivshmem\0");
const VERSION: u64 = 1;
pub(crate) const HEADER_LEN: usize = 24;

/// Returns the header before `len` bytes: the only one that is accepted.
fn header(len: usize) -> [u8; HEADER_LEN] {
    // The reserved bits are the upper half of the version.
    let words = [MAGIC, VERSION, len as u64].map(u64::to_le_bytes);
    core::array::from_fn(|i| words[i / 8][i % 8])
}

/// A stream, of which `at` bytes have been read or written: at most
/// `HEADER_LEN + len`, where `len` is the length of the BAR.
pub(crate) struct Memory {
    header: [u8; HEADER_LEN],
    contents: Pages,
    len: usize,
    at: usize,
}

impl Memory {
    fn new(contents: Pages, len: usize) -> Self {
        Self {
            header: header(len),
            contents,
            len,
            at: 0,
        }
    }

    /// Makes a stream out of a copy of the memory: user space may read it after
    /// the memory has changed, or the device is gone.
    pub(crate) fn copy_of(bar: &Bar<'_>) -> Result<Self> {
        let contents = Pages::with_len(bar.len(), Fill::Any)?;
        bar.read_into(&contents)?;
        Ok(Self::new(contents, bar.len()))
    }

    /// Makes a stream that is to be written.
    pub(crate) fn empty(bar: &Bar<'_>) -> Self {
        Self::new(Pages::new(), bar.len())
    }

    /// Copies the contents to the memory. Returns `EINVAL` if the stream is not complete.
    pub(crate) fn load(&self, bar: &Bar<'_>) -> Result {
        if self.at != HEADER_LEN + self.len {
            return Err(EINVAL);
        }
        bar.write_from(&self.contents)
    }
}

impl Stream for Memory {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"ivshmem_mig";

    fn read(&mut self, out: &mut UserWriter) -> Result<usize> {
        let room = out.left();
        let rest = &self.header[self.at.min(HEADER_LEN)..];
        out.write(&rest[..rest.len().min(room)])?;
        let at = self.at.saturating_sub(HEADER_LEN);
        let n = out.left().min(self.len - at);
        self.contents.read(at, n, out)?;
        let done = room - out.left();
        self.at += done;
        Ok(done)
    }

    /// Trusts no data: the header is checked as soon as it is complete, and memory is allocated as
    /// contents arrive, at most the length of the BAR.
    fn write(&mut self, from: &mut UserReader) -> Result<usize> {
        let taken = from.left();
        let rest = &mut self.header[self.at.min(HEADER_LEN)..];
        let n = rest.len().min(taken);
        from.read(&mut rest[..n])?;
        self.at += n;
        let Some(at) = self.at.checked_sub(HEADER_LEN) else {
            return Ok(taken);
        };
        let n = from.left();
        if self.header != header(self.len) || n > self.len - at {
            return Err(EINVAL);
        }
        while self.contents.len() < at + n {
            let missing = self.len - self.contents.len();
            self.contents.grow(missing, Fill::Any)?;
        }
        self.contents.write(at, n, from)?;
        self.at += n;
        Ok(taken)
    }
}

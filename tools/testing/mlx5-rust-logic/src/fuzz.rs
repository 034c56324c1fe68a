// SPDX-License-Identifier: GPL-2.0

//! What a fuzzer calls: functions that take any bytes, and panic if a promise is broken.
//!
//! Each module has `run()`, for the bytes of one input, and `seeds()`, inputs to begin with.
//! What the bytes mean is said at `run()`.

pub mod cqe;
pub mod pages;
pub mod report;
pub mod stream;

/// An input to begin with: its name, and its bytes.
pub type Seed = (&'static str, Vec<u8>);

/// The bytes of an input, which are taken from its beginning. Zeroes follow its end.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Returns all bytes of an input.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Takes `len` bytes, or what is left if that is less.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// Takes a byte.
    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Takes 2 bytes, little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Takes 4 bytes, little endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Takes 8 bytes, little endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

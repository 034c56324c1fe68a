// SPDX-License-Identifier: GPL-2.0

//! Bit fields of firmware commands.
//!
//! Commands are big endian, and a field is named by the number of bits before
//! it: bit 0 is the most significant bit of byte 0.
//!
//! No kernel types: the file is also compiled and tested on the host.

/// A field: where it begins, and how wide it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    /// Bits before it.
    pub(crate) offset: usize,
    /// Bits in it: 1 to 64.
    pub(crate) width: usize,
}

impl Field {
    /// The same field in a structure that begins `bits` further on.
    pub(crate) const fn shifted(self, bits: usize) -> Self {
        Self {
            offset: self.offset + bits,
            width: self.width,
        }
    }

    /// Writes the low bits of `value` to the field.
    ///
    /// Whatever lies outside of `buf` is not written.
    pub(crate) fn set(self, buf: &mut [u8], value: u64) {
        for i in 0..self.width {
            let at = self.offset + self.width - 1 - i;
            if let Some(byte) = buf.get_mut(at / 8) {
                let mask = 0x80u8 >> (at % 8);
                if i < 64 && (value >> i) & 1 == 1 {
                    *byte |= mask;
                } else {
                    *byte &= !mask;
                }
            }
        }
    }

    /// Reads the field.
    ///
    /// Whatever lies outside of `buf` reads as 0.
    pub(crate) fn get(self, buf: &[u8]) -> u64 {
        (self.offset..self.offset + self.width).fold(0, |value, at| {
            let byte = buf.get(at / 8).copied().unwrap_or(0);
            (value << 1) | u64::from((byte >> (7 - at % 8)) & 1)
        })
    }
}

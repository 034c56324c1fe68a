// SPDX-License-Identifier: GPL-2.0

//! Bit fields of firmware commands.
//!
//! A layout is a C structure of `mlx5_ifc.h`, in which one byte stands for one
//! bit. Commands are big endian, so a field is named by the number of bits
//! before it: bit 0 is the most significant bit of byte 0.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

use core::marker::PhantomData;

/// Number of bits in a word, the unit in which a command is read and written.
const WORD: usize = 32;

/// Error of a value that does not fit into a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// A number that a field can hold.
pub(crate) trait Value {
    /// Largest number that the type can hold.
    const MAX: u64;

    /// Returns the number.
    fn number(self) -> u64;
}

macro_rules! impl_value {
    ($($number:ty),*) => {
        $(impl Value for $number {
            const MAX: u64 = <$number>::MAX as u64;

            fn number(self) -> u64 {
                self.into()
            }
        })*
    };
}
impl_value!(u8, u16, u32, u64);

impl Value for bool {
    const MAX: u64 = 1;

    fn number(self) -> u64 {
        self.into()
    }
}

/// A number that is known at compile time, whatever type its name has in the bindings.
pub(crate) struct Constant<const NUMBER: u64>;

impl<const NUMBER: u64> Value for Constant<NUMBER> {
    const MAX: u64 = NUMBER;

    fn number(self) -> u64 {
        NUMBER
    }
}

/// A field of the layout `L`, `WIDTH` bits wide.
pub(crate) struct Field<L, const WIDTH: usize> {
    offset: usize,
    layout: PhantomData<fn(&L)>,
}

impl<L, const WIDTH: usize> Clone for Field<L, WIDTH> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, const WIDTH: usize> Copy for Field<L, WIDTH> {}

impl<L, const WIDTH: usize> Field<L, WIDTH> {
    /// Largest number that the field can hold.
    pub(crate) const MAX: u64 = u64::MAX >> (64 - WIDTH);

    /// Returns the field with `offset` bits of the layout before it.
    ///
    /// # Panics
    ///
    /// If the field is not part of the layout, or is neither part of one word nor two words. The
    /// driver's fields are constants, so a wrong one does not compile.
    pub(crate) const fn new(offset: usize) -> Self {
        const { assert!((WIDTH > 0 && WIDTH <= WORD) || WIDTH == 2 * WORD) };
        assert!(if WIDTH > WORD {
            offset % WORD == 0
        } else {
            offset % WORD + WIDTH <= WORD
        });
        assert!(offset + WIDTH <= size_of::<L>());
        Self {
            offset,
            layout: PhantomData,
        }
    }

    /// Writes a value. Does not compile unless all values of its type fit.
    ///
    /// `bytes` begins with the layout.
    pub(crate) fn set<V: Value>(self, bytes: &mut [u8], value: V) {
        const { assert!(V::MAX <= Self::MAX, "the value may not fit into the field") };
        self.write(bytes, value.number());
    }

    /// Writes a value if it fits.
    ///
    /// `bytes` begins with the layout.
    pub(crate) fn try_set<V: Value>(self, bytes: &mut [u8], value: V) -> Result<(), TooLarge> {
        let value = value.number();
        if value > Self::MAX {
            return Err(TooLarge);
        }
        self.write(bytes, value);
        Ok(())
    }

    /// Reads the field.
    ///
    /// `bytes` begins with the layout.
    pub(crate) fn get(self, bytes: &[u8]) -> u64 {
        let first = read_word(bytes, self.first_word());
        if WIDTH > WORD {
            (first << WORD) | read_word(bytes, self.first_word() + 1)
        } else {
            (first >> self.bits_behind()) & Self::MAX
        }
    }

    /// Writes `value`, which is not more than [`Self::MAX`].
    fn write(self, bytes: &mut [u8], value: u64) {
        let first = self.first_word();
        if WIDTH > WORD {
            write_word(bytes, first, value >> WORD);
            write_word(bytes, first + 1, value);
        } else {
            let mask = Self::MAX << self.bits_behind();
            let others = read_word(bytes, first) & !mask;
            write_word(bytes, first, others | (value << self.bits_behind()));
        }
    }

    /// Returns the number of the field's word, or of the first one of two.
    const fn first_word(self) -> usize {
        self.offset / WORD
    }

    /// Returns the number of bits behind the field in its word.
    const fn bits_behind(self) -> usize {
        WORD - self.offset % WORD - WIDTH
    }
}

/// The layout `I` as a part of the layout `L`.
pub(crate) struct Part<L, I> {
    offset: usize,
    layouts: PhantomData<fn(&L, &I)>,
}

impl<L, I> Clone for Part<L, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, I> Copy for Part<L, I> {}

impl<L, I> Part<L, I> {
    /// Returns the part with `offset` bits of the layout before it.
    ///
    /// # Panics
    ///
    /// If the part is not made of words of the layout.
    pub(crate) const fn new(offset: usize) -> Self {
        assert!(offset % WORD == 0);
        assert!(offset + size_of::<I>() <= size_of::<L>());
        Self {
            offset,
            layouts: PhantomData,
        }
    }

    /// Returns a field of the part as a field of the whole.
    pub(crate) const fn field<const WIDTH: usize>(self, field: Field<I, WIDTH>) -> Field<L, WIDTH> {
        Field {
            offset: self.offset + field.offset,
            layout: PhantomData,
        }
    }
}

impl<L> Part<L, L> {
    /// The whole layout.
    pub(crate) const WHOLE: Self = Self::new(0);
}

/// Reads a word, or 0 if there is none.
fn read_word(bytes: &[u8], word: usize) -> u64 {
    bytes
        .get(word * 4..)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |word| u32::from_be_bytes(*word).into())
}

/// Writes the low bits of `value` to a word, if there is one.
fn write_word(bytes: &mut [u8], word: usize, value: u64) {
    let word = bytes
        .get_mut(word * 4..)
        .and_then(|bytes| bytes.first_chunk_mut());
    if let Some(word) = word {
        // CAST: Takes the low bits.
        *word = (value as u32).to_be_bytes();
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_bits)
)]
pub(crate) mod tests {
    use super::*;

    /// A layout of 64 bytes: one byte for one bit.
    pub(crate) struct Layout(#[allow(dead_code)] [u8; BITS]);

    pub(crate) const BITS: usize = 512;
    pub(crate) const BYTES: usize = BITS / 8;

    fn largest<V: Value>() -> u64 {
        V::MAX
    }

    #[test]
    fn opcode_is_the_first_big_endian_halfword() {
        let mut buf = [0; BYTES];
        Field::<Layout, 16>::new(0).set(&mut buf, Constant::<0x0118>);
        assert_eq!(buf[..8], [0x01, 0x18, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_single_bit_is_counted_from_the_most_significant() {
        let mut buf = [0; BYTES];
        Field::<Layout, 1>::new(9).set(&mut buf, true);
        assert_eq!(buf[..4], [0, 0x40, 0, 0]);
    }

    #[test]
    fn words_are_big_endian() {
        let mut buf = [0; BYTES];
        Field::<Layout, 32>::new(32).set(&mut buf, 0x0102_0304u32);
        assert_eq!(buf[4..8], [1, 2, 3, 4]);
        assert_eq!(Field::<Layout, 8>::new(48).get(&buf), 3);
        Field::<Layout, 64>::new(32).set(&mut buf, 0x0102_0304_0506_0708u64);
        assert_eq!(buf[4..12], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn others_of_the_word_stay() {
        let mut buf = [0xff; BYTES];
        assert_eq!(
            Field::<Layout, 12>::new(8).try_set(&mut buf, 0x123u32),
            Ok(())
        );
        assert_eq!(buf[..4], [0xff, 0x12, 0x3f, 0xff]);
        assert_eq!(buf[4..], [0xff; BYTES - 4]);
        let too_large = Field::<Layout, 12>::new(8).try_set(&mut buf, 0x1000u32);
        assert_eq!(too_large, Err(TooLarge));
        assert_eq!(Field::<Layout, 12>::new(8).get(&buf), 0x123);
    }

    #[test]
    fn a_field_of_a_part_is_further_on() {
        struct Outer(#[allow(dead_code)] [u8; 2 * BITS]);
        let mut buf = [0; 2 * BYTES];
        let field = Part::<Outer, Layout>::new(64).field(Field::<_, 16>::new(16));
        field.set(&mut buf, 0x0102u16);
        assert_eq!(buf[8..12], [0, 0, 1, 2]);
        assert_eq!(field.get(&buf), 0x0102);
        let same = Part::<Outer, Outer>::WHOLE.field(Field::<_, 32>::new(64));
        assert_eq!(same.get(&buf), 0x0102);
    }

    #[test]
    fn a_type_says_how_large_its_values_are() {
        assert_eq!(largest::<bool>(), 1);
        assert_eq!(largest::<u8>(), 0xff);
        assert_eq!(largest::<u16>(), 0xffff);
        assert_eq!(largest::<u32>(), 0xffff_ffff);
        assert_eq!(largest::<u64>(), u64::MAX);
        assert_eq!(largest::<Constant<0x118>>(), 0x118);
        assert_eq!(Constant::<0x118>.number(), 0x118);
        assert_eq!(true.number(), 1);
    }

    #[test]
    fn nothing_happens_outside_of_a_buffer_that_is_too_short() {
        for len in 0..BYTES {
            let mut whole = [0x5a; BYTES];
            let (buf, behind) = whole.split_at_mut(len);
            Field::<Layout, 64>::new(BITS - 64).set(buf, u64::MAX);
            let whole_words = len.saturating_sub(BYTES - 8) / 4 * 4;
            assert!(buf[..len.min(BYTES - 8)].iter().all(|byte| *byte == 0x5a));
            assert!(buf.iter().filter(|byte| **byte == 0xff).count() == whole_words);
            assert!(behind.iter().all(|byte| *byte == 0x5a));
        }
    }
}

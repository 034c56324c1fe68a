// SPDX-License-Identifier: GPL-2.0

//! [`bits`](crate::bits): fields are where mlx5_ifc.h says, and nowhere else.

use crate::bits::{
    tests::{
        Layout,
        BITS,
        BYTES, //
    },
    Field,
    Part,
    TooLarge, //
};
use proptest::prelude::*;

/// A layout of which [`Layout`] is a part.
struct Outer(#[allow(dead_code)] [u8; 3 * BITS]);

/// A field whose width is only known when the test runs.
trait AnyField {
    fn set(&self, bytes: &mut [u8], value: u64) -> Result<(), TooLarge>;
    fn get(&self, bytes: &[u8]) -> u64;
}

impl<L, const WIDTH: usize> AnyField for Field<L, WIDTH> {
    fn set(&self, bytes: &mut [u8], value: u64) -> Result<(), TooLarge> {
        self.try_set(bytes, value)
    }

    fn get(&self, bytes: &[u8]) -> u64 {
        Field::get(*self, bytes)
    }
}

macro_rules! any_width {
    ($width:expr, $new:ident, $($known:literal)*) => {
        match $width {
            $($known => $new!($known),)*
            other => unreachable!("no field is {other} bits wide"),
        }
    };
}

macro_rules! for_all_widths {
    ($width:expr, $new:ident) => {
        any_width!($width, $new,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            64)
    };
}

fn field(offset: usize, width: usize) -> Box<dyn AnyField> {
    macro_rules! new {
        ($known:literal) => {
            Box::new(Field::<Layout, $known>::new(offset))
        };
    }
    for_all_widths!(width, new)
}

fn field_of_part(part: usize, offset: usize, width: usize) -> Box<dyn AnyField> {
    let part = Part::<Outer, Layout>::new(part);
    macro_rules! new {
        ($known:literal) => {
            Box::new(part.field(Field::<Layout, $known>::new(offset)))
        };
    }
    for_all_widths!(width, new)
}

/// Whether the layout can have such a field.
fn is_possible(offset: usize, width: usize) -> bool {
    let within = match width {
        1..=32 => offset % 32 + width <= 32,
        64 => offset % 32 == 0,
        _ => false,
    };
    within && offset + width <= BITS
}

/// Offset and width of all fields that a layout can have.
fn place() -> impl Strategy<Value = (usize, usize)> {
    let narrow = (0..BITS / 32, 1usize..=32).prop_flat_map(|(word, width)| {
        (0..=32 - width).prop_map(move |bit| (word * 32 + bit, width))
    });
    let wide = (0..BITS / 32 - 1).prop_map(|word| (word * 32, 64));
    prop_oneof![4 => narrow, 1 => wide]
}

fn max(width: usize) -> u64 {
    u64::MAX >> (64 - width)
}

/// The reference: reads bit by bit.
fn read_bits(bytes: &[u8], offset: usize, width: usize) -> u64 {
    (offset..offset + width).fold(0, |value, bit| {
        (value << 1) | u64::from((bytes[bit / 8] >> (7 - bit % 8)) & 1)
    })
}

/// The reference: writes bit by bit.
fn write_bits(bytes: &mut [u8], offset: usize, width: usize, value: u64) {
    for i in 0..width {
        let bit = offset + width - 1 - i;
        let mask = 0x80 >> (bit % 8);
        if (value >> i) & 1 == 1 {
            bytes[bit / 8] |= mask;
        } else {
            bytes[bit / 8] &= !mask;
        }
    }
}

#[test]
fn no_field_is_outside_of_its_layout_or_across_words() {
    for width in (1..=32).chain([64]) {
        for offset in 0..BITS + 40 {
            let made = std::panic::catch_unwind(|| field(offset, width)).is_ok();
            assert_eq!(made, is_possible(offset, width), "{width} bits at {offset}");
        }
    }
}

#[test]
fn no_part_is_outside_of_its_layout_or_between_words() {
    for offset in 0..3 * BITS {
        let made = std::panic::catch_unwind(|| Part::<Outer, Layout>::new(offset)).is_ok();
        assert_eq!(made, offset % 32 == 0 && offset <= 2 * BITS, "at {offset}");
    }
}

proptest! {
    #[test]
    fn set_is_what_the_reference_does((offset, width) in place(), value: u64, filling: [u8; 32]) {
        let value = value & max(width);
        let mut buf = filling.repeat(2);
        let mut expected = buf.clone();
        prop_assert_eq!(field(offset, width).set(&mut buf, value), Ok(()));
        write_bits(&mut expected, offset, width, value);
        prop_assert_eq!(buf, expected);
    }

    #[test]
    fn get_is_what_the_reference_does((offset, width) in place(), filling: [u8; 32]) {
        let buf = filling.repeat(2);
        prop_assert_eq!(field(offset, width).get(&buf), read_bits(&buf, offset, width));
    }

    #[test]
    fn a_value_that_does_not_fit_changes_nothing(
        (offset, width) in place(),
        excess in 1u64..,
        filling: [u8; 32],
    ) {
        prop_assume!(width < 64);
        let mut buf = filling.repeat(2);
        let value = max(width).saturating_add(excess);
        prop_assert_eq!(field(offset, width).set(&mut buf, value), Err(TooLarge));
        prop_assert_eq!(buf, filling.repeat(2));
    }

    #[test]
    fn the_largest_value_fits((offset, width) in place()) {
        let mut buf = [0; BYTES];
        prop_assert_eq!(field(offset, width).set(&mut buf, max(width)), Ok(()));
        prop_assert_eq!(field(offset, width).get(&buf), max(width));
        prop_assert_eq!(buf.iter().map(|byte| byte.count_ones() as usize).sum::<usize>(), width);
    }

    #[test]
    fn a_field_of_a_part_is_further_on(
        (offset, width) in place(),
        word in 0usize..=2 * BITS / 32,
        value: u64,
    ) {
        let mut buf = [0; 3 * BYTES];
        let mut expected = buf;
        let value = value & max(width);
        let of_part = field_of_part(word * 32, offset, width);
        prop_assert_eq!(of_part.set(&mut buf, value), Ok(()));
        write_bits(&mut expected, word * 32 + offset, width, value);
        prop_assert_eq!(buf, expected);
        prop_assert_eq!(of_part.get(&buf), value);
        prop_assert_eq!(Part::<Outer, Outer>::WHOLE.field(Field::<_, 32>::new(word * 32)).get(&buf),
            read_bits(&buf, word * 32, 32));
    }
}

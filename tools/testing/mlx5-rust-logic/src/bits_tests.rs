// SPDX-License-Identifier: GPL-2.0

//! [`bits`](crate::bits): fields are where mlx5_ifc.h says, and nowhere else.

use crate::bits::Field;
use proptest::prelude::*;

fn field() -> impl Strategy<Value = Field> {
    (0usize..400, 1usize..=64).prop_map(|(offset, width)| Field { offset, width })
}

fn mask(width: usize) -> u64 {
    u64::MAX >> (64 - width)
}

#[test]
fn opcode_is_the_first_big_endian_halfword() {
    let mut buf = [0; 8];
    Field {
        offset: 0,
        width: 16,
    }
    .set(&mut buf, 0x0118);
    assert_eq!(buf, [0x01, 0x18, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_single_bit_is_counted_from_the_most_significant() {
    let mut buf = [0; 2];
    Field {
        offset: 9,
        width: 1,
    }
    .set(&mut buf, 1);
    assert_eq!(buf, [0, 0x40]);
}

#[test]
fn dwords_are_big_endian() {
    let mut buf = [0; 12];
    Field {
        offset: 32,
        width: 32,
    }
    .set(&mut buf, 0x0102_0304);
    assert_eq!(buf[4..8], [1, 2, 3, 4]);
    assert_eq!(
        Field {
            offset: 48,
            width: 8
        }
        .get(&buf),
        3
    );
}

proptest! {
    #[test]
    fn what_is_set_is_read(field in field(), value: u64) {
        let mut buf = [0xa5; 64];
        field.set(&mut buf, value);
        prop_assert_eq!(field.get(&buf), value & mask(field.width));
    }

    #[test]
    fn other_bits_stay(field in field(), value: u64, before: [u8; 32], after: [u8; 32]) {
        let original: Vec<u8> = before.into_iter().chain(after).collect();
        let mut buf = original.clone();
        field.set(&mut buf, value);
        for bit in (0..buf.len() * 8).filter(|bit| {
            !(field.offset..field.offset + field.width).contains(bit)
        }) {
            let one = Field { offset: bit, width: 1 };
            prop_assert_eq!(one.get(&buf), one.get(&original), "bit {}", bit);
        }
    }

    #[test]
    fn outside_of_the_buffer_nothing_happens(offset in 64usize..10_000, width in 1usize..=64, value: u64) {
        let field = Field { offset, width };
        let mut buf = [0x5a; 8];
        field.set(&mut buf, value);
        prop_assert_eq!(buf, [0x5a; 8]);
        prop_assert_eq!(field.get(&buf), 0);
    }

    #[test]
    fn shifted_is_further_on(field in field(), by in 0usize..100, value: u64) {
        let mut buf = [0; 80];
        field.shifted(by).set(&mut buf, value);
        prop_assert_eq!(
            Field { offset: field.offset + by, ..field }.get(&buf),
            value & mask(field.width)
        );
    }
}

// SPDX-License-Identifier: GPL-2.0

//! [`cqe`](crate::cqe): what a hostile entry can say.

use crate::cqe::{
    parse,
    Entry, //
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn nothing_leads_out_of_the_queue(
        owner: u32,
        byte_count: u32,
        immediate: u32,
        index: u32,
        log in 0u32..12,
        room in 0usize..5000,
    ) {
        let entry = Entry { owner, byte_count, immediate };
        if let Some(message) = parse(entry, index, 1 << log, room) {
            prop_assert!(message.slot < 1 << log);
            prop_assert!(message.len <= room);
            let (offset, len) = message.place(room);
            prop_assert!(offset + len <= room << log);
            prop_assert_eq!(len, message.len / 8 * 8);
        }
    }
}

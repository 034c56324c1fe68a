// SPDX-License-Identifier: GPL-2.0

//! [`cqe`](crate::cqe): whose an entry is, and what a hostile one can say.

use crate::cqe::{is_written, parse, Entry, Message, State, NEVER_WRITTEN};
use proptest::prelude::*;

const RESP_SEND_IMM: u32 = 3 << 4;

fn entry(immediate: u32, byte_count: u32, counter: u32, op_own: u32) -> Entry {
    Entry {
        owner: (counter << 16) | op_own,
        byte_count,
        immediate,
    }
}

#[test]
fn an_entry_is_the_drivers_once_each_time_around() {
    for index in 0..40 {
        let owner = (index >> 3) & 1;
        assert!(!is_written(NEVER_WRITTEN, index, 3));
        assert!(!is_written(NEVER_WRITTEN | 1, index, 3));
        assert!(is_written(RESP_SEND_IMM | owner, index, 3));
        assert!(!is_written(RESP_SEND_IMM | (owner ^ 1), index, 3));
    }
}

#[test]
fn a_message_is_taken_apart() {
    let message = |state| {
        Some(Message {
            slot: 5,
            len: 24,
            state,
        })
    };
    for (raw, state) in [
        (0, State::Tracking),
        (1, State::Reporting),
        (2, State::Failed),
        (15, State::Failed),
    ] {
        let cqe = entry(raw << 28, 24, 8 + 5, RESP_SEND_IMM);
        assert_eq!(parse(cqe, 8, 4096), message(state));
    }
}

#[test]
fn an_error_and_a_message_that_is_too_long_are_refused() {
    for opcode in [0, 1, 2, 4, 13, 14, 15] {
        assert_eq!(parse(entry(0, 8, 0, opcode << 4), 8, 4096), None);
    }
    assert!(parse(entry(0, 4096, 0, RESP_SEND_IMM), 8, 4096).is_some());
    assert_eq!(parse(entry(0, 4097, 0, RESP_SEND_IMM), 8, 4096), None);
}

proptest! {
    #[test]
    fn nothing_leads_out_of_the_queue(
        owner: u32,
        byte_count: u32,
        immediate: u32,
        log in 0u32..12,
        room in 0usize..5000,
    ) {
        let entry = Entry { owner, byte_count, immediate };
        if let Some(message) = parse(entry, 1 << log, room) {
            prop_assert!(message.slot < 1 << log);
            prop_assert!(message.len <= room);
            let (offset, len) = message.place(room);
            prop_assert!(offset + len <= room << log);
            prop_assert_eq!(len, message.len / 8 * 8);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! [`cqe`](crate::cqe): a device writes anything to its completion queue.

use super::{
    Input,
    Seed, //
};
use crate::cqe::{
    is_written,
    parse,
    Entry,
    State,
    INVALID,
    NEVER_WRITTEN,
    RESP_SEND_IMM, //
};

/// Most entries that a queue has, as a shift: more than `track_limits` makes.
const LOG_MAX_SLOTS: u32 = 16;

/// Runs one input: the three words of an entry; its index; the number of slots, as a shift, in
/// a byte; bytes of a slot.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let entry = Entry {
        owner: input.u32(),
        byte_count: input.u32(),
        immediate: input.u32(),
    };
    let index = input.u32();
    let log_slots = u32::from(input.byte()) % (LOG_MAX_SLOTS + 1);
    // CAST: To a type that is not smaller.
    let room = input.u32() as usize;
    let opcode = (entry.owner & 0xff) >> 4;
    let slots = 1 << log_slots;

    // An entry is the driver's once in two times around.
    let written = [0, 1, 2, 3].map(|round| {
        let index = index.wrapping_add(slots * round);
        is_written(entry.owner, index, log_slots)
    });
    assert_eq!((written[0], written[1]), (written[2], written[3]));
    match opcode {
        INVALID => assert!(!written[0] && !written[1]),
        _ => assert_ne!(written[0], written[1]),
    }

    let fits = entry.byte_count as usize <= room;
    let is_next = (entry.owner >> 16) % slots == index % slots;
    assert!(
        parse(entry, index, 0, room).is_none(),
        "a queue without slots"
    );
    let Some(message) = parse(entry, index, slots, room) else {
        assert!(
            opcode != RESP_SEND_IMM || !fits || !is_next,
            "a message is lost"
        );
        return;
    };
    assert!(opcode == RESP_SEND_IMM && fits && is_next, "{message:?}");
    assert!(message.slot < slots, "{message:?}");
    assert_eq!(message.slot, index % slots);
    assert_eq!(message.len, entry.byte_count as usize);
    let state = match entry.immediate >> 28 {
        0 => State::Tracking,
        1 => State::Reporting,
        _ => State::Failed,
    };
    assert_eq!(message.state, state);
    let (start, len) = message.place(room);
    assert!(start + len <= room << log_slots, "{message:?}");
    assert!(len % 8 == 0 && len <= message.len && message.len - len < 8);
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let input = |owner: u32, byte_count: u32, immediate: u32, index: u32| {
        let words = [owner, byte_count, immediate, index].map(u32::to_le_bytes);
        let (log_slots, room) = (9, 4096u32.to_le_bytes());
        [&words.concat()[..], &[log_slots], &room].concat()
    };
    let message = RESP_SEND_IMM << 4;
    vec![
        ("never written", input(NEVER_WRITTEN, 0, 0, 0)),
        ("the last message", input(message, 0, 0, 0)),
        ("a message", input(message | (5 << 16), 4096, 1 << 28, 5)),
        (
            "the second time around",
            input(message | 1, 8, 1 << 28, 512),
        ),
        ("a tracker that has failed", input(message, 8, 15 << 28, 0)),
        ("a message that is too long", input(message, 4097, 0, 0)),
        ("half an entry", input(message, 13, 0, 0)),
        ("an error", input(13 << 4, 8, 0, 0)),
    ]
}

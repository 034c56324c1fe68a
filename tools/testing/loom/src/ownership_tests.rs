// SPDX-License-Identifier: GPL-2.0

//! The tracker's queues: a thread is the device, another one makes a report.

use crate::{
    cqe::{
        self,
        Message,
        State, //
    },
    in_every_order,
    ownership::{
        self,
        Words, //
    },
    report::{
        Batch,
        Failed,
        Progress,
        Report,
        Tracker, //
    },
};
use kernel::sync::Arc;
use loom::{
    cell::UnsafeCell,
    sync::atomic::{
        fence,
        AtomicU32,
        Ordering::{
            Acquire,
            Relaxed,
            Release, //
        }, //
    },
    thread, //
};

/// Size of both queues, as a shift.
const LOG_SLOTS: u32 = 1;
const SLOTS: u32 = 1 << LOG_SLOTS;
/// Room for a message, in bytes.
const ROOM: usize = 4096;
/// Once around, and one more.
const MESSAGES: u32 = SLOTS + 1;

/// Words of memory, all 0. A barrier of loom's also orders reads before later writes, which the
/// kernel's of this name need not do.
struct Memory(Vec<AtomicU32>);

impl Memory {
    fn new(bytes: usize) -> Self {
        Self((0..bytes / 4).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Words for Memory {
    fn read(&self, offset: usize) -> u32 {
        self.0[offset / 4].load(Relaxed)
    }

    fn write(&self, offset: usize, value: u32) {
        self.0[offset / 4].store(value, Relaxed);
    }

    fn read_barrier() {
        fence(Acquire);
    }

    fn write_barrier() {
        fence(Release);
    }
}

/// The memory of a message, with its number.
struct Slot(UnsafeCell<u32>);

// SAFETY: loom fails a test in which nothing orders an access and a write.
unsafe impl Sync for Slot {}

impl Slot {
    fn read(&self) -> u32 {
        // SAFETY: loom has found that each write is before this access or after it.
        self.0.with(|place| unsafe { *place })
    }

    fn write(&self, number: u32) {
        // SAFETY: loom has found that each other access is before this one or after it.
        self.0.with_mut(|place| unsafe { *place = number });
    }
}

/// What driver and device share.
struct Shared {
    ring: Memory,
    consumer: Memory,
    posted: Memory,
    slots: Vec<Slot>,
    /// The first message of the report, counted from the beginning.
    first: u32,
}

impl Shared {
    fn new(first: u32) -> Self {
        let shared = Self {
            ring: Memory::new(cqe::BYTES << LOG_SLOTS),
            consumer: Memory::new(4),
            posted: Memory::new(4),
            slots: (0..SLOTS).map(|_| Slot(UnsafeCell::new(0))).collect(),
            first,
        };
        ownership::mark_unwritten(&shared.ring, LOG_SLOTS);
        if first > 0 {
            // The entries of the last time around are still there.
            for before in (1..=SLOTS).rev() {
                shared.complete(first.wrapping_sub(before));
            }
            ownership::release(&shared.consumer, first);
        }
        ownership::post(&shared.posted, first.wrapping_add(SLOTS));
        shared
    }

    /// Returns what entry `number` tells of its message.
    fn message(&self, number: u32) -> Message {
        let last = number == self.first.wrapping_add(MESSAGES - 1);
        Message {
            slot: number % SLOTS,
            len: 8 + 8 * (number % 251) as usize,
            state: match last {
                true => State::Tracking,
                false => State::Reporting,
            },
        }
    }

    /// The device writes message `number`, then the entry, its owner word last.
    fn complete(&self, number: u32) {
        let message = self.message(number);
        self.slots[message.slot as usize].write(number);
        let at = message.slot as usize * cqe::BYTES;
        self.ring.write(at + cqe::BYTE_COUNT, message.len as u32);
        let state = match message.state {
            State::Tracking => cqe::STATE_TRACKING,
            _ => cqe::STATE_REPORTING,
        };
        self.ring.write(at + cqe::IMMEDIATE, state << 28);
        let owner = (number >> LOG_SLOTS) & 1;
        let word = (number << 16) | (cqe::RESP_SEND_IMM << 4) | owner;
        self.ring.0[(at + cqe::OWNER) / 4].store(word, Release);
    }

    /// The device sends all messages, each once a receive entry is posted.
    fn send(&self) {
        for count in 0..MESSAGES {
            let number = self.first.wrapping_add(count);
            loop {
                let posted = self.posted.0[0].load(Acquire).wrapping_sub(number) & 0xffff;
                assert!(posted <= SLOTS, "more entries are posted than there are");
                if posted > 0 {
                    break;
                }
                thread::yield_now();
            }
            let unread = number.wrapping_sub(self.consumer.read(0)) & 0xff_ffff;
            assert!(unread < SLOTS, "the completion queue overflows");
            self.complete(number);
        }
    }
}

/// The tracker, for a report.
struct Queues<'a> {
    shared: &'a Shared,
    seen: u32,
}

impl Tracker for Queues<'_> {
    type Range = ();
    type Error = ();

    fn request(&mut self, _range: ()) -> Result<(), ()> {
        Ok(())
    }

    fn spare(&self) -> u32 {
        SLOTS / 2
    }

    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed> {
        let index = self.seen.wrapping_add(index);
        match ownership::read_entry(&self.shared.ring, index, LOG_SLOTS) {
            None => Ok(None),
            Some(entry) => cqe::parse(entry, index, SLOTS, ROOM)
                .map(Some)
                .ok_or(Failed),
        }
    }

    fn arm(&mut self) {}

    fn make_readable(&self, _messages: &[Message]) -> Result<(), Failed> {
        Ok(())
    }

    fn release(&mut self, count: u32) {
        self.seen = self.seen.wrapping_add(count);
        ownership::release(&self.shared.consumer, self.seen);
    }

    fn post(&mut self) {
        ownership::post(&self.shared.posted, self.seen.wrapping_add(SLOTS));
    }
}

/// Reports all messages from number `first` on, in each order.
fn reported(first: u32) {
    in_every_order(move || {
        let shared = Arc::new(Shared::new(first));
        let device = thread::spawn({
            let shared = shared.clone();
            move || shared.send()
        });
        let mut queues = Queues {
            shared: &shared,
            seen: first,
        };
        let (mut report, mut batch) = (Report::new(), Batch::new());
        let entries = (ROOM / 8) as u64 * u64::from(SLOTS);
        report.begin((), u64::from(MESSAGES), entries);
        let mut next = first;
        loop {
            match report.next_batch(&mut queues, &mut batch) {
                Ok(Progress::More) => {
                    for message in batch.messages() {
                        assert_eq!(*message, shared.message(next));
                        assert_eq!(shared.slots[message.slot as usize].read(), next);
                        next = next.wrapping_add(1);
                    }
                }
                Ok(Progress::Wait) => thread::yield_now(),
                Ok(Progress::Done) => break,
                Err(fault) => panic!("{fault:?}"),
            }
        }
        assert_eq!(next, first.wrapping_add(MESSAGES));
        device.join().unwrap();
    });
}

#[test]
fn each_message_of_a_new_tracker_is_read_once_and_whole() {
    reported(0);
}

#[test]
fn each_message_is_read_once_and_whole_when_the_counts_of_records_wrap_around() {
    reported(0xff_ffff);
}

// SPDX-License-Identifier: GPL-2.0

//! [`report`](crate::report): a device that does anything with its queue and its messages.
//! All code from entries of the completion queue to bits of a bitmap is the driver's. It is
//! connected here as in `fw/page_track.rs` and `fw/cq.rs`.

use super::{
    pages::has_room,
    Input,
    Seed, //
};
use crate::{
    cqe::{
        is_written,
        parse,
        Entry,
        Message,
        State,
        NEVER_WRITTEN,
        RESP_SEND_IMM, //
    },
    dirty_pages::{
        set_pages,
        Addresses,
        Span,
        BLOCK, //
    },
    remainder::{
        Piece,
        Remainder, //
    },
    report::{
        Batch,
        Failed,
        Fault,
        Progress,
        Report,
        Tracker, //
    },
};

/// Bytes of a page, as a shift.
const LOG_PAGE: u32 = 12;
/// A report with more than this many times its largest number of entries is a flood, as the
/// driver's documentation says.
const MAX_REPORT_FACTOR: u64 = 16;
/// Most reports of an input.
const REPORTS: usize = 4;
/// How often the driver waits for a device that sends no message.
const WAITS: usize = 256;

/// What the device does next: the lowest three bits of a byte.
const NOTHING: u8 = 0;
/// It sends a message: its length in units of 4 bytes, in a byte, and an address.
const SEND: u8 = 1;
/// It writes any entry to its queue: which one, and the three words.
const ENTRY: u8 = 2;
/// It writes a word of its messages: which one, and the word.
const WORD: u8 = 3;
/// The driver leaves the report, as it does when user space is killed.
const LEAVE: u8 = 4;
/// The memory of messages is gone.
const FORGET: u8 = 5;

/// With [`SEND`]: the state that the message tells of, as a shift of two bits.
const STATE: u32 = 3;
/// With [`SEND`]: even if the driver has given it no room.
const OVERRUN: u8 = 1 << 5;
/// With [`SEND`]: again and again, when the input is over.
const FOREVER: u8 = 1 << 6;

/// The first request of a report is refused: the byte for it.
const REFUSE: u8 = 0xff;

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    start: u64,
    last: u64,
}

impl Range {
    fn piece(self) -> Piece {
        Piece {
            first: self.start,
            last: self.last,
        }
    }

    fn span(self) -> Span {
        Span {
            start: self.start,
            last: self.last,
        }
    }

    fn pages(self) -> u64 {
        (self.last - self.start + 1) >> LOG_PAGE
    }
}

/// The words of a message.
struct Words<'a>(&'a [u64]);

impl Addresses for Words<'_> {
    fn block(&self, index: usize) -> Option<[u64; BLOCK]> {
        let words = self.0.get(index * BLOCK..)?.get(..BLOCK)?;
        words.try_into().ok()
    }

    fn get(&self, index: usize) -> Option<u64> {
        self.0.get(index).copied()
    }
}

/// A message that is sent.
#[derive(Clone, Copy)]
struct Send {
    options: u8,
    len: u8,
    address: u64,
}

/// A device, and the driver's side of its queues.
struct Hostile<'a> {
    input: Input<'a>,
    log_slots: u32,
    /// Bytes of a slot.
    room: usize,
    entries: Vec<Entry>,
    words: Vec<u64>,
    /// Messages that the device has sent.
    sent: u32,
    /// What it sends when the input is over.
    forever: Option<Send>,
    /// Messages that the driver has given back.
    seen: u32,
    /// Those that it has taken since.
    taken: Vec<Message>,
    /// Entries of messages of this report.
    counted: u64,
    /// How many there may be.
    limit: u64,
    /// The range of this report.
    wanted: Range,
    /// What was requested last.
    requested: Option<Range>,
    /// Whether the report of that has not ended.
    running: bool,
    /// Whether memory of messages was given back that was not posted.
    unposted: bool,
    armed: bool,
    leaves: bool,
    refused: bool,
    /// An entry was no message, or the memory of messages is gone.
    failed: bool,
    /// A message with the state *error* was given back.
    failed_state: bool,
    /// More entries have come than may.
    flooded: bool,
    forgotten: bool,
    /// Looks at the queue since the driver asked for a batch.
    looks: usize,
}

impl<'a> Hostile<'a> {
    fn new(mut input: Input<'a>) -> Self {
        let options = input.byte();
        let log_slots = 2 + u32::from(options & 3);
        let room = 8 << (2 * ((options >> 2) & 1));
        let slots = 1 << log_slots;
        // Indices go around at some time.
        let first = match options & 16 {
            0 => 0,
            _ => u32::MAX - 2,
        };
        let never = Entry {
            owner: NEVER_WRITTEN,
            byte_count: 0,
            immediate: 0,
        };
        Self {
            input,
            log_slots,
            room,
            entries: vec![never; slots],
            words: vec![0; slots * room / 8],
            sent: first,
            forever: None,
            seen: first,
            taken: Vec::new(),
            counted: 0,
            limit: 0,
            wanted: Range { start: 0, last: 0 },
            requested: None,
            running: false,
            unposted: false,
            armed: false,
            leaves: false,
            refused: false,
            failed: false,
            failed_state: false,
            flooded: false,
            forgotten: false,
            looks: 0,
        }
    }

    fn slots(&self) -> u32 {
        1 << self.log_slots
    }

    fn ring(&self) -> u64 {
        self.words.len() as u64
    }

    fn begin(&mut self, wanted: Range) {
        self.wanted = wanted;
        self.counted = 0;
        self.limit = (wanted.pages() + self.ring()) * MAX_REPORT_FACTOR;
        self.flooded = false;
        self.leaves = false;
        self.refused = false;
    }

    fn send(&mut self, send: Send) {
        let full = self.sent.wrapping_sub(self.seen) >= self.slots();
        if full && send.options & OVERRUN == 0 {
            return;
        }
        let slot = self.sent % self.slots();
        let owner = (self.sent >> self.log_slots) & 1;
        let state = u32::from(send.options >> STATE) & 3;
        self.entries[slot as usize] = Entry {
            owner: (slot << 16) | (RESP_SEND_IMM << 4) | owner,
            byte_count: u32::from(send.len) * 4,
            immediate: state << 28,
        };
        let words = self.room / 8;
        for (index, word) in self.words[slot as usize * words..][..words]
            .iter_mut()
            .enumerate()
        {
            *word = send.address.wrapping_add((index as u64) << LOG_PAGE);
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// Does something. Returns whether it will ever do anything again.
    fn act(&mut self) -> bool {
        if self.input.is_empty() {
            if let Some(send) = self.forever {
                self.send(send);
            }
            return self.forever.is_some();
        }
        let options = self.input.byte();
        match options & 7 {
            SEND => {
                let send = Send {
                    options,
                    len: self.input.byte(),
                    // In half pages, or anything.
                    address: match self.input.u16() {
                        0xffff => self.input.u64(),
                        half => u64::from(half) << (LOG_PAGE - 1),
                    },
                };
                self.send(send);
                if options & FOREVER > 0 {
                    self.forever = Some(send);
                }
            }
            ENTRY => {
                let slot = usize::from(self.input.byte()) % self.entries.len();
                self.entries[slot] = Entry {
                    owner: self.input.u32(),
                    byte_count: self.input.u32(),
                    immediate: self.input.u32(),
                };
            }
            WORD => {
                let index = usize::from(self.input.byte()) % self.words.len();
                self.words[index] = self.input.u64();
            }
            LEAVE => self.leaves = true,
            FORGET => self.forgotten = true,
            _ => (),
        }
        true
    }

    /// The messages that a batch must have.
    fn batch(&self) -> Vec<Message> {
        let taken = self.taken.iter().copied();
        taken.filter(|message| message.len > 0).collect()
    }
}

impl Tracker for Hostile<'_> {
    type Range = Range;
    type Error = ();

    fn request(&mut self, range: Range) -> Result<(), ()> {
        assert!(!self.running, "a report in a report");
        assert_eq!(range, self.wanted);
        if self.input.byte() == REFUSE {
            self.refused = true;
            return Err(());
        }
        self.requested = Some(range);
        self.running = true;
        Ok(())
    }

    fn spare(&self) -> u32 {
        self.slots() / 2
    }

    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed> {
        assert!(index < self.spare(), "the device has no memory left");
        assert_eq!(index as usize, self.taken.len(), "not the next message");
        assert!(!self.unposted, "memory was given back, and not posted");
        self.looks += 1;
        self.act();
        let index = self.seen.wrapping_add(index);
        let entry = self.entries[(index % self.slots()) as usize];
        if !is_written(entry.owner, index, self.log_slots) {
            return Ok(None);
        }
        let Some(message) = parse(entry, index, self.slots(), self.room) else {
            self.failed = true;
            return Err(Failed);
        };
        let entries = (message.len as u64 / 8).max(1);
        if self.counted + entries > self.limit {
            self.flooded = true;
        } else {
            self.counted += entries;
            self.taken.push(message);
        }
        Ok(Some(message))
    }

    fn arm(&mut self) {
        self.armed = true;
    }

    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed> {
        assert!(!messages.is_empty());
        assert_eq!(messages, self.batch(), "other messages than were taken");
        if self.forgotten {
            return Err(Failed);
        }
        Ok(())
    }

    fn release(&mut self, count: u32) {
        assert_eq!(
            count as usize,
            self.taken.len(),
            "other messages than were taken"
        );
        assert!(!self.unposted, "released twice");
        if let Some((last, before)) = self.taken.split_last() {
            assert!(before.iter().all(|one| one.state == State::Reporting));
            match last.state {
                State::Tracking => self.running = false,
                State::Reporting => (),
                State::Failed => self.failed_state = true,
            }
        }
        self.seen = self.seen.wrapping_add(count);
        self.taken.clear();
        self.unposted = true;
    }

    fn post(&mut self) {
        assert!(self.unposted, "posted before the queue has room");
        self.unposted = false;
    }
}

/// Sets what the messages of a batch say, as far as it is in the range.
fn set(device: &Hostile<'_>, remainder: &mut Remainder, asked: Range, batch: &Batch) {
    for message in batch.messages() {
        let (offset, len) = message.place(device.room);
        let words = &device.words[offset / 8..][..len / 8];
        let wanted = device.wanted;
        set_pages(&Words(words), 1 << LOG_PAGE, wanted.span(), |start, len| {
            let last = start.checked_add(len.checked_sub(1).expect("nothing is set"));
            let last = last.expect("around the end");
            assert!(
                wanted.start <= start && last <= wanted.last,
                "beyond the range"
            );
        });
        if Remainder::is_part(asked.piece(), 1 << LOG_PAGE) {
            for page in words {
                remainder.keep(*page, asked.piece(), 1 << LOG_PAGE);
            }
        }
    }
}

/// Runs one input: a byte with the size of the rings; then for each report what it is about, in
/// half pages (where it begins, and its length, each in a byte), whether the request is refused,
/// and what the device does each time that the driver looks.
pub fn run(bytes: &[u8]) {
    let mut device = Hostile::new(Input::new(bytes));
    let mut report = Report::new();
    let mut remainder = Remainder::new();
    for _ in 0..REPORTS {
        let half_page = 1 << (LOG_PAGE - 1);
        let start = u64::from(device.input.byte()) * half_page;
        let len = (u64::from(device.input.byte()) % 32 + 1) * half_page;
        let wanted = Range {
            start,
            last: start + (len - 1),
        };
        device.begin(wanted);
        report.begin(wanted, wanted.pages(), device.ring());
        if !make(&mut device, &mut report, &mut remainder) {
            return;
        }
    }
}

/// Makes a report. Returns whether there can be another one.
fn make(device: &mut Hostile<'_>, report: &mut Report<Range>, remainder: &mut Remainder) -> bool {
    let mut batch = Batch::new();
    let mut waits = 0;
    loop {
        device.looks = 0;
        let counted = device.counted;
        let progress = report.next_batch(device, &mut batch);
        assert!(device.looks <= 3 * (Batch::MAX + 2), "it looks for ever");
        if device.failed_state {
            assert_eq!(progress, Err(Fault::Failed), "the tracker has failed");
        }
        match progress {
            Ok(Progress::More) => {
                waits = 0;
                // So a report ends: what is counted has a limit.
                assert!(device.counted > counted, "no progress");
                assert_eq!(batch.messages(), device.batch());
                let asked = report.asked();
                assert_eq!(asked, device.requested);
                if let Some(asked) = asked {
                    set(device, remainder, asked, &batch);
                }
                if device.leaves {
                    return true;
                }
            }
            Ok(Progress::Wait) => {
                assert!(batch.messages().is_empty() && device.taken.is_empty());
                assert!(std::mem::take(&mut device.armed), "no event will come");
                // The driver does not wait for ever.
                waits += 1;
                if !device.act() || waits > WAITS {
                    return false;
                }
            }
            Ok(Progress::Done) => {
                assert!(batch.messages().is_empty() && device.taken.is_empty());
                assert!(!device.running, "the device has not ended its report");
                assert_eq!(report.asked(), Some(device.wanted));
                let room = has_room(remainder);
                let asked = device.wanted.piece();
                remainder.forget(asked);
                assert!(!room || remainder.find(asked).next().is_none());
                return true;
            }
            Err(Fault::Flood) => {
                assert!(device.flooded, "not more than there may be");
                return true;
            }
            Err(Fault::Refused(())) => {
                assert!(device.refused);
                return true;
            }
            Err(Fault::Failed) => {
                assert!(device.failed || device.failed_state || device.forgotten);
                return false;
            }
        }
    }
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let state = |state: u8| SEND | (state << STATE);
    let (tracking, reporting, failed) = (state(0), state(1), state(2));
    let send = |options: u8, len: u8, page: u16| {
        let half = (2 * page).to_le_bytes();
        vec![options, len, half[0], half[1]]
    };
    // Eight slots of 32 bytes. A report about 16 pages, which is not refused.
    let report = |acts: &[Vec<u8>]| [&[1 | (1 << 2), 2, 31, 0][..], &acts.concat()].concat();
    let entry = |slot: u8, words: [u32; 3]| {
        let words = words.map(u32::to_le_bytes).concat();
        [&[ENTRY, slot], &words[..]].concat()
    };
    let word = [&[WORD, 0][..], &u64::MAX.to_le_bytes()].concat();
    let first = send(reporting, 8, 1);
    let last = send(tracking, 2, 9);
    let message = RESP_SEND_IMM << 4;
    vec![
        ("one message", report(std::slice::from_ref(&last))),
        (
            "three messages",
            report(&[first.clone(), first.clone(), last.clone()]),
        ),
        (
            "a slow device",
            report(&[
                vec![NOTHING; 9],
                first.clone(),
                vec![NOTHING; 3],
                last.clone(),
            ]),
        ),
        (
            "empty messages",
            report(&[
                send(reporting, 0, 0),
                send(reporting, 0, 0),
                send(tracking, 0, 0),
            ]),
        ),
        ("a flood", report(&[send(reporting | FOREVER, 8, 1)])),
        (
            "a flood of empty messages",
            report(&[send(reporting | FOREVER, 0, 1)]),
        ),
        (
            "a queue that is overrun",
            report(&[send(reporting | FOREVER | OVERRUN, 8, 1)]),
        ),
        (
            "a tracker that fails",
            report(&[first.clone(), send(failed, 8, 3)]),
        ),
        (
            "a message that is too long",
            report(&[first.clone(), send(tracking, 9, 3)]),
        ),
        (
            "an entry that is an error",
            report(&[first.clone(), entry(1, [13 << 4, 0, 0])]),
        ),
        (
            "an entry out of turn",
            report(&[entry(0, [message | (7 << 16), 32, 0])]),
        ),
        (
            "an address at the end",
            report(&[word, first.clone(), last.clone()]),
        ),
        (
            "memory that is gone",
            report(&[vec![FORGET], first.clone()]),
        ),
        (
            "a request that is refused",
            vec![0, 2, 31, REFUSE, 2, 31, 0],
        ),
        (
            "a report that is left",
            report(&[
                vec![LEAVE],
                first.clone(),
                vec![2, 31],
                first.clone(),
                last.clone(),
                vec![0],
                last.clone(),
            ]),
        ),
        (
            "parts of pages, around the indices",
            [
                &[16 | (1 << 2), 1, 0, 0][..],
                &send(tracking, 8, 0),
                &[0, 2, 0],
                &send(tracking, 8, 1),
            ]
            .concat(),
        ),
    ]
}

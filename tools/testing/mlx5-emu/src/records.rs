// SPDX-License-Identifier: GPL-2.0

//! What a driver has made of its function, as records: what of it has changed, and pieces of
//! it for an image that has little room.

use crate::resources::limits::max_len;
use std::collections::{
    BTreeMap,
    BTreeSet, //
};

/// What a record is of. The numbers are those that an image has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
pub enum Kind {
    /// Command queue, capabilities chosen, and what has been told.
    Registers = 1,
    /// A command that is not answered yet.
    Command = 2,
    /// Pages that its driver has lent.
    Pages = 3,
    /// What a driver says of its virtual port.
    Vport = 4,
    /// Frames of the virtual port.
    Counters = 5,
    /// Numbers of protection domains.
    Pds = 6,
    /// Numbers of UAR pages.
    Uars = 7,
    /// Numbers of transport domains.
    Domains = 8,
    /// An event queue.
    Eq = 9,
    /// An mkey.
    Mkey = 10,
    /// A completion queue.
    Cq = 11,
    /// A queue pair.
    Qp = 12,
    /// A TIS.
    Tis = 13,
    /// A TIR.
    Tir = 14,
    /// An RQT.
    Rqt = 15,
    /// A send queue.
    Sq = 16,
    /// A receive queue.
    Rq = 17,
    /// A queue counter.
    QCounter = 18,
    /// A flow table with its groups and entries.
    FlowTable = 19,
    /// The table that frames come to first.
    Root = 20,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::Registers,
        Self::Command,
        Self::Pages,
        Self::Vport,
        Self::Counters,
        Self::Pds,
        Self::Uars,
        Self::Domains,
        Self::Eq,
        Self::Mkey,
        Self::Cq,
        Self::Qp,
        Self::Tis,
        Self::Tir,
        Self::Rqt,
        Self::Sq,
        Self::Rq,
        Self::QCounter,
        Self::FlowTable,
        Self::Root,
    ];

    /// Whether each record is of something that a driver creates. Of the other kinds there is
    /// always one, or it is gone soon.
    fn is_created(self) -> bool {
        (Self::Eq..=Self::FlowTable).contains(&self)
    }

    /// The kind with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Names a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// What it is of.
    pub kind: Kind,
    /// Which one.
    pub number: u32,
}

/// All records of a function. What is as after a reset has none.
pub type Records = BTreeMap<Key, Vec<u8>>;

/// What an image has of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Bytes from `offset` on, of `total`.
    Piece {
        /// Of which record.
        key: Key,
        /// Where they are in it.
        offset: u32,
        /// Bytes of the record.
        total: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// It is as after a reset.
    Gone(Key),
}

impl Part {
    /// Bytes in front of those of a part, in an image.
    pub const HEADER: usize = 24;

    /// Bytes in an image.
    pub fn size(&self) -> usize {
        Self::HEADER
            + match self {
                Self::Piece { bytes, .. } => bytes.len(),
                Self::Gone(_) => 0,
            }
    }

    /// A whole record.
    pub fn whole(key: Key, bytes: &[u8]) -> Self {
        Self::Piece {
            key,
            offset: 0,
            total: bytes.len() as u32,
            bytes: bytes.to_vec(),
        }
    }
}

/// What whoever has all images knows of the records.
#[derive(Clone, Default, Debug)]
pub struct Sent {
    records: Records,
    /// What is there that a new initial state is not needed for: what was there when tracking
    /// began, and what was sent since.
    known: BTreeSet<Key>,
    /// A record of which a part was sent, and how much.
    begun: Option<(Key, Vec<u8>, usize)>,
}

impl Sent {
    /// None of `now` was sent yet.
    pub fn none(now: &Records) -> Self {
        Self {
            records: Records::new(),
            known: now.keys().copied().collect(),
            begun: None,
        }
    }

    /// What differs between what was sent and `now`, and what it is now.
    fn changes<'a>(&'a self, now: &'a Records) -> impl Iterator<Item = (Key, Option<&'a [u8]>)> {
        let gone = self.records.keys().filter(|key| !now.contains_key(key));
        let begun = self.begun.as_ref().map(|(key, ..)| key);
        let changed = now
            .iter()
            .filter(move |(key, bytes)| self.records.get(key) != Some(bytes) || begun == Some(key));
        gone.map(|key| (*key, None))
            .chain(changed.map(|(key, bytes)| (*key, Some(bytes.as_slice()))))
    }

    /// Whether all was sent.
    pub fn is_all(&self, now: &Records) -> bool {
        self.changes(now).next().is_none()
    }

    /// Whether something was created that was not sent yet.
    pub fn lacks_new(&self, now: &Records) -> bool {
        let mut created = now.keys().filter(|key| key.kind.is_created());
        created.any(|key| !self.known.contains(key))
    }

    /// Something was destroyed, of which there is none in `now`. What is created with its number
    /// is another one, even if it is like it.
    pub fn forget(&mut self, now: &Records) {
        self.known.retain(|key| {
            let stays = now.contains_key(key);
            if let (false, Some(sent)) = (stays, self.records.get_mut(key)) {
                // No record is empty, so whatever comes differs.
                sent.clear();
            }
            stays
        });
    }

    /// Bytes that an image needs for all that was not sent.
    pub fn missing(&self, now: &Records) -> u64 {
        let changes = self.changes(now);
        changes
            .map(|(_, bytes)| (Part::HEADER + bytes.map_or(0, <[u8]>::len)) as u64)
            .sum()
    }

    /// Takes what was not sent, as much as fits into `room` bytes.
    pub fn take(&mut self, now: &Records, room: u64) -> Vec<Part> {
        let mut room = usize::try_from(room).unwrap_or(usize::MAX);
        let (first, done) = match &self.begun {
            // Only if it has not changed meanwhile: otherwise from its beginning.
            Some((key, bytes, done)) if now.get(key) == Some(bytes) => (Some(*key), *done),
            _ => (None, 0),
        };
        let changes: Vec<(Key, Option<Vec<u8>>)> = self
            .changes(now)
            .map(|(key, bytes)| (key, bytes.map(<[u8]>::to_vec)))
            .collect();
        let is_first = |(key, _): &&(Key, _)| Some(*key) == first;
        let order = changes
            .iter()
            .filter(is_first)
            .chain(changes.iter().filter(|change| !is_first(change)));
        let mut parts = Vec::new();
        for (key, bytes) in order {
            let offset = if Some(*key) == first { done } else { 0 };
            let Some(left) = room.checked_sub(Part::HEADER) else {
                break;
            };
            let is_begun = self.begun.as_ref().is_some_and(|(begun, ..)| begun == key);
            let Some(bytes) = bytes else {
                if is_begun {
                    self.begun = None;
                }
                self.records.remove(key);
                self.known.remove(key);
                parts.push(Part::Gone(*key));
                room = left;
                continue;
            };
            let now = left.min(bytes.len() - offset);
            if now == 0 {
                break;
            }
            parts.push(Part::Piece {
                key: *key,
                offset: offset as u32,
                total: bytes.len() as u32,
                bytes: bytes[offset..offset + now].to_vec(),
            });
            room = left - now;
            if is_begun {
                self.begun = None;
            }
            if offset + now < bytes.len() {
                // If it goes before its end is sent, that is to be told.
                self.records.insert(*key, bytes[..offset + now].to_vec());
                self.begun = Some((*key, bytes.clone(), offset + now));
                break;
            }
            self.records.insert(*key, bytes.clone());
            self.known.insert(*key);
        }
        parts
    }
}

/// Puts the parts of images together again.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Joined {
    /// A record of which the end is missing, and its bytes.
    begun: Option<(Key, u32, Vec<u8>)>,
}

impl Joined {
    /// Takes the parts of one image. Returns the records that are complete now, or `None` if a
    /// part does not go on where the one before ended.
    pub fn join(&mut self, parts: Vec<Part>) -> Option<Vec<(Key, Option<Vec<u8>>)>> {
        let mut complete = Vec::new();
        for part in parts {
            match part {
                Part::Gone(key) => {
                    self.begun = None;
                    complete.push((key, None));
                }
                Part::Piece {
                    key,
                    offset,
                    total,
                    bytes,
                } => {
                    if total as usize > max_len(key.kind) {
                        return None;
                    }
                    let mut record = match (offset, self.begun.take()) {
                        (0, _) => Vec::new(),
                        (_, Some((of, all, begun)))
                            if of == key && all == total && begun.len() == offset as usize =>
                        {
                            begun
                        }
                        _ => return None,
                    };
                    record.extend(bytes);
                    match record.len().cmp(&(total as usize)) {
                        std::cmp::Ordering::Less => self.begun = Some((key, total, record)),
                        std::cmp::Ordering::Equal => complete.push((key, Some(record))),
                        std::cmp::Ordering::Greater => return None,
                    }
                }
            }
        }
        Some(complete)
    }

    /// Whether no end is missing.
    pub fn is_complete(&self) -> bool {
        self.begun.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key {
            kind: Kind::Sq,
            number,
        }
    }

    fn records(all: &[(u32, &[u8])]) -> Records {
        let all = all.iter();
        all.map(|(number, bytes)| (key(*number), bytes.to_vec()))
            .collect()
    }

    /// The receiver of all parts.
    #[derive(Default)]
    struct Other {
        joined: Joined,
        records: Records,
    }

    impl Other {
        fn load(&mut self, parts: Vec<Part>) {
            for (key, bytes) in self.joined.join(parts).unwrap() {
                match bytes {
                    Some(bytes) => self.records.insert(key, bytes),
                    None => self.records.remove(&key),
                };
            }
        }
    }

    #[test]
    fn kinds_have_numbers() {
        for (number, kind) in (1..).zip(Kind::ALL) {
            assert_eq!(kind as u16, number);
            assert_eq!(Kind::from_number(number), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(21), None);
    }

    #[test]
    fn what_has_changed_is_sent() {
        let first = records(&[(1, b"one"), (2, b"two"), (3, b"three")]);
        let mut sent = Sent::none(&first);
        assert_eq!(sent.take(&first, u64::MAX).len(), 3);
        assert!(sent.is_all(&first) && !sent.lacks_new(&first));
        assert_eq!(sent.missing(&first), 0);

        let second = records(&[(1, b"one"), (2, b"zwei")]);
        assert!(!sent.is_all(&second) && !sent.lacks_new(&second));
        assert_eq!(sent.missing(&second), 24 + 24 + 4);
        let parts = sent.take(&second, u64::MAX);
        let expected = [Part::Gone(key(3)), Part::whole(key(2), b"zwei")];
        assert_eq!(parts, expected);
        assert!(sent.is_all(&second));

        // What comes back is new.
        assert!(sent.lacks_new(&first));
        sent.take(&first, u64::MAX);
        assert!(!sent.lacks_new(&first));
    }

    #[test]
    fn what_is_created_again_is_new() {
        let first = records(&[(1, b"one"), (2, b"two")]);
        let mut sent = Sent::none(&first);
        sent.take(&first, u64::MAX);
        sent.forget(&records(&[(1, b"one")]));
        assert!(sent.lacks_new(&first) && !sent.is_all(&first));
        let parts = sent.take(&first, u64::MAX);
        assert_eq!(parts, [Part::whole(key(2), b"two")]);
        assert!(sent.is_all(&first) && !sent.lacks_new(&first));
        // If it is not, that is told.
        let second = records(&[(1, b"one")]);
        sent.forget(&second);
        assert_eq!(sent.take(&second, u64::MAX), [Part::Gone(key(2))]);
        assert!(sent.is_all(&second));
    }

    #[test]
    fn a_record_is_sent_in_pieces() {
        let now = records(&[(1, &[7; 100]), (2, &[8; 10])]);
        let mut sent = Sent::none(&now);
        assert!(!sent.lacks_new(&now));
        let mut other = Other::default();
        let mut images = 0;
        while !sent.is_all(&now) {
            let parts = sent.take(&now, 60);
            assert!(parts.iter().map(Part::size).sum::<usize>() <= 60);
            assert!(!parts.is_empty());
            other.load(parts);
            images += 1;
        }
        assert_eq!(images, 4);
        assert!(other.joined.is_complete());
        assert_eq!(other.records, now);
        assert_eq!(sent.take(&now, 60), []);
    }

    #[test]
    fn a_record_that_changes_between_pieces_is_sent_again() {
        let mut now = records(&[(1, &[7; 100])]);
        let mut sent = Sent::none(&now);
        let mut other = Other::default();
        other.load(sent.take(&now, 60));
        assert!(!other.joined.is_complete());
        now = records(&[(1, &[9; 50])]);
        other.load(sent.take(&now, 100));
        assert_eq!(other.records, now);

        // Or it goes.
        now.insert(key(2), vec![1; 100]);
        other.load(sent.take(&now, 60));
        now.remove(&key(2));
        let parts = sent.take(&now, 60);
        assert_eq!(parts, [Part::Gone(key(2))]);
        other.load(parts);
        assert!(other.joined.is_complete());
        assert!(sent.is_all(&now));
        assert_eq!(other.records, now);
    }

    #[test]
    fn without_room_nothing_is_sent() {
        let now = records(&[(1, b"one")]);
        let mut sent = Sent::none(&now);
        assert_eq!(sent.take(&now, 0), []);
        assert_eq!(sent.take(&now, 24), []);
        assert_eq!(sent.take(&now, 25).len(), 1);
        assert_eq!(
            sent.take(&now, 26),
            [Part::Piece {
                key: key(1),
                offset: 1,
                total: 3,
                bytes: b"ne".to_vec()
            }]
        );
    }

    #[test]
    fn pieces_go_on_where_the_ones_before_ended() {
        let piece = |number, offset, total, len| Part::Piece {
            key: key(number),
            offset,
            total,
            bytes: vec![0; len],
        };
        for second in [
            piece(2, 4, 8, 4),
            piece(1, 3, 8, 4),
            piece(1, 4, 9, 4),
            piece(1, 4, 8, 5),
        ] {
            let mut joined = Joined::default();
            assert_eq!(joined.join(vec![piece(1, 0, 8, 4)]), Some(vec![]));
            assert_eq!(joined.join(vec![second]), None);
        }
        assert_eq!(Joined::default().join(vec![piece(1, 4, 8, 4)]), None);
    }
}

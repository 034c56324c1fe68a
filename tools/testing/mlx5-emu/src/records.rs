// SPDX-License-Identifier: GPL-2.0

//! What a driver has made of its function, as records: what of it has changed, and pieces of
//! it for an image that has little room.

use crate::resources::limits::max_len;
use std::collections::{
    BTreeMap,
    BTreeSet,
    VecDeque, //
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
    /// A flow counter.
    FlowCounter = 19,
    /// A flow table with its groups and entries.
    FlowTable = 20,
    /// The table that frames come to first.
    Root = 21,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 21] = [
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
        Self::FlowCounter,
        Self::FlowTable,
        Self::Root,
    ];

    /// Whether each record is of something that a driver creates. Of the other kinds there is
    /// always one, or it is gone soon.
    fn is_created(self) -> bool {
        (Self::Eq..=Self::FlowTable).contains(&self)
    }

    /// Whether only an HCA that is a NIC comes to such records.
    pub fn is_of_nic(self) -> bool {
        matches!(
            self,
            Self::Vport
                | Self::Counters
                | Self::Domains
                | Self::Tis
                | Self::Tir
                | Self::Rqt
                | Self::Sq
                | Self::Rq
                | Self::QCounter
                | Self::FlowCounter
                | Self::FlowTable
                | Self::Root
        )
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

    /// Whether it is not the beginning of a record.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Piece { offset: 1.., .. })
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
    /// Of the one that was begun, what was sent of it.
    records: Records,
    /// What is there that a new initial state is not needed for: what was there when tracking
    /// began, and what was sent since.
    known: BTreeSet<Key>,
    /// A record of which a part was sent, and bytes of all of it.
    begun: Option<(Key, usize)>,
    /// What is to be sent of records that do not change any more.
    frozen: Option<Left>,
}

#[cfg(test)]
thread_local! {
    /// How often all records were compared with what was sent.
    pub static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What was not sent.
#[derive(Clone, Default, Debug)]
struct Left {
    keys: VecDeque<Key>,
    /// Bytes of the first one that were sent.
    offset: usize,
    /// Bytes that images need for it, if none is cut.
    size: u64,
}

impl Sent {
    /// None of `now` was sent yet.
    pub fn none(now: &Records) -> Self {
        Self {
            known: now.keys().copied().collect(),
            ..Self::default()
        }
    }

    /// What differs between what was sent and `now`.
    fn changes<'a>(&'a self, now: &'a Records) -> impl Iterator<Item = Key> + 'a {
        let gone = self.records.keys().filter(|key| !now.contains_key(key));
        let begun = self.begun.map(|(key, _)| key);
        let changed = now.iter().filter(move |(key, bytes)| {
            self.records.get(key) != Some(bytes) || begun == Some(**key)
        });
        gone.chain(changed.map(|(key, _)| key)).copied()
    }

    /// The record that was begun, if it is still the same, and bytes of it that were sent.
    fn goes_on(&self, now: &Records) -> Option<(Key, usize)> {
        let (key, total) = self.begun?;
        let (now, sent) = (now.get(&key)?, self.records.get(&key)?);
        // Otherwise from its beginning.
        (now.len() == total && now.starts_with(sent)).then_some((key, sent.len()))
    }

    /// What differs, in the order in which it is sent.
    fn left(&self, now: &Records) -> Left {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        let first = self.goes_on(now);
        let offset = first.map_or(0, |(_, offset)| offset);
        let first = first.map(|(key, _)| key);
        let others = self.changes(now).filter(|key| Some(*key) != first);
        let keys: VecDeque<Key> = first.into_iter().chain(others).collect();
        let len = |key| now.get(key).map_or(0, Vec::len);
        let size: usize = keys.iter().map(|key| Part::HEADER + len(key)).sum();
        Left {
            keys,
            offset,
            size: (size - offset) as u64,
        }
    }

    /// What is sent from now on is what `now` has: it does not change.
    pub fn freeze(&mut self, now: &Records) {
        if self.frozen.is_none() {
            self.frozen = Some(self.left(now));
        }
    }

    /// It may change again.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Whether all was sent.
    pub fn is_all(&self, now: &Records) -> bool {
        match &self.frozen {
            Some(left) => left.keys.is_empty(),
            None => self.changes(now).next().is_none(),
        }
    }

    /// Whether something was created that was not sent yet.
    pub fn lacks_new(&self, now: &Records) -> bool {
        let mut created = now.keys().filter(|key| key.kind.is_created());
        created.any(|key| !self.known.contains(key))
    }

    /// Something was destroyed, which `exists` knows. What is created with its number is another
    /// one, even if it is like it.
    pub fn forget(&mut self, exists: impl Fn(Key) -> bool) {
        self.known.retain(|key| {
            let stays = exists(*key);
            if let (false, Some(sent)) = (stays, self.records.get_mut(key)) {
                // No record is empty, so whatever comes differs.
                sent.clear();
            }
            stays
        });
    }

    /// Bytes that an image needs for all that was not sent.
    pub fn missing(&self, now: &Records) -> u64 {
        match &self.frozen {
            Some(left) => left.size,
            None => self.left(now).size,
        }
    }

    /// Takes what was not sent, as much as fits into `room` bytes.
    pub fn take(&mut self, now: &Records, room: u64) -> Vec<Part> {
        let mut room = usize::try_from(room).unwrap_or(usize::MAX);
        let frozen = self.frozen.take();
        let is_frozen = frozen.is_some();
        let mut left = frozen.unwrap_or_else(|| self.left(now));
        let mut parts = Vec::new();
        while let (Some(key), Some(most)) =
            (left.keys.front().copied(), room.checked_sub(Part::HEADER))
        {
            let Some(part) = self.take_part(now, key, left.offset, most) else {
                break;
            };
            room -= part.size();
            left.size -= part.size() as u64;
            match self.begun {
                Some((begun, _)) if begun == key => {
                    left.offset += part.size() - Part::HEADER;
                    left.size += Part::HEADER as u64;
                }
                _ => {
                    left.keys.pop_front();
                    left.offset = 0;
                }
            }
            parts.push(part);
        }
        self.frozen = is_frozen.then_some(left);
        parts
    }

    /// Takes up to `most` bytes of a record that differs, from `offset` on. If there is more, the
    /// record is the one that was begun.
    fn take_part(&mut self, now: &Records, key: Key, offset: usize, most: usize) -> Option<Part> {
        let rest = match now.get(&key) {
            Some(bytes) => &bytes[offset..],
            None => &[],
        };
        let part = match rest {
            [] => Part::Gone(key),
            _ if most == 0 => return None,
            _ => Part::Piece {
                key,
                offset: offset as u32,
                total: (offset + rest.len()) as u32,
                bytes: rest[..most.min(rest.len())].to_vec(),
            },
        };
        if self.begun.is_some_and(|(begun, _)| begun == key) {
            self.begun = None;
        }
        match &part {
            Part::Gone(_) => {
                self.records.remove(&key);
                self.known.remove(&key);
            }
            Part::Piece { bytes, .. } => {
                // If it goes before its end is sent, that is to be told.
                let sent = self.records.entry(key).or_default();
                sent.truncate(offset);
                sent.extend_from_slice(bytes);
                if bytes.len() < rest.len() {
                    self.begun = Some((key, offset + rest.len()));
                } else {
                    self.known.insert(key);
                }
            }
        }
        Some(part)
    }
}

/// A record of which the end is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Begun {
    key: Key,
    total: u32,
    bytes: Vec<u8>,
}

/// Puts the parts of images together again.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Joined {
    begun: Option<Begun>,
}

/// What an image has made complete, and what there was before it.
#[derive(Debug)]
pub struct Joining {
    /// Records that are complete now, and those that are gone.
    pub complete: Vec<(Key, Option<Vec<u8>>)>,
    before: Before,
}

/// What there was before an image.
#[derive(Debug)]
enum Before {
    /// What there is now.
    Same,
    /// Another record that was begun, or none.
    Other(Option<Begun>),
    /// This many bytes of the record that the image begins with.
    Shorter { key: Key, total: u32, len: usize },
}

impl Joined {
    /// Whether all parts of an image go on where the ones before ended. Only its first part may
    /// leave a record without its end: that has changed since, and begins anew.
    fn go_on(&self, parts: &[Part]) -> bool {
        let begun = self.begun.as_ref();
        let mut begun = begun.map(|begun| (begun.key, begun.total, begun.bytes.len()));
        parts.iter().enumerate().all(|(number, part)| {
            let left = begun.take().filter(|_| number > 0 || part.goes_on());
            let done = match (part, left) {
                (Part::Gone(_), None) => return true,
                (Part::Piece { offset: 0, .. }, None) => 0,
                (
                    Part::Piece {
                        key, offset, total, ..
                    },
                    Some((of, all, done)),
                ) if of == *key && all == *total && done == *offset as usize && done > 0 => done,
                _ => return false,
            };
            let Part::Piece {
                key, total, bytes, ..
            } = part
            else {
                return false;
            };
            let done = done + bytes.len();
            if done < *total as usize {
                begun = Some((*key, *total, done));
            }
            done <= *total as usize && *total as usize <= max_len(key.kind)
        })
    }

    /// Takes the parts of one image, or `None` if one does not go on where the one before ended.
    pub fn join(&mut self, parts: Vec<Part>) -> Option<Joining> {
        if !self.go_on(&parts) {
            return None;
        }
        let before = match (parts.first(), &self.begun) {
            (None, _) => Before::Same,
            (Some(part), Some(begun)) if part.goes_on() => Before::Shorter {
                key: begun.key,
                total: begun.total,
                len: begun.bytes.len(),
            },
            _ => Before::Other(self.begun.take()),
        };
        let mut complete = Vec::new();
        for part in parts {
            match part {
                Part::Gone(key) => complete.push((key, None)),
                Part::Piece {
                    key, total, bytes, ..
                } => {
                    let mut record = self.begun.take().map_or_else(Vec::new, |begun| begun.bytes);
                    record.extend(bytes);
                    if record.len() == total as usize {
                        complete.push((key, Some(record)));
                    } else {
                        let bytes = record;
                        self.begun = Some(Begun { key, total, bytes });
                    }
                }
            }
        }
        Some(Joining { complete, before })
    }

    /// An image that was joined is refused: it leaves no trace.
    pub fn undo(&mut self, Joining { complete, before }: Joining) {
        match before {
            Before::Same => (),
            Before::Other(begun) => self.begun = begun,
            Before::Shorter { key, total, len } => {
                // The record is the first one that is complete now, or it is not complete yet.
                let first = complete.into_iter().next().and_then(|(_, bytes)| bytes);
                let begun = self.begun.take().map(|begun| begun.bytes);
                let mut bytes = first.or(begun).unwrap_or_default();
                bytes.truncate(len);
                self.begun = Some(Begun { key, total, bytes });
            }
        }
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
            for (key, bytes) in self.joined.join(parts).unwrap().complete {
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
        assert_eq!(Kind::from_number(22), None);
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
        sent.forget(|one| one == key(1));
        assert!(sent.lacks_new(&first) && !sent.is_all(&first));
        let parts = sent.take(&first, u64::MAX);
        assert_eq!(parts, [Part::whole(key(2), b"two")]);
        assert!(sent.is_all(&first) && !sent.lacks_new(&first));
        // If it is not, that is told.
        let second = records(&[(1, b"one")]);
        sent.forget(|one| one == key(1));
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
    fn what_is_frozen_is_not_compared_again() {
        let now = records(&[(1, &[1; 100]), (2, b"two"), (3, b"three")]);
        let mut sent = Sent::none(&now);
        sent.freeze(&now);
        assert_eq!(sent.missing(&now), 3 * 24 + 108);
        let mut other = Other::default();
        // The first one in two pieces.
        for (room, left) in [(64, 24 + 60 + 24 + 3 + 24 + 5), (84, 24 + 3 + 24 + 5)] {
            other.load(sent.take(&now, room));
            assert_eq!(sent.missing(&now), left);
        }
        // Had it looked at that one again, it would have found that it has changed.
        let changed = records(&[(1, &[2; 100]), (2, b"two"), (3, b"three")]);
        other.load(sent.take(&changed, u64::MAX));
        assert!(sent.is_all(&changed));
        assert_eq!(other.records, now);
        sent.thaw();
        assert!(sent.is_all(&now) && !sent.is_all(&changed));
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
            let first = joined.join(vec![piece(1, 0, 8, 4)]).unwrap();
            assert_eq!(first.complete, []);
            assert!(joined.join(vec![second]).is_none());
        }
        assert!(Joined::default().join(vec![piece(1, 4, 8, 4)]).is_none());
        // Nothing follows a record without its end in the same image.
        for other in [piece(1, 0, 8, 8), piece(2, 0, 8, 8), Part::Gone(key(2))] {
            let parts = vec![piece(1, 0, 8, 4), other];
            assert!(Joined::default().join(parts).is_none());
        }
    }

    #[test]
    fn a_refused_image_leaves_no_trace() {
        let piece = |number, offset, bytes: &[u8]| Part::Piece {
            key: key(number),
            offset,
            total: 8,
            bytes: bytes.to_vec(),
        };
        for parts in [
            vec![],
            vec![piece(1, 3, b"de")],
            vec![piece(1, 3, b"defgh")],
            vec![piece(1, 3, b"defgh"), Part::Gone(key(3)), piece(2, 0, b"x")],
            vec![piece(1, 0, b"abcdefgh")],
            vec![Part::Gone(key(1)), piece(2, 0, b"x")],
        ] {
            let mut joined = Joined::default();
            joined.join(vec![piece(1, 0, b"abc")]).unwrap();
            let before = joined.clone();
            let joining = joined.join(parts).unwrap();
            joined.undo(joining);
            assert_eq!(joined, before);
            let joining = joined.join(vec![piece(1, 3, b"defgh")]).unwrap();
            let whole = (key(1), Some(b"abcdefgh".to_vec()));
            assert_eq!(joining.complete, [whole]);
        }
    }
}

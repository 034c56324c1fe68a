// SPDX-License-Identifier: GPL-2.0

//! The records of streams, of drivers whose streams have some: those for ConnectX VFs
//! (include/linux/mlx5/vf_migration_stream.h).

/// Bytes of a header.
const HEADER: usize = 16;
/// The tag of an image.
pub(super) const IMAGE: u32 = 0;
/// The tag of the size of an image.
pub(super) const SIZE: u32 = 1;
/// The least bytes of that.
const SIZE_LEN: u64 = 8;
/// The flag of a record that may be skipped.
pub(super) const OPTIONAL: u32 = 1 << 0;
/// The most bytes of a record.
const MAX_SIZE: u64 = u32::MAX as u64;

/// What is known of the images in a stream, beside that they are bytes.
#[derive(Clone, Copy, Debug)]
pub struct ImageFormat {
    /// Words of 64 bits at the beginning of an image that say what is in it.
    pub words: usize,
    /// Makes the digest of an image right, which has these words.
    pub seal: fn(&mut [u8]),
}

/// A record. Its header may lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) size: u64,
    pub(super) flags: u32,
    pub(super) tag: u32,
    pub(super) data: Vec<u8>,
}

/// Takes a header off `bytes`: size, flags, tag.
fn header(bytes: &mut &[u8]) -> Option<(u64, u32, u32)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    *bytes = rest;
    let size = u64::from(word(0)) | (u64::from(word(4)) << 32);
    Some((size, word(8), word(12)))
}

/// Takes the data of a record off `bytes`, if all are there.
fn data<'a>(bytes: &mut &'a [u8], size: u64) -> Option<&'a [u8]> {
    let (data, rest) = bytes.split_at_checked(size.try_into().ok()?)?;
    *bytes = rest;
    Some(data)
}

/// Takes a stream apart. `None` if it has no such records.
pub(super) fn parse(mut stream: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !stream.is_empty() {
        let (size, flags, tag) = header(&mut stream)?;
        let data = data(&mut stream, size)?.to_vec();
        let known = [IMAGE, SIZE].contains(&tag) || flags & OPTIONAL != 0;
        known.then_some(())?;
        records.push(Record {
            size,
            flags,
            tag,
            data,
        });
    }
    let has_image = records.iter().any(|record| record.tag == IMAGE);
    has_image.then_some(records)
}

/// Puts a stream together.
pub(super) fn emit(records: &[Record]) -> Vec<u8> {
    let mut stream = Vec::new();
    for record in records {
        stream.extend(record.size.to_le_bytes());
        stream.extend(record.flags.to_le_bytes());
        stream.extend(record.tag.to_le_bytes());
        stream.extend(&record.data);
    }
    stream
}

/// What a stream is to a driver that takes the format at its word.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Verdict<'a> {
    /// Whether it is complete, and has nothing wrong; that firmware may refuse an image is
    /// another matter.
    pub(super) whole: bool,
    /// The images before anything wrong.
    pub(super) images: Vec<&'a [u8]>,
    /// Bytes that records promise, and that the stream does not have.
    pub(super) promised: u64,
}

/// The most bytes that a record promises and that are not there, of a stream whose records are all
/// taken at their word: a driver may go on after one that is not as the format has it.
fn promised(mut stream: &[u8]) -> u64 {
    let mut most = 0;
    while let Some((size, _, tag)) = header(&mut stream) {
        let available = stream.len() as u64;
        let Some(data) = data(&mut stream, size) else {
            return most.max(size - available);
        };
        if tag == SIZE {
            let announced = data.iter().take(8).rev();
            most = most.max(announced.fold(0, |n, byte| (n << 8) | u64::from(*byte)));
        }
    }
    most
}

/// Judges a stream.
pub(super) fn judge(mut stream: &[u8]) -> Verdict<'_> {
    let nothing = stream.is_empty();
    let mut verdict = Verdict {
        whole: false,
        images: Vec::new(),
        promised: promised(stream),
    };
    while !stream.is_empty() {
        let Some((size, flags, tag)) = header(&mut stream) else {
            return verdict;
        };
        let sound = match tag {
            IMAGE => size > 0,
            SIZE => size >= SIZE_LEN,
            _ => flags & OPTIONAL != 0,
        };
        if !sound || size > MAX_SIZE {
            return verdict;
        }
        let Some(data) = data(&mut stream, size) else {
            return verdict;
        };
        if tag == IMAGE {
            verdict.images.push(data);
        }
    }
    verdict.whole = nothing || !verdict.images.is_empty();
    verdict
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stream of a size and two images.
    pub(crate) fn sample() -> Vec<u8> {
        let record = |flags, tag, data: &[u8]| Record {
            size: data.len() as u64,
            flags,
            tag,
            data: data.to_vec(),
        };
        emit(&[
            record(OPTIONAL, SIZE, &300u64.to_le_bytes()),
            record(0, IMAGE, &[7; 300]),
            record(0, IMAGE, &[9; 200]),
        ])
    }

    #[test]
    fn a_stream_is_taken_apart_and_put_together() {
        let stream = sample();
        let records = parse(&stream).unwrap();
        assert_eq!(records.len(), 3);
        assert_eq!(emit(&records), stream);
        for other in [&stream[..stream.len() - 1], &stream[1..], &[], &[0; 15]] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn only_what_ends_with_a_record_is_whole() {
        let stream = sample();
        let verdict = judge(&stream);
        assert!(verdict.whole);
        assert_eq!(verdict.images, [&[7; 300][..], &[9; 200]]);
        for len in 1..stream.len() {
            // Up to the end of the first image there is no image.
            let whole = len == 24 + 316;
            assert_eq!(judge(&stream[..len]).whole, whole, "{len}");
        }
        // There is nothing to load.
        assert!(judge(&[]).whole);
    }

    #[test]
    fn what_the_format_forbids_is_not_whole() {
        let changed = |change: fn(&mut Record)| {
            let mut records = parse(&sample()).unwrap();
            change(&mut records[0]);
            judge(&emit(&records)).whole
        };
        assert!(changed(|record| record.tag = 99));
        assert!(changed(|record| record.flags = 0));
        assert!(!changed(|record| (record.tag, record.flags) = (99, 0)));
        assert!(!changed(|record| record.size = 1 << 32));
        assert!(!changed(|record| {
            record.size = 7;
            record.data.truncate(7);
        }));
        assert!(!changed(|record| {
            record.tag = IMAGE;
            record.size = 0;
            record.data.clear();
        }));
    }

    #[test]
    fn promises_are_what_is_not_there() {
        let stream = sample();
        assert_eq!(judge(&stream).promised, 300);
        assert_eq!(judge(&stream[..24 + 16 + 100]).promised, 300);
        assert_eq!(judge(&stream[24..][..16 + 100]).promised, 200);
        // A header without data that this driver refuses, and one with 200 bytes less than it says.
        let empty = [0; 16];
        let behind = [&empty[..], &stream[24..][..16 + 100]].concat();
        assert_eq!(judge(&behind).promised, 200);
    }
}

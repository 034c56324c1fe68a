// SPDX-License-Identifier: GPL-2.0

//! [`stream`](crate::stream): user space writes any bytes, in any pieces.

use super::{
    Input,
    Seed, //
};
use crate::stream::{
    header,
    size_record,
    Malformed,
    Need,
    Parser,
    Tag,
    HEADER_LEN,
    MAX_RECORD, //
};
use std::ops::Range;

/// What must become of a stream.
#[derive(PartialEq, Debug)]
struct Outcome {
    /// Where in the stream the images are that were loaded.
    images: Vec<Range<usize>>,
    /// What is wrong with it, and the byte after which that is known.
    error: Option<(Malformed, usize)>,
    /// Whether it may end here.
    complete: bool,
    /// Whether its last byte was the end of a record.
    at_boundary: bool,
}

/// Parses a whole stream, by the description of the format.
fn expected(stream: &[u8]) -> Outcome {
    let mut outcome = Outcome {
        images: Vec::new(),
        error: None,
        complete: false,
        at_boundary: false,
    };
    let mut at = 0;
    while let Some(header) = stream.get(at..at + HEADER_LEN) {
        let size = u64::from_le_bytes(header[..8].try_into().unwrap());
        let optional = header[8] & 1 == 1;
        let tag = u32::from_le_bytes(header[12..].try_into().unwrap());
        at += HEADER_LEN;
        let malformed = match tag {
            _ if size >> 32 > 0 => Some(Malformed::TooLarge),
            1 if size < 8 => Some(Malformed::TooSmall),
            0 | 1 => None,
            _ if optional => None,
            _ => Some(Malformed::UnknownTag),
        };
        if let Some(malformed) = malformed {
            outcome.error = Some((malformed, at));
            return outcome;
        }
        let end = at + size as usize;
        if end > stream.len() {
            return outcome;
        }
        if tag == 0 {
            outcome.images.push(at..end);
        }
        at = end;
    }
    outcome.at_boundary = at == stream.len();
    outcome.complete = outcome.at_boundary && (stream.is_empty() || !outcome.images.is_empty());
    outcome
}

/// Gives the parser what it has not asked for, which must change nothing.
fn mislead(parser: &mut Parser) {
    let need = parser.need();
    if !matches!(need, Need::Push(_)) {
        assert_eq!(parser.push(&[0xff; HEADER_LEN]), Ok(()));
    }
    if !matches!(need, Need::Store { .. }) {
        parser.stored(1);
    }
    if !matches!(need, Need::Load { .. }) {
        parser.loaded();
    }
    if !matches!(need, Need::Skip(_)) {
        parser.skipped(1);
    }
    assert_eq!(parser.need(), need, "it needs something else than before");
}

/// Gives a parser a stream in pieces of the given lengths, over and over.
fn parse(stream: &[u8], mut pieces: impl Iterator<Item = usize>) -> Outcome {
    let mut parser = Parser::new();
    let mut images = Vec::new();
    // Where the image begins that is being stored, and what is stored.
    let mut image = 0..0;
    let (mut at, mut end) = (0, 0);
    let mut steps = 0;
    let mut error = None;
    loop {
        mislead(&mut parser);
        let need = parser.need();
        assert_eq!(parser.is_at_boundary(), need == Need::Push(HEADER_LEN));
        assert!(parser.is_at_boundary() || !parser.is_complete());
        if at == end && !matches!(need, Need::Load { .. }) {
            if at == stream.len() {
                break;
            }
            end = stream.len().min(at + pieces.next().unwrap_or(usize::MAX));
        }
        let left = &stream[at..end];
        // What comes next, if a record's header does not say that.
        let next = match need {
            Need::Push(want) => {
                assert!((1..=HEADER_LEN).contains(&want), "{need:?}");
                let pushed = want.min(left.len());
                at += pushed;
                if let Err(malformed) = parser.push(left) {
                    error = Some((malformed, at));
                    break;
                }
                image = at..at;
                (pushed < want).then(|| Need::Push(want - pushed))
            }
            Need::Store { at: offset, len } => {
                assert_eq!(offset, image.len(), "an image has a gap");
                assert!(len > 0 && (offset + len) as u64 <= MAX_RECORD, "{need:?}");
                let stored = len.min(left.len());
                parser.stored(stored);
                at += stored;
                image.end = at;
                Some(match len - stored {
                    0 => Need::Load { len: offset + len },
                    len => Need::Store {
                        at: offset + stored,
                        len,
                    },
                })
            }
            Need::Load { len } => {
                assert_eq!(image.len(), len, "an image is not as long as was stored");
                images.push(image.clone());
                parser.loaded();
                Some(Need::Push(HEADER_LEN))
            }
            Need::Skip(len) => {
                assert!((1..=MAX_RECORD).contains(&len), "{need:?}");
                let skipped = len.min(left.len() as u64);
                parser.skipped(skipped);
                at += skipped as usize;
                Some(match len - skipped {
                    0 => Need::Push(HEADER_LEN),
                    len => Need::Skip(len),
                })
            }
        };
        assert!(
            next.is_none_or(|next| parser.need() == next),
            "after {need:?}: {next:?}"
        );
        steps += 1;
        assert!(steps <= 2 * stream.len(), "no end");
    }
    Outcome {
        images,
        complete: error.is_none() && parser.is_complete(),
        at_boundary: error.is_none() && parser.is_at_boundary(),
        error,
    }
}

/// Runs one input: the lengths of four pieces, less one, in a byte each; a stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let pieces = [(); 4].map(|()| usize::from(input.byte()) + 1);
    let stream = input.rest();
    let expected = expected(stream);
    assert_eq!(parse(stream, std::iter::empty()), expected, "as a whole");
    let pieces = pieces.into_iter().cycle();
    assert_eq!(parse(stream, pieces), expected, "in pieces");
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let record = |size: u64, flags: u32, tag: u32, data: &[u8]| {
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.extend(flags.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(data);
        bytes
    };
    let image = [&header(Tag::FwData, 8)[..], &[7; 8]].concat();
    let size = size_record(8).to_vec();
    [
        ("no stream", vec![]),
        ("an image", image.clone()),
        ("an image that is cut off", image[..20].to_vec()),
        ("a header that is cut off", image[..9].to_vec()),
        ("an empty image", header(Tag::FwData, 0).to_vec()),
        (
            "an image of the most bytes",
            header(Tag::FwData, MAX_RECORD).to_vec(),
        ),
        (
            "a size and two images",
            [&size[..], &image, &image].concat(),
        ),
        ("a size only", size),
        ("a size that is too short", record(7, 1, 1, &[0; 7])),
        ("a size that is longer", record(9, 1, 1, &[0; 9])),
        ("an unknown record, optional", record(3, 1, 9, &[0; 3])),
        ("an unknown record, empty", record(0, 1, 9, &[])),
        ("an unknown record", record(3, 0, 9, &[0; 3])),
        ("a record that is too large", record(1 << 32, 1, 9, &[])),
    ]
    .map(|(name, stream)| (name, [&[0, 2, 6, 40], &stream[..]].concat()))
    .into()
}

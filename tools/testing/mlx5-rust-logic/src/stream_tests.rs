// SPDX-License-Identifier: GPL-2.0

//! [`stream`](crate::stream): whatever pieces a stream comes in, and whatever
//! is in it.

use crate::stream::{
    header, size_record, Malformed, Parser, Step, Tag, HEADER_LEN, MAX_RECORD, SIZE_LEN,
};
use proptest::prelude::*;

/// Feeds `stream` in pieces of the given sizes, over and over, and returns the
/// images that would have been loaded.
fn feed(stream: &[u8], pieces: &[usize]) -> (Result<Vec<Vec<u8>>, Malformed>, Parser) {
    let mut parser = Parser::new();
    let mut images = Vec::new();
    let mut image = Vec::new();
    let mut rest = stream;
    for &piece in pieces.iter().cycle() {
        let (mut now, later) = rest.split_at(piece.min(rest.len()));
        loop {
            match parser.step() {
                Step::Load { len } => {
                    images.push(image[..len].to_vec());
                    parser.loaded();
                }
                _ if now.is_empty() => break,
                Step::Push(want) => {
                    let n = want.min(now.len());
                    if let Err(err) = parser.push(&now[..n]) {
                        return (Err(err), parser);
                    }
                    now = &now[n..];
                }
                Step::Store { at, len } => {
                    let n = len.min(now.len());
                    image.truncate(at);
                    image.extend_from_slice(&now[..n]);
                    parser.stored(n);
                    now = &now[n..];
                }
                Step::Skip(len) => {
                    let n = now.len().min(len.try_into().unwrap_or(usize::MAX));
                    parser.skipped(n as u64);
                    now = &now[n..];
                }
            }
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    (Ok(images), parser)
}

fn raw_header(size: u64, flags: u32, tag: u32) -> Vec<u8> {
    let mut bytes = size.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(tag.to_le_bytes());
    bytes
}

#[test]
fn header_is_the_c_drivers_struct() {
    assert_eq!(
        header(Tag::FwData, 0x1122_3344),
        [0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        size_record(0x2000)[..],
        [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn a_record_that_could_never_be_loaded_is_refused() {
    for size in [MAX_RECORD + 1, u64::MAX] {
        for (flags, tag) in [(0, 0), (1, 1), (1, 77)] {
            let (result, _) = feed(&raw_header(size, flags, tag), &[16]);
            assert_eq!(result, Err(Malformed::TooLarge));
        }
    }
}

#[test]
fn the_largest_record_is_only_believed_as_it_arrives() {
    let (result, parser) = feed(&raw_header(MAX_RECORD, 0, 0), &[16]);
    assert_eq!(result, Ok(vec![]));
    assert_eq!(
        parser.step(),
        Step::Store {
            at: 0,
            len: MAX_RECORD as usize
        }
    );
}

#[test]
fn an_unknown_record_is_skipped_only_if_optional() {
    let mut stream = raw_header(5, 1, 77);
    stream.extend([0; 5]);
    stream.extend(header(Tag::FwData, 1));
    stream.push(9);
    assert_eq!(feed(&stream, &[3]).0, Ok(vec![vec![9]]));
    let (result, _) = feed(&raw_header(5, 0, 77), &[16]);
    assert_eq!(result, Err(Malformed::UnknownTag));
    let (result, _) = feed(&raw_header(5, !1, 77), &[16]);
    assert_eq!(result, Err(Malformed::UnknownTag));
}

#[test]
fn a_size_record_without_a_size_is_refused() {
    for size in 0..SIZE_LEN as u64 {
        let (result, _) = feed(&raw_header(size, 1, 1), &[16]);
        assert_eq!(result, Err(Malformed::TooSmall));
    }
}

#[test]
fn a_longer_size_record_is_taken() {
    let mut stream = raw_header(12, 1, 1);
    stream.extend([1; 12]);
    let (result, parser) = feed(&stream, &[7]);
    assert_eq!(result, Ok(vec![]));
    assert_eq!(parser.step(), Step::Push(HEADER_LEN));
}

#[test]
fn a_stream_without_an_image_is_incomplete() {
    assert!(Parser::new().is_complete());
    for stream in [size_record(7).to_vec(), raw_header(0, 1, 77)] {
        let (result, parser) = feed(&stream, &[5]);
        assert_eq!(result, Ok(vec![]));
        assert!(!parser.is_complete());
    }
}

#[test]
fn an_empty_image_is_for_firmware_to_judge() {
    let (result, parser) = feed(&header(Tag::FwData, 0), &[16]);
    assert_eq!(result, Ok(vec![vec![]]));
    assert!(parser.is_complete());
}

/// A well-formed stream, and the images in it.
fn streams() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let record = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|image| {
            let mut bytes = header(Tag::FwData, image.len() as u64).to_vec();
            bytes.extend(&image);
            (bytes, Some(image))
        }),
        1 => any::<u64>().prop_map(|size| (size_record(size).to_vec(), None)),
        1 => (2u32.., prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(tag, data)| {
            let mut bytes = raw_header(data.len() as u64, 1, tag);
            bytes.extend(&data);
            (bytes, None)
        }),
    ];
    prop::collection::vec(record, 0..6).prop_map(|records| {
        let mut stream = Vec::new();
        let mut images = Vec::new();
        for (bytes, image) in records {
            stream.extend(bytes);
            images.extend(image);
        }
        (stream, images)
    })
}

/// A write that ends there waits until all is loaded.
#[test]
fn boundaries_are_where_records_end() {
    let mut stream = size_record(64).to_vec();
    let first = stream.len();
    stream.extend(header(Tag::FwData, 8));
    stream.extend([1; 8]);
    for end in 0..=stream.len() {
        let (_, parser) = feed(&stream[..end], &[1]);
        let expected = [0, first, stream.len()].contains(&end);
        assert_eq!(parser.is_at_boundary(), expected, "after {end} bytes");
    }
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        (stream, images) in streams(),
        pieces in prop::collection::vec(1usize..50, 1..8),
    ) {
        let (result, parser) = feed(&stream, &pieces);
        let complete = stream.is_empty() || !images.is_empty();
        prop_assert_eq!(result, Ok(images));
        prop_assert_eq!(parser.is_complete(), complete);
    }

    #[test]
    fn a_truncated_stream_is_noticed((stream, _) in streams(), cut: prop::sample::Index) {
        prop_assume!(!stream.is_empty());
        let cut = cut.index(stream.len());
        let mut complete = cut == 0;
        let (mut at, mut image) = (0, false);
        while at < stream.len() {
            let len = u64::from_le_bytes(stream[at..at + 8].try_into().unwrap());
            image |= stream[at + 12..at + 16] == [0; 4];
            at += HEADER_LEN + len as usize;
            complete |= at == cut && image;
        }
        let (result, parser) = feed(&stream[..cut], &[11]);
        prop_assert!(result.is_ok());
        prop_assert_eq!(parser.is_complete(), complete);
    }

    #[test]
    fn garbage_ends_in_an_error_or_waits_for_more(
        garbage in prop::collection::vec(any::<u8>(), 0..2000),
        pieces in prop::collection::vec(1usize..200, 1..4),
    ) {
        let (result, _) = feed(&garbage, &pieces);
        if let Ok(images) = result {
            prop_assert!(images.iter().map(Vec::len).sum::<usize>() <= garbage.len());
        }
    }
}

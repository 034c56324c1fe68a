// SPDX-License-Identifier: GPL-2.0

//! [`stream`](crate::stream): whatever pieces a stream comes in, and whatever
//! is in it.

use crate::stream::{
    header,
    size_record,
    tests::{
        self,
        raw_header,
        Loader, //
    },
    Malformed,
    Parser,
    Tag,
    HEADER_LEN, //
};
use proptest::prelude::*;

/// The images of a stream.
#[derive(Default)]
struct Images {
    loaded: Vec<Vec<u8>>,
    next: Vec<u8>,
}

impl Loader for Images {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.next.truncate(at);
        self.next.extend_from_slice(bytes);
    }

    fn load(&mut self, len: usize) {
        self.loaded.push(self.next[..len].to_vec());
    }
}

/// Feeds `stream` in pieces of the given sizes, over and over, and returns the
/// images that would have been loaded.
fn feed(stream: &[u8], pieces: &[usize]) -> (Result<Vec<Vec<u8>>, Malformed>, Parser) {
    let mut images = Images::default();
    let (result, parser) = tests::feed(stream, pieces, &mut images);
    (result.map(|()| images.loaded), parser)
}

fn unknown_tags() -> impl Strategy<Value = u32> {
    any::<u32>().prop_filter("it is known", |tag| Tag::of(*tag).is_none())
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
        1 => (unknown_tags(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(tag, data)| {
            let mut bytes = raw_header(data.len() as u64, 1, tag).to_vec();
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

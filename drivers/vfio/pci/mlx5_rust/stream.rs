// SPDX-License-Identifier: GPL-2.0

//! The format of the migration stream.
//!
//! A stream is a sequence of records, each a header and its data. The format is that of the C
//! driver, so that each driver can load the streams of the other;
//! `include/linux/mlx5/vf_migration_stream.h` defines it for C. A header:
//!
//! ```text
//! offset  size  field
//!      0     8  record_size: bytes of data that follow, little endian
//!      8     4  flags: bit 0, a reader that does not know the tag may skip the record
//!     12     4  tag: 0 firmware image, 1 size of the stop-copy image
//! ```
//!
//! The file uses no kernel types, so that it can also be compiled, tested and fuzzed in user space.

/// Length of a record's header, in bytes.
pub(crate) const HEADER_LEN: usize = 16;
/// Offset of `record_size` in a header.
pub(crate) const SIZE_AT: usize = 0;
/// Offset of `flags` in a header.
pub(crate) const FLAGS_AT: usize = 8;
/// Offset of `tag` in a header.
pub(crate) const TAG_AT: usize = 12;

/// Largest record that is accepted: the `size` field of LOAD_VHCA_STATE has 32 bits.
pub(crate) const MAX_RECORD: u64 = u32::MAX as u64;

/// Length of the data of a [`Tag::StopCopySize`] record, in bytes.
pub(crate) const SIZE_LEN: usize = 8;

// Values of the C header, as `fw::stream_header` asserts.

/// `MLX5_MIGF_HEADER_FLAGS_TAG_OPTIONAL`.
pub(crate) const FLAG_OPTIONAL: u32 = 1 << 0;
/// `MLX5_MIGF_HEADER_TAG_FW_DATA`.
pub(crate) const TAG_FW_DATA: u32 = 0;
/// `MLX5_MIGF_HEADER_TAG_STOP_COPY_SIZE`.
pub(crate) const TAG_STOP_COPY_SIZE: u32 = 1;

/// Kind of the data in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    /// An image for LOAD_VHCA_STATE.
    FwData,
    /// A `u64`: the approximate size of the image that is saved in STOP_COPY.
    StopCopySize,
}

impl Tag {
    /// All tags. Any other is unknown to a [`Parser`].
    pub(crate) const ALL: [Self; 2] = [Self::FwData, Self::StopCopySize];

    /// Returns the number of the tag in a header.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::FwData => TAG_FW_DATA,
            Self::StopCopySize => TAG_STOP_COPY_SIZE,
        }
    }

    /// Returns the tag with a number, if there is one.
    pub(crate) fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.number() == number)
    }
}

/// Returns the bytes of a header for `len` bytes of data.
pub(crate) fn header(tag: Tag, len: u64) -> [u8; HEADER_LEN] {
    let flags = match tag {
        Tag::FwData => 0,
        Tag::StopCopySize => FLAG_OPTIONAL,
    };
    let mut bytes = [0; HEADER_LEN];
    bytes[SIZE_AT..FLAGS_AT].copy_from_slice(&len.to_le_bytes());
    bytes[FLAGS_AT..TAG_AT].copy_from_slice(&u32::to_le_bytes(flags));
    bytes[TAG_AT..].copy_from_slice(&u32::to_le_bytes(tag.number()));
    bytes
}

/// Returns the bytes of a whole [`Tag::StopCopySize`] record.
pub(crate) fn size_record(stop_copy_size: u64) -> [u8; HEADER_LEN + SIZE_LEN] {
    let mut bytes = [0; HEADER_LEN + SIZE_LEN];
    bytes[..HEADER_LEN].copy_from_slice(&header(Tag::StopCopySize, SIZE_LEN as u64));
    bytes[HEADER_LEN..].copy_from_slice(&stop_copy_size.to_le_bytes());
    bytes
}

/// Why a stream is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// A record is larger than any that can be loaded.
    TooLarge,
    /// A record that may not be skipped has a tag that is not known.
    UnknownTag,
    /// A record is too small for the data that its tag stands for.
    TooSmall,
}

/// What a [`Parser`] needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// Pass at most this number of bytes to [`Parser::push`].
    Push(usize),
    /// Copy the next `len` bytes, or fewer, to offset `at` of the image buffer, and pass their
    /// number to [`Parser::stored`].
    Store {
        /// Offset in the image.
        at: usize,
        /// Bytes of the image that are missing.
        len: usize,
    },
    /// Load the `len` bytes in the image buffer, and then call [`Parser::loaded`].
    Load {
        /// Bytes of the image.
        len: usize,
    },
    /// Skip at most this number of bytes, and pass their number to [`Parser::skipped`].
    Skip(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Header { have: usize },
    Image { have: usize, len: usize },
    Load { len: usize },
    Skip { left: u64 },
}

/// Parses a stream that arrives in pieces of any size.
///
/// Keeps no more than a header: the caller decides where to store an image.
#[derive(Debug)]
pub(crate) struct Parser {
    expect: Expect,
    bytes: [u8; HEADER_LEN],
    /// At least one byte has arrived.
    begun: bool,
    /// An image was loaded.
    loaded: bool,
}

impl Parser {
    /// Returns a parser at the beginning of a stream.
    pub(crate) fn new() -> Self {
        Self {
            expect: Expect::Header { have: 0 },
            bytes: [0; HEADER_LEN],
            begun: false,
            loaded: false,
        }
    }

    /// Returns what the parser needs next.
    pub(crate) fn need(&self) -> Need {
        match self.expect {
            Expect::Header { have } => Need::Push(HEADER_LEN - have),
            Expect::Image { have, len } => Need::Store {
                at: have,
                len: len - have,
            },
            Expect::Load { len } => Need::Load { len },
            Expect::Skip { left } => Need::Skip(left),
        }
    }

    /// Returns whether the stream may end here: every record was complete, and at least one was an
    /// image. An empty stream is complete, too: there was nothing to load.
    pub(crate) fn is_complete(&self) -> bool {
        self.expect == Expect::Header { have: 0 } && (self.loaded || !self.begun)
    }

    /// Returns whether the last byte was the end of a record.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.expect == Expect::Header { have: 0 }
    }

    /// Takes the bytes that [`Need::Push`] asked for, or some of them.
    ///
    /// After an error, nothing more may be pushed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if let Expect::Header { have } = self.expect {
            self.begun |= !bytes.is_empty();
            let n = bytes.len().min(HEADER_LEN - have);
            self.bytes[have..have + n].copy_from_slice(&bytes[..n]);
            self.expect = if have + n == HEADER_LEN {
                self.parse_header()?
            } else {
                Expect::Header { have: have + n }
            };
        }
        Ok(())
    }

    /// Notes that `len` bytes of the image went into its buffer.
    pub(crate) fn stored(&mut self, stored: usize) {
        if let Expect::Image { have, len } = self.expect {
            let have = len.min(have.saturating_add(stored));
            self.expect = if have == len {
                Expect::Load { len }
            } else {
                Expect::Image { have, len }
            };
        }
    }

    /// Notes that the image was loaded.
    pub(crate) fn loaded(&mut self) {
        if let Expect::Load { .. } = self.expect {
            self.loaded = true;
            self.expect = Expect::Header { have: 0 };
        }
    }

    /// Notes that `len` bytes were passed over.
    pub(crate) fn skipped(&mut self, len: u64) {
        if let Expect::Skip { left } = self.expect {
            self.expect = Self::skip(left.saturating_sub(len));
        }
    }

    fn skip(left: u64) -> Expect {
        if left == 0 {
            Expect::Header { have: 0 }
        } else {
            Expect::Skip { left }
        }
    }

    fn le32(&self, at: usize) -> u32 {
        let mut le = [0; 4];
        le.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(le)
    }

    fn parse_header(&self) -> Result<Expect, Malformed> {
        let size = u64::from(self.le32(SIZE_AT)) | (u64::from(self.le32(SIZE_AT + 4)) << 32);
        if size > MAX_RECORD {
            return Err(Malformed::TooLarge);
        }
        match Tag::of(self.le32(TAG_AT)) {
            Some(Tag::FwData) if size == 0 => Ok(Expect::Load { len: 0 }),
            Some(Tag::FwData) => Ok(Expect::Image {
                have: 0,
                // CAST: `size` is at most `MAX_RECORD`.
                len: size as usize,
            }),
            Some(Tag::StopCopySize) if size < SIZE_LEN as u64 => Err(Malformed::TooSmall),
            // The size is an estimate, for a reader that allocates memory before the image arrives.
            // This driver allocates memory as data arrive.
            Some(Tag::StopCopySize) => Ok(Self::skip(size)),
            None if self.le32(FLAGS_AT) & FLAG_OPTIONAL == 0 => Err(Malformed::UnknownTag),
            None => Ok(Self::skip(size)),
        }
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_stream)
)]
pub(crate) mod tests {
    use super::*;

    /// Loads the images of a stream.
    pub(crate) trait Loader {
        /// Puts bytes at an offset of the next image.
        fn store(&mut self, at: usize, bytes: &[u8]);

        /// Loads the image.
        fn load(&mut self, len: usize);
    }

    /// Feeds `stream` to a parser in pieces, whose sizes are those in `pieces`, over and over.
    pub(crate) fn feed(
        stream: &[u8],
        pieces: &[usize],
        loader: &mut impl Loader,
    ) -> (Result<(), Malformed>, Parser) {
        let mut parser = Parser::new();
        let mut rest = stream;
        for &piece in pieces.iter().cycle() {
            let (mut now, later) = rest.split_at(piece.min(rest.len()));
            loop {
                match parser.need() {
                    Need::Load { len } => {
                        loader.load(len);
                        parser.loaded();
                    }
                    _ if now.is_empty() => break,
                    Need::Push(want) => {
                        let n = want.min(now.len());
                        if let Err(err) = parser.push(&now[..n]) {
                            return (Err(err), parser);
                        }
                        now = &now[n..];
                    }
                    Need::Store { at, len } => {
                        let n = len.min(now.len());
                        loader.store(at, &now[..n]);
                        parser.stored(n);
                        now = &now[n..];
                    }
                    Need::Skip(len) => {
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
        (Ok(()), parser)
    }

    /// Bytes in memory: a short stream, or all images of a stream.
    #[derive(Clone, Copy, Default)]
    struct Bytes {
        bytes: [[u8; 16]; 4],
        len: usize,
        images: usize,
    }

    impl Bytes {
        /// Appends bytes.
        fn with(mut self, bytes: &[u8]) -> Self {
            self.store(0, bytes);
            self.len += bytes.len();
            self
        }

        fn get(&self) -> &[u8] {
            &self.bytes.as_flattened()[..self.len]
        }
    }

    impl Loader for Bytes {
        fn store(&mut self, at: usize, bytes: &[u8]) {
            let at = self.len + at;
            self.bytes.as_flattened_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn load(&mut self, len: usize) {
            self.len += len;
            self.images += 1;
        }
    }

    /// Feeds a stream. Returns how many images it has.
    fn feed_only(stream: &[u8], pieces: &[usize]) -> (Result<usize, Malformed>, Parser) {
        let mut loaded = Bytes::default();
        let (result, parser) = feed(stream, pieces, &mut loaded);
        (result.map(|()| loaded.images), parser)
    }

    pub(crate) fn raw_header(size: u64, flags: u32, tag: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&size.to_le_bytes());
        bytes[8..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..].copy_from_slice(&tag.to_le_bytes());
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
                let (result, _) = feed_only(&raw_header(size, flags, tag), &[16]);
                assert_eq!(result, Err(Malformed::TooLarge));
            }
        }
    }

    #[test]
    fn the_largest_record_is_only_believed_as_it_arrives() {
        let (result, parser) = feed_only(&raw_header(MAX_RECORD, 0, 0), &[16]);
        assert_eq!(result, Ok(0));
        assert_eq!(
            parser.need(),
            Need::Store {
                at: 0,
                len: MAX_RECORD as usize
            }
        );
    }

    #[test]
    fn an_unknown_record_is_skipped_only_if_optional() {
        let stream = Bytes::default()
            .with(&raw_header(5, 1, 77))
            .with(&[0; 5])
            .with(&header(Tag::FwData, 1))
            .with(&[9]);
        let mut loaded = Bytes::default();
        assert_eq!(feed(stream.get(), &[3], &mut loaded).0, Ok(()));
        assert_eq!((loaded.get(), loaded.images), (&[9][..], 1));
        for flags in [0, !1] {
            let (result, _) = feed_only(&raw_header(5, flags, 77), &[16]);
            assert_eq!(result, Err(Malformed::UnknownTag));
        }
    }

    #[test]
    fn a_size_record_without_a_size_is_refused() {
        for size in 0..SIZE_LEN as u64 {
            let (result, _) = feed_only(&raw_header(size, 1, 1), &[16]);
            assert_eq!(result, Err(Malformed::TooSmall));
        }
    }

    #[test]
    fn a_longer_size_record_is_taken() {
        let stream = Bytes::default().with(&raw_header(12, 1, 1)).with(&[1; 12]);
        let (result, parser) = feed_only(stream.get(), &[7]);
        assert_eq!(result, Ok(0));
        assert_eq!(parser.need(), Need::Push(HEADER_LEN));
    }

    #[test]
    fn a_stream_without_an_image_is_incomplete() {
        assert!(Parser::new().is_complete());
        for stream in [&size_record(7)[..], &raw_header(0, 1, 77)[..]] {
            let (result, parser) = feed_only(stream, &[5]);
            assert_eq!(result, Ok(0));
            assert!(!parser.is_complete());
        }
    }

    #[test]
    fn an_empty_image_is_for_firmware_to_judge() {
        let mut loaded = Bytes::default();
        let (result, parser) = feed(&header(Tag::FwData, 0), &[16], &mut loaded);
        assert_eq!((result, loaded.len, loaded.images), (Ok(()), 0, 1));
        assert!(parser.is_complete());
    }

    /// A write that ends at a boundary waits until all images are loaded.
    #[test]
    fn boundaries_are_where_records_end() {
        let size = size_record(64);
        let stream = Bytes::default()
            .with(&size)
            .with(&header(Tag::FwData, 8))
            .with(&[1; 8]);
        for end in 0..=stream.len {
            let mut loaded = Bytes::default();
            let (_, parser) = feed(&stream.get()[..end], &[1], &mut loaded);
            let expected = [0, size.len(), stream.len].contains(&end);
            assert_eq!(parser.is_at_boundary(), expected);
            assert_eq!(
                loaded.get(),
                &[1; 8][..if end == stream.len { 8 } else { 0 }]
            );
        }
    }
}

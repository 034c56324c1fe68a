// SPDX-License-Identifier: GPL-2.0

//! The format of the migration stream.
//!
//! A stream is a sequence of records, each a header and its data. It is the
//! format of the C driver, so that streams can go from either driver to the other;
//! `include/linux/mlx5/vf_migration_stream.h` has it for C. A header:
//!
//! ```text
//! offset  size  field
//!      0     8  record_size: bytes of data that follow, little endian
//!      8     4  flags: bit 0, the record may be skipped by who does not know it
//!     12     4  tag: 0 firmware image, 1 size of the stop-copy image
//! ```
//!
//! No kernel types: the file is also compiled, tested and fuzzed on the host.

/// Bytes of a record's header.
pub(crate) const HEADER_LEN: usize = 16;
/// Where a header has `record_size`.
pub(crate) const SIZE_AT: usize = 0;
/// Where a header has `flags`.
pub(crate) const FLAGS_AT: usize = 8;
/// Where a header has `tag`.
pub(crate) const TAG_AT: usize = 12;

/// Largest record that is taken: the `size` field of LOAD_VHCA_STATE has 32
/// bits.
pub(crate) const MAX_RECORD: u64 = u32::MAX as u64;

/// Bytes of the data of a [`Tag::StopCopySize`] record.
pub(crate) const SIZE_LEN: usize = 8;

// Values of the C header, as `fw::stream_header` asserts.

/// `MLX5_MIGF_HEADER_FLAGS_TAG_OPTIONAL`.
pub(crate) const FLAG_OPTIONAL: u32 = 1 << 0;
/// `MLX5_MIGF_HEADER_TAG_FW_DATA`.
pub(crate) const TAG_FW_DATA: u32 = 0;
/// `MLX5_MIGF_HEADER_TAG_STOP_COPY_SIZE`.
pub(crate) const TAG_STOP_COPY_SIZE: u32 = 1;

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    /// An image for LOAD_VHCA_STATE.
    FwData,
    /// A `u64`: how large the image saved in STOP_COPY will be, about.
    StopCopySize,
}

/// The bytes of a header for `len` bytes of data.
pub(crate) fn header(tag: Tag, len: u64) -> [u8; HEADER_LEN] {
    let (tag, flags) = match tag {
        Tag::FwData => (TAG_FW_DATA, 0),
        Tag::StopCopySize => (TAG_STOP_COPY_SIZE, FLAG_OPTIONAL),
    };
    let mut bytes = [0; HEADER_LEN];
    bytes[SIZE_AT..FLAGS_AT].copy_from_slice(&len.to_le_bytes());
    bytes[FLAGS_AT..TAG_AT].copy_from_slice(&u32::to_le_bytes(flags));
    bytes[TAG_AT..].copy_from_slice(&u32::to_le_bytes(tag));
    bytes
}

/// The bytes of a whole [`Tag::StopCopySize`] record.
pub(crate) fn size_record(stop_copy_size: u64) -> [u8; HEADER_LEN + SIZE_LEN] {
    let mut bytes = [0; HEADER_LEN + SIZE_LEN];
    bytes[..HEADER_LEN].copy_from_slice(&header(Tag::StopCopySize, SIZE_LEN as u64));
    bytes[HEADER_LEN..].copy_from_slice(&stop_copy_size.to_le_bytes());
    bytes
}

/// What is wrong with a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// A record is larger than any that can be loaded.
    TooLarge,
    /// A record that may not be skipped has a tag that is not known.
    UnknownTag,
    /// A record is smaller than what its tag says is in it.
    TooSmall,
}

/// What has to happen next for a [`Parser`] to get on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Up to so many bytes go to [`Parser::push`].
    Push(usize),
    /// The next `len` bytes, or fewer, go to offset `at` of the image buffer,
    /// and their number to [`Parser::stored`].
    Store {
        /// Offset in the image.
        at: usize,
        /// Bytes of the image that are missing.
        len: usize,
    },
    /// The image buffer holds `len` bytes to load; then [`Parser::loaded`].
    Load {
        /// Bytes of the image.
        len: usize,
    },
    /// The next so many bytes, or fewer, are of no interest; their number goes
    /// to [`Parser::skipped`].
    Skip(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Header { have: usize },
    Image { have: usize, len: usize },
    Load { len: usize },
    Skip { left: u64 },
}

/// Takes a stream apart, whatever pieces it comes in.
///
/// Holds no more than a header: where an image goes is up to the caller.
#[derive(Debug)]
pub(crate) struct Parser {
    expect: Expect,
    bytes: [u8; HEADER_LEN],
    /// Anything has arrived.
    begun: bool,
    /// An image was loaded.
    loaded: bool,
}

impl Parser {
    /// At the beginning of a stream.
    pub(crate) fn new() -> Self {
        Self {
            expect: Expect::Header { have: 0 },
            bytes: [0; HEADER_LEN],
            begun: false,
            loaded: false,
        }
    }

    /// What the parser waits for.
    pub(crate) fn step(&self) -> Step {
        match self.expect {
            Expect::Header { have } => Step::Push(HEADER_LEN - have),
            Expect::Image { have, len } => Step::Store {
                at: have,
                len: len - have,
            },
            Expect::Load { len } => Step::Load { len },
            Expect::Skip { left } => Step::Skip(left),
        }
    }

    /// Whether the stream may end here: every record was complete, and there
    /// was an image among them. No stream at all is complete, too: nothing was
    /// to be loaded.
    pub(crate) fn is_complete(&self) -> bool {
        self.expect == Expect::Header { have: 0 } && (self.loaded || !self.begun)
    }

    /// Returns whether the last byte was the end of a record, which needs nothing
    /// more.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.expect == Expect::Header { have: 0 }
    }

    /// Takes the bytes that [`Step::Push`] asked for, or some of them.
    ///
    /// After an error the stream is over.
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
        match self.le32(TAG_AT) {
            TAG_FW_DATA if size == 0 => Ok(Expect::Load { len: 0 }),
            TAG_FW_DATA => Ok(Expect::Image {
                have: 0,
                // CAST: At most `MAX_RECORD`.
                len: size as usize,
            }),
            TAG_STOP_COPY_SIZE if size < SIZE_LEN as u64 => Err(Malformed::TooSmall),
            // An estimate, for who wants to prepare memory for it: here memory
            // comes as data does.
            TAG_STOP_COPY_SIZE => Ok(Self::skip(size)),
            _ if self.le32(FLAGS_AT) & FLAG_OPTIONAL == 0 => Err(Malformed::UnknownTag),
            _ => Ok(Self::skip(size)),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Inputs that can be kept: sequences of requests, and streams.

use super::requests::Kind;
use sha2::{
    Digest,
    Sha256, //
};
use std::{
    borrow::Cow,
    fmt::Write as _, //
};

/// Most requests of a sequence.
pub(super) const MAX_CALLS: usize = 64;

/// What a corpus can keep.
pub(super) trait Input: Sized {
    /// The folder of such inputs in that of a corpus.
    const FOLDER: &'static str;

    /// The contents of its file.
    fn encode(&self) -> Cow<'_, [u8]>;

    /// Takes the contents of a file apart. `None` if they are no such input.
    fn decode(bytes: Vec<u8>) -> Option<Self>;
}

/// The name of the file with these contents: a digest of them.
pub(super) fn name(bytes: &[u8]) -> String {
    let mut name = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    /// What all else about it follows from.
    pub(super) seed: u64,
}

/// Requests that a thread makes one after the other: no more than [`MAX_CALLS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sequence(pub(super) Vec<Call>);

impl Input for Sequence {
    const FOLDER: &'static str = "requests";

    /// A line for each request: kind and seed.
    fn encode(&self) -> Cow<'_, [u8]> {
        let mut text = String::new();
        for Call { kind, seed } in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} {seed:016x}", kind.name());
        }
        text.into_bytes().into()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(bytes).ok()?;
        let call = |line: &str| {
            let (name, seed) = line.split_once(' ')?;
            Some(Call {
                kind: Kind::ALL.into_iter().find(|kind| kind.name() == name)?,
                seed: u64::from_str_radix(seed, 16).ok()?,
            })
        };
        let calls: Vec<Call> = text.lines().map(call).collect::<Option<_>>()?;
        (1..=MAX_CALLS)
            .contains(&calls.len())
            .then_some(Self(calls))
    }
}

/// What is written to a data file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stream(pub(super) Vec<u8>);

impl Input for Stream {
    const FOLDER: &'static str = "streams";

    fn encode(&self) -> Cow<'_, [u8]> {
        (&self.0[..]).into()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_comes_back_from_its_file() {
        let seeds = [0, 1, 1 << 63, u64::MAX].into_iter().cycle();
        let calls = Kind::ALL.into_iter().zip(seeds);
        let sequence = Sequence(calls.map(|(kind, seed)| Call { kind, seed }).collect());
        let bytes = sequence.encode().into_owned();
        assert_eq!(Sequence::decode(bytes), Some(sequence));
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        let call = "read 0000000000000001\n";
        assert!(Sequence::decode(call.repeat(MAX_CALLS).into_bytes()).is_some());
        for text in [
            "",
            "\n",
            "read",
            "read \n",
            "nosuch 0\n",
            "read 0 0\n",
            "read -1\n",
            "read 10000000000000000\n",
            &call.repeat(MAX_CALLS + 1),
        ] {
            assert_eq!(Sequence::decode(text.into()), None, "{text:?}");
        }
        assert_eq!(Sequence::decode(vec![0xff]), None);
    }

    #[test]
    fn a_name_is_the_sha_256() {
        assert!(name(b"abc").starts_with("ba7816bf8f01cfea"));
        assert_eq!(name(b"").len(), 64);
    }
}

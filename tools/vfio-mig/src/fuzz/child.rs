// SPDX-License-Identifier: GPL-2.0

//! A copy of this process that makes requests, too, and what it tells of them.

use super::{
    batch,
    corpus::Found,
    input::{
        Input,
        Sequence, //
    },
    sequences,
    shared::Shared,
    tally::{
        Tally,
        WORDS, //
    },
};
use crate::{
    error::{
        Context,
        Error, //
    },
    process, //
};
use fastrand::Rng;
use nix::{
    sys::wait::waitpid,
    unistd::{
        ForkResult,
        Pid, //
    },
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
};

/// What a process has done.
pub(super) struct Ended {
    pub(super) tally: Tally,
    /// Sequences that got to new code.
    pub(super) found: Vec<Found<Sequence>>,
}

/// What a process says first that has done what it was to do. The rest is an [`Ended`].
const DONE: u8 = 0;
/// What one says first that has failed. The rest is the reason.
const FAILED: u8 = 1;

/// Takes a number off `bytes`.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

impl Ended {
    /// The words of the tally, and for each sequence what it has gained, its length and itself.
    fn encode(mut self) -> Vec<u8> {
        let words = self.tally.words();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for Found { input, gained } in &self.found {
            let text = input.encode();
            bytes.extend(gained.to_le_bytes());
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&text);
        }
        bytes
    }

    /// Takes what [`Self::encode`] has returned apart.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let words: Option<Vec<u64>> = (0..WORDS).map(|_| number(&mut bytes)).collect();
        let mut tally = Tally::default();
        tally.add_words(&words?);
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let gained = number(&mut bytes)?;
            let len = number(&mut bytes)?.try_into().ok()?;
            let (text, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            let input = Sequence::decode(text.to_vec())?;
            found.push(Found { input, gained });
        }
        Some(Self { tally, found })
    }
}

/// Makes requests, and says in bytes what came of them.
fn work(shared: &Shared<'_>, rng: &mut Rng) -> Vec<u8> {
    let (first, rest) = match batch::in_threads(shared, rng, sequences::make) {
        Ok(tally) => {
            let found = shared.take_found();
            (DONE, Ended { tally, found }.encode())
        }
        Err(err) => (FAILED, err.to_string().into_bytes()),
    };
    [&[first], &rest[..]].concat()
}

/// A copy of this process, with its files.
pub(super) struct Child {
    pid: Pid,
    /// [`DONE`] or [`FAILED`], and the rest.
    said: File,
}

impl Child {
    /// Has a copy of this process make requests, and end without closing anything.
    pub(super) fn start(shared: &Shared<'_>, mut rng: Rng) -> Result<Self, Error> {
        let pipe = nix::unistd::pipe().map_err(std::io::Error::from);
        let (said, say) = pipe.context("a pipe")?;
        let (said, mut say) = (File::from(said), File::from(say));
        match process::fork().context("a second process")? {
            ForkResult::Parent { child } => Ok(Self { pid: child, said }),
            ForkResult::Child => {
                let said = say.write_all(&work(shared, &mut rng));
                process::exit_now(i32::from(said.is_err()))
            }
        }
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Result<Ended, Error> {
        let mut said = Vec::new();
        let read = self.said.read_to_end(&mut said);
        let waited = waitpid(self.pid, None).map_err(std::io::Error::from);
        waited.context("waiting for a second process")?;
        read.context("reading from a second process")?;
        let ended = match said.split_first() {
            Some((&DONE, rest)) => Ended::decode(rest).ok_or("it has not come to its end".into()),
            Some((&FAILED, rest)) => Err(String::from_utf8_lossy(rest)),
            _ => Err("it has said nothing".into()),
        };
        ended.map_err(|why| Error::Unexpected(format!("a second process: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{
        input::Call,
        requests::Kind, //
    };

    #[test]
    fn what_a_process_says_comes_back() {
        let call = Call {
            kind: Kind::Read,
            seed: 7,
        };
        let found = |len, gained| Found {
            input: Sequence(vec![call; len]),
            gained,
        };
        let mut tally = Tally::default();
        tally.note(Kind::Read, Ok(())).unwrap();
        let words = tally.words();
        let bytes = Ended {
            tally,
            found: vec![found(1, 5), found(3, u64::MAX)],
        }
        .encode();
        let mut ended = Ended::decode(&bytes).unwrap();
        assert_eq!(ended.tally.words(), words);
        let found: Vec<_> = ended
            .found
            .iter()
            .map(|f| (f.input.0.len(), f.gained))
            .collect();
        assert_eq!(found, [(1, 5), (3, u64::MAX)]);
        // A process that was killed has said a part of it: all sequences, or less.
        let whole = (0..bytes.len()).filter(|len| Ended::decode(&bytes[..*len]).is_some());
        assert_eq!(whole.count(), 2);
        let mut wrong = bytes.clone();
        wrong[WORDS * 8 + 8..WORDS * 8 + 16].fill(0xff);
        assert!(Ended::decode(&wrong).is_none());
    }
}

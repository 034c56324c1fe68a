// SPDX-License-Identifier: GPL-2.0

//! Streams that are loaded, most of which are no state.

use super::{
    corpus::{
        require_digest,
        Corpus,
        Sample, //
    },
    mutate,
    records::{
        self,
        Verdict, //
    },
    site::Site,
    Done,
    Judgement,
    Plan, //
};
use crate::{
    error::Error,
    state::State, //
};
use fastrand::Rng;
use std::{
    fs::File,
    io::Write, //
};

/// Streams of a round.
const STREAMS: u32 = 16;
/// Most bytes of a piece that is small.
const SMALL: usize = 64;

/// Writes a stream in pieces of random sizes. Returns whether all of it was taken.
fn write(rng: &mut Rng, file: &mut File, mut rest: &[u8]) -> bool {
    let most = match rng.u32(..4) {
        0 => SMALL,
        _ => usize::MAX,
    };
    // A stream in small pieces only would take long.
    let mut small = rng.u32(..64);
    while !rest.is_empty() {
        let most = if small > 0 { most } else { usize::MAX };
        small = small.saturating_sub(1);
        let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(most)));
        if file.write_all(piece).is_err() {
            return false;
        }
        rest = after;
    }
    true
}

/// What was loaded, and what it is.
struct Loaded<'a> {
    sample: &'a Sample,
    verdict: Verdict<'a>,
    /// Whether it has all images of the sample, and nothing wrong.
    good: bool,
}

/// Fails if the driver should have taken a stream and has not, or the other way round. `written`
/// is whether no write has failed.
fn check(plan: &Plan, loaded: &Loaded<'_>, written: bool, taken: bool) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::Unexpected(what.to_string()));
    let is_whole = written && loaded.verdict.whole;
    match (taken, loaded.good, is_whole) {
        (false, true, _) => wrong("a whole state was refused"),
        (true, _, false) if plan.judgement == Judgement::MustBeWhole => {
            wrong("what is no whole state was taken for one")
        }
        _ => Ok(()),
    }
}

/// Loads a stream. Returns whether the driver has taken it for a state.
fn load(
    site: &Site,
    plan: &Plan,
    rng: &mut Rng,
    stream: &[u8],
    loaded: &Loaded<'_>,
    done: &mut Done,
) -> Result<bool, Error> {
    let device = &site.device;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(rng, &mut file, stream);
    if !loaded.good && rng.u32(..8) == 0 {
        // Given up: the file is closed first, or last.
        site.reset_to_running()?;
        return Ok(false);
    }
    if rng.bool() {
        drop(file);
    }
    let to = match rng.u32(..4) {
        0 => State::RUNNING,
        _ => State::STOP,
    };
    let taken = device.set_state(to).is_ok();
    check(plan, loaded, written, taken)?;
    if taken && loaded.good {
        device.set_state(State::RUNNING)?;
        done.compared += u64::from(require_digest(site, loaded.sample.digest)?);
    }
    if !taken {
        site.reset_to_running()?;
    }
    Ok(taken)
}

/// Loads streams.
pub(super) fn run(
    site: &Site,
    plan: &Plan,
    corpus: &Corpus,
    rng: &mut Rng,
    done: &mut Done,
) -> Result<(), Error> {
    for _ in 0..STREAMS {
        let sample = &corpus.0[rng.usize(..corpus.0.len())];
        let stream = match rng.u32(..16) {
            0 => sample.stream.clone(),
            _ => mutate::stream(rng, corpus, sample, plan.images),
        };
        let has_records = records::parse(&sample.stream).is_some();
        let verdict = records::judge(&stream);
        let unchanged = stream == sample.stream;
        let good = match has_records {
            true => verdict.whole && verdict.images == records::judge(&sample.stream).images,
            false => unchanged,
        };
        let loaded = Loaded {
            sample,
            // Of another format nothing is known.
            verdict: Verdict {
                whole: verdict.whole || !has_records,
                ..verdict
            },
            good,
        };
        if loaded.verdict.promised > plan.most_promised {
            continue;
        }
        done.streams += 1;
        let with_image = has_records && !loaded.verdict.images.is_empty();
        done.streams_with_image += u64::from(with_image);
        done.streams_good += u64::from(good);
        let taken = load(site, plan, rng, &stream, &loaded, done)?;
        done.streams_taken += u64::from(taken);
    }
    Ok(())
}

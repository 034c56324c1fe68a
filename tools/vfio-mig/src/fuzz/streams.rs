// SPDX-License-Identifier: GPL-2.0

//! Streams that are loaded, most of which are no state.

use super::{
    corpus::Found,
    input::Stream,
    mutate,
    records::{
        self,
        Verdict, //
    },
    samples::{
        require_digest,
        Sample,
        Samples, //
    },
    Bench,
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
    verdict: Verdict<'a>,
    /// The sample of which it has all images, if it has nothing wrong.
    state: Option<&'a Sample>,
}

/// The sample that a stream is a state of.
fn state_of<'a>(
    samples: &'a Samples,
    stream: &[u8],
    verdict: &Verdict<'_>,
    has_records: bool,
) -> Option<&'a Sample> {
    samples.0.iter().find(|sample| match has_records {
        true => verdict.whole && verdict.images == records::judge(&sample.stream).images,
        false => stream == sample.stream,
    })
}

/// Fails if the driver should have taken a stream and has not, or the other way round. `written`
/// is whether no write has failed.
fn check(plan: &Plan, loaded: &Loaded<'_>, written: bool, taken: bool) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::Unexpected(what.to_string()));
    let is_whole = written && loaded.verdict.whole;
    match (taken, loaded.state.is_some(), is_whole) {
        (false, true, _) => wrong("a whole state was refused"),
        (true, _, false) if plan.judgement == Judgement::MustBeWhole => {
            wrong("what is no whole state was taken for one")
        }
        _ => Ok(()),
    }
}

/// Loads a stream. Returns whether the driver has taken it for a state.
fn load(
    Bench { site, plan, .. }: &Bench<'_>,
    rng: &mut Rng,
    stream: &[u8],
    loaded: &Loaded<'_>,
    done: &mut Done,
) -> Result<bool, Error> {
    let device = &site.device;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(rng, &mut file, stream);
    if loaded.state.is_none() && rng.u32(..8) == 0 {
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
    if let Some(state) = loaded.state.filter(|_| taken) {
        device.set_state(State::RUNNING)?;
        done.compared += u64::from(require_digest(site, state.digest)?);
    }
    if !taken {
        site.reset_to_running()?;
    }
    Ok(taken)
}

/// Loads a stream and counts it, unless it promises too much.
pub(super) fn load_any(
    bench: &Bench<'_>,
    rng: &mut Rng,
    stream: &[u8],
    done: &mut Done,
) -> Result<(), Error> {
    let samples = bench.samples;
    let has_records = records::parse(samples.first()).is_some();
    let verdict = records::judge(stream);
    let loaded = Loaded {
        state: state_of(samples, stream, &verdict, has_records),
        // Of another format nothing is known.
        verdict: Verdict {
            whole: verdict.whole || !has_records,
            ..verdict
        },
    };
    if loaded.verdict.promised > bench.plan.most_promised {
        return Ok(());
    }
    done.streams += 1;
    let with_image = has_records && !loaded.verdict.images.is_empty();
    done.streams_with_image += u64::from(with_image);
    done.streams_good += u64::from(loaded.state.is_some());
    let taken = load(bench, rng, stream, &loaded, done)?;
    done.streams_taken += u64::from(taken);
    Ok(())
}

/// Loads streams. Returns those that got to new code.
pub(super) fn run(
    bench: &Bench<'_>,
    rng: &mut Rng,
    done: &mut Done,
) -> Result<Vec<Found<Stream>>, Error> {
    let Bench { samples, plan, .. } = bench;
    let coverage = bench.guide.follow()?;
    let kept = bench.guide.streams().inputs();
    let mut found = Vec::new();
    for _ in 0..STREAMS {
        let sample = &samples.0[rng.usize(..samples.0.len())];
        let from = match !kept.is_empty() && rng.bool() {
            true => &kept[rng.usize(..kept.len())].0,
            false => &sample.stream,
        };
        let stream = match rng.u32(..16) {
            0 => from.clone(),
            _ => mutate::stream(rng, samples, from, plan.images),
        };
        load_any(bench, rng, &stream, done)?;
        let gained = coverage.gained();
        if gained > 0 {
            let input = Stream(stream);
            found.push(Found { input, gained });
        }
    }
    Ok(found)
}

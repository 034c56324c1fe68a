// SPDX-License-Identifier: GPL-2.0

//! Inputs of earlier runs, once more: only then it is known which code they get to here.

use super::{
    failed,
    input::{
        Input,
        Sequence,
        Stream,
        MAX_CALLS, //
    },
    sequences,
    shared::Shared,
    streams,
    tally::Tally,
    Bench,
    Done,
    Subject, //
};
use crate::error::Error;
use fastrand::Rng;

/// Says which input has failed.
fn input<T: Input>(bench: &Bench<'_>, name: &str, err: Error) -> Error {
    let what = format!("the kept input {}/{name}", T::FOLDER);
    failed(bench.plan, &what, err)
}

/// Makes the requests of a sequence. Returns what it has gained.
fn make(bench: &Bench<'_>, sequence: &Sequence, tally: &mut Tally) -> Result<u64, Error> {
    let before = Tally::default();
    let coverage = bench.guide.follow()?;
    let shared = Shared::new(bench, &before, MAX_CALLS as u64);
    let gained = sequences::run(&shared, &coverage, sequence, tally)?.gained;
    bench.settle()?;
    Ok(gained)
}

/// Loads a stream. Returns what it has gained.
fn load(bench: &Bench<'_>, stream: &Stream, rng: &mut Rng, done: &mut Done) -> Result<u64, Error> {
    let coverage = bench.guide.follow()?;
    streams::load_any(bench, rng, &stream.0, done)?;
    let gained = coverage.gained();
    bench.settle()?;
    Ok(gained)
}

/// Runs the inputs that the guide has read and nobody has run yet, unless it is over.
pub(super) fn run(
    bench: &Bench<'_>,
    is_over: impl Fn() -> bool,
    tally: &mut Tally,
    done: &mut Done,
) -> Result<(), Error> {
    let wanted = |subject| bench.plan.only.is_none_or(|only| only == subject);
    while wanted(Subject::Requests) && !is_over() {
        let next = bench.guide.sequences().next_read();
        let Some((name, sequence)) = next else {
            break;
        };
        let gained = make(bench, &sequence, tally);
        let gained = gained.map_err(|err| input::<Sequence>(bench, &name, err))?;
        bench.guide.sequences().set_gained(&name, gained);
        done.replayed += 1;
    }
    let mut rng = Rng::with_seed(bench.plan.seed);
    while wanted(Subject::Streams) && !is_over() {
        let next = bench.guide.streams().next_read();
        let Some((name, stream)) = next else {
            break;
        };
        let gained = load(bench, &stream, &mut rng, done);
        let gained = gained.map_err(|err| input::<Stream>(bench, &name, err))?;
        bench.guide.streams().set_gained(&name, gained);
        done.replayed += 1;
    }
    Ok(())
}

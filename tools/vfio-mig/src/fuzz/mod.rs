// SPDX-License-Identifier: GPL-2.0

//! Requests and streams that no correct program makes.
//!
//! A round is a batch of [`requests`], from several threads and processes at once, or a few
//! [`streams`]. What each thread of a round does follows from the seed and the round's number.
//! After each round a reset has to lead to RUNNING, and every now and then a good migration
//! must still work. Whether the kernel survives is for its own log to say.

mod batch;
mod corpus;
mod errno;
mod mutate;
mod records;
mod requests;
mod shared;
mod site;
mod streams;
mod tally;
mod walk;

pub use records::ImageFormat;
pub use requests::Kind;

use crate::{
    address::Address,
    error::Error,
    state::State, //
};
use corpus::Corpus;
use fastrand::Rng;
use serde::Serialize;
use site::Site;
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    time::{
        Duration,
        Instant, //
    },
};
use tally::Tally;

/// Rounds between two good migrations.
const GOOD_EVERY: u64 = 8;
/// Rounds between two that open the device anew.
const OPENED_EVERY: u64 = 16;

/// What a round can be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Requests to a device, and calls on its data files.
    Requests,
    /// Streams that are loaded.
    Streams,
}

/// What a driver may take for a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Only a whole stream, as the uAPI has it.
    MustBeWhole,
    /// Anything, of a driver that is known to take what is not whole.
    MayBeAnything,
}

/// Which rounds to do, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What they are made from.
    pub seed: u64,
    /// Number of the first one.
    pub first: u64,
    /// How many, at most.
    pub count: u64,
    /// No round begins later than this.
    pub time: Option<Duration>,
    /// What all of them are about; else that is random.
    pub only: Option<Subject>,
    /// Threads of each process that make requests.
    pub threads: NonZeroU32,
    /// Processes that make requests, all with the same files.
    pub processes: NonZeroU32,
    /// Requests that are not made. Without [`Kind::Reset`], only a device that does not come to
    /// RUNNING otherwise is reset.
    pub without: &'static [Kind],
    /// Whether it is known that the driver sets bits beyond the end of a bitmap.
    pub overruns: bool,
    /// Of streams.
    pub judgement: Judgement,
    /// The most bytes that the records of a stream may promise and not have; for a driver that
    /// allocates what it is promised.
    pub most_promised: u64,
    /// What is known of the images in streams.
    pub images: Option<ImageFormat>,
}

impl Plan {
    /// All that can be done, from the first round on.
    pub fn new(seed: u64) -> Self {
        let two = NonZeroU32::MIN.saturating_add(1);
        Self {
            seed,
            first: 0,
            count: u64::MAX,
            time: None,
            only: None,
            threads: two,
            processes: two,
            without: &[],
            overruns: false,
            judgement: Judgement::MustBeWhole,
            most_promised: u64::MAX,
            images: None,
        }
    }

    /// The random choices of a round.
    fn rng(&self, number: u64) -> Rng {
        Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// What came of requests of a kind.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Made {
    /// How many were made.
    pub made: u64,
    /// How many succeeded.
    pub succeeded: u64,
}

/// What was done.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Done {
    /// Rounds.
    pub rounds: u64,
    /// Requests.
    pub requests: u64,
    /// Of those, what succeeded.
    pub succeeded: u64,
    /// The requests of each kind.
    pub kinds: BTreeMap<&'static str, Made>,
    /// How often each arc of the state machine was taken by the thread that walks along them.
    pub arcs: BTreeMap<String, u64>,
    /// Streams that were loaded.
    pub streams: u64,
    /// Of those, what had a whole image, for firmware to load, before anything wrong.
    pub streams_with_image: u64,
    /// What the driver took for a state.
    pub streams_taken: u64,
    /// What had to be taken, since it had all images of a state and nothing wrong.
    pub streams_good: u64,
    /// Good migrations in between.
    pub good: u64,
    /// Loaded states that were compared with what was saved.
    pub compared: u64,
}

impl Done {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.requests += other.requests;
        self.succeeded += other.succeeded;
        for (kind, made) in &other.kinds {
            let all = self.kinds.entry(kind).or_default();
            all.made += made.made;
            all.succeeded += made.succeeded;
        }
        for (arc, count) in &other.arcs {
            *self.arcs.entry(arc.clone()).or_default() += count;
        }
        self.streams += other.streams;
        self.streams_with_image += other.streams_with_image;
        self.streams_taken += other.streams_taken;
        self.streams_good += other.streams_good;
        self.good += other.good;
        self.compared += other.compared;
    }
}

/// Says which round has failed.
fn failed(plan: &Plan, number: u64, what: &str, err: Error) -> Error {
    Error::Round {
        round: format!("{what}round {number} of seed {}", plan.seed),
        source: Box::new(err),
    }
}

fn round(
    site: &Site,
    plan: &Plan,
    number: u64,
    corpus: &Corpus,
    (tally, done): (&mut Tally, &mut Done),
) -> Result<(), Error> {
    let mut rng = plan.rng(number);
    let subject = plan.only.unwrap_or(match rng.bool() {
        true => Subject::Requests,
        false => Subject::Streams,
    });
    match subject {
        Subject::Requests => batch::run(site, plan, corpus, &mut rng, tally)?,
        Subject::Streams => streams::run(site, plan, corpus, &mut rng, done)?,
    }
    let may_run_on = plan.without.contains(&Kind::Reset);
    match may_run_on && site.device.set_state(State::RUNNING).is_ok() {
        true => Ok(()),
        false => site.reset_to_running(),
    }
}

/// Does rounds. `progress` gets the number of each.
///
/// With [`Subject::Requests`] the process must have just this thread, as it is copied.
pub fn run(address: Address, plan: &Plan, mut progress: impl FnMut(u64)) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut tally = Tally::default();
    let mut site = Site::open(address)?;
    let corpus = Corpus::of(&site)?;
    let begin = Instant::now();
    let end = plan.first.saturating_add(plan.count);
    for number in plan.first..end {
        if plan.time.is_some_and(|time| begin.elapsed() >= time) {
            break;
        }
        progress(number);
        round(&site, plan, number, &corpus, (&mut tally, &mut done))
            .map_err(|err| failed(plan, number, "", err))?;
        done.rounds += 1;
        if done.rounds % GOOD_EVERY == 0 || number + 1 == end {
            let compared = corpus
                .good_migration(&site)
                .map_err(|err| failed(plan, number, "a good migration after ", err))?;
            done.good += 1;
            done.compared += u64::from(compared);
        }
        if done.rounds % OPENED_EVERY == 0 {
            drop(site);
            site = Site::open(address)?;
        }
    }
    tally.tell(&mut done);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_differ_and_can_be_had_again() {
        let first = |seed, number| Plan::new(seed).rng(number).u64(..);
        assert_eq!(first(7, 3), first(7, 3));
        assert_ne!(first(7, 3), first(7, 4));
        assert_ne!(first(7, 3), first(8, 3));
    }
}

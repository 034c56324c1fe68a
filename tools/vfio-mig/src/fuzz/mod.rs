// SPDX-License-Identifier: GPL-2.0

//! Requests and streams that no correct program makes.
//!
//! A round is a batch of [`requests`], from several threads and processes at once, or a few
//! [`streams`]. What each thread of a round does follows from the seed and the round's number.
//! After each round a reset has to lead to RUNNING, and every now and then a good migration
//! must still work. Whether the kernel survives is for its own log to say.
//!
//! A [`Guide`] knows which code the kernel has run. Requests and streams that got to new code
//! are kept, and the next rounds change them, too.

mod batch;
mod child;
mod corpus;
mod coverage;
mod errno;
mod folder;
mod guide;
mod input;
mod kcov;
mod mutate;
mod records;
mod replay;
mod requests;
mod samples;
mod sequences;
mod shared;
mod site;
mod streams;
mod tally;
mod walk;

pub use guide::{
    Guide,
    Guided, //
};
pub use records::ImageFormat;
pub use requests::Kind;

use crate::{
    address::Address,
    error::Error,
    state::State, //
};
use fastrand::Rng;
use guide::Finds;
use samples::Samples;
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
    /// Inputs of earlier runs, which come before the rounds.
    pub replayed: u64,
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
        self.replayed += other.replayed;
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

/// What rounds are done with.
struct Bench<'a> {
    site: Site,
    plan: &'a Plan,
    guide: &'a Guide,
    samples: &'a Samples,
}

impl Bench<'_> {
    /// Has the device run again, whatever was done to it.
    fn settle(&self) -> Result<(), Error> {
        let may_run_on = self.plan.without.contains(&Kind::Reset);
        match may_run_on && self.site.device.set_state(State::RUNNING).is_ok() {
            true => Ok(()),
            false => self.site.reset_to_running(),
        }
    }

    /// Does a round. Returns what got to new code.
    fn round(&self, number: u64, tally: &mut Tally, done: &mut Done) -> Result<Finds, Error> {
        let mut rng = self.plan.rng(number);
        let subject = self.plan.only.unwrap_or(match rng.bool() {
            true => Subject::Requests,
            false => Subject::Streams,
        });
        let mut finds = Finds::default();
        match subject {
            Subject::Requests => finds.sequences = batch::run(self, &mut rng, tally)?,
            Subject::Streams => finds.streams = streams::run(self, &mut rng, done)?,
        }
        self.settle()?;
        Ok(finds)
    }
}

/// Says what has failed.
fn failed(plan: &Plan, what: &str, err: Error) -> Error {
    Error::Round {
        round: format!("{what} of seed {}", plan.seed),
        source: Box::new(err),
    }
}

/// Does rounds, after the inputs that the guide has read. `progress` gets the number of each
/// round.
///
/// With [`Subject::Requests`] the process must have just this thread, as it is copied.
pub fn run(
    address: Address,
    plan: &Plan,
    guide: &Guide,
    mut progress: impl FnMut(u64),
) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut tally = Tally::default();
    let site = Site::open(address)?;
    let samples = guide.plain(|| Samples::of(&site).and_then(|all| all.load_first(&site)))?;
    let begin = Instant::now();
    let is_over = || plan.time.is_some_and(|time| begin.elapsed() >= time);
    let mut bench = Bench {
        site,
        plan,
        guide,
        samples: &samples,
    };
    replay::run(&bench, is_over, &mut tally, &mut done)?;
    let end = plan.first.saturating_add(plan.count);
    for number in plan.first..end {
        if is_over() {
            break;
        }
        progress(number);
        let round = format!("round {number}");
        let finds = bench
            .round(number, &mut tally, &mut done)
            .map_err(|err| failed(plan, &round, err))?;
        done.rounds += 1;
        if done.rounds % GOOD_EVERY == 0 || number + 1 == end {
            let compared = samples
                .good_migration(&bench.site)
                .map_err(|err| failed(plan, &format!("a good migration after {round}"), err))?;
            done.good += 1;
            done.compared += u64::from(compared);
        }
        // Not before: to repeat a round, one begins with what was kept before it.
        guide.keep(finds)?;
        if done.rounds % OPENED_EVERY == 0 {
            drop(bench.site);
            bench.site = Site::open(address)?;
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

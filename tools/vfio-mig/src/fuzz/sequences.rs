// SPDX-License-Identifier: GPL-2.0

//! Sequences of requests: random ones, and those that are made from others.

use super::{
    corpus::Found,
    coverage::Coverage,
    input::{
        Call,
        Sequence,
        MAX_CALLS, //
    },
    requests::{
        self,
        Kind, //
    },
    shared::Shared,
    tally::Tally,
    Plan, //
};
use crate::error::Error;
use fastrand::Rng;
use std::sync::Arc;

/// Most requests of a sequence that is not made from another.
const MAX_RANDOM: usize = 32;
/// One of this number of sequences is made from another, if there are some: what gets to new
/// code has many requests that fail.
const FROM_OTHERS: u32 = 4;

/// The kinds of requests that are made, with their weights.
struct Kinds(Vec<(Kind, u32)>);

impl Kinds {
    fn of(plan: &Plan) -> Self {
        let wanted = |(kind, _): &(Kind, u32)| !plan.without.contains(kind);
        Self(requests::weights().filter(wanted).collect())
    }

    /// A random request.
    fn call(&self, rng: &mut Rng) -> Call {
        let all: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(..all);
        let chosen = self
            .0
            .iter()
            .find(|(_, weight)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
        Call {
            kind: chosen.map_or(Kind::GetState, |(kind, _)| *kind),
            seed: rng.u64(..),
        }
    }

    /// A random sequence.
    fn sequence(&self, rng: &mut Rng) -> Sequence {
        let len = rng.usize(1..=MAX_RANDOM);
        Sequence((0..len).map(|_| self.call(rng)).collect())
    }

    /// Makes another sequence from one.
    fn changed(&self, rng: &mut Rng, from: &Sequence, other: &Sequence) -> Sequence {
        let mut calls = from.0.clone();
        for _ in 0..rng.u32(1..5) {
            if calls.is_empty() {
                calls.push(self.call(rng));
            }
            let at = rng.usize(..calls.len());
            let elsewhere = rng.usize(..calls.len());
            match rng.u32(..8) {
                0 => drop(calls.remove(at)),
                1 => calls.insert(at, self.call(rng)),
                2 => calls[at].seed = rng.u64(..),
                3 => calls.swap(at, elsewhere),
                4 => {
                    let again = calls[at.min(elsewhere)..=at.max(elsewhere)].to_vec();
                    calls.splice(at..at, again);
                }
                5 => {
                    calls.truncate(at);
                    calls.extend_from_slice(&other.0[rng.usize(..other.0.len())..]);
                }
                // It goes on where it got to new code.
                _ => calls.push(self.call(rng)),
            }
        }
        calls.truncate(MAX_CALLS);
        if calls.is_empty() {
            calls.push(self.call(rng));
        }
        Sequence(calls)
    }

    /// The next sequence.
    fn next(&self, rng: &mut Rng, others: &[Arc<Sequence>]) -> Sequence {
        if others.is_empty() || rng.u32(..FROM_OTHERS) > 0 {
            return self.sequence(rng);
        }
        let from = &others[rng.usize(..others.len())];
        let other = &others[rng.usize(..others.len())];
        self.changed(rng, from, other)
    }
}

/// What came of a sequence.
#[derive(Default)]
pub(super) struct Run {
    /// Program counters that no input had got to before.
    pub(super) gained: u64,
    /// Requests up to the last one that got to some.
    useful: usize,
}

/// Makes the requests of a sequence, as long as the batch has not enough.
pub(super) fn run(
    shared: &Shared<'_>,
    coverage: &Coverage<'_>,
    sequence: &Sequence,
    tally: &mut Tally,
) -> Result<Run, Error> {
    let mut run = Run::default();
    for (at, call) in sequence.0.iter().enumerate() {
        if shared.plan.without.contains(&call.kind) {
            continue;
        }
        if !shared.goes_on() {
            break;
        }
        tally.note(call.kind, requests::make(shared, *call))?;
        let gained = coverage.gained();
        if gained > 0 {
            run.gained += gained;
            run.useful = at + 1;
        }
    }
    Ok(run)
}

/// Makes requests of all kinds, until the batch has enough.
pub(super) fn make(shared: &Shared<'_>, mut rng: Rng) -> Result<Tally, Error> {
    let coverage = shared.guide.follow()?;
    let kinds = Kinds::of(shared.plan);
    let mut tally = Tally::default();
    while shared.has_more() {
        let mut sequence = kinds.next(&mut rng, &shared.kept);
        let run = run(shared, &coverage, &sequence, &mut tally)?;
        if run.gained > 0 {
            sequence.0.truncate(run.useful);
            shared.found(Found {
                input: sequence,
                gained: run.gained,
            });
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Kinds {
        Kinds::of(&Plan::new(1))
    }

    #[test]
    fn a_kind_is_made_as_often_as_its_weight_says() {
        let mut rng = Rng::with_seed(1);
        let plan = Plan {
            without: &[Kind::Read],
            ..Plan::new(1)
        };
        let kinds = Kinds::of(&plan);
        let mut made = [0; Kind::ALL.len()];
        for _ in 0..100_000 {
            made[kinds.call(&mut rng).kind as usize] += 1;
        }
        assert_eq!(made[Kind::Read as usize], 0);
        assert!(made[Kind::GetState as usize] > 5 * made[Kind::SetState as usize]);
        let none = Kind::ALL
            .into_iter()
            .filter(|kind| made[*kind as usize] == 0);
        assert_eq!(none.collect::<Vec<_>>(), [Kind::Read]);
    }

    #[test]
    fn a_sequence_is_in_its_seed_and_has_its_bounds() {
        let kinds = kinds();
        let mut others = Vec::new();
        for seed in 0..2000 {
            let next = || kinds.next(&mut Rng::with_seed(seed), &others);
            let sequence = next();
            assert_eq!(next(), sequence);
            assert!((1..=MAX_CALLS).contains(&sequence.0.len()));
            others.push(Arc::new(sequence));
        }
        let longest = others.iter().map(|sequence| sequence.0.len()).max();
        assert_eq!(longest, Some(MAX_CALLS));
    }

    #[test]
    fn most_of_a_sequence_stays_when_it_is_changed() {
        let kinds = kinds();
        let mut rng = Rng::with_seed(1);
        let from = kinds.sequence(&mut rng);
        let other = kinds.sequence(&mut rng);
        let mut stayed = 0;
        for _ in 0..200 {
            let changed = kinds.changed(&mut rng, &from, &other);
            stayed += changed
                .0
                .iter()
                .filter(|call| from.0.contains(call))
                .count();
        }
        assert!(stayed > 200 * from.0.len() / 2, "{stayed}");
    }
}

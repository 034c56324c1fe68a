// SPDX-License-Identifier: GPL-2.0

//! Counts of requests and of arcs, which go from process to process as words.

use super::{
    errno::{
        Answer,
        Refused, //
    },
    requests::Kind,
    Done,
    Made, //
};
use crate::{
    error::Error,
    state::State, //
};

const KINDS: usize = Kind::ALL.len();
const STATES: usize = State::ALL.len();

/// Words of a [`Tally`].
pub(super) const WORDS: usize = 2 * KINDS + STATES * STATES;

/// What was made so far.
#[derive(Clone)]
pub(super) struct Tally {
    /// Of each kind, how many were made.
    made: [u64; KINDS],
    /// And how many succeeded.
    succeeded: [u64; KINDS],
    /// How often each arc was taken: from, and to.
    arcs: [[u64; STATES]; STATES],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            made: [0; KINDS],
            succeeded: [0; KINDS],
            arcs: [[0; STATES]; STATES],
        }
    }
}

impl Tally {
    /// Counts a request. Fails if its error makes no sense.
    pub(super) fn note(&mut self, kind: Kind, answer: Answer) -> Result<(), Error> {
        if answer == Err(Refused::NothingToAsk) {
            return Ok(());
        }
        self.made[kind as usize] += 1;
        match answer {
            Ok(()) => self.succeeded[kind as usize] += 1,
            Err(refused) => refused.check(kind.name())?,
        }
        Ok(())
    }

    /// Counts an arc.
    pub(super) fn note_arc(&mut self, from: State, to: State) {
        self.arcs[from.0 as usize][to.0 as usize] += 1;
    }

    /// How often an arc was taken.
    pub(super) fn arc(&self, from: State, to: State) -> u64 {
        self.arcs[from.0 as usize][to.0 as usize]
    }

    fn words_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let arcs = self.arcs.as_flattened_mut();
        self.made.iter_mut().chain(&mut self.succeeded).chain(arcs)
    }

    /// All counts, for [`Self::add_words`].
    pub(super) fn words(&mut self) -> Vec<u64> {
        self.words_mut().map(|word| *word).collect()
    }

    /// Adds counts that [`Self::words`] has returned.
    pub(super) fn add_words(&mut self, words: &[u64]) {
        for (count, word) in self.words_mut().zip(words) {
            *count += word;
        }
    }

    /// Adds counts.
    pub(super) fn add(&mut self, mut other: Self) {
        self.add_words(&other.words());
    }

    /// Puts the counts into a report.
    pub(super) fn tell(&self, done: &mut Done) {
        for kind in Kind::ALL {
            let made = Made {
                made: self.made[kind as usize],
                succeeded: self.succeeded[kind as usize],
            };
            if made.made > 0 {
                done.requests += made.made;
                done.succeeded += made.succeeded;
                done.kinds.insert(kind.name(), made);
            }
        }
        for from in State::ALL {
            for to in State::ALL {
                match self.arc(from, to) {
                    0 => None,
                    count => done.arcs.insert(format!("{from} -> {to}"), count),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up_over_processes() {
        let mut one = Tally::default();
        one.note(Kind::Read, Ok(())).unwrap();
        one.note(Kind::Read, Err(Refused::Errno(libc::EAGAIN)))
            .unwrap();
        one.note(Kind::Write, Err(Refused::NothingToAsk)).unwrap();
        one.note_arc(State::STOP, State::RESUMING);
        let words = one.words();
        assert_eq!(words.len(), WORDS);
        let mut all = Tally::default();
        all.add_words(&words);
        all.add(one);
        assert_eq!(all.arc(State::STOP, State::RESUMING), 2);
        assert_eq!(all.arc(State::RESUMING, State::STOP), 0);
        let mut done = Done::default();
        all.tell(&mut done);
        assert_eq!((done.requests, done.succeeded), (4, 2));
        assert_eq!(done.kinds.len(), 1);
        assert_eq!(done.arcs["STOP -> RESUMING"], 2);
    }

    #[test]
    fn an_error_that_makes_no_sense_is_none_of_the_counts() {
        let refused = Tally::default().note(Kind::Reset, Err(Refused::Errno(512)));
        assert!(refused.unwrap_err().to_string().contains("512"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A walk along the arcs of the state machine.

use super::{
    errno::{
        Answer,
        Refused, //
    },
    requests::{
        any_state,
        Kind, //
    },
    shared::Shared,
    tally::Tally, //
};
use crate::{
    error::Error,
    state::State,
    uapi, //
};
use fastrand::Rng;
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd,
    thread,
    time::Duration, //
};

/// Most reads or writes of a session in a row.
const MOST_CALLS: usize = 200;
/// Most bytes of one.
const MAX_PIECE: usize = 1 << 18;
/// How long a call that may not wait is waited for, in milliseconds.
const PATIENCE: i32 = 100;
/// Longest pause after a failure, which may be due to a reset that takes its time.
const PAUSE_US: u64 = 4000;
/// After so many failures in a row, which take longer than a reset, only a reset may help.
const MOST_FAILURES: u32 = 100;

/// Takes a device from state to state, until the batch has enough, and counts the arcs. Where
/// others change the state at the same time, an arc may be missed, or be another.
pub(super) fn walk(shared: &Shared<'_>, mut rng: Rng) -> Result<Tally, Error> {
    let coverage = shared.guide.follow()?;
    let mut walk = Walk {
        shared,
        tally: Tally::default(),
        failures: 0,
    };
    while shared.goes_on() {
        walk.step(&mut rng)?;
        // Nothing that is kept: it would get to the same again.
        coverage.gained();
    }
    Ok(walk.tally)
}

struct Walk<'a> {
    shared: &'a Shared<'a>,
    tally: Tally,
    /// In a row, of requests for a state.
    failures: u32,
}

impl Walk<'_> {
    fn step(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let device = &self.shared.site.device;
        let from = device.state();
        let answer = from.as_ref().map(drop).map_err(|err| match err.errno() {
            Some(errno) => Refused::Errno(errno),
            None => Refused::Other,
        });
        self.tally.note(Kind::GetState, answer)?;
        match from {
            Ok(from) if from == State::ERROR || self.failures >= MOST_FAILURES => {
                self.failures = 0;
                let reset = device.reset().map_err(Refused::from);
                self.tally.note(Kind::Reset, reset)
            }
            Ok(from) => self.leave(rng, from),
            Err(_) => Ok(()),
        }
    }

    fn taken(&self, from: State, to: State) -> u64 {
        self.shared.before.arc(from, to) + self.tally.arc(from, to)
    }

    /// Where to go: mostly along the arc that was taken least.
    fn aim(&self, rng: &mut Rng, from: State) -> State {
        let features = self.shared.site.features;
        let arcs = features.arcs().filter(|(begin, _)| *begin == from);
        let least = arcs.min_by_key(|(from, to)| (self.taken(*from, *to), rng.u32(..)));
        match (rng.u32(..16), least) {
            (0, _) | (_, None) => any_state(rng),
            (1..4, _) => State::ALL[rng.usize(..State::ALL.len())],
            (_, Some((_, to))) => to,
        }
    }

    fn leave(&mut self, rng: &mut Rng, from: State) -> Result<(), Error> {
        let to = self.aim(rng, from);
        let set = uapi::set_state(self.shared.site.device.fd(), to.0);
        let file = match set {
            Ok(file) => file,
            Err(err) => {
                self.failures += 1;
                // Others get their turns.
                thread::sleep(Duration::from_micros(rng.u64(..PAUSE_US)));
                return self.tally.note(Kind::SetState, Err(err.into()));
            }
        };
        self.failures = 0;
        self.tally.note(Kind::SetState, Ok(()))?;
        let mut at = from;
        for next in self.shared.site.features.path(from, to).unwrap_or_default() {
            self.tally.note_arc(at, next);
            at = next;
        }
        let Some(file) = file else {
            return Ok(());
        };
        let file = self.shared.keep(rng, file);
        match rng.bool() {
            true if to == State::RESUMING => self.load(rng, &file),
            true => self.save(rng, &file),
            false => Ok(()),
        }
    }

    /// Reads all that there is.
    fn save(&mut self, rng: &mut Rng, mut file: &File) -> Result<(), Error> {
        let mut buf = vec![0; rng.usize(1 << 12..MAX_PIECE)];
        for _ in 0..MOST_CALLS {
            let read = file.read(&mut buf);
            let more = match &read {
                Ok(n) => *n > 0,
                Err(err) => waits(file, err, libc::POLLIN),
            };
            self.tally
                .note(Kind::Read, read.map(drop).map_err(Refused::from))?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Writes a whole state.
    fn load(&mut self, rng: &mut Rng, mut file: &File) -> Result<(), Error> {
        let mut rest = self.shared.good;
        for _ in 0..MOST_CALLS {
            if rest.is_empty() {
                break;
            }
            let piece = rng.usize(1..MAX_PIECE).min(rest.len());
            let written = file.write(&rest[..piece]);
            let more = match &written {
                Ok(n) => {
                    rest = &rest[*n..];
                    true
                }
                Err(err) => waits(file, err, libc::POLLOUT),
            };
            let answer: Answer = written.map(drop).map_err(Refused::from);
            self.tally.note(Kind::Write, answer)?;
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a call that may not wait is to be tried again. Waits for that.
fn waits(file: &File, err: &std::io::Error, events: i16) -> bool {
    let again = err.kind() == std::io::ErrorKind::WouldBlock;
    again && uapi::poll(file.as_fd(), events, PATIENCE).is_ok()
}

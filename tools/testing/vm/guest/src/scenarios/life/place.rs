// SPDX-License-Identifier: GPL-2.0

//! Where a VF is when something happens to it: at rest in a state, or in the middle of a call.

use crate::scenarios::firmware_fails::{
    paths::{
        self,
        Path, //
    },
    session::Session, //
};
use std::io;
use vfio_mig::state::State;

/// A state of the migration state machine that a VF is at rest in.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    name: &'static str,
    state: State,
    /// Whether DMA is logged.
    logs: bool,
}

const fn rest(name: &'static str, state: State) -> Rest {
    Rest {
        name,
        state,
        logs: false,
    }
}

const fn logging(name: &'static str, state: State) -> Rest {
    Rest {
        logs: true,
        ..rest(name, state)
    }
}

/// All but ERROR, which only a fault leads to.
const RESTS: &[Rest] = &[
    rest("in RUNNING", State::RUNNING),
    rest("in RUNNING_P2P", State::RUNNING_P2P),
    rest("in STOP", State::STOP),
    rest("in STOP_COPY", State::STOP_COPY),
    rest("in RESUMING", State::RESUMING),
    rest("in PRE_COPY", State::PRE_COPY),
    rest("in PRE_COPY_P2P", State::PRE_COPY_P2P),
    logging("in RUNNING with DMA logging", State::RUNNING),
    logging("in RUNNING_P2P with DMA logging", State::RUNNING_P2P),
    logging("in STOP with DMA logging", State::STOP),
    logging("in STOP_COPY with DMA logging", State::STOP_COPY),
    logging("in PRE_COPY with DMA logging", State::PRE_COPY),
    logging("in PRE_COPY_P2P with DMA logging", State::PRE_COPY_P2P),
];

/// Requests that bind the VF, unbind it or reload the PF: those are events here.
const NO_CALLS: [&str; 3] = [
    "binding",
    "unbinding",
    "reloading the PF in STOP_COPY with DMA logging",
];

/// Where a VF is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// At rest.
    Rest(&'static Rest),
    /// In the middle of a call: firmware holds a command of it.
    Call(&'static Path),
}

impl Place {
    /// All.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let calls = paths::ALL
            .iter()
            .filter(|path| !NO_CALLS.contains(&path.name));
        RESTS.iter().map(Self::Rest).chain(calls.map(Self::Call))
    }

    /// The one with a name.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::all().find(|place| place.name() == name)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rest(rest) => rest.name,
            Self::Call(path) => path.name,
        }
    }

    /// Whether a SAVE may be under way when the session ends.
    pub(super) fn saves(self) -> bool {
        match self {
            Self::Rest(rest) => rest.state.is_saving(),
            Self::Call(path) => ["STOP_COPY", "PRE_COPY", "PRECOPY", "save", "pre-copy"]
                .iter()
                .any(|word| path.name.contains(word)),
        }
    }

    /// Whether the call closes the device.
    pub(super) fn closes(self) -> bool {
        matches!(self, Self::Call(path) if path.name.starts_with("closing"))
    }

    /// Whether a state is being loaded.
    pub(super) fn loads(self) -> bool {
        match self {
            Self::Rest(rest) => rest.state == State::RESUMING,
            Self::Call(path) => path.name.contains("RESUMING") || path.name.contains("write"),
        }
    }

    /// Gets the VF there, or where the call begins.
    pub(super) fn get_ready(self, session: &mut Session) -> io::Result<()> {
        let rest = match self {
            Self::Call(path) => return path.get_ready(session),
            Self::Rest(rest) => rest,
        };
        if rest.logs {
            session.start_logging()?;
            session.work()?;
        }
        if rest.state != State::RUNNING {
            session.set(rest.state)?;
        }
        // A SAVE is not under way at rest.
        session.settle()
    }

    /// Makes the call, if there is one.
    pub(super) fn carry_on(self, session: &mut Session) -> io::Result<()> {
        match self {
            Self::Call(path) => (path.work)(session),
            Self::Rest(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_state_is_there() {
        for place in Place::all() {
            let same = Place::all().filter(|other| other.name() == place.name());
            assert_eq!(same.count(), 1, "{}", place.name());
        }
        for state in State::ALL.iter().filter(|state| **state != State::ERROR) {
            let at_rest = RESTS.iter().any(|rest| rest.state == *state && !rest.logs);
            assert!(at_rest, "{state}");
        }
        assert!(NO_CALLS
            .iter()
            .all(|name| paths::ALL.iter().any(|path| path.name == *name)));
    }

    #[test]
    fn places_that_save_are_told_by_their_names() {
        for name in [
            "in PRE_COPY_P2P",
            "STOP to STOP_COPY",
            "a save that is read",
        ] {
            assert!(Place::find(name).unwrap().saves(), "{name}");
        }
        for name in [
            "in RESUMING",
            "STOP to RESUMING",
            "a write of a whole stream",
        ] {
            assert!(!Place::find(name).unwrap().saves(), "{name}");
        }
        assert!(Place::all().any(Place::closes));
    }
}

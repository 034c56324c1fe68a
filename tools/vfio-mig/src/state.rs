// SPDX-License-Identifier: GPL-2.0

//! Migration states and features.

use serde::{
    Serialize,
    Serializer, //
};
use std::{
    fmt,
    str::FromStr, //
};

/// `enum vfio_device_mig_state`, or a number that is not in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct State(pub u32);

impl State {
    /// The device has failed and must be reset.
    pub const ERROR: Self = Self(0);
    /// It does not change its state.
    pub const STOP: Self = Self(1);
    /// It runs.
    pub const RUNNING: Self = Self(2);
    /// Stopped; its state can be read.
    pub const STOP_COPY: Self = Self(3);
    /// Stopped; a state can be written.
    pub const RESUMING: Self = Self(4);
    /// Running without peer-to-peer DMA.
    pub const RUNNING_P2P: Self = Self(5);
    /// Running with changes tracked.
    pub const PRE_COPY: Self = Self(6);
    /// As PRE_COPY, without peer-to-peer DMA.
    pub const PRE_COPY_P2P: Self = Self(7);

    /// All that there are.
    pub const ALL: [Self; 8] = [
        Self::ERROR,
        Self::STOP,
        Self::RUNNING,
        Self::STOP_COPY,
        Self::RESUMING,
        Self::RUNNING_P2P,
        Self::PRE_COPY,
        Self::PRE_COPY_P2P,
    ];

    /// Whether it is of the saving group, which shares a data transfer session.
    pub fn is_saving(self) -> bool {
        matches!(self, Self::STOP_COPY | Self::PRE_COPY | Self::PRE_COPY_P2P)
    }

    /// Its name in the uAPI, where it has one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ERROR => "ERROR",
            Self::STOP => "STOP",
            Self::RUNNING => "RUNNING",
            Self::STOP_COPY => "STOP_COPY",
            Self::RESUMING => "RESUMING",
            Self::RUNNING_P2P => "RUNNING_P2P",
            Self::PRE_COPY => "PRE_COPY",
            Self::PRE_COPY_P2P => "PRE_COPY_P2P",
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// What a state is called.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a migration state; those are STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P and ERROR")]
pub struct NotAState;

impl FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        let name = text.to_ascii_uppercase().replace('-', "_");
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.name() == Some(&name))
            .ok_or(NotAState)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `flags` of `struct vfio_device_feature_migration`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

impl Features {
    /// `VFIO_MIGRATION_STOP_COPY`.
    pub const STOP_COPY: u64 = 1;
    /// `VFIO_MIGRATION_P2P`.
    pub const P2P: u64 = 2;
    /// `VFIO_MIGRATION_PRE_COPY`.
    pub const PRE_COPY: u64 = 4;

    /// The names of the bits that are set, and the rest as a number.
    pub fn names(self) -> Vec<String> {
        let known = [
            (Self::STOP_COPY, "STOP_COPY"),
            (Self::P2P, "P2P"),
            (Self::PRE_COPY, "PRE_COPY"),
        ];
        let mut names: Vec<String> = known
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| (*name).to_string())
            .collect();
        if self.0 & !7 != 0 {
            names.push(format!("{:#x}", self.0 & !7));
        }
        names
    }

    fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether a device with these features can be in `state`.
    pub fn supports(self, state: State) -> bool {
        match state {
            State::RUNNING_P2P => self.has(Self::P2P),
            State::PRE_COPY => self.has(Self::PRE_COPY),
            State::PRE_COPY_P2P => self.has(Self::P2P | Self::PRE_COPY),
            _ => state.name().is_some(),
        }
    }

    /// The arcs of the state machine that a driver with these features has
    /// (`enum vfio_device_mig_state`, include/uapi/linux/vfio.h).
    pub fn arcs(self) -> impl Iterator<Item = (State, State)> {
        use State as S;
        let always: &[_] = &[
            (S::RESUMING, S::STOP),
            (S::STOP, S::RESUMING),
            (S::STOP, S::STOP_COPY),
            (S::STOP_COPY, S::STOP),
        ];
        let running: &[_] = if self.has(Self::P2P) {
            &[
                (S::RUNNING, S::RUNNING_P2P),
                (S::RUNNING_P2P, S::RUNNING),
                (S::RUNNING_P2P, S::STOP),
                (S::STOP, S::RUNNING_P2P),
            ]
        } else {
            &[(S::RUNNING, S::STOP), (S::STOP, S::RUNNING)]
        };
        let precopy: &[_] = if self.has(Self::P2P | Self::PRE_COPY) {
            &[
                (S::RUNNING, S::PRE_COPY),
                (S::PRE_COPY, S::RUNNING),
                (S::PRE_COPY, S::PRE_COPY_P2P),
                (S::PRE_COPY_P2P, S::PRE_COPY),
                (S::PRE_COPY_P2P, S::RUNNING_P2P),
                (S::PRE_COPY_P2P, S::STOP_COPY),
                (S::RUNNING_P2P, S::PRE_COPY_P2P),
            ]
        } else if self.has(Self::PRE_COPY) {
            &[
                (S::RUNNING, S::PRE_COPY),
                (S::PRE_COPY, S::RUNNING),
                (S::PRE_COPY, S::STOP_COPY),
            ]
        } else {
            &[]
        };
        always.iter().chain(running).chain(precopy).copied()
    }

    /// The states that the kernel takes a device through, by the rules of
    /// `enum vfio_device_mig_state`: "Select the shortest path. The path cannot have saving
    /// group states as interior arcs, only starting/end states." Within the saving group the
    /// path may have them: the session goes on there. Empty if the states are the same,
    /// `None` if there is no path.
    pub fn path(self, from: State, to: State) -> Option<Vec<State>> {
        if !self.supports(from) || !self.supports(to) || to == State::ERROR {
            return None;
        }
        // "These arcs are not permitted and return error if requested."
        if from == State::STOP_COPY && matches!(to, State::PRE_COPY | State::PRE_COPY_P2P) {
            return None;
        }
        let within = from.is_saving() && to.is_saving();
        let mut paths = std::collections::VecDeque::from([vec![from]]);
        let mut seen = vec![from];
        while let Some(path) = paths.pop_front() {
            let last = *path.last()?;
            if last == to {
                return Some(path[1..].to_vec());
            }
            if last != from && last.is_saving() && !within {
                continue;
            }
            for (_, next) in self.arcs().filter(|(begin, _)| *begin == last) {
                // A state may be reached by several paths: the first one found is the
                // shortest.
                if !seen.contains(&next) || next == to {
                    seen.push(next);
                    paths.push_back([&path[..], &[next]].concat());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shown_by_name_or_number() {
        assert_eq!(State(3).to_string(), "STOP_COPY");
        assert_eq!(State(8).to_string(), "0x8");
        assert!(State::ALL.iter().all(|state| state.name().is_some()));
    }

    /// The combinations that vfio_mig_get_next_state() lists for a device with
    /// all optional features.
    #[test]
    fn paths_are_those_of_the_kernel() {
        let all = Features(7);
        let combinations = [
            "PRE_COPY -> PRE_COPY_P2P -> STOP_COPY",
            "PRE_COPY -> RUNNING -> RUNNING_P2P",
            "PRE_COPY -> RUNNING -> RUNNING_P2P -> STOP",
            "PRE_COPY -> RUNNING -> RUNNING_P2P -> STOP -> RESUMING",
            "PRE_COPY_P2P -> RUNNING_P2P -> RUNNING",
            "PRE_COPY_P2P -> RUNNING_P2P -> STOP",
            "PRE_COPY_P2P -> RUNNING_P2P -> STOP -> RESUMING",
            "RESUMING -> STOP -> RUNNING_P2P",
            "RESUMING -> STOP -> RUNNING_P2P -> PRE_COPY_P2P",
            "RESUMING -> STOP -> RUNNING_P2P -> RUNNING",
            "RESUMING -> STOP -> RUNNING_P2P -> RUNNING -> PRE_COPY",
            "RESUMING -> STOP -> STOP_COPY",
            "RUNNING -> RUNNING_P2P -> PRE_COPY_P2P",
            "RUNNING -> RUNNING_P2P -> STOP",
            "RUNNING -> RUNNING_P2P -> STOP -> RESUMING",
            "RUNNING -> RUNNING_P2P -> STOP -> STOP_COPY",
            "RUNNING_P2P -> RUNNING -> PRE_COPY",
            "RUNNING_P2P -> STOP -> RESUMING",
            "RUNNING_P2P -> STOP -> STOP_COPY",
            "STOP -> RUNNING_P2P -> PRE_COPY_P2P",
            "STOP -> RUNNING_P2P -> RUNNING",
            "STOP -> RUNNING_P2P -> RUNNING -> PRE_COPY",
            "STOP_COPY -> STOP -> RESUMING",
            "STOP_COPY -> STOP -> RUNNING_P2P",
            "STOP_COPY -> STOP -> RUNNING_P2P -> RUNNING",
        ];
        for text in combinations {
            let states: Vec<State> = text.split(" -> ").map(|s| s.parse().unwrap()).collect();
            let path = all.path(states[0], states[states.len() - 1]);
            assert_eq!(path.as_deref(), Some(&states[1..]), "{text}");
        }
        let mut arcs = 0;
        for from in State::ALL {
            for to in State::ALL {
                let path = all.path(from, to);
                arcs += usize::from(path.as_ref().is_some_and(|path| path.len() == 1));
                let blocked = from == State::ERROR && to != from
                    || to == State::ERROR
                    || from == State::STOP_COPY && to.is_saving() && to != from;
                assert_eq!(path.is_none(), blocked, "{from} -> {to}");
            }
        }
        assert_eq!(arcs, 15);
        assert_eq!(all.path(State::STOP, State::STOP), Some(vec![]));
    }

    #[test]
    fn states_that_are_not_supported_are_passed_by() {
        let stop_copy = Features(1);
        let path = stop_copy.path(State::RUNNING, State::STOP_COPY);
        assert_eq!(path, Some(vec![State::STOP, State::STOP_COPY]));
        assert_eq!(stop_copy.path(State::RUNNING, State::PRE_COPY), None);
        let path = Features(5).path(State::PRE_COPY, State::STOP_COPY);
        assert_eq!(path, Some(vec![State::STOP_COPY]));
    }

    #[test]
    fn states_are_read_as_people_write_them() {
        assert_eq!("stop-copy".parse(), Ok(State::STOP_COPY));
        assert_eq!("PAUSED".parse::<State>(), Err(NotAState));
    }

    #[test]
    fn unknown_features_are_not_hidden() {
        assert_eq!(Features(7).names(), ["STOP_COPY", "P2P", "PRE_COPY"]);
        assert_eq!(Features(0x81).names(), ["STOP_COPY", "0x80"]);
        assert!(Features(0).names().is_empty());
    }
}

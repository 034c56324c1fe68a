// SPDX-License-Identifier: GPL-2.0

//! Migration states and features.

use serde::{Serialize, Serializer};
use std::fmt;

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
    /// Both.
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

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `flags` of `struct vfio_device_feature_migration`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

impl Features {
    /// The names of the bits that are set, and the rest as a number.
    pub fn names(self) -> Vec<String> {
        let known = [(1, "STOP_COPY"), (2, "P2P"), (4, "PRE_COPY")];
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

    #[test]
    fn unknown_features_are_not_hidden() {
        assert_eq!(Features(7).names(), ["STOP_COPY", "P2P", "PRE_COPY"]);
        assert_eq!(Features(0x81).names(), ["STOP_COPY", "0x80"]);
        assert!(Features(0).names().is_empty());
    }
}

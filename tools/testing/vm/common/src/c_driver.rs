// SPDX-License-Identifier: GPL-2.0

//! The table of faults of the C driver, and of what it stands on, that a scenario shows.
//!
//! Init has a function for each, and a page has a report of each.

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What happens.
    pub name: &'static str,
    /// The scenario that shows it.
    pub scenario: &'static str,
}

const fn usual(name: &'static str) -> Fault {
    Fault {
        name,
        scenario: "c-driver",
    }
}

/// One that needs bounce buffers.
const fn bounced(name: &'static str) -> Fault {
    Fault {
        name,
        scenario: "c-driver-bounced",
    }
}

/// All of them.
pub const ALL: &[Fault] = &[
    usual("RUNNING after a reload in PRE_COPY"),
    usual("PRECOPY_INFO after a reload in PRE_COPY"),
    usual("STOP after a reload in RESUMING"),
    usual("write after an unbind"),
    usual("record without memory"),
    usual("refused SAVE in PRE_COPY"),
    usual("refused SAVE at the end of PRE_COPY"),
    usual("reset in a SAVE"),
    usual("reset in an arc"),
    usual("reader without memory"),
    usual("late SAVE"),
    usual("late LOAD"),
    usual("late report"),
    usual("silent page tracker"),
    usual("event of a command comes twice"),
    bounced("state through bounce buffers"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    #[test]
    fn names_are_unique_and_scenarios_exist() {
        for (i, fault) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != fault.name));
            assert!(scenarios::find(fault.scenario).is_some(), "{fault:?}");
        }
    }
}

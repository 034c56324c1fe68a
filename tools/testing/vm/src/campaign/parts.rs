// SPDX-License-Identifier: GPL-2.0

//! The parts of a campaign: which machines are run over and over, and what is enough.

use anyhow::{
    ensure,
    Result, //
};
use vm_common::{
    kernel::Kernel::{
        self,
        Debug,
        Intree,
        Stock, //
    },
    names,
    scenarios::{
        self,
        Scenario, //
    },
};

use Takes::{
    Time,
    Work, //
};

/// What a part must come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// Requests to our driver.
    Requests(u64),
    /// Streams that are written to our driver.
    Streams(u64),
    /// Machines of each scenario with each kernel, each of which does all that it has once.
    Machines(u64),
}

/// About how many minutes a machine takes.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// It goes on for that long, whatever the kernel.
    Time(u32),
    /// It has an end of its own, which a slow kernel comes to later.
    Work(u32),
}

/// A scenario, its kernels, and what a machine takes.
type Boots = (&'static str, &'static [Kernel], Takes);

/// A part.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it has happen.
    pub about: &'static str,
    /// Its machines, before their scenarios are known.
    scenarios: &'static [Boots],
    /// How long a machine goes on that has no end of its own.
    pub seconds: u32,
    /// What is enough.
    pub goal: Goal,
    /// Its share of the time, beside that of the others.
    pub share: u32,
}

const BOTH: &[Kernel] = &[Intree, Debug];

/// All parts.
pub const ALL: &[Part] = &[
    Part {
        name: "allocations",
        about: "each allocation of each request fails; any fails, by chance, in all at once",
        scenarios: &[("nomem", BOTH, Work(28)), ("nomem-random", BOTH, Time(3))],
        seconds: 120,
        goal: Goal::Machines(1),
        share: 2,
    },
    Part {
        name: "firmware",
        about: "each command of each path fails with each status, or is late; events go wrong",
        scenarios: &[
            ("firmware-fails", BOTH, Time(50)),
            ("firmware-late", BOTH, Time(60)),
        ],
        seconds: 3000,
        goal: Goal::Machines(1),
        share: 3,
    },
    Part {
        name: "users",
        about: "hostile requests, from threads and processes at once",
        scenarios: &[("hostile-users", BOTH, Time(3))],
        seconds: 120,
        goal: Goal::Requests(1_000_000),
        share: 4,
    },
    Part {
        name: "streams",
        about: "hostile streams, made of real ones record by record",
        scenarios: &[("hostile-streams", BOTH, Time(3))],
        seconds: 120,
        goal: Goal::Streams(100_000),
        share: 4,
    },
    Part {
        name: "device",
        about: "a device that lies in answers, completions and events",
        scenarios: &[("hostile-device", BOTH, Work(6))],
        seconds: 60,
        goal: Goal::Machines(2),
        share: 2,
    },
    Part {
        name: "sequences",
        about: "random sequences of requests, with both drivers: user space sees the same",
        scenarios: &[("random", BOTH, Work(4)), ("random-chunks", BOTH, Work(4))],
        seconds: 120,
        goal: Goal::Machines(4),
        share: 2,
    },
    Part {
        name: "life",
        about: "resets, PFs that are reloaded, processes that are killed, all calls at once",
        scenarios: &[
            ("life", &[Stock, Intree, Debug], Work(50)),
            ("races", BOTH, Time(3)),
            ("resets", BOTH, Work(3)),
            ("resets-chunks", BOTH, Work(2)),
            ("badinput", BOTH, Work(5)),
            ("waits", BOTH, Work(1)),
            ("timeout", &[Intree], Work(1)),
            ("dirty-slow", &[Intree], Work(1)),
            ("many", BOTH, Work(2)),
            ("many-pfs", BOTH, Work(2)),
        ],
        seconds: 120,
        goal: Goal::Machines(1),
        share: 3,
    },
    Part {
        name: "soak",
        about: "migrations, logging, faults and resets for long: nothing is lost in the end",
        scenarios: &[("soak", BOTH, Time(72)), ("soak-chunks", BOTH, Time(72))],
        seconds: 3600,
        goal: Goal::Machines(1),
        share: 3,
    },
];

impl Part {
    /// Its machines.
    pub fn machines(&self) -> impl Iterator<Item = (Kernel, &'static Scenario)> {
        self.scenarios.iter().flat_map(|(name, kernels, _)| {
            let scenario = scenarios::find(name);
            kernels
                .iter()
                .filter_map(move |kernel| Some((*kernel, scenario?)))
        })
    }

    /// About how long a machine takes that was not run yet, in seconds.
    pub fn guess(&self, kernel: Kernel, scenario: &Scenario) -> f64 {
        let of = |(name, ..): &&Boots| *name == scenario.name;
        let minutes = match self.scenarios.iter().find(of) {
            Some((.., Time(minutes))) => *minutes,
            Some((.., Work(minutes))) => minutes * kernel.slowness(),
            None => 0,
        };
        f64::from(60 * minutes)
    }
}

/// The folder, below that of a campaign, for what a machine keeps for the next one. `None` if its
/// scenario keeps nothing.
pub fn kept(kernel: Kernel, scenario: &Scenario) -> Option<String> {
    const KEEP: [&str; 2] = ["hostile-users", "hostile-streams"];
    let keeps = KEEP.contains(&scenario.name);
    keeps.then(|| format!("kept/{}", scenario.group(kernel)))
}

/// How long a machine with this scenario goes on that has no end of its own, if it is in a
/// campaign.
pub fn seconds(scenario: &str) -> Option<u32> {
    let has = |part: &&Part| part.scenarios.iter().any(|(name, ..)| *name == scenario);
    ALL.iter().find(has).map(|part| part.seconds)
}

/// Most seconds of a machine in `make check-all` that has no end of its own.
const OF_CHECK: u32 = 120;

/// The same in `make check-all`.
pub fn seconds_of_check(scenario: &str) -> Option<u32> {
    seconds(scenario).map(|seconds| seconds.min(OF_CHECK))
}

/// The parameter that has a machine go on for `seconds`.
pub fn parameter(seconds: u32) -> String {
    format!("vmtest.seconds={seconds}")
}

/// The parts that `only` chooses.
pub fn wanted(only: Option<&str>) -> Result<Vec<&'static Part>> {
    let all = || ALL.iter().map(|part| part.name);
    let chosen = names::chosen(all(), only);
    ensure!(
        !chosen.is_empty(),
        "a campaign has no part {:?}, but\n{}",
        only.unwrap_or_default(),
        names::lines(all())
    );
    Ok(ALL
        .iter()
        .filter(|part| chosen.contains(&part.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_is_in_the_table_of_scenarios() {
        for part in ALL {
            for (name, kernels, _) in part.scenarios {
                let scenario = scenarios::find(name).expect(name);
                assert!(
                    kernels.iter().all(|kernel| scenario.runs_with(*kernel)),
                    "{name}"
                );
            }
            assert!(part.share > 0);
            assert!(part
                .scenarios
                .iter()
                .all(|(name, ..)| seconds(name) == Some(part.seconds)));
        }
    }

    #[test]
    fn parts_are_chosen_by_name() {
        assert_eq!(wanted(None).unwrap().len(), ALL.len());
        assert_eq!(wanted(Some("soak")).unwrap().len(), 1);
        assert!(wanted(Some("nosuch")).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One machine of a campaign, and what came of it.

use super::{
    parts::seconds,
    splats, //
};
use crate::{
    console,
    machine::Outcome,
    tap::Test, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::{
        self,
        Scenario, //
    },
};

/// A machine, and the seed of what is random in it.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// What it boots.
    pub kernel: Kernel,
    /// What it does.
    pub scenario: &'static Scenario,
    /// Of what is random.
    pub seed: u64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scenario.group(self.kernel), self.seed)
    }
}

impl FromStr for Slice {
    type Err = String;

    /// Takes "KERNEL-SCENARIO:SEED" apart.
    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("{name:?} is not KERNEL-SCENARIO:SEED, as a campaign prints it");
        let (group, seed) = name.rsplit_once(':').ok_or_else(wrong)?;
        let (kernel, scenario) = group.split_once('-').ok_or_else(wrong)?;
        let kernel: Kernel = kernel.parse()?;
        let known = scenarios::find(scenario)
            .filter(|one| one.runs_with(kernel) && seconds(one.name).is_some());
        Ok(Self {
            kernel,
            scenario: known.ok_or_else(|| format!("a campaign has no machine {group:?}"))?,
            seed: seed.parse().map_err(|_| wrong())?,
        })
    }
}

/// Figures of a driver.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Machines.
    pub runs: u64,
    /// What was made to fail.
    pub faults_injected: u64,
    /// System calls on devices and data files.
    pub requests: u64,
    /// Of those, what succeeded.
    pub succeeded: u64,
    /// Streams that were written.
    pub streams: u64,
    /// What the kernel has complained of.
    pub splats: u64,
    /// What was not given back.
    pub leaks: u64,
    /// Machines and calls that did not end.
    pub hangs: u64,
    /// All else that was not as it must be.
    pub wrong_results: u64,
    /// Cases that the time was too short for.
    pub cases_left: u64,
}

impl Figures {
    /// Adds another machine's.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.faults_injected += other.faults_injected;
        self.requests += other.requests;
        self.succeeded += other.succeeded;
        self.streams += other.streams;
        self.splats += other.splats;
        self.leaks += other.leaks;
        self.hangs += other.hangs;
        self.wrong_results += other.wrong_results;
        self.cases_left += other.cases_left;
    }

    /// Whether all was well.
    pub fn is_clean(&self) -> bool {
        self.splats + self.leaks + self.hangs + self.wrong_results == 0
    }
}

/// What came of a machine.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The part of the campaign.
    pub part: String,
    /// The machine's name, and its seed.
    pub slice: String,
    /// The kernel.
    pub kernel: String,
    /// The commit that it was run at.
    #[serde(default)]
    pub commit: String,
    /// How long it ran.
    pub seconds: f64,
    /// Figures, by driver.
    pub drivers: BTreeMap<String, Figures>,
    /// Tests that failed.
    pub failed: Vec<String>,
    /// Where the logs are that were kept.
    pub logs: Option<String>,
}

/// Which figure a test counts in that fails, unless all that is wrong is in the kernel's log.
fn figure<'a>(test: &Test, figures: &'a mut Figures) -> Option<&'a mut u64> {
    let says = |text: &str| test.diagnostics.iter().any(|line| line.contains(text));
    let of_log = |line: &String| line.starts_with("kernel log:");
    let only_log = !test.diagnostics.is_empty() && test.diagnostics.iter().all(of_log);
    let hung = [
        "the machine hung",
        "the machine ran for more than",
        "did not return within",
    ];
    let is_leak = ["leaked", "left open"]
        .iter()
        .any(|text| test.name.contains(text))
        || says(" are lost after ");
    if hung.iter().any(|text| says(text)) {
        Some(&mut figures.hangs)
    } else if is_leak {
        Some(&mut figures.leaks)
    } else if test.name == console::COMPLAINED || says("Kernel panic") || only_log {
        None
    } else {
        Some(&mut figures.wrong_results)
    }
}

/// The driver that a test is of: unless it says another, ours is blamed.
fn blamed(test: &Test) -> &'static str {
    match test.name.contains("c driver") {
        true => "c",
        false => "rust",
    }
}

/// The figures of a machine, by driver. `console` is all that its kernel has said.
pub fn figures(outcome: &Outcome, console: &str) -> BTreeMap<String, Figures> {
    let mut drivers = BTreeMap::<String, Figures>::new();
    drivers.entry("rust".to_string()).or_default().runs = 1;
    for told in outcome.data.iter().map(|data| &data["campaign"]) {
        let Some(driver) = told["driver"].as_str() else {
            continue;
        };
        let counts: Figures = serde_json::from_value(told.clone()).unwrap_or_default();
        let of = drivers.entry(driver.to_string()).or_default();
        of.add(&counts);
        of.runs = 1;
    }
    let mut failed = BTreeMap::<String, Figures>::new();
    for test in outcome.tests.iter().filter(|test| !test.ok) {
        let of = failed.entry(blamed(test).to_string()).or_default();
        if let Some(count) = figure(test, of) {
            *count += 1;
        }
    }
    for (driver, mut counts) in failed {
        let of = drivers.entry(driver).or_default();
        // The scenario has counted what its tests have failed for.
        counts.wrong_results = counts.wrong_results.saturating_sub(of.wrong_results);
        of.add(&counts);
    }
    for driver in splats::drivers(console) {
        drivers.entry(driver.to_string()).or_default().splats += 1;
    }
    drivers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failed(name: &str, diagnostics: &[&str]) -> Test {
        Test {
            name: name.to_string(),
            ok: false,
            skipped: None,
            diagnostics: diagnostics.iter().map(|line| (*line).to_string()).collect(),
        }
    }

    #[test]
    fn a_slice_has_a_name_that_can_be_given() {
        let slice: Slice = "intree-resets-chunks:17".parse().unwrap();
        assert_eq!(slice.to_string(), "intree-resets-chunks:17");
        for wrong in [
            "resets:1",
            "intree-resets",
            "intree-nosuch:1",
            "intree-migrate:1",
            "nosuch-resets:1",
        ] {
            assert!(wrong.parse::<Slice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_fails_is_counted_as_what_it_is() {
        let outcome = Outcome {
            tests: vec![
                failed(
                    "the machine ran to its end",
                    &["the machine hung: silent for 120s"],
                ),
                failed("no memory is leaked", &[]),
                failed("the kernel complained of nothing", &["a: BUG: b"]),
                failed("a read", &["kernel log: WARNING: c"]),
                failed("a poll", &["1 event", "kernel log: WARNING: c"]),
                failed("a write", &["0 bytes"]),
                failed("a write, c driver", &["0 bytes"]),
                failed("a round", &["seed 1: 1567 pages are lost after 6 rounds"]),
                failed("killed", &["a read did not return within 20s"]),
            ],
            data: vec![
                json!({ "campaign": { "driver": "rust", "requests": 3, "streams": 1 } }),
                json!({ "campaign": { "driver": "rust", "wrong_results": 1, "cases_left": 4 } }),
                json!({ "campaign": { "driver": "rust", "requests": 4 } }),
                json!({ "other": 1 }),
            ],
            ..Outcome::default()
        };
        let drivers = figures(&outcome, "[ 1.0] BUG: b\n[ 1.1] WARNING: c\n");
        let ours = drivers["rust"];
        assert_eq!((ours.runs, ours.requests, ours.streams), (1, 7, 1));
        assert_eq!(
            (ours.splats, ours.leaks, ours.hangs, ours.wrong_results),
            (2, 2, 2, 2)
        );
        assert_eq!(ours.cases_left, 4);
        assert_eq!(drivers["c"].wrong_results, 1);
        assert!(!ours.is_clean() && Figures::default().is_clean());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `make bench`: our driver and the C driver side by side, in the same machine.

mod counts;
pub mod dirty;
mod firmware;
mod images;
pub mod overlap;
pub mod paths;
pub mod profile;
pub mod qemu;
pub mod reinit;
mod versions;

use crate::{machine::Outcome, tap::Test};
use anyhow::{ensure, Context, Result};
use serde_json::{json, Map, Value};
use std::path::Path;
use vm_common::{
    list, names,
    scenarios::{self, Scenario, Suite},
};

/// A benchmark.
pub struct Benchmark {
    /// The name of its scenario.
    name: &'static str,
    /// The report, in the folder of results.
    pub file: &'static str,
    /// Shows the result of a machine, and writes it to a file.
    pub publish: fn(&Outcome, &Path) -> Result<()>,
}

/// All of them.
const ALL: &[Benchmark] = &[
    Benchmark {
        name: "bench-paths",
        file: "bench/paths.json",
        publish: paths::publish,
    },
    Benchmark {
        name: "bench-profile",
        file: "bench/profile.json",
        publish: profile::publish,
    },
    Benchmark {
        name: "bench-overlap",
        file: "bench/overlap.json",
        publish: overlap::publish,
    },
    Benchmark {
        name: "bench-reinit",
        file: "bench/reinit.json",
        publish: reinit::publish,
    },
    Benchmark {
        name: "bench-dirty",
        file: "bench/dirty.json",
        publish: dirty::publish,
    },
    Benchmark {
        name: "bench-qemu",
        file: "bench/qemu.json",
        publish: qemu::publish,
    },
];

/// The scenarios that measure.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    scenarios::ALL
        .iter()
        .filter(|scenario| scenario.suite == Suite::Bench)
}

/// The scenarios that `only` chooses.
pub fn wanted(only: Option<&str>) -> Result<Vec<&'static Scenario>> {
    let names = || scenarios().map(|scenario| scenario.name);
    let chosen = names::chosen(names(), only);
    ensure!(
        !chosen.is_empty(),
        "there is no benchmark {:?}, but\n{}",
        only.unwrap_or_default(),
        list::lines(names())
    );
    Ok(scenarios()
        .filter(|scenario| chosen.contains(&scenario.name))
        .collect())
}

/// The benchmark of a scenario.
pub fn find(scenario: &Scenario) -> Result<&'static Benchmark> {
    ALL.iter()
        .find(|one| one.name == scenario.name)
        .with_context(|| format!("{} has nothing to publish", scenario.name))
}

/// The tests of what a machine has left in its logs, beside those that it has made itself:
/// goals that are reached must not be lost.
pub fn tests(scenario: &Scenario, outcome: &Outcome) -> Vec<Test> {
    let tests = match scenario.name {
        "chunks" => images::tests(outcome),
        "overlap" => overlap::tests(outcome),
        "paths" => paths::tests(outcome),
        _ => return Vec::new(),
    };
    tests.unwrap_or_else(|err| {
        vec![Test {
            name: "the logs say what was measured".to_string(),
            ok: false,
            skipped: None,
            diagnostics: vec![format!("{err:#}")],
        }]
    })
}

/// The value in the middle, or the mean of both.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

/// The medians of the runs, for each of the figures.
fn medians<'a>(runs: &[&Value], figures: impl IntoIterator<Item = &'a str>) -> Map<String, Value> {
    let of = |name| median(runs.iter().filter_map(|run| run[name].as_f64()).collect());
    figures
        .into_iter()
        .map(|name| (name.to_string(), json!(of(name))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_benchmark_can_be_published() {
        assert!(scenarios().all(|scenario| find(scenario).is_ok()));
        assert_eq!(scenarios().count(), ALL.len());
    }

    #[test]
    fn benchmarks_are_chosen_by_name() {
        let names = |only| -> Vec<&str> {
            let wanted = wanted(only).unwrap();
            wanted.iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(names(None).len(), ALL.len());
        assert_eq!(names(Some("dirty")), ["bench-dirty"]);
        let err = wanted(Some("nosuch")).unwrap_err().to_string();
        assert!(err.contains("bench-dirty"), "{err}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `make bench`: our driver and the C driver side by side, in the same machine.

mod code_size;
pub mod counts;
pub mod dirty;
mod firmware;
mod goals;
mod images;
pub mod net;
pub mod overlap;
pub mod paths;
pub mod profile;
pub mod qemu;
pub mod reinit;
mod rows;
pub mod table;
mod versions;

use crate::{
    machine::Outcome,
    paths::Paths,
    tap::Test, //
};
use anyhow::{
    ensure,
    Result, //
};
use serde_json::{
    json,
    Map,
    Value, //
};
use std::path::Path;
use vm_common::{
    kernel::Kernel,
    names,
    scenarios::{
        self,
        Scenario, //
    },
};

/// A benchmark.
pub struct Benchmark {
    /// Its name.
    pub name: &'static str,
    /// Its scenarios. Each is run with all of its kernels.
    scenarios: &'static [&'static str],
    /// How often it measures, unless it is told.
    pub runs: u32,
    /// The report, in the folder of results.
    pub file: &'static str,
    /// Shows the results of the machines, and writes them to a file.
    pub publish: fn(&Measured<'_>, &Path) -> Result<()>,
}

/// All of them.
pub const ALL: &[Benchmark] = &[
    Benchmark {
        name: "paths",
        scenarios: &[
            "bench-paths",
            "bench-paths-0",
            "bench-paths-274",
            "bench-paths-1g",
            "bench-paths-vfs",
        ],
        runs: 3,
        file: "bench/paths.json",
        publish: paths::publish,
    },
    Benchmark {
        name: "profile",
        scenarios: &["bench-profile"],
        runs: 3,
        file: "bench/profile.json",
        publish: profile::publish,
    },
    Benchmark {
        name: "overlap",
        scenarios: &["bench-overlap"],
        runs: 3,
        file: "bench/overlap.json",
        publish: overlap::publish,
    },
    Benchmark {
        name: "reinit",
        scenarios: &["bench-reinit"],
        runs: 3,
        file: "bench/reinit.json",
        publish: reinit::publish,
    },
    Benchmark {
        name: "dirty",
        scenarios: &["bench-dirty"],
        runs: 3,
        file: "bench/dirty.json",
        publish: dirty::publish,
    },
    Benchmark {
        name: "qemu",
        scenarios: &["bench-qemu"],
        // The downtimes of one kind differ by a tenth.
        runs: 5,
        file: "bench/qemu.json",
        publish: qemu::publish,
    },
    Benchmark {
        name: "net",
        scenarios: &["bench-net"],
        // The first one is discarded, and each has two migrations of each kind.
        runs: 3,
        file: "bench/net.json",
        publish: net::publish,
    },
];

impl Benchmark {
    /// Its machines, those with a kernel together.
    pub fn machines(&self) -> Vec<(Kernel, &'static Scenario)> {
        let scenarios = self.scenarios.iter().copied().filter_map(scenarios::find);
        let with_kernels =
            scenarios.flat_map(|one| one.kernels.iter().map(move |kernel| (*kernel, one)));
        let mut machines: Vec<_> = with_kernels.collect();
        machines.sort_by_key(|(kernel, _)| *kernel);
        machines
    }
}

/// What a benchmark has measured.
pub struct Measured<'a> {
    /// Where things are.
    pub paths: &'a Paths,
    /// The kernels of its machines, and what came of them.
    pub machines: Vec<(Kernel, Outcome)>,
}

impl Measured<'_> {
    /// What came of the only machine.
    fn one(&self) -> Result<&Outcome> {
        ensure!(self.machines.len() == 1, "{} machines", self.machines.len());
        Ok(&self.machines[0].1)
    }
}

/// The benchmarks that `only` chooses.
pub fn wanted(only: Option<&str>) -> Result<Vec<&'static Benchmark>> {
    let names = || ALL.iter().map(|benchmark| benchmark.name);
    let chosen = names::chosen(names(), only);
    ensure!(
        !chosen.is_empty(),
        "there is no benchmark {:?}, but\n{}",
        only.unwrap_or_default(),
        names::lines(names())
    );
    Ok(ALL
        .iter()
        .filter(|benchmark| chosen.contains(&benchmark.name))
        .collect())
}

/// The tests of what a machine has left in its logs, beside those that it has made itself:
/// goals that are reached must not be lost.
pub fn tests(kernel: Kernel, scenario: &Scenario, outcome: &Outcome) -> Vec<Test> {
    let tests = match scenario.name {
        "chunks" => images::tests(outcome),
        "overlap" => overlap::tests(outcome),
        "paths" => paths::tests(kernel, outcome),
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

/// Another figure of a series, from 0 to 1 of the way through it in order: 0.5 is the
/// median.
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => {
            let at = (n - 1) as f64 * part;
            let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
            below + (above - below) * at.fract()
        }
    }
}

/// The value in the middle, or the mean of both.
pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// Least, lower quartile, median, upper quartile and most of the runs, for each of the
/// figures.
fn spreads<'a>(runs: &[&Value], figures: impl IntoIterator<Item = &'a str>) -> Value {
    let of = |name: &str| -> Vec<f64> {
        let values = || runs.iter().filter_map(|run| run[name].as_f64()).collect();
        let parts = [0.0, 0.25, 0.5, 0.75, 1.0];
        parts.map(|part| quantile(values(), part)).to_vec()
    };
    figures
        .into_iter()
        .map(|name| (name.to_string(), json!(of(name))))
        .collect::<Map<_, _>>()
        .into()
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
    use std::collections::BTreeSet;
    use vm_common::scenarios::Suite;

    #[test]
    fn each_scenario_that_measures_is_of_one_benchmark() {
        let named: Vec<&str> = ALL.iter().flat_map(|one| one.scenarios).copied().collect();
        let unique: BTreeSet<&str> = named.iter().copied().collect();
        let measure = |one: &&Scenario| one.suite == Suite::Bench;
        let measuring = scenarios::ALL.iter().filter(measure);
        assert_eq!(named.len(), unique.len());
        assert_eq!(
            measuring.map(|one| one.name).collect::<BTreeSet<_>>(),
            unique
        );
        assert!(ALL.iter().all(|one| !one.machines().is_empty()));
    }

    #[test]
    fn benchmarks_are_chosen_by_name() {
        let names = |only| -> Vec<&str> {
            let wanted = wanted(only).unwrap();
            wanted.iter().map(|benchmark| benchmark.name).collect()
        };
        assert_eq!(names(None).len(), ALL.len());
        assert_eq!(names(Some("dirty")), ["dirty"]);
        for wrong in ["nosuch", "bench-dirty", "dirty "] {
            let err = wanted(Some(wrong)).err().unwrap().to_string();
            assert!(err.contains("profile"), "{err}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn quartiles_are_a_quarter_from_the_ends() {
        let values = || vec![5.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(values(), 0.25), 2.0);
        assert_eq!(quantile(values(), 1.0), 5.0);
        assert_eq!(quantile(vec![1.0, 3.0], 0.25), 1.5);
    }
}

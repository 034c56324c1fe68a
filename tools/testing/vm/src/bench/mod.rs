// SPDX-License-Identifier: GPL-2.0

//! `make bench`: our driver and the C driver side by side, in the same machine.

pub mod dirty;
mod firmware;
pub mod qemu;
pub mod reinit;
mod versions;

use crate::{kernel::Kernel, machine::Outcome, report};
use anyhow::Result;
use serde_json::{json, Map, Value};
use std::path::Path;

/// A benchmark.
pub struct Benchmark {
    /// The scenario that the machine runs.
    pub scenario: &'static str,
    /// The kernel that it boots.
    pub kernel: Kernel,
    /// What is measured.
    pub title: &'static str,
    /// Shows the result, and writes it down.
    pub publish: fn(&Outcome, &Path) -> Result<()>,
}

/// All of them.
pub const ALL: &[Benchmark] = &[
    Benchmark {
        scenario: reinit::SCENARIO,
        kernel: Kernel::Stock,
        title: "Migrating VFs with a state of 1 GiB",
        publish: reinit::publish,
    },
    Benchmark {
        scenario: dirty::SCENARIO,
        // The stock kernel has no dirty bitmaps.
        kernel: Kernel::Intree,
        title: "Reporting dirty pages of 2 GiB",
        publish: dirty::publish,
    },
    Benchmark {
        scenario: qemu::SCENARIO,
        kernel: Kernel::Intree,
        title: "Live-migrating a guest with four VFs by QEMU",
        publish: qemu::publish,
    },
];

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

/// Writes a result to `out/bench`, and says so.
fn write(result: &Value, out: &Path, name: &str) -> Result<()> {
    report::write(result, &out.join("bench"), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How many instructions the machine executes in each call.

use super::{
    counts::{self, Count},
    median,
};
use crate::{machine::Outcome, report::write, tap::Test};
use anyhow::{Context, Result};
use serde_json::{json, Value};
use std::{collections::BTreeMap, fmt::Write as _, ops::Range, path::Path};

/// What a path is to take at most, of the C driver's instructions, without those that
/// clear pages.
struct Goal {
    path: &'static str,
    ratio: f64,
    /// It is reached, and must not be lost.
    kept: bool,
}

const fn kept(path: &'static str, ratio: f64) -> Goal {
    let kept = true;
    Goal { path, ratio, kept }
}

const fn open(path: &'static str, ratio: f64) -> Goal {
    let kept = false;
    Goal { path, ratio, kept }
}

const GOALS: &[Goal] = &[
    kept("migrate", 0.35),
    open("STOP -> STOP_COPY", 0.05),
    kept("RUNNING -> PRE_COPY", 0.05),
    kept("read, 1 MiB", 0.70),
    open("read, 64 KiB", 0.75),
    open("read, 4 KiB", 1.0),
    open("write, leave RESUMING", 0.25),
    open("PRECOPY_INFO", 1.0),
    open("pre-copy cycle, 0 pages", 1.0),
    open("pre-copy cycle, 1 page", 1.0),
    kept("pre-copy cycle, 16 pages", 1.0),
    open("RUNNING -> RUNNING_P2P", 1.0),
];

/// The medians of a path: all instructions, and those that clear pages.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    runs: usize,
    instructions: f64,
    clearing: f64,
}

/// Where the kernel clears pages, as the guest has told.
fn clearing(data: &[Value]) -> Result<Range<u64>> {
    let range = |value: &Value| {
        let bound = |i: usize| value["clearing"][i].as_u64();
        Some(bound(0)?..bound(1)?)
    };
    let found = data.iter().find_map(range);
    found.context("the machine has not told where pages are cleared")
}

/// The medians of all paths with all drivers.
fn collect(counts: Vec<Count>, clearing: &Range<u64>) -> BTreeMap<(String, String), Figures> {
    let mut runs: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for Count {
        path,
        driver,
        section,
    } in counts
    {
        let cleared = section.blocks.range(clearing.clone());
        let cleared: u64 = cleared.map(|(_, executed)| executed).sum();
        let run = (section.total as f64, cleared as f64);
        runs.entry((path, driver)).or_default().push(run);
    }
    let figures = |runs: Vec<(f64, f64)>| Figures {
        runs: runs.len(),
        instructions: median(runs.iter().map(|run| run.0).collect()),
        clearing: median(runs.iter().map(|run| run.1).collect()),
    };
    runs.into_iter()
        .map(|(key, runs)| (key, figures(runs)))
        .collect()
}

/// paths.json's list, in the order of the names.
fn list(figures: &BTreeMap<(String, String), Figures>) -> Vec<Value> {
    let of = |path: &str, driver: &str| figures.get(&(path.to_string(), driver.to_string()));
    let mut list = Vec::new();
    for (path, driver) in figures.keys() {
        if driver != "rust" {
            continue;
        }
        let (Some(rust), Some(c)) = (of(path, "rust"), of(path, "c")) else {
            continue;
        };
        let ratio = (rust.instructions - rust.clearing) / (c.instructions - c.clearing);
        let goal = GOALS.iter().find(|goal| goal.path == path);
        list.push(json!({
            "path": path,
            "unit": "instructions",
            "runs": rust.runs,
            "rust": rust.instructions - rust.clearing,
            "c": c.instructions - c.clearing,
            "ratio": ratio,
            "goal": goal.map(|goal| goal.ratio),
            "met": goal.map(|goal| ratio <= goal.ratio),
            "rust_with_clearing": rust.instructions,
            "c_with_clearing": c.instructions,
            "ratio_with_clearing": rust.instructions / c.instructions,
            "memfd": of(path, "memfd").map(|memfd| memfd.instructions),
        }));
    }
    list
}

fn render(list: &[Value]) -> String {
    let mut text = format!(
        "\n  {:<26}{:>14}{:>14}{:>8}{:>8}{:>16}{:>16}\n",
        "without clearing pages", "Rust", "C", "ratio", "goal", "ratio with", "memfd"
    );
    for row in list {
        let of = |figure: &str| row[figure].as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "  {:<26}{:>14.0}{:>14.0}{:>8.3}{:>8}{:>16.3}{:>16}",
            row["path"].as_str().unwrap_or_default(),
            of("rust"),
            of("c"),
            of("ratio"),
            row["goal"]
                .as_f64()
                .map_or(String::new(), |goal| format!("{goal:.2}")),
            of("ratio_with_clearing"),
            row["memfd"]
                .as_f64()
                .map_or(String::new(), |count| format!("{count:.0}")),
        );
    }
    text
}

fn measured(outcome: &Outcome) -> Result<Vec<Value>> {
    let clearing = clearing(&outcome.data)?;
    Ok(list(&collect(counts::of(outcome)?, &clearing)))
}

/// Writes paths.json and shows what is in it.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    let list = measured(outcome)?;
    println!("{}", render(&list));
    write(&json!(list), file)
}

/// A test for each goal that must not be lost.
fn judge(list: &[Value]) -> Vec<Test> {
    let test = |goal: &Goal| {
        let row = list.iter().find(|row| row["path"] == goal.path);
        let ratio = row.and_then(|row| row["ratio"].as_f64());
        Test {
            name: format!(
                "{}: at most {} of the C driver's instructions",
                goal.path, goal.ratio
            ),
            ok: ratio.is_some_and(|ratio| ratio <= goal.ratio),
            skipped: None,
            diagnostics: vec![match (row, ratio) {
                (Some(row), Some(ratio)) => format!("{} of {}: {ratio:.3}", row["rust"], row["c"]),
                _ => "it was not counted".to_string(),
            }],
        }
    };
    GOALS.iter().filter(|goal| goal.kept).map(test).collect()
}

/// The tests of a machine that has counted.
pub fn tests(outcome: &Outcome) -> Result<Vec<Test>> {
    Ok(judge(&measured(outcome)?))
}

#[cfg(test)]
mod tests {
    use super::{super::counts::Section, *};

    #[test]
    fn pages_are_cleared_beside_the_ratio() {
        let count = |driver: &str, total: u64| Count {
            path: "a".to_string(),
            driver: driver.to_string(),
            section: Section {
                total,
                blocks: BTreeMap::from([(0x10, total - 2), (0x20, 2)]),
            },
        };
        let counts = vec![count("rust", 7), count("c", 12)];
        let range = clearing(&[json!({ "clearing": [0x20, 0x21] })]).unwrap();
        let list = list(&collect(counts, &range));
        assert_eq!(list.len(), 1);
        assert_eq!(
            (&list[0]["rust"], &list[0]["c"]),
            (&json!(5.0), &json!(10.0))
        );
        assert_eq!(list[0]["rust_with_clearing"], 7.0);
        assert_eq!(list[0]["ratio"], 0.5);
        assert!(render(&list).contains("0.500"));
    }

    #[test]
    fn a_goal_that_is_lost_or_not_measured_fails() {
        let row = |path: &str, ratio: f64| json!({ "path": path, "ratio": ratio });
        let tests = judge(&[row("migrate", 0.35), row("read, 1 MiB", 0.71)]);
        let ok: Vec<bool> = tests.iter().map(|test| test.ok).collect();
        assert_eq!(ok, [true, false, false, false]);
    }
}

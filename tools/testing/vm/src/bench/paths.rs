// SPDX-License-Identifier: GPL-2.0

//! How many instructions the machine executes in each call.

use super::{
    counts::{self, Count},
    median,
};
use crate::{machine::Outcome, report::write};
use anyhow::{Context, Result};
use serde_json::{json, Value};
use std::{collections::BTreeMap, fmt::Write as _, ops::Range, path::Path};

/// The medians of a path: all instructions, and those that clear pages.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
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
        list.push(json!({
            "path": path,
            "unit": "instructions",
            "rust": rust.instructions - rust.clearing,
            "c": c.instructions - c.clearing,
            "ratio": (rust.instructions - rust.clearing) / (c.instructions - c.clearing),
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
        "\n  {:<26}{:>14}{:>14}{:>8}{:>16}{:>16}\n",
        "without clearing pages", "Rust", "C", "ratio", "ratio with", "memfd"
    );
    for row in list {
        let of = |figure: &str| row[figure].as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "  {:<26}{:>14.0}{:>14.0}{:>8.2}{:>16.2}{:>16.0}",
            row["path"].as_str().unwrap_or_default(),
            of("rust"),
            of("c"),
            of("ratio"),
            of("ratio_with_clearing"),
            of("memfd"),
        );
    }
    text
}

/// Writes paths.json and shows what is in it.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    let clearing = clearing(&outcome.data)?;
    let list = list(&collect(counts::of(outcome)?, &clearing));
    println!("{}", render(&list));
    write(&json!(list), file)
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
        assert!(render(&list).contains("0.50"));
    }
}

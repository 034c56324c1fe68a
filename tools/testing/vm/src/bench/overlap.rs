// SPDX-License-Identifier: GPL-2.0

//! How long it takes to load records that arrive as fast as firmware loads them, from the
//! log of firmware commands.

use super::{
    firmware::{
        self,
        Load, //
    },
    median,
    Measured, //
};
use crate::{
    machine::Outcome,
    report::write,
    tap::Test, //
};
use anyhow::{
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path, //
};

/// What a pattern is to take at most, of the C driver's time.
const GOALS: [(&str, f64); 2] = [
    ("16 records of 1 MiB, 64 KiB writes", 1.0 / 1.8),
    ("16 records of 1 MiB, a write for each", 1.0),
];

/// All that was loaded, by pattern and driver.
type Loads = BTreeMap<(String, String), Vec<Load>>;

fn collect(data: &[Value], log: &str) -> Result<Loads> {
    let mut commands = firmware::commands(log);
    let mut loads = Loads::new();
    for row in data {
        let Some(pattern) = row["pattern"].as_str() else {
            continue;
        };
        let driver = row["driver"].as_str().unwrap_or_default();
        let vhca = row["vhca"].as_u64().context("no VHCA")?;
        let load = firmware::load(&mut commands, vhca)?;
        let key = (pattern.to_string(), driver.to_string());
        loads.entry(key).or_default().push(load);
    }
    Ok(loads)
}

/// overlap.json's list, in the order of the names.
fn list(loads: &Loads) -> Vec<Value> {
    let of = |pattern: &str, driver: &str, figure: fn(Load) -> f64| {
        let key = (pattern.to_string(), driver.to_string());
        let runs = loads.get(&key).into_iter().flatten().copied();
        median(runs.map(figure).collect())
    };
    let ours = loads.iter().filter(|((_, driver), _)| driver == "rust");
    ours.map(|((pattern, _), runs)| {
        let (rust, c) = (of(pattern, "rust", Load::ms), of(pattern, "c", Load::ms));
        let goal = GOALS.iter().find(|(path, _)| path == pattern);
        json!({
            "path": pattern,
            "unit": "ms",
            "runs": runs.len(),
            "rust": rust,
            "c": c,
            "ratio": rust / c,
            "goal": goal.map(|(_, goal)| goal),
            "met": goal.map(|(_, goal)| rust / c <= *goal),
            "rust_idle": of(pattern, "rust", Load::idle),
            "c_idle": of(pattern, "c", Load::idle),
        })
    })
    .collect()
}

fn render(list: &[Value]) -> String {
    let mut text = format!(
        "\n  {:<40}{:>12}{:>10}{:>8}{:>8}{:>14}{:>10}\n",
        "firmware loads", "Rust, ms", "C, ms", "ratio", "goal", "Rust, idle", "C, idle"
    );
    for row in list {
        let of = |figure: &str| row[figure].as_f64().unwrap_or(f64::NAN);
        let percent = |figure: &str| format!("{:.0} %", of(figure) * 100.0);
        let _ = writeln!(
            text,
            "  {:<40}{:>12.1}{:>10.1}{:>8.3}{:>8}{:>14}{:>10}",
            row["path"].as_str().unwrap_or_default(),
            of("rust"),
            of("c"),
            of("ratio"),
            row["goal"]
                .as_f64()
                .map_or(String::new(), |goal| format!("{goal:.2}")),
            percent("rust_idle"),
            percent("c_idle"),
        );
    }
    text
}

fn rows(outcome: &Outcome) -> Result<Vec<Value>> {
    Ok(list(&collect(&outcome.data, &firmware::log(outcome)?)?))
}

/// Writes overlap.json and shows what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let list = rows(measured.one()?)?;
    println!("{}", render(&list));
    write(&json!(list), file)
}

/// A test for each goal.
fn judge(list: &[Value]) -> Vec<Test> {
    let test = |(path, goal): &(&str, f64)| {
        let row = list.iter().find(|row| row["path"] == *path);
        Test {
            name: format!("{path}: at most {goal:.2} of the C driver's time"),
            ok: row.is_some_and(|row| row["met"] == true),
            skipped: None,
            diagnostics: vec![row.map_or("it was not measured".to_string(), Value::to_string)],
        }
    };
    GOALS.iter().map(test).collect()
}

/// The tests of a machine that has loaded records.
pub fn tests(outcome: &Outcome) -> Result<Vec<Test>> {
    Ok(judge(&rows(outcome)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::documented::{
        self,
        keys, //
    };

    const LOG: &str = "\
0 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x1 vhca=1 status=0x0 syndrome=0x0 bytes=0 ns=0
1000000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=1 status=0x0 syndrome=0x0 bytes=9 ns=1000000
3000000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=1 status=0x0 syndrome=0x0 bytes=9 ns=1000000
4000000 fn=0 op=0x116 RESUME_VHCA op_mod=0x1 vhca=1 status=0x0 syndrome=0x0 bytes=0 ns=0
5000000 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x1 vhca=3 status=0x0 syndrome=0x0 bytes=0 ns=0
5500000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=3 status=0x0 syndrome=0x0 bytes=9 ns=1000000
6500000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=3 status=0x0 syndrome=0x0 bytes=9 ns=500000
7000000 fn=0 op=0x116 RESUME_VHCA op_mod=0x1 vhca=3 status=0x0 syndrome=0x0 bytes=0 ns=0
";

    fn row(driver: &str, vhca: u64) -> Value {
        json!({ "pattern": GOALS[0].0, "driver": driver, "vhca": vhca })
    }

    #[test]
    fn drivers_stand_side_by_side() {
        let list = list(&collect(&[row("c", 1), row("rust", 3)], LOG).unwrap());
        assert_eq!(
            (&list[0]["rust"], &list[0]["c"]),
            (&json!(2.0), &json!(4.0))
        );
        assert_eq!(list[0]["c_idle"], json!(1.0 / 3.0));
        assert_eq!(list[0]["rust_idle"], 0.0);
        assert_eq!(list[0]["met"], true);
        assert!(render(&list).contains("0.500"));
        let ok: Vec<bool> = judge(&list).iter().map(|test| test.ok).collect();
        assert_eq!(ok, [true, false]);
        assert!(collect(&[row("c", 2)], LOG).is_err());
    }

    #[test]
    fn the_page_has_what_is_written() {
        let list = list(&collect(&[row("c", 1), row("rust", 3)], LOG).unwrap());
        let page = documented::testing();
        let said = ["What each call takes", "Records that arrive"];
        let [of_paths, of_these] = said.map(|heading| documented::said_in(&page, heading));
        assert_eq!(&keys(&list[0]) - &(&of_paths | &of_these), [].into());
    }
}

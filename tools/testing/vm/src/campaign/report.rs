// SPDX-License-Identifier: GPL-2.0

//! What a campaign has come to: a table for a person, and report.json.

use super::{
    parts::{
        Goal,
        Part, //
    },
    slice::{
        Done,
        Figures, //
    },
};
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::BTreeMap,
    fmt::Write as _, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::Scenario, //
};

/// The driver that goals are about.
pub const OURS: &str = "rust";

/// A row: part, kernel and driver.
type Row = (String, String, String);

/// Figures and seconds of each row. The seconds of a machine with two drivers are in the rows
/// of both.
fn rows(done: &[Done]) -> BTreeMap<Row, (Figures, f64)> {
    let mut rows = BTreeMap::<Row, (Figures, f64)>::new();
    for one in done {
        for (driver, figures) in &one.drivers {
            let row = (one.part.clone(), one.kernel.clone(), driver.clone());
            let (sum, seconds) = rows.entry(row).or_default();
            sum.add(figures);
            *seconds += one.seconds;
        }
    }
    rows
}

/// The runs of a machine for a part.
pub fn runs<'a>(
    part: &'a Part,
    done: &'a [Done],
    (kernel, scenario): (Kernel, &Scenario),
) -> impl Iterator<Item = &'a Done> {
    let group = scenario.group(kernel) + ":";
    done.iter()
        .filter(move |one| one.part == part.name && one.slice.starts_with(&group))
}

/// How much of its goal a part has come to, and the goal.
pub fn progress(part: &Part, done: &[Done]) -> (u64, u64) {
    let of_part = || done.iter().filter(|one| one.part == part.name);
    let ours = |figure: fn(&Figures) -> u64| {
        let figures = of_part().filter_map(|one| one.drivers.get(OURS));
        figures.map(figure).sum::<u64>()
    };
    match part.goal {
        Goal::Requests(goal) => (ours(|figures| figures.requests), goal),
        Goal::Streams(goal) => (ours(|figures| figures.streams), goal),
        Goal::Machines(goal) => {
            let of_machine =
                |machine: (Kernel, &Scenario)| (runs(part, done, machine).count() as u64).min(goal);
            let machines = part.machines().count() as u64;
            (part.machines().map(of_machine).sum(), goal * machines)
        }
    }
}

/// What a goal counts.
const fn unit(goal: Goal) -> &'static str {
    match goal {
        Goal::Requests(_) => "requests",
        Goal::Streams(_) => "streams",
        Goal::Machines(_) => "machines",
    }
}

/// A part's goal, in words.
pub fn state(part: &Part, done: &[Done]) -> String {
    let (count, goal) = progress(part, done);
    format!("{}: {count} of {goal} {}", part.name, unit(part.goal))
}

/// Cases of a part that no machine had the time for: what the best one of each kernel has left.
fn left(part: &Part, done: &[Done]) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::new();
    for (kernel, scenario) in part.machines() {
        let of_run = |one: &Done| one.drivers.values().map(|of| of.cases_left).sum::<u64>();
        let best = runs(part, done, (kernel, scenario)).map(of_run).min();
        *left.entry(kernel.name().to_string()).or_default() += best.unwrap_or(0);
    }
    left.retain(|_, count| *count > 0);
    left
}

/// report.json.
pub fn json(parts: &[&Part], done: &[Done], of: &Value) -> Value {
    let rows: Vec<Value> = rows(done)
        .into_iter()
        .map(|((part, kernel, driver), (figures, seconds))| {
            let mut row = json!(figures);
            row["part"] = part.into();
            row["kernel"] = kernel.into();
            row["driver"] = driver.into();
            row["seconds"] = json!((seconds * 10.0).round() / 10.0);
            row
        })
        .collect();
    let goals: Vec<Value> = parts
        .iter()
        .map(|part| {
            let (count, goal) = progress(part, done);
            json!({
                "part": part.name, "about": part.about, "unit": unit(part.goal),
                "done": count, "goal": goal, "cases_left": left(part, done),
            })
        })
        .collect();
    let failures: Vec<Value> = done
        .iter()
        .filter(|one| !one.failed.is_empty())
        .map(|one| {
            json!({
                "part": one.part, "slice": one.slice, "tests": one.failed, "logs": one.logs,
                "again": again(&one.slice),
            })
        })
        .collect();
    let mut report = json!({ "parts": rows, "goals": goals, "failures": failures });
    for (key, value) in of.as_object().into_iter().flatten() {
        report[key] = value.clone();
    }
    report
}

/// The command that runs just one machine again.
pub fn again(slice: &str) -> String {
    format!("make campaign SLICE={slice}")
}

/// The table.
pub fn render(parts: &[&Part], done: &[Done]) -> String {
    let mut text = format!(
        "\n  {:12} {:7} {:20} {:>5} {:>9} {:>8} {:>7} {:>6} {:>5} {:>5} {:>5} {:>6}\n",
        "part",
        "kernel",
        "driver",
        "runs",
        "requests",
        "streams",
        "faults",
        "splats",
        "leaks",
        "hangs",
        "wrong",
        "time"
    );
    for ((part, kernel, driver), (figures, seconds)) in rows(done) {
        let _ = writeln!(
            text,
            "  {part:12} {kernel:7} {driver:20} {:>5} {:>9} {:>8} {:>7} {:>6} {:>5} {:>5} {:>5} \
             {:>5.0}s",
            figures.runs,
            figures.requests,
            figures.streams,
            figures.faults_injected,
            figures.splats,
            figures.leaks,
            figures.hangs,
            figures.wrong_results,
            seconds
        );
    }
    text.push('\n');
    for part in parts {
        let _ = writeln!(text, "  {} ({})", state(part, done), part.about);
        for (kernel, count) in left(part, done) {
            let _ = writeln!(text, "    {kernel}: no time for {count} cases");
        }
    }
    for one in done.iter().filter(|one| !one.failed.is_empty()) {
        let _ = writeln!(text, "\n  failed: {}", again(&one.slice));
        for test in &one.failed {
            let _ = writeln!(text, "    {test}");
        }
        if let Some(logs) = &one.logs {
            let _ = writeln!(text, "    logs: {logs}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &Part = &super::super::parts::ALL[0];

    fn done(slice: &str, faults_injected: u64) -> Done {
        let figures = Figures {
            runs: 1,
            faults_injected,
            ..Figures::default()
        };
        Done {
            part: PART.name.to_string(),
            slice: slice.to_string(),
            kernel: "intree".to_string(),
            seconds: 2.0,
            drivers: [(OURS.to_string(), figures)].into(),
            ..Done::default()
        }
    }

    #[test]
    fn machines_are_added_up() {
        let mut failed = done("intree-nomem:3", 5);
        failed.failed.push("a read".to_string());
        let all = [done("intree-nomem:1", 7), done("intree-nomem:2", 8), failed];
        let report = json(&[PART], &all, &json!({ "seed": 1 }));
        let row = &report["parts"][0];
        assert_eq!(
            (&row["runs"], &row["faults_injected"]),
            (&json!(3), &json!(20))
        );
        assert_eq!(
            (&row["seconds"], &row["driver"]),
            (&json!(6.0), &json!(OURS))
        );
        // One of the in-tree kernel is enough, and the other one had none.
        assert_eq!(
            (&report["goals"][0]["done"], &report["seed"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(
            report["failures"][0]["again"],
            "make campaign SLICE=intree-nomem:3"
        );
        let text = render(&[PART], &all);
        assert!(
            text.contains("failed: make campaign SLICE=intree-nomem:3"),
            "{text}"
        );
        assert!(text.contains("allocations: 1 of 4 machines"), "{text}");
    }
}

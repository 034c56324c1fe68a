// SPDX-License-Identifier: GPL-2.0

//! What each call takes: instructions of the machine, commands, memory.

use super::{
    code_size,
    goals::{
        self,
        Kept, //
    },
    rows::{
        self,
        Row, //
    },
    Measured, //
};
use crate::{
    machine::Outcome,
    report::write,
    tap::Test, //
};
use anyhow::{
    bail,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fmt::Write as _,
    path::Path, //
};
use vm_common::kernel::Kernel;

/// A figure for a person.
pub fn shown(value: &Value) -> String {
    match value.as_f64() {
        None => String::new(),
        Some(value) if value.abs() < 100.0 => format!("{value:.3}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn render(list: &[Value]) -> String {
    let mut text = String::new();
    let mut kernel = &Value::Null;
    for row in list {
        if row["kernel"] != *kernel {
            kernel = &row["kernel"];
            let title = format!("kernel {}", kernel.as_str().unwrap_or_default());
            let _ = writeln!(
                text,
                "\n  {title:<46}{:>13}{:>13}{:>8}{:>8}",
                "Rust", "C", "ratio", "goal"
            );
        }
        let about = match row["goal_of"].as_str() {
            None | Some("ratio") => String::new(),
            Some(figure) => format!(" of {figure}: {}", shown(&row[figure])),
        };
        let met = match row["met"].as_bool() {
            None => "",
            Some(true) => "  met",
            Some(false) => "  open",
        };
        let _ = writeln!(
            text,
            "  {:<46}{:>13}{:>13}{:>8}{:>8}{met}{about}",
            row["path"].as_str().unwrap_or_default(),
            shown(&row["rust"]),
            shown(&row["c"]),
            shown(&row["ratio"]),
            shown(&row["goal"]),
        );
    }
    text + "\n  Instructions are those without clearing pages, unless a row says so.\n"
}

/// All rows, those of a kernel together.
fn measured(measured: &Measured<'_>) -> Result<Vec<Row>> {
    let mut all: Vec<Row> = Vec::new();
    for (kernel, outcome) in &measured.machines {
        all.extend(rows::of(*kernel, outcome)?);
    }
    all.push(code_size::row(Kernel::Stock, measured.paths)?);
    all.sort_by_key(|row| row.kernel);
    Ok(all)
}

/// Writes paths.json and shows what is in it. A goal that is lost is an error.
pub fn publish(of: &Measured<'_>, file: &Path) -> Result<()> {
    let rows = measured(of)?;
    let list: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut json = row.json();
            json["commit"] = json!(of.paths.commit);
            json
        })
        .collect();
    println!("{}", render(&list));
    write(&json!(list), file)?;
    let stock = rows.iter().filter(|row| row.kernel == Kernel::Stock);
    let lost: Vec<String> = goals::judge(stock, |kept| kept != Kept::No)
        .into_iter()
        .filter(|test| !test.ok)
        .map(|test| format!("    {} ({})", test.name, test.diagnostics.join(", ")))
        .collect();
    if !lost.is_empty() {
        bail!("a goal is lost:\n{}", lost.join("\n"));
    }
    Ok(())
}

/// The tests of a machine that has counted: a test for each goal that must not be lost.
pub fn tests(kernel: Kernel, outcome: &Outcome) -> Result<Vec<Test>> {
    Ok(goals::judge(&rows::of(kernel, outcome)?, |kept| {
        kept == Kept::Check
    }))
}

#[cfg(test)]
mod table_tests {
    use super::*;

    #[test]
    fn kernels_have_tables_of_their_own() {
        let row = |kernel, path: &str| Row::new(kernel, path, "instructions", 60.0, 100.0, 1);
        let rows = [
            row(Kernel::Stock, "migrate"),
            row(Kernel::Stock, "VFs at once, most by least"),
            row(Kernel::Bare, "close"),
        ];
        let text = render(&rows.each_ref().map(Row::json));
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "kernel stock Rust C ratio goal",
            "migrate 60.000 100 0.600 0.350 open",
            "VFs at once, most by least 60.000 100 0.600 1.100 open of rust: 60.000",
            "kernel bare Rust C ratio goal",
            "close 60.000 100 0.600",
        ] {
            assert!(
                lines.iter().any(|one| one == line),
                "{line:?} not in\n{text}"
            );
        }
    }
}

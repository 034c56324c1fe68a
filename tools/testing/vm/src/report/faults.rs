// SPDX-License-Identifier: GPL-2.0

//! The report of `make check-qemu-faults`.

use super::{
    plain,
    quoted,
    write, //
};
use crate::{
    machine::Outcome,
    tap::Test, //
};
use anyhow::{
    ensure,
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
use vm_common::{
    faults,
    names, //
};

/// The report, in the folder of results.
pub const FILE: &str = "vm/qemu-faults.json";

/// Columns: title, field in JSON, and width.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("fault", "fault", 41),
    ("migration", "migration", 10),
    ("runs in", "guest_runs_in", 12),
    ("expected", "expected", 21),
    ("errors", "guest_errors", 7),
    ("again", "again_ok", 6),
    ("log", "log_faults", 3),
];

/// Drivers, and how QEMU gets at a VF: a table of each pair.
const DRIVERS: [&str; 2] = ["rust", "c"];
const ACCESS: [&str; 2] = ["iommufd", "container"];

fn rows<'a>(data: &'a [Value], driver: &str, access: &str) -> Vec<&'a Value> {
    let mut rows: Vec<&Value> = data.iter().collect();
    rows.retain(|row| row["driver"] == driver && row["access"] == access);
    rows
}

fn render(data: &[Value], driver: &str, access: &str) -> String {
    let mut text = format!("{driver} driver, {access}\n");
    for (title, _, width) in COLUMNS {
        let _ = write!(text, "{title:width$}");
    }
    for row in rows(data, driver, access) {
        text += "\n";
        for (_, field, width) in COLUMNS {
            let _ = write!(text, "{:width$}", plain(&row[*field]));
        }
    }
    text
}

/// The faults that `only` chooses.
pub fn wanted(only: Option<&str>) -> Result<Vec<&'static str>> {
    let names = || faults::ALL.iter().map(|fault| fault.name);
    let wanted = names::chosen(names(), only);
    ensure!(
        !wanted.is_empty(),
        "no fault has {:?} in its name; there are\n    {}",
        only.unwrap_or_default(),
        names().collect::<Vec<_>>().join("\n    ")
    );
    Ok(wanted)
}

/// How to have just one fault again.
fn again(fault: &str) -> String {
    format!(
        "just this again: make check-qemu-faults FAULT={}",
        quoted(fault)
    )
}

/// The results that are missing.
fn missing(data: &[Value], wanted: &[&str]) -> Vec<String> {
    let mut missing = Vec::new();
    for (driver, access) in DRIVERS.iter().flat_map(|d| ACCESS.map(|a| (d, a))) {
        let rows = rows(data, driver, access);
        for fault in wanted {
            if !rows.iter().any(|row| row["fault"] == *fault) {
                missing.push(format!(
                    "{driver} driver, {access}: {fault}\n        {}",
                    again(fault)
                ));
            }
        }
    }
    missing
}

/// Returns the faults that have a failed test.
fn failed<'a>(tests: &[Test], wanted: &[&'a str]) -> Vec<&'a str> {
    let failed = tests.iter().filter(|test| !test.ok);
    let mut faults: Vec<&str> = failed
        .filter_map(|test| wanted.iter().find(|fault| test.name.ends_with(**fault)))
        .copied()
        .collect();
    faults.dedup();
    faults
}

/// Writes qemu-faults.json and shows the tables. There must be a result of each fault
/// that is `wanted`.
pub fn publish(outcome: &Outcome, file: &Path, wanted: &[&str]) -> Result<()> {
    for (driver, access) in DRIVERS.iter().flat_map(|d| ACCESS.map(|a| (d, a))) {
        println!("\n{}", render(&outcome.data, driver, access));
    }
    println!();
    write(&json!(outcome.data), file)?;
    outcome.show_logs();
    for fault in failed(&outcome.tests, wanted) {
        println!("{}", again(fault));
    }
    let missing = missing(&outcome.data, wanted);
    ensure!(
        missing.is_empty(),
        "there is no result of\n    {}",
        missing.join("\n    ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(driver: &str, access: &str, fault: &str) -> Value {
        json!({
            "driver": driver, "access": access, "fault": fault, "migration": "failed",
            "expected": "intact", "guest_runs_in": "source", "guest_errors": 0,
            "again_ok": true, "log_faults": 0,
        })
    }

    #[test]
    fn a_result_that_is_missing_is_noticed() {
        let mut data = Vec::new();
        for (driver, access) in DRIVERS.iter().flat_map(|d| ACCESS.map(|a| (d, a))) {
            data.extend(faults::ALL.iter().map(|f| row(driver, access, f.name)));
        }
        let all = wanted(None).unwrap();
        assert!(missing(&data, &all).is_empty());
        data.remove(1);
        let name = faults::ALL[1].name;
        let [one] = &missing(&data, &all)[..] else {
            panic!("one is missing");
        };
        assert!(one.starts_with(&format!("rust driver, iommufd: {name}\n")));
        assert!(missing(&data, &all[..1]).is_empty());
    }

    #[test]
    fn each_fault_can_be_had_alone() {
        for fault in faults::ALL {
            assert_eq!(wanted(Some(fault.name)).unwrap(), [fault.name]);
        }
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let name = faults::ALL[0].name;
        let err = wanted(Some("no such fault")).unwrap_err().to_string();
        assert!(err.contains(name), "{err}");
    }

    #[test]
    fn a_table_has_a_line_of_each_result() {
        let data = [row("c", "container", "LOAD of the last image")];
        let text = render(&data, "c", "container");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("LOAD of the last image"));
        assert!(last.ends_with("true  0  "), "{last:?}");
        assert_eq!(render(&data, "c", "iommufd").lines().count(), 2);
        let fits = |name: &str| name.len() < COLUMNS[0].2;
        assert!(faults::ALL.iter().all(|fault| fits(fault.name)));
    }
}

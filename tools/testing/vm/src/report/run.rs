// SPDX-License-Identifier: GPL-2.0

//! The report of `make run`.

use super::{mib, plain, write};
use crate::machine::Outcome;
use anyhow::{ensure, Result};
use serde_json::{json, Map, Value};
use std::{fmt::Write as _, path::Path};

/// The report, in the folder of results.
pub const FILE: &str = "run/report.json";

/// What of a run goes to report.json, for each driver.
const FIELDS: &[&str] = &[
    "digest_equal",
    "digest_before",
    "digest_after",
    "pages_checked",
    "pages_wrong",
    "firmware_violations",
    "kernel_log_faults",
    "bytes",
    "phases",
    "kernel_driver",
    "access",
    "state_size",
];

/// Makes report.json's object of what the machine said.
pub fn collect(data: &[Value]) -> Value {
    let mut drivers = Map::new();
    for run in data {
        if let Some(driver) = run["driver"].as_str() {
            let fields = FIELDS
                .iter()
                .map(|field| ((*field).to_string(), run[*field].clone()));
            drivers.insert(driver.to_string(), Value::Object(fields.collect()));
        }
    }
    json!({ "drivers": drivers })
}

fn phase_ms(run: &Value, name: &str) -> String {
    let phases = run["phases"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    phases
        .iter()
        .find(|phase| phase["name"] == name)
        .and_then(|phase| phase["ms"].as_f64())
        .map_or_else(|| "-".to_string(), |ms| format!("{ms:.1} ms"))
}

/// The report for a person.
pub fn render(report: &Value) -> String {
    let rust = &report["drivers"]["rust"];
    let c = &report["drivers"]["c"];
    let mut text = String::new();
    let mut line = |label: &str, show: &dyn Fn(&Value) -> String| {
        let _ = writeln!(text, "  {label:26}{:>22}{:>22}", show(rust), show(c));
    };
    let plain = |field: &'static str| move |run: &Value| plain(&run[field]);
    line("", &plain("kernel_driver"));
    line("state of the VF", &|run| mib(&run["state_size"]));
    let phases = rust["phases"].as_array().cloned().unwrap_or_default();
    for phase in phases.iter().filter_map(|phase| phase["name"].as_str()) {
        line(phase, &|run| phase_ms(run, phase));
    }
    line("stream", &|run| mib(&run["bytes"]));
    line("digest before", &plain("digest_before"));
    line("digest after", &plain("digest_after"));
    line("identical", &|run| {
        if run["digest_equal"] == true {
            "yes"
        } else {
            "NO"
        }
        .to_string()
    });
    line("pages checked", &plain("pages_checked"));
    line("pages wrong", &plain("pages_wrong"));
    line("firmware violations", &plain("firmware_violations"));
    line("faults in the kernel log", &plain("kernel_log_faults"));
    text
}

/// Writes report.json and shows the report.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    let report = collect(&outcome.data);
    println!("\n{}", render(&report));
    write(&report, file)?;
    outcome.show_logs();
    for driver in ["rust", "c"] {
        ensure!(
            report["drivers"][driver].is_object(),
            "no result of the {driver} driver"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_both_drivers_side_by_side() {
        let run = |driver: &str| {
            json!({
                "driver": driver, "digest_equal": true, "pages_wrong": 0, "bytes": 1048576,
                "phases": [{ "name": "stop the source", "ms": 1.25, "bytes": 0 }],
            })
        };
        let report = collect(&[run("rust"), run("c")]);
        assert_eq!(report["drivers"]["c"]["digest_equal"], true);
        let text = render(&report);
        assert!(text.contains("stop the source"));
        assert!(text.contains("1.2 ms") || text.contains("1.3 ms"));
        assert!(text.contains("1.00 MiB"));
    }
}

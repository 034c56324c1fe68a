// SPDX-License-Identifier: GPL-2.0

//! What a report of dirty pages costs.

use super::{
    medians,
    Measured, //
};
use crate::report::write;
use anyhow::Result;
use serde_json::{
    json,
    Map,
    Value, //
};
use std::{
    fmt::Write as _,
    path::Path, //
};

/// What is measured, for each driver and pattern.
const FIGURES: [&str; 5] = [
    "missed_pages",
    "reported_pages",
    "dirty_pages",
    "report_ns_per_page",
    "report_ms_per_gib",
];

/// What was written to before the reports, in the order of the guest.
fn patterns(data: &[Value]) -> Vec<&str> {
    let mut patterns = Vec::new();
    for pattern in data.iter().filter_map(|d| d["pattern"].as_str()) {
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns
}

/// dirty.json's object: the medians.
fn collect(data: &[Value]) -> Value {
    let mut drivers = Map::new();
    for driver in ["rust", "c"] {
        let mut of = Map::new();
        for pattern in patterns(data) {
            let runs: Vec<&Value> = data
                .iter()
                .filter(|d| d["driver"] == driver && d["pattern"] == pattern)
                .collect();
            let mut figures = medians(&runs, FIGURES);
            figures.insert("runs".to_string(), json!(runs.len()));
            of.insert(pattern.to_string(), Value::Object(figures));
        }
        drivers.insert(driver.to_string(), Value::Object(of));
    }
    Value::Object(drivers)
}

fn render(result: &Value, patterns: &[&str]) -> String {
    let mut text = format!(
        "\n  {:<20}{:>8}{:>14}{:>14}{:>14}{:>14}{:>8}\n",
        "dirty", "missed", "Rust, ns/page", "C, ns/page", "Rust, ms/GiB", "C, ms/GiB", "ratio"
    );
    for pattern in patterns {
        let of = |driver: &str, figure: &str| {
            let value = &result[driver][pattern][figure];
            value.as_f64().unwrap_or(f64::NAN)
        };
        let _ = writeln!(
            text,
            "  {pattern:<20}{:>8}{:>14.0}{:>14.0}{:>14.2}{:>14.2}{:>8.2}",
            of("rust", "missed_pages") + of("c", "missed_pages"),
            of("rust", "report_ns_per_page"),
            of("c", "report_ns_per_page"),
            of("rust", "report_ms_per_gib"),
            of("c", "report_ms_per_gib"),
            of("rust", "report_ms_per_gib") / of("c", "report_ms_per_gib"),
        );
    }
    text
}

/// Writes dirty.json and shows what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let outcome = measured.one()?;
    let result = collect(&outcome.data);
    println!("{}", render(&result, &patterns(&outcome.data)));
    write(&result, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::documented::{
        self,
        keys, //
    };

    #[test]
    fn drivers_and_patterns_stand_side_by_side() {
        let run = |driver: &str, pattern: &str, ms: f64| {
            json!({
                "driver": driver, "pattern": pattern, "missed_pages": 0,
                "report_ms_per_gib": ms,
            })
        };
        let data = [
            run("rust", "50 %", 2.0),
            run("rust", "50 %", 4.0),
            run("rust", "50 %", 3.0),
            run("c", "50 %", 6.0),
        ];
        let result = collect(&data);
        assert_eq!(result["rust"]["50 %"]["report_ms_per_gib"], 3.0);
        assert_eq!(result["rust"]["50 %"]["runs"], 3);
        assert!(render(&result, &patterns(&data)).contains("0.50"));
    }

    #[test]
    fn the_page_has_what_is_written() {
        let run = json!({ "driver": "rust", "pattern": "50 %" });
        let result = collect(&[run]);
        let said = documented::said_in(&documented::testing(), "Dirty pages");
        let missing = &keys(&result["rust"]["50 %"]) - &said;
        assert_eq!(missing, [].into());
    }
}

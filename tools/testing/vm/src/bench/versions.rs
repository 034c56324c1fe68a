// SPDX-License-Identifier: GPL-2.0

//! Both drivers with both versions of PRECOPY_INFO, side by side.

use serde_json::{
    json,
    Map,
    Value, //
};

/// Drivers, with their names for a person.
pub const DRIVERS: [(&str, &str); 2] = [("rust", "Rust"), ("c", "C")];

/// Has `result` make an object for each driver and version.
pub fn each(result: impl Fn(&str, &str) -> Value) -> Map<String, Value> {
    let versions = |driver| json!({ "v1": result(driver, "v1"), "v2": result(driver, "v2") });
    DRIVERS
        .map(|(driver, _)| (driver.to_string(), versions(driver)))
        .into_iter()
        .collect()
}

/// The first line of a table.
pub fn header() -> String {
    let columns = DRIVERS.map(|(_, name)| {
        let column = |version| format!("{:>16}", format!("{name}, {version}"));
        column("v1") + &column("v2")
    });
    format!("\n  {:28}{}\n", "", columns.concat())
}

/// A line of a table: what `text` says of each object.
pub fn words(result: &Value, label: &str, text: impl Fn(&Value) -> String) -> String {
    let columns = DRIVERS.map(|(driver, _)| {
        let column = |version| format!("{:>16}", text(&result[driver][version]));
        column("v1") + &column("v2")
    });
    format!("  {label:28}{}\n", columns.concat())
}

/// A line of a table: what `figure` finds in each object.
pub fn row(
    result: &Value,
    label: &str,
    decimals: usize,
    figure: impl Fn(&Value) -> Option<f64>,
) -> String {
    words(result, label, |of| {
        format!("{:.decimals$}", figure(of).unwrap_or(f64::NAN))
    })
}

/// How much less `figure` is with version 2, in per cent.
pub fn reduction(driver: &Value, figure: impl Fn(&Value) -> Option<f64>) -> f64 {
    let of = |version| figure(&driver[version]).unwrap_or(f64::NAN);
    100.0 * (1.0 - of("v2") / of("v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_side_by_side() {
        let result = each(|driver, version| match (driver, version) {
            ("rust", "v1") => json!({ "ms": 100.0 }),
            ("rust", "v2") => json!({ "ms": 25.0 }),
            _ => json!({}),
        });
        let result = Value::Object(result);
        let ms = |of: &Value| of["ms"].as_f64();
        let words = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(header()), "Rust, v1 Rust, v2 C, v1 C, v2");
        assert_eq!(
            words(row(&result, "time", 1, ms)),
            "time 100.0 25.0 NaN NaN"
        );
        assert_eq!(reduction(&result["rust"], ms), 75.0);
    }
}

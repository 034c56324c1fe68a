// SPDX-License-Identifier: GPL-2.0

//! Downtime of a busy device, with and without REINIT.

use super::{median, write};
use crate::machine::Outcome;
use anyhow::{ensure, Context, Result};
use serde_json::{json, Map, Value};
use std::{fmt::Write as _, fs, path::Path};

/// The scenario.
pub const SCENARIO: &str = "bench-reinit";

/// What is measured: its name in JSON, and in the table.
const FIGURES: &[(&str, &str)] = &[
    ("downtime_ms", "downtime, ms"),
    ("downtime_load_ms", "of it, firmware loads, ms"),
    ("downtime_bytes", "bytes during downtime"),
    ("precopy_ms", "pre-copy, ms"),
    ("precopy_bytes", "bytes during pre-copy"),
];

/// A command from the emulated HCA's log.
struct Logged<'a> {
    name: &'a str,
    op_mod: &'a str,
    vhca: Option<u64>,
    ns: u64,
}

fn parse(line: &str) -> Option<Logged<'_>> {
    let mut words = line.split_whitespace().skip(3);
    let name = words.next()?;
    let field = |key: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    Some(Logged {
        name,
        op_mod: field("op_mod")?,
        vhca: field("vhca").and_then(|vhca| vhca.parse().ok()),
        ns: field("ns")?.parse().ok()?,
    })
}

/// Adds to each migration how long firmware loaded during its downtime: from
/// when the source's initiator is suspended until the destination's runs.
fn add_load_times(migrations: &mut [Value], log: &str) -> Result<()> {
    let mut commands = log.lines().filter_map(parse);
    for migration in migrations {
        let (source, destination) = (
            migration["source"].as_u64(),
            migration["destination"].as_u64(),
        );
        let (mut down, mut over, mut ns) = (false, false, 0);
        for command in commands.by_ref() {
            match (command.name, command.op_mod) {
                ("SUSPEND_VHCA", "0x0") if command.vhca == source => down = true,
                ("LOAD_VHCA_STATE", _) if down && command.vhca == destination => ns += command.ns,
                ("RESUME_VHCA", "0x1") if down && command.vhca == destination => {
                    over = true;
                    break;
                }
                _ => (),
            }
        }
        ensure!(over, "the log of commands has no end of a migration");
        migration["report"]["downtime_load_ms"] = json!(ns as f64 / 1e6);
    }
    Ok(())
}

/// reinit.json's object: the medians, for each driver and version.
fn collect(migrations: &[Value]) -> Value {
    let mut drivers = Map::new();
    for driver in ["rust", "c"] {
        let mut versions = Map::new();
        for version in ["v1", "v2"] {
            let runs: Vec<&Value> = migrations
                .iter()
                .filter(|m| m["driver"] == driver && m["report"]["info"] == version)
                .collect();
            let mut figures = Map::new();
            for (name, _) in FIGURES {
                let values = runs.iter().filter_map(|m| m["report"][*name].as_f64());
                figures.insert((*name).to_string(), json!(median(values.collect())));
            }
            figures.insert("runs".to_string(), json!(runs.len()));
            versions.insert(version.to_string(), Value::Object(figures));
        }
        drivers.insert(driver.to_string(), Value::Object(versions));
    }
    Value::Object(drivers)
}

/// How much less `v2` is than `v1`, in per cent.
fn reduction(driver: &Value, figure: &str) -> f64 {
    let of = |version: &str| driver[version][figure].as_f64().unwrap_or(f64::NAN);
    100.0 * (1.0 - of("v2") / of("v1"))
}

fn render(result: &Value) -> String {
    let mut text = format!(
        "\n  {:28}{:>16}{:>16}{:>16}{:>16}\n",
        "", "Rust, v1", "Rust, v2", "C, v1", "C, v2"
    );
    let columns = [("rust", "v1"), ("rust", "v2"), ("c", "v1"), ("c", "v2")];
    for (figure, label) in FIGURES {
        let values = columns.map(|(driver, version)| {
            let value = result[driver][version][*figure].as_f64();
            format!("{:>16.0}", value.unwrap_or(f64::NAN))
        });
        let _ = writeln!(text, "  {label:28}{}", values.concat());
    }
    for (driver, name) in [("rust", "Rust"), ("c", "C")] {
        let _ = writeln!(
            text,
            "\n  {name} driver, with REINIT: downtime {:.0} % less, firmware loads during it \
             {:.0} % less, bytes during it {:.0} % less",
            reduction(&result[driver], "downtime_ms"),
            reduction(&result[driver], "downtime_load_ms"),
            reduction(&result[driver], "downtime_bytes"),
        );
    }
    text
}

/// Writes reinit.json and shows what is in it.
pub fn publish(outcome: &Outcome, out: &Path) -> Result<()> {
    let mut migrations = outcome.data.clone();
    let log = outcome.dir.join("commands.log");
    let log = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    add_load_times(&mut migrations, &log)?;
    let result = collect(&migrations);
    println!("{}", render(&result));
    write(&result, out, "reinit.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
1 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=0 ns=7
2 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=9 ns=1000000
3 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x0 vhca=1 status=0x0 syndrome=0x0 bytes=0 ns=7
4 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=9 ns=2000000
5 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=9 ns=500000
6 fn=0 op=0x116 RESUME_VHCA op_mod=0x1 vhca=2 status=0x0 syndrome=0x0 bytes=0 ns=7
";

    fn migration(version: &str, downtime_ms: f64) -> Value {
        json!({
            "driver": "rust", "source": 1, "destination": 2,
            "report": { "info": version, "downtime_ms": downtime_ms },
        })
    }

    #[test]
    fn only_loads_of_the_downtime_count() {
        let mut migrations = [migration("v1", 1.0)];
        add_load_times(&mut migrations, LOG).unwrap();
        assert_eq!(migrations[0]["report"]["downtime_load_ms"], 2.5);
        assert!(add_load_times(&mut [migration("v1", 1.0), migration("v2", 1.0)], LOG).is_err());
    }

    #[test]
    fn the_median_counts() {
        let runs = [
            migration("v1", 90.0),
            migration("v1", 100.0),
            migration("v1", 900.0),
            migration("v2", 25.0),
        ];
        let result = collect(&runs);
        assert_eq!(result["rust"]["v1"]["downtime_ms"], 100.0);
        assert_eq!(result["rust"]["v1"]["runs"], 3);
        assert_eq!(reduction(&result["rust"], "downtime_ms"), 75.0);
    }
}

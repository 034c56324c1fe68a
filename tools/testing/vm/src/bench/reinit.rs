// SPDX-License-Identifier: GPL-2.0

//! Downtime of a busy device, with and without REINIT.

use super::{
    firmware::{
        self,
        Vhcas, //
    },
    medians,
    versions,
    Measured, //
};
use crate::report::write;
use anyhow::Result;
use serde_json::{
    json,
    Value, //
};
use std::{
    fmt::Write as _,
    path::Path, //
};

/// What is measured: its name in JSON, and in the table.
const FIGURES: &[(&str, &str)] = &[
    ("downtime_ms", "downtime, ms"),
    ("downtime_load_ms", "of it, firmware loads, ms"),
    ("downtime_bytes", "bytes during downtime"),
    ("free_ms", "then, freeing the source, ms"),
    ("precopy_ms", "pre-copy, ms"),
    ("precopy_bytes", "bytes during pre-copy"),
];

/// Adds to each migration how long firmware loaded during its downtime.
fn add_load_times(migrations: &mut [Value], log: &str) -> Result<()> {
    let mut commands = firmware::commands(log);
    for migration in migrations {
        let vhcas = Vhcas::parse(migration)?;
        let work = firmware::downtime(&mut commands, &[vhcas])?;
        migration["report"]["downtime_load_ms"] = json!(work[0].load_ms());
    }
    Ok(())
}

/// reinit.json's object: the medians, for each driver and version.
fn collect(migrations: &[Value]) -> Value {
    Value::Object(versions::each(|driver, version| {
        let runs: Vec<&Value> = migrations
            .iter()
            .filter(|m| m["driver"] == driver && m["report"]["info"] == version)
            .map(|m| &m["report"])
            .collect();
        let mut figures = medians(&runs, FIGURES.iter().map(|(name, _)| *name));
        figures.insert("runs".to_string(), json!(runs.len()));
        Value::Object(figures)
    }))
}

fn render(result: &Value) -> String {
    let mut text = versions::header();
    for (figure, label) in FIGURES {
        text += &versions::row(result, label, 0, |of| of[*figure].as_f64());
    }
    for (driver, name) in versions::DRIVERS {
        let less = |figure| versions::reduction(&result[driver], |of| of[figure].as_f64());
        let _ = writeln!(
            text,
            "\n  {name} driver, with REINIT: downtime {:.0} % less, firmware loads during it \
             {:.0} % less, bytes during it {:.0} % less",
            less("downtime_ms"),
            less("downtime_load_ms"),
            less("downtime_bytes"),
        );
    }
    text
}

/// Writes reinit.json and shows what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let outcome = measured.one()?;
    let mut migrations = outcome.data.clone();
    add_load_times(&mut migrations, &firmware::log(outcome)?)?;
    let result = collect(&migrations);
    println!("{}", render(&result));
    write(&result, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::documented::{
        self,
        keys, //
    };

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
        assert!(render(&result).contains("Rust driver, with REINIT: downtime 75 % less"));
    }

    #[test]
    fn the_page_has_what_is_written() {
        let result = collect(&[migration("v1", 1.0)]);
        let page = documented::testing();
        let tables = documented::tables(&page, "A busy device");
        assert_eq!(tables[0].names(), keys(&result["rust"]["v1"]));
    }
}

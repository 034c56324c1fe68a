// SPDX-License-Identifier: GPL-2.0

//! Downtime of a guest whose own mlx5e makes queues anew all the time, with and without
//! REINIT.

use super::{
    firmware,
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

/// What is measured of a migration: its name in JSON and in the table, and how many decimals
/// it has there.
const FIGURES: &[(&str, &str, usize)] = &[
    ("downtime_ms", "downtime, ms", 0),
    ("firmware_ms", "  firmware in it, ms", 1),
    ("firmware_bytes", "  bytes it moved", 0),
    ("stopcopy_bytes", "bytes while stopped", 0),
    ("precopy_bytes", "bytes in pre-copy", 0),
    ("dirty_pages", "pages the VF has written", 0),
    ("reinits", "new initial states", 0),
    ("total_ms", "total, ms", 0),
];

/// The same of the VF.
const DEVICE_FIGURES: &[(&str, &str, usize)] = &[
    ("downtime_ms", "VF's part, ms", 1),
    ("save_ms", "  of it, save, ms", 1),
    ("load_ms", "  of it, load, ms", 1),
    ("arcs_ms", "  of it, arcs, ms", 1),
];

/// What the patches that brought REINIT to QEMU report, in per cent ("PATCH 00/14 Make
/// switchover-ack re-usable and add VFIO precopy REINIT feature").
const EXPECTED: u32 = 43;

/// Adds to each migration what firmware did for it during the downtime.
fn add_firmware(data: &mut [Value], logs: &[String]) -> Result<()> {
    let mut commands = firmware::commands_of_all(logs);
    let mut migrations = data.iter_mut().filter(|one| !one["migration"].is_null());
    migrations.try_for_each(|one| firmware::add_downtime(&mut commands, &mut one["migration"]))
}

/// net.json's object: the medians, for each driver and version. The first run warms up, unless
/// it is the only one.
fn collect(data: &[Value]) -> Value {
    let migrations = || data.iter().filter(|one| !one["migration"].is_null());
    let first = u64::from(migrations().any(|one| one["run"].as_u64() > Some(0)));
    Value::Object(versions::each(|driver, version| {
        let of_kind = migrations().filter(|one| {
            one["driver"] == driver && one["info"] == version && one["run"].as_u64() >= Some(first)
        });
        let all: Vec<&Value> = of_kind.map(|one| &one["migration"]).collect();
        let vfs: Vec<&Value> = all.iter().map(|one| &one["devices"][0]).collect();
        let mut figures = medians(&all, FIGURES.iter().map(|(name, ..)| *name));
        let of_vf = medians(&vfs, DEVICE_FIGURES.iter().map(|(name, ..)| *name));
        figures.insert("vf".to_string(), Value::Object(of_vf));
        figures.insert("migrations".to_string(), json!(all.len()));
        Value::Object(figures)
    }))
}

fn render(result: &Value) -> String {
    let mut text = versions::header();
    for (figure, label, decimals) in FIGURES {
        text += &versions::row(result, label, *decimals, |of| of[*figure].as_f64());
    }
    for (figure, label, decimals) in DEVICE_FIGURES {
        text += &versions::row(result, label, *decimals, |of| of["vf"][*figure].as_f64());
    }
    text += &versions::row(result, "migrations", 0, |of| of["migrations"].as_f64());
    for (driver, name) in versions::DRIVERS {
        let less = |figure| versions::reduction(&result[driver], |of| of[figure].as_f64());
        let of_vf = versions::reduction(&result[driver], |of| of["vf"]["downtime_ms"].as_f64());
        let _ = writeln!(
            text,
            "\n  {name} driver, with REINIT: downtime {:.0} % less (QEMU's patches: {EXPECTED} %), \
             the VF's part {of_vf:.0} % less,\n  firmware in it {:.0} % less, bytes while stopped \
             {:.0} % less",
            less("downtime_ms"),
            less("firmware_ms"),
            less("stopcopy_bytes"),
        );
    }
    text
        + "\n  The adapter is emulated, and so are its times: they are not those of any hardware.\n"
}

/// Writes net.json and shows what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let outcome = measured.one()?;
    let mut data = outcome.data.clone();
    add_firmware(&mut data, &firmware::logs(outcome)?)?;
    let result = collect(&data);
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

    fn migration(version: &str, run: u32, downtime_ms: f64) -> Value {
        json!({
            "driver": "rust", "info": version, "run": run,
            "migration": {
                "downtime_ms": downtime_ms, "stopcopy_bytes": downtime_ms * 10.0,
                "devices": [{ "downtime_ms": downtime_ms / 2.0 }],
            },
        })
    }

    #[test]
    fn the_first_run_is_discarded() {
        let mut data = vec![
            migration("v1", 0, 900.0),
            migration("v1", 1, 100.0),
            migration("v1", 1, 300.0),
            migration("v2", 1, 50.0),
            // What a guest tells at its end.
            json!({ "driver": "rust", "bytes": 7 }),
        ];
        let result = collect(&data);
        let of = |figure: &str| result["rust"]["v1"][figure].as_f64();
        assert_eq!(
            (of("downtime_ms"), of("migrations")),
            (Some(200.0), Some(2.0))
        );
        let text = render(&result);
        assert!(
            text.contains("Rust driver, with REINIT: downtime 75 % less"),
            "{text}"
        );
        assert!(text.contains("the VF's part 75 % less"), "{text}");
        data.truncate(1);
        assert_eq!(collect(&data)["rust"]["v1"]["migrations"], 1);
    }

    #[test]
    fn the_page_has_what_is_written() {
        let result = collect(&[migration("v1", 0, 900.0)]);
        let figures = &result["rust"]["v1"];
        let page = documented::testing();
        let tables = documented::tables(&page, "A guest with a network, measured");
        assert_eq!(tables[0].names(), keys(figures));
        assert_eq!(tables[0].said_of("vf"), keys(&figures["vf"]));
    }
}

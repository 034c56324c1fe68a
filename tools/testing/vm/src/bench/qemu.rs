// SPDX-License-Identifier: GPL-2.0

//! Downtime of a guest with a busy device among others, that QEMU migrates with
//! and without REINIT.

use super::{
    firmware,
    medians,
    spreads,
    versions,
    Measured, //
};
use crate::report::write;
use anyhow::{
    Context,
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

/// What is measured of a migration: its name in JSON and in the table, and how
/// many decimals it has there.
const FIGURES: &[(&str, &str, usize)] = &[
    ("total_ms", "total, ms", 0),
    ("downtime_ms", "downtime, ms", 0),
    ("firmware_ms", "  firmware in it, ms", 1),
    ("firmware_bytes", "  bytes it moved", 0),
    ("precopy_bytes", "bytes in pre-copy", 0),
    ("stopcopy_bytes", "bytes in stop-copy", 0),
];

/// What is measured of a device.
const DEVICE_FIGURES: &[(&str, &str, usize)] = &[
    ("downtime_ms", "downtime, ms", 1),
    ("save_ms", "  of it, save, ms", 1),
    ("load_ms", "  of it, load, ms", 1),
    ("arcs_ms", "  of it, arcs, ms", 1),
    ("firmware_ms", "  firmware in it, ms", 1),
    ("firmware_bytes", "  bytes it moved", 0),
    ("precopy_bytes", "  bytes in pre-copy", 0),
    ("stopcopy_bytes", "  bytes in stop-copy", 0),
];

/// What the patches that brought REINIT to QEMU report, in per cent: 1335 ms instead
/// of 2352 in all, 520 ms instead of 1600 for the busy device ("PATCH 00/14 Make
/// switchover-ack re-usable and add VFIO precopy REINIT feature").
const EXPECTED: (u32, u32) = (43, 67);

fn devices(of: &Value) -> &[Value] {
    of["devices"].as_array().map_or(&[], Vec::as_slice)
}

/// Adds to each migration, and to its devices, what firmware did for it during
/// the downtime.
fn add_firmware(migrations: &mut [Value], log: &str) -> Result<()> {
    let mut commands = firmware::commands(log);
    let mut migrations = migrations.iter_mut();
    migrations.try_for_each(|migration| firmware::add_downtime(&mut commands, migration))
}

/// The medians of a device in all runs.
fn collect_device(runs: &[&Value], device: usize) -> Value {
    let of: Vec<&Value> = runs.iter().map(|run| &run["devices"][device]).collect();
    let mut figures = medians(&of, DEVICE_FIGURES.iter().map(|(name, ..)| *name));
    let busy = of.iter().any(|device| device["busy"] == true);
    figures.insert("busy".to_string(), json!(busy));
    Value::Object(figures)
}

/// The medians of runs of one kind, and by how much these runs differ.
fn collect_runs(runs: &[&Value]) -> Value {
    let names = || FIGURES.iter().map(|(name, ..)| *name);
    let mut figures = medians(runs, names());
    figures.insert("spread".to_string(), spreads(runs, names()));
    let errors = runs.iter().filter_map(|run| run["guest_errors"].as_u64());
    figures.insert("guest_errors".to_string(), json!(errors.sum::<u64>()));
    figures.insert("runs".to_string(), json!(runs.len()));
    let count = runs.iter().map(|run| devices(run).len()).max().unwrap_or(0);
    let devices = (0..count).map(|device| collect_device(runs, device));
    figures.insert("devices".to_string(), devices.collect());
    Value::Object(figures)
}

/// qemu.json's object: the medians, for each driver and version.
fn collect(migrations: &[Value]) -> Result<Value> {
    let mut result = versions::each(|driver, version| {
        let runs: Vec<&Value> = migrations
            .iter()
            .filter(|m| m["driver"] == driver && m["info"] == version)
            .collect();
        collect_runs(&runs)
    });
    let first = migrations.first().context("no migration was measured")?;
    result.insert("accel".to_string(), first["accel"].clone());
    Ok(Value::Object(result))
}

/// What is known of the busy device.
fn of_busy(version: &Value, figure: &str) -> Option<f64> {
    let busy = devices(version).iter().find(|d| d["busy"] == true)?;
    busy[figure].as_f64()
}

/// The mean of the other devices.
fn of_others(version: &Value, figure: &str) -> Option<f64> {
    let others = devices(version).iter().filter(|d| d["busy"] != true);
    let values: Vec<f64> = others.filter_map(|d| d[figure].as_f64()).collect();
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

/// A part of a spread: 0 is the least, 1 the lower quartile, 4 the most.
fn spread(version: &Value, figure: &str, part: usize) -> f64 {
    version["spread"][figure][part].as_f64().unwrap_or(f64::NAN)
}

/// Whether a figure is told apart: half of the runs of one kind, those in the middle, are
/// all below half of the other's.
fn apart(one: &Value, other: &Value, figure: &str) -> bool {
    let below = |a, b| spread(a, figure, 3) < spread(b, figure, 1);
    below(one, other) || below(other, one)
}

/// Whether the drivers' downtimes are told apart.
fn compare_drivers(result: &Value, version: &str) -> String {
    let [rust, c] = ["rust", "c"].map(|driver| &result[driver][version]);
    let figure = "downtime_ms";
    let of = |driver: &Value| {
        let part = |part| spread(driver, figure, part);
        let (least, middle, most) = (part(0), part(2), part(4));
        format!("{middle:.0} ms ({least:.0} to {most:.0})")
    };
    let runs = rust["runs"].as_u64().unwrap_or(0);
    let told = match apart(rust, c, figure) {
        true => "told apart",
        false => "not told apart",
    };
    format!(
        "  downtime, {version}: Rust {}, C {}: {told} by {runs} runs of each\n",
        of(rust),
        of(c)
    )
}

fn render(result: &Value) -> String {
    let mut text = versions::header();
    for (figure, label, decimals) in FIGURES {
        let of = |version: &Value| version[*figure].as_f64();
        text += &versions::row(result, label, *decimals, of);
        // Bytes hardly differ.
        if figure.ends_with("_ms") {
            text += &versions::words(result, "    least to most", |version| {
                let part = |part| format!("{:.*}", *decimals, spread(version, figure, part));
                format!("{} - {}", part(0), part(4))
            });
        }
    }
    let errors = |version: &Value| version["guest_errors"].as_f64();
    text += &versions::row(result, "errors the guest found", 0, errors);
    type Find = fn(&Value, &str) -> Option<f64>;
    let kinds: [(&str, Find); 2] = [("busy device", of_busy), ("another, on average", of_others)];
    for (title, find) in kinds {
        let _ = writeln!(text, "\n  {title}");
        for (figure, label, decimals) in DEVICE_FIGURES {
            let of = |version: &Value| find(version, figure);
            text += &versions::row(result, label, *decimals, of);
        }
    }
    text += "\n";
    for version in ["v1", "v2"] {
        text += &compare_drivers(result, version);
    }
    for (driver, name) in versions::DRIVERS {
        let less = |figure| versions::reduction(&result[driver], |of| of[figure].as_f64());
        let of_busy = |version: &Value| of_busy(version, "downtime_ms");
        let _ = writeln!(
            text,
            "\n  {name} driver, with REINIT: downtime {:.0} % less (QEMU's patches: {} %), that \
             of the busy device {:.0} % less ({} %),\n  bytes in stop-copy {:.0} % less, firmware \
             during the downtime {:.0} % less",
            less("downtime_ms"),
            EXPECTED.0,
            versions::reduction(&result[driver], of_busy),
            EXPECTED.1,
            less("stopcopy_bytes"),
            less("firmware_ms"),
        );
    }
    text
}

/// Writes qemu.json and shows what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let outcome = measured.one()?;
    let mut migrations = outcome.data.clone();
    add_firmware(&mut migrations, &firmware::log(outcome)?)?;
    let result = collect(&migrations)?;
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

    fn migration(driver: &str, version: &str, downtime_ms: u64) -> Value {
        let device = |source: u64, busy: bool| {
            json!({
                "source": source, "destination": source + 4, "busy": busy,
                "downtime_ms": if busy { downtime_ms / 2 } else { 10 }, "stopcopy_bytes": 100,
            })
        };
        json!({
            "driver": driver, "info": version, "accel": "kvm", "downtime_ms": downtime_ms,
            "guest_errors": 1, "devices": [device(1, false), device(2, true)],
        })
    }

    const LOG: &str = "\
1000000 fn=0 op=0x118 SAVE_VHCA_STATE op_mod=0x0 vhca=1 status=0x0 syndrome=0x0 bytes=99 ns=9
2000000 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x0 vhca=1 status=0x0 syndrome=0x0 bytes=0 ns=7
2000000 fn=0 op=0x115 SUSPEND_VHCA op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=0 ns=7
3000000 fn=0 op=0x118 SAVE_VHCA_STATE op_mod=0x0 vhca=2 status=0x0 syndrome=0x0 bytes=8 ns=500000
4000000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=6 status=0x0 syndrome=0x0 bytes=8 ns=1000000
5000000 fn=0 op=0x119 LOAD_VHCA_STATE op_mod=0x0 vhca=5 status=0x0 syndrome=0x0 bytes=1 ns=250000
6000000 fn=0 op=0x116 RESUME_VHCA op_mod=0x1 vhca=5 status=0x0 syndrome=0x0 bytes=0 ns=7
6000000 fn=0 op=0x116 RESUME_VHCA op_mod=0x1 vhca=6 status=0x0 syndrome=0x0 bytes=0 ns=7
";

    #[test]
    fn firmware_is_counted_for_each_device_and_all() {
        let mut migrations = [migration("rust", "v1", 100)];
        add_firmware(&mut migrations, LOG).unwrap();
        let [migration] = migrations;
        assert_eq!(migration["firmware_ms"], 1.75);
        assert_eq!(migration["firmware_bytes"], 17);
        assert_eq!(migration["devices"][0]["firmware_ms"], 0.25);
        assert_eq!(migration["devices"][1]["firmware_bytes"], 16);
    }

    #[test]
    fn medians_are_those_of_each_device() {
        let result = collect(&[
            migration("rust", "v1", 100),
            migration("rust", "v1", 900),
            migration("rust", "v1", 200),
            migration("rust", "v2", 50),
            migration("c", "v1", 80),
        ])
        .unwrap();
        let v1 = &result["rust"]["v1"];
        assert_eq!((&v1["runs"], &v1["guest_errors"]), (&json!(3), &json!(3)));
        assert_eq!(v1["downtime_ms"], 200.0);
        assert_eq!(
            v1["spread"]["downtime_ms"],
            json!([100.0, 150.0, 200.0, 550.0, 900.0])
        );
        assert_eq!(v1["devices"][0]["busy"], false);
        assert_eq!(v1["devices"][1]["downtime_ms"], 100.0);
        assert_eq!(result["c"]["v1"]["devices"][1]["busy"], true);
        assert_eq!(result["accel"], "kvm");
        assert!(collect(&[]).is_err());
        let text = render(&result);
        assert!(
            text.contains("Rust driver, with REINIT: downtime 75 % less (QEMU's patches: 43 %)")
        );
        assert!(text.contains("that of the busy device 75 % less (67 %)"));
        assert!(text.contains("100 - 900"), "{text}");
    }

    #[test]
    fn drivers_are_told_apart_by_their_quartiles() {
        let runs = |driver: &str, downtimes: [u64; 3]| {
            downtimes.map(|ms| migration(driver, "v1", ms)).to_vec()
        };
        let compared = |rust, c| {
            let all = [runs("rust", rust), runs("c", c)].concat();
            compare_drivers(&collect(&all).unwrap(), "v1")
        };
        let text = compared([100, 110, 300], [210, 400, 410]);
        assert!(text.contains("Rust 110 ms (100 to 300), C 400 ms (210 to 410)"));
        assert!(text.contains(": told apart by 3 runs"), "{text}");
        let text = compared([100, 110, 700], [210, 400, 410]);
        assert!(text.contains(": not told apart"), "{text}");
    }

    #[test]
    fn the_page_has_what_is_written() {
        let mut migrations = [migration("rust", "v1", 100)];
        add_firmware(&mut migrations, LOG).unwrap();
        let result = collect(&migrations).unwrap();
        let figures = &result["rust"]["v1"];
        let page = documented::testing();
        let tables = documented::tables(&page, "QEMU");
        let written = &keys(figures) | &keys(&figures["devices"][0]);
        assert_eq!(tables[0].names(), written);
        assert!(documented::said_in(&page, "QEMU").contains("accel"));
    }
}

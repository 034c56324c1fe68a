// SPDX-License-Identifier: GPL-2.0

//! The report of `make run-qemu`.

use super::{
    mib,
    plain,
    write, //
};
use crate::machine::Outcome;
use anyhow::Result;
use serde_json::{
    json,
    Value, //
};
use std::{
    fmt::Write as _,
    path::Path, //
};

/// The report, in the folder of results.
pub const FILE: &str = "run/qemu.json";

/// Something that is shown: its label, how, and its name in JSON.
type Figure = (&'static str, fn(&Value) -> String, &'static str);

/// What is shown of a migration.
const FIGURES: &[Figure] = &[
    ("total", ms, "total_ms"),
    ("downtime", ms, "downtime_ms"),
    ("of VFIO, in pre-copy", mib, "precopy_bytes"),
    ("of VFIO, in stop-copy", mib, "stopcopy_bytes"),
    ("images, says the driver", mib, "driver_bytes"),
    ("their SAVEs", ms, "driver_save_ms"),
    ("their LOADs", ms, "driver_load_ms"),
    ("of RAM", mib, "ram_bytes"),
    ("switchover acks", plain, "switchover_acks"),
    ("errors the guest found", plain, "guest_errors"),
];

/// What is shown of a device.
const COLUMNS: &[Figure] = &[
    ("downtime", ms, "downtime_ms"),
    ("save", ms, "save_ms"),
    ("load", ms, "load_ms"),
    ("arcs", ms, "arcs_ms"),
    ("in pre-copy", mib, "precopy_bytes"),
    ("in stop-copy", mib, "stopcopy_bytes"),
];

fn ms(value: &Value) -> String {
    format!("{:.1} ms", value.as_f64().unwrap_or(f64::NAN))
}

fn render_device(device: &Value) -> String {
    let busy = if device["busy"] == true { ", busy" } else { "" };
    let way = format!(
        "VHCA {} to {}{busy}",
        plain(&device["source"]),
        plain(&device["destination"])
    );
    let columns = COLUMNS
        .iter()
        .map(|(_, show, field)| format!("{:>14}", show(&device[*field])));
    format!("    {way:22}{}\n", columns.collect::<String>())
}

fn render_migration(migration: &Value) -> String {
    let mut text = format!(
        "  {}, through {} ({} driver, {}, guest on {})\n",
        plain(&migration["migration"]),
        plain(&migration["access"]),
        plain(&migration["driver"]),
        plain(&migration["info"]),
        plain(&migration["accel"]),
    );
    for (label, show, field) in FIGURES {
        let _ = writeln!(text, "    {label:24}{:>14}", show(&migration[*field]));
    }
    let columns = COLUMNS.iter().map(|(label, ..)| format!("{label:>14}"));
    let _ = writeln!(text, "    {:22}{}", "", columns.collect::<String>());
    let devices = migration["devices"].as_array();
    for device in devices.map(Vec::as_slice).unwrap_or_default() {
        text += &render_device(device);
    }
    text
}

/// Writes qemu.json and shows the report.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    for migration in &outcome.data {
        println!("\n{}", render_migration(migration).trim_end());
    }
    println!();
    let report = json!({ "migrations": outcome.data });
    write(&report, file)?;
    outcome.show_logs();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_shown_with_its_devices() {
        let device = |source: u64, busy: bool| {
            json!({
                "source": source, "destination": source + 4, "busy": busy, "save_ms": 1.5,
                "load_ms": 2.5, "arcs_ms": 0.5, "downtime_ms": 4.5,
                "precopy_bytes": 3 << 20, "stopcopy_bytes": 1 << 19,
            })
        };
        let text = render_migration(&json!({
            "migration": "live", "access": "iommufd", "accel": "kvm", "driver": "rust",
            "info": "v2", "run": 0, "total_ms": 10483, "downtime_ms": 936,
            "precopy_bytes": 6 << 20, "stopcopy_bytes": 1 << 20, "ram_bytes": 40 << 20,
            "driver_bytes": 7 << 20, "driver_save_ms": 3.5, "driver_load_ms": 4.5,
            "switchover_acks": 1, "guest_errors": 0,
            "devices": [device(1, true), device(2, false)],
        }));
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "live, through iommufd (rust driver, v2, guest on kvm)",
            "total 10483.0 ms",
            "downtime 936.0 ms",
            "of VFIO, in stop-copy 1.00 MiB",
            "images, says the driver 7.00 MiB",
            "their LOADs 4.5 ms",
            "errors the guest found 0",
            "VHCA 1 to 5, busy 4.5 ms 1.5 ms 2.5 ms 0.5 ms 3.00 MiB 0.50 MiB",
            "VHCA 2 to 6 4.5 ms 1.5 ms 2.5 ms 0.5 ms 3.00 MiB 0.50 MiB",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line:?} not in\n{text}");
        }
    }
}

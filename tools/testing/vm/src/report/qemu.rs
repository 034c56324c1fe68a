// SPDX-License-Identifier: GPL-2.0

//! The report of `make run-qemu`.

use super::{
    counted,
    mib,
    plain,
    wrapped,
    write, //
};
use crate::{
    machine::Outcome,
    tap::Test, //
};
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
    ("  of VFs", ms, "vfs_downtime_ms"),
    ("  of all else", ms, "other_downtime_ms"),
    ("VFs' bytes in pre-copy", mib, "precopy_bytes"),
    ("VFs' bytes in stop-copy", mib, "stopcopy_bytes"),
    ("images, by the driver", mib, "driver_bytes"),
    ("  SAVE commands", ms, "driver_save_ms"),
    ("  LOAD commands", ms, "driver_load_ms"),
    ("bytes of RAM", mib, "ram_bytes"),
    ("switchover acks", plain, "switchover_acks"),
    ("errors the guest found", plain, "guest_errors"),
];

/// What is shown of a device: what its downtime is the sum of, and its bytes.
const COLUMNS: &[Figure] = &[
    ("downtime", ms, "downtime_ms"),
    ("= save", ms, "save_ms"),
    ("+ load", ms, "load_ms"),
    ("+ states", ms, "arcs_ms"),
    ("pre-copy", mib, "precopy_bytes"),
    ("stop-copy", mib, "stopcopy_bytes"),
];

/// What the figures are.
const CAVEAT: &str = "A VF's downtime is what QEMU's trace events say: its save at the source, \
its load at the destination with the wait for its bytes, and its changes of state. All else \
is RAM that is left, QEMU's other devices, and the hand-over. A VHCA is the number that \
firmware has for a VF; the guest works with the busy one. Adapter and firmware are emulated, \
and the guest is a machine within the machine: the times show what a downtime is made of, and \
are not those of any hardware. Every line is explained in \
Documentation/dev-tools/vfio-rust/testing.rst.";

fn ms(value: &Value) -> String {
    format!("{:.1} ms", value.as_f64().unwrap_or(f64::NAN))
}

/// The devices of a migration.
fn devices(migration: &Value) -> &[Value] {
    migration["devices"].as_array().map_or(&[], Vec::as_slice)
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
        .map(|(_, show, field)| format!("{:>10}", show(&device[*field])));
    format!("  {way:18}{}\n", columns.collect::<String>())
}

/// A migration with what its downtime is the sum of.
fn with_sums(migration: &Value) -> Value {
    let mut migration = migration.clone();
    let of_devices = devices(&migration).iter();
    let vfs: f64 = of_devices.filter_map(|d| d["downtime_ms"].as_f64()).sum();
    let all = migration["downtime_ms"].as_f64().unwrap_or(f64::NAN);
    migration["vfs_downtime_ms"] = vfs.into();
    // VFs that are saved and loaded at once take less than their sum.
    migration["other_downtime_ms"] = (all - vfs).max(0.0).into();
    migration
}

fn render_migration(migration: &Value) -> String {
    let migration = with_sums(migration);
    let devices = devices(&migration);
    let what = format!(
        "A guest with {}, which QEMU opens through {}: {} migration, {} driver, PRECOPY_INFO {}; \
         in the machine, the guest runs on {}",
        counted(devices.len() as u64, "VF"),
        plain(&migration["access"]),
        plain(&migration["migration"]),
        plain(&migration["driver"]),
        plain(&migration["info"]),
        plain(&migration["accel"]),
    );
    let mut text = wrapped(&what) + "\n\n";
    for (label, show, field) in FIGURES {
        let _ = writeln!(text, "  {label:26}{:>14}", show(&migration[*field]));
    }
    let columns = COLUMNS.iter().map(|(label, ..)| format!("{label:>10}"));
    let _ = writeln!(text, "\n  {:18}{}", "", columns.collect::<String>());
    for device in devices {
        text += &render_device(device);
    }
    text
}

/// What the figures and tests say, in a sentence.
fn verdict(migrations: &[Value], tests: &[Test]) -> String {
    let errors = migrations.iter().map(|one| one["guest_errors"].as_u64());
    let errors: Option<u64> = errors.sum();
    let failed = tests.iter().filter(|test| !test.ok).count() as u64;
    match errors {
        _ if failed > 0 => format!(
            "{} FAILED: the lines above say why.",
            counted(failed, "test")
        ),
        _ if migrations.is_empty() => "Nothing has migrated.".to_string(),
        Some(0) => "The guest went on at the destination, and found nothing wrong: neither in \
                    its VF's registers, state and interrupts, nor in the memory that the VF \
                    writes to."
            .to_string(),
        _ => "The guest did NOT find all as it was.".to_string(),
    }
}

/// Writes qemu.json and shows the report.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    for migration in &outcome.data {
        println!("\n{}", render_migration(migration).trim_end());
    }
    let verdict = verdict(&outcome.data, &outcome.tests);
    println!("\n{}\n\n{}\n", wrapped(&verdict), wrapped(CAVEAT));
    let report = json!({ "verdict": verdict, "migrations": outcome.data });
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
            "A guest with 2 VFs, which QEMU opens through iommufd: live migration, rust",
            "driver, PRECOPY_INFO v2; in the machine, the guest runs on kvm",
            "total 10483.0 ms",
            "downtime 936.0 ms",
            "of VFs 9.0 ms",
            "of all else 927.0 ms",
            "VFs' bytes in stop-copy 1.00 MiB",
            "images, by the driver 7.00 MiB",
            "LOAD commands 4.5 ms",
            "errors the guest found 0",
            "VHCA 1 to 5, busy 4.5 ms 1.5 ms 2.5 ms 0.5 ms 3.00 MiB 0.50 MiB",
            "VHCA 2 to 6 4.5 ms 1.5 ms 2.5 ms 0.5 ms 3.00 MiB 0.50 MiB",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line:?} not in\n{text}");
        }
        let fits = |line: &str| line.len() <= 80 && line == line.trim_end();
        assert!(text.lines().all(fits), "{text}");
    }

    #[test]
    fn what_went_wrong_is_the_verdict() {
        let test = |ok| Test {
            name: "it migrates".to_string(),
            ok,
            skipped: None,
            diagnostics: Vec::new(),
        };
        let migration = |errors: u64| json!({ "guest_errors": errors });
        let said = |errors, ok| verdict(&[migration(0), migration(errors)], &[test(ok)]);
        assert!(said(0, true).contains("found nothing wrong"));
        assert!(said(1, true).contains("did NOT"));
        assert!(said(0, false).starts_with("1 test FAILED"));
        assert_eq!(verdict(&[], &[test(true)]), "Nothing has migrated.");
        let unknown = verdict(&[json!({})], &[test(true)]);
        assert!(unknown.contains("did NOT"), "{unknown}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The report of `make run-net`.

use super::{
    counted,
    mib,
    plain,
    plot::{
        Plot,
        Scale, //
    },
    wrapped,
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

/// The report, in the folder of results.
pub const FILE: &str = "run/net.json";

/// Most columns of a plot.
const WIDTH: usize = 80;
/// The drivers.
const DRIVERS: [&str; 2] = ["rust", "c"];

/// Something that is shown: its label, how, and its name in JSON.
type Figure = (&'static str, fn(&Value) -> String, &'static str);

/// What is shown of a driver.
const FIGURES: &[Figure] = &[
    ("bytes that arrived, both ways", mib, "bytes"),
    ("bytes lost", plain, "bytes_lost"),
    ("bytes wrong", plain, "bytes_wrong"),
    ("connections", plain, "connections"),
    ("connections lost", plain, "connections_lost"),
    ("TCP segments sent again", plain, "retransmits"),
    ("datagrams, both ways", plain, "datagrams"),
    ("datagrams lost", plain, "datagrams_lost"),
    ("  that nothing explains", plain, "datagrams_missed"),
    ("frames dropped by a NIC", plain, "frames_dropped"),
    ("datagrams wrong", plain, "datagrams_wrong"),
    ("datagrams that came twice", plain, "datagrams_twice"),
    ("changes of flow rules", plain, "rules_changed"),
    ("longest silence at the peer", ms, "gap_ms"),
    ("  from the stop of the guest on", ms, "stop_gap_ms"),
    ("downtime", ms, "downtime_ms"),
    ("pages that the VF has written", plain, "dirty_pages"),
    ("changes that delay the stop", plain, "reinits"),
    ("  that came too late for it", plain, "refusals"),
    ("faults in the guest's log", plain, "guest_log_faults"),
    ("firmware violations", plain, "firmware_violations"),
];

/// Figures that must be 0.
const FAULTS: [&str; 8] = [
    "bytes_lost",
    "bytes_wrong",
    "connections_lost",
    "datagrams_missed",
    "datagrams_wrong",
    "datagrams_twice",
    "guest_log_faults",
    "firmware_violations",
];

/// What some figures mean: the name in JSON, and what is said behind its label.
const NOTES: &[(&str, &str)] = &[
    (
        "bytes",
        "in all the time in which the guest had traffic. That is another time with each driver, \
         so this figure does not compare them",
    ),
    (
        "retransmits",
        "what was dropped while the guest stood still, or was not acknowledged in time. TCP sends \
         it again, and nothing is lost",
    ),
    (
        "datagrams_lost",
        "mostly those that were sent during the downtime, since nobody sends a datagram again",
    ),
    (
        "frames_dropped",
        "the guest or its peer got no processor, and gave its NIC no buffers for what came. A \
         frame of TCP is sent again; one with a datagram is lost",
    ),
    (
        "stop_gap_ms",
        "mostly longer than the downtime, since TCP takes a while to send again what was dropped",
    ),
    (
        "reinits",
        "how often the guest's driver made something new, such as a flow table, while QEMU copied \
         memory. QEMU stops the guest only when the destination has that, too. 0 is as good as any \
         other number",
    ),
    (
        "refusals",
        "the same when QEMU had stopped the guest already. QEMU gives such a migration up, the \
         guest goes on where it was, and is migrated anew",
    ),
];

/// What the figures are.
const CAVEAT: &str = "The guest's own mlx5e drives a VF through the driver that is compared. \
Peer, guest and two QEMUs share one emulated processor, and the adapter is emulated, too: \
times and rates are not those of any hardware. While QEMU copies memory, the guest has little \
of the processor, and the longest silence may be then. Every line is explained in \
Documentation/dev-tools/vfio-rust/testing.rst.";

fn ms(value: &Value) -> String {
    match value.as_f64() {
        Some(ms) => format!("{ms:.0} ms"),
        None => "none".to_string(),
    }
}

fn migrations(figures: &Value) -> &[Value] {
    figures["migrations"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether all went well with a driver.
fn is_good(figures: &Value) -> bool {
    figures["bytes"].as_u64() > Some(0) && FAULTS.iter().all(|name| figures[*name] == 0)
}

/// What figures and tests say, in a sentence.
fn verdict(drivers: &Value, tests: &[Test]) -> String {
    let failed = tests.iter().filter(|test| !test.ok).count() as u64;
    if failed > 0 {
        return format!(
            "{} FAILED: the lines above say why.",
            counted(failed, "test")
        );
    }
    let all = || DRIVERS.iter().map(|name| &drivers[*name]);
    if !all().all(is_good) {
        return "Something was LOST: the figures say what.".to_string();
    }
    if all().any(|figures| migrations(figures).is_empty()) {
        return "Nothing was lost, but nothing has migrated.".to_string();
    }
    "With both drivers the guest's connections outlived the migration: no byte was lost or \
     wrong, and neither the guest's kernel nor the firmware had anything to complain of."
        .to_string()
}

/// The report for a person, on a terminal with so many columns.
fn render(drivers: &Value, width: usize) -> String {
    let mut text = format!("  {:32}{:>14}{:>14}\n", "", "rust", "c");
    for (label, show, field) in FIGURES {
        let _ = write!(text, "  {label:32}");
        for name in DRIVERS {
            let _ = write!(text, "{:>14}", show(&drivers[name][*field]));
        }
        text.push('\n');
    }
    text.push('\n');
    for (field, meaning) in NOTES {
        let of_field = FIGURES.iter().filter(|(.., name)| name == field);
        for (label, ..) in of_field {
            let _ = writeln!(
                text,
                "{}",
                wrapped(&format!("{}: {meaning}.", label.trim()))
            );
        }
    }
    text + &render_plots(drivers, width)
}

/// What comes to the peer over time, with one scale for both drivers.
fn render_plots(drivers: &Value, width: usize) -> String {
    let plot = |name| Some((name, Plot::new(&drivers[name])?));
    let (names, plots): (Vec<&str>, Vec<Plot>) = DRIVERS.into_iter().filter_map(plot).unzip();
    let scale = Scale::of(&plots, width);
    let mut text = String::new();
    if !plots.is_empty() {
        let what = format!("What comes to the peer over time: {}.", scale.legend());
        let _ = writeln!(text, "\n{}", wrapped(&what));
    }
    for (name, plot) in names.iter().zip(&plots) {
        let _ = write!(text, "\n  {name} driver\n\n{}\n", plot.render(scale));
    }
    text
}

/// The object of net.json.
fn collect(data: &[Value]) -> Value {
    let of = |name: &str| data.iter().find(|one| one["driver"] == name).cloned();
    let mut drivers = json!({});
    for name in DRIVERS {
        if let Some(figures) = of(name) {
            drivers[name] = figures;
        }
    }
    drivers
}

/// Writes net.json and shows the report.
pub fn publish(outcome: &Outcome, file: &Path) -> Result<()> {
    let drivers = collect(&outcome.data);
    let columns = console::Term::stdout().size_checked();
    let width = columns.map_or(WIDTH, |(_, columns)| WIDTH.min(columns.into()));
    println!("\n{}", render(&drivers, width).trim_end());
    let verdict = verdict(&drivers, &outcome.tests);
    println!("\n{}\n\n{}\n", wrapped(&verdict), wrapped(CAVEAT));
    write(&json!({ "verdict": verdict, "drivers": drivers }), file)?;
    outcome.show_logs();
    for name in DRIVERS {
        ensure!(
            !drivers[name].is_null(),
            "there is no result of the {name} driver"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::documented;

    fn figures(driver: &str) -> Value {
        json!({
            "driver": driver, "bytes": 40 << 20, "bytes_lost": 0, "bytes_wrong": 0,
            "connections": 60, "connections_lost": 0, "retransmits": 7, "rules_changed": 20,
            "datagrams": 1850, "datagrams_lost": 13, "datagrams_missed": 0,
            "datagrams_wrong": 0, "datagrams_twice": 0, "frames_dropped": 5,
            "gap_ms": 512.3, "stop_gap_ms": 412.3, "downtime_ms": 301,
            "dirty_pages": 1234, "reinits": 1, "refusals": 0,
            "guest_log_faults": 0, "firmware_violations": 0,
            "timeline": { "begin": 50.0, "step_ms": 100.0, "bytes": vec![1000; 200] },
            "migrations": [{ "began_at": 55.0, "stopped_at": 56.0, "runs_at": 56.4 }],
        })
    }

    #[test]
    fn both_drivers_are_shown() {
        let drivers = collect(&[figures("c"), figures("rust")]);
        let text = render(&drivers, 80);
        for line in [
            "bytes that arrived, both ways 40.00 MiB 40.00 MiB",
            "longest silence at the peer 512 ms 512 ms",
            "from the stop of the guest on 412 ms 412 ms",
            "datagrams, both ways 1850 1850",
            "datagrams lost 13 13",
            "that nothing explains 0 0",
            "frames dropped by a NIC 5 5",
            "datagrams that came twice 0 0",
            "downtime 301 ms 301 ms",
        ] {
            let found = text.lines().any(|one| {
                let words: Vec<&str> = one.split_whitespace().collect();
                words.join(" ") == line
            });
            assert!(found, "{line:?} not in\n{text}");
        }
        for (_, meaning) in NOTES {
            let begin: Vec<&str> = meaning.split_whitespace().take(3).collect();
            assert!(
                text.contains(&begin.join(" ")),
                "{meaning:?} not in\n{text}"
            );
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(verdict(&drivers, &[]).starts_with("With both drivers"));
    }

    #[test]
    fn the_page_says_which_line_is_which_figure() {
        let page = documented::testing();
        for (label, _, field) in FIGURES {
            let row = format!("\n{:32}  ``{field}``\n", label.trim());
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_goes_wrong_is_the_verdict() {
        for name in FAULTS {
            let mut bad = figures("rust");
            bad[name] = 1.into();
            let drivers = collect(&[bad, figures("c")]);
            assert!(verdict(&drivers, &[]).contains("LOST"), "{name}");
        }
        let mut still = figures("c");
        still["migrations"] = json!([]);
        let drivers = collect(&[still, figures("rust")]);
        assert!(verdict(&drivers, &[]).contains("nothing has migrated"));
        // A driver without figures has lost all.
        assert!(verdict(&collect(&[figures("c")]), &[]).contains("LOST"));
    }
}

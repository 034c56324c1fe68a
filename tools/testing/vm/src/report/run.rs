// SPDX-License-Identifier: GPL-2.0

//! The report of `make run`.

use super::{
    counted,
    mib,
    plain,
    wrapped,
    write, //
};
use crate::{
    bench::{
        counts::{
            self,
            Counts, //
        },
        median, //
    },
    machine::Outcome,
    paths::Paths, //
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
pub const FILE: &str = "run/report.json";
/// Migrations with each driver that count, unless there are to be others.
pub const RUNS: u32 = 5;

/// Changes with what report.json looks like.
const SCHEMA: u32 = 2;
/// Figures that are to be 0, of all migrations together: their name in JSON, and for a
/// person.
const FAULTS: [(&str, &str); 3] = [
    ("pages_wrong", "pages wrong"),
    ("firmware_violations", "firmware violations"),
    ("kernel_log_faults", "faults in the kernel log"),
];
/// What the report says of a driver as its first migration does.
const SAME: [&str; 5] = [
    "kernel_driver",
    "build_id",
    "access",
    "state_size",
    "pages_checked",
];

fn phases(run: &Value) -> &[Value] {
    run["phases"].as_array().map_or(&[], Vec::as_slice)
}

/// The medians of each phase.
fn phase_medians(runs: &[&Value]) -> Vec<Value> {
    let names = runs.first().map_or(&[][..], |run| phases(run)).iter();
    names
        .map(|first| {
            let of = |run: &&Value| {
                let phase = phases(run).iter().find(|p| p["name"] == first["name"]);
                phase.and_then(|phase| phase["ms"].as_f64())
            };
            let ms = median(runs.iter().filter_map(of).collect());
            json!({ "name": first["name"], "ms": ms, "bytes": first["bytes"] })
        })
        .collect()
}

/// A driver's object of report.json.
fn driver(name: &str, data: &[Value], counts: &Counts) -> Value {
    let all: Vec<&Value> = data.iter().filter(|run| run["driver"] == name).collect();
    let runs: Vec<&Value> = (all.iter().copied())
        .filter(|run| !counts::is_first(run))
        .collect();
    let phases = phase_medians(&runs);
    let total_ms: f64 = phases.iter().filter_map(|phase| phase["ms"].as_f64()).sum();
    let executed = counts.of("migrate", name).iter();
    let executed: Vec<u64> = executed.map(|count| count.section.total).collect();
    let whole = all.iter().filter(|run| run["digest_equal"] == true);
    let mut driver = json!({
        "runs": runs.len(),
        "phases": phases,
        "total_ms": total_ms,
        "instructions": median(executed.iter().map(|n| *n as f64).collect()),
        "instructions_each": executed,
        "bytes": runs.first().map(|run| &run["bytes"]),
        "migrations": all.len(),
        "migrations_whole": whole.count(),
    });
    for field in SAME {
        driver[field] = all.first().map_or(Value::Null, |run| run[field].clone());
    }
    for (field, _) in FAULTS {
        let of = all.iter().filter_map(|run| run[field].as_u64());
        driver[field] = json!(of.sum::<u64>());
    }
    driver
}

/// Whether all went well with a driver.
fn is_good(driver: &Value) -> bool {
    let none = |(field, _): &(&str, &str)| driver[*field] == 0;
    driver["migrations"].as_u64() > Some(0)
        && driver["migrations_whole"] == driver["migrations"]
        && FAULTS.iter().all(none)
}

/// What the figures say, in a sentence.
fn verdict(rust: &Value, c: &Value) -> String {
    let moved = match (is_good(rust), is_good(c)) {
        (true, true) => "Both drivers moved every state whole.",
        (true, false) => "The C driver did NOT move every state whole.",
        (false, _) => "The Rust driver did NOT move every state whole.",
    };
    let of = |driver: &Value| driver["instructions"].as_f64().unwrap_or(f64::NAN);
    let per_cent = 100.0 * of(rust) / of(c);
    format!(
        "{moved} A migration with the Rust driver takes {per_cent:.0} % of the instructions \
         that it takes with the C driver."
    )
}

/// What the figures cannot say.
const CAVEAT: &str = "Instructions are those of the whole machine: kernel, drivers, and the \
program that migrates. The machine is emulated, and its clock goes on by a nanosecond with \
each of them: its times compare the drivers, and are not those of any hardware. Firmware \
takes no time here; on an adapter it is what takes longest. What it means there is in \
Documentation/dev-tools/vfio-rust/testing.rst.";

/// Makes report.json's object.
fn collect(data: &[Value], counts: &Counts, commit: &str) -> Value {
    let [rust, c] = ["rust", "c"].map(|name| driver(name, data, counts));
    json!({
        "schema": SCHEMA,
        "commit": commit,
        "kernel": data.iter().find_map(|run| run["kernel"].as_str()),
        "accelerator": "tcg",
        "clock": "1 ns for each instruction",
        "verdict": verdict(&rust, &c),
        "drivers": { "rust": rust, "c": c },
    })
}

/// The report for a person.
fn render(report: &Value) -> String {
    let [rust, c] = ["rust", "c"].map(|name| &report["drivers"][name]);
    let runs = rust["runs"].as_u64().unwrap_or(0);
    let what = format!(
        "{} of state; {} with each driver in turn, of which the medians are shown; one more \
         before them only warms up",
        mib(&rust["state_size"]),
        counted(runs, "migration")
    );
    let mut text = wrapped(&what) + "\n\n";
    let mut row = |label: &str, [rust, c]: [String; 2], ratio: &str| {
        let row = format!("  {label:26}{rust:>20}{c:>20}{ratio:>10}");
        text += row.trim_end();
        text.push('\n');
    };
    let both = |show: &dyn Fn(&Value) -> String| [show(rust), show(c)];
    row("", both(&|of| plain(&of["kernel_driver"])), "Rust / C");
    let mut line = |label: &str, values: [String; 2], ratio: Option<f64>| {
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        row(label, values, &ratio);
    };
    let ms = |of: &Value, at: usize| of["phases"][at]["ms"].as_f64().unwrap_or(f64::NAN);
    for (at, phase) in phases(rust).iter().enumerate() {
        let times = both(&|of| format!("{:.2} ms", ms(of, at)));
        line(
            &plain(&phase["name"]),
            times,
            Some(ms(rust, at) / ms(c, at)),
        );
    }
    let figure = |of: &Value, name: &str| of[name].as_f64().unwrap_or(f64::NAN);
    let ratio = |name: &str| Some(figure(rust, name) / figure(c, name));
    let total = both(&|of| format!("{:.2} ms", figure(of, "total_ms")));
    line("total", total, ratio("total_ms"));
    let millions = both(&|of| format!("{:.1} M", figure(of, "instructions") / 1e6));
    line("instructions", millions, ratio("instructions"));
    line("stream", both(&|of| mib(&of["bytes"])), None);
    let whole = |of: &Value| {
        let of = |name: &str| plain(&of[name]);
        format!("{} of {}", of("migrations_whole"), of("migrations"))
    };
    // With those that warm up, as all rows below.
    line("states that are the same", both(&whole), None);
    for (field, label) in FAULTS {
        line(label, both(&|of| plain(&of[field])), None);
    }
    let _ = write!(
        text,
        "\n{}\n\n{}\n\n  kernel {}, commit {}\n",
        wrapped(&plain(&report["verdict"])),
        wrapped(CAVEAT),
        plain(&report["kernel"]),
        plain(&report["commit"]),
    );
    text
}

/// Writes report.json and shows the report.
pub fn publish(paths: &Paths, outcome: &Outcome, file: &Path) -> Result<()> {
    let report = collect(&outcome.data, &counts::of(outcome)?, &paths.commit);
    println!("\n{}", render(&report));
    write(&report, file)?;
    outcome.show_logs();
    for driver in ["rust", "c"] {
        ensure!(
            report["drivers"][driver]["runs"].as_u64() > Some(0),
            "no result of the {driver} driver"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::counts::{
        tests::section,
        Count, //
    };
    use vm_common::documented::{
        self,
        keys, //
    };

    fn run(driver: &str, run: u64, ms: f64, whole: bool) -> Value {
        json!({
            "path": "migrate", "driver": driver, "run": run, "kernel": "7.2",
            "digest_equal": whole, "pages_wrong": u64::from(!whole), "firmware_violations": 0,
            "kernel_log_faults": 0, "bytes": 1_048_576, "state_size": 1_048_576,
            "kernel_driver": if driver == "rust" { "mlx5_vfio_pci_rust" } else { "mlx5_vfio_pci" },
            "phases": [
                { "name": "stop the source", "ms": ms, "bytes": 0 },
                { "name": "save and load", "ms": 2.0 * ms, "bytes": 1_048_576 },
            ],
        })
    }

    fn report(data: &[Value], executed: u64) -> Value {
        let count = |said: &Value| Count {
            said: said.clone(),
            section: section(&[(0x10, if said["driver"] == "c" { 100 } else { executed })]),
        };
        let counted = data.iter().filter(|run| !counts::is_first(run)).map(count);
        collect(data, &counted.collect(), "abc")
    }

    #[test]
    fn warm_migrations_count() {
        let data = [
            run("rust", 0, 900.0, true),
            run("c", 0, 900.0, true),
            run("c", 1, 4.0, true),
            run("rust", 1, 1.0, true),
            run("rust", 2, 3.0, true),
            run("rust", 3, 1.5, true),
        ];
        let report = report(&data, 27);
        let rust = &report["drivers"]["rust"];
        assert_eq!((&rust["runs"], &rust["migrations"]), (&json!(3), &json!(4)));
        assert_eq!(rust["total_ms"], 4.5);
        assert_eq!(
            (&report["schema"], &report["commit"]),
            (&json!(2), &json!("abc"))
        );
        let text = render(&report);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "1.00 MiB of state; 3 migrations with each driver in turn, of which the medians",
            "mlx5_vfio_pci_rust mlx5_vfio_pci Rust / C",
            "stop the source 1.50 ms 4.00 ms 0.38",
            "total 4.50 ms 12.00 ms 0.38",
            "instructions 0.0 M 0.0 M 0.27",
            "states that are the same 4 of 4 2 of 2",
            "pages wrong 0 0",
            "kernel 7.2, commit abc",
        ] {
            assert!(
                lines.iter().any(|one| one == line),
                "{line:?} not in\n{text}"
            );
        }
        assert!(text.contains("Both drivers moved every state whole."));
        let fits = |line: &str| line.len() <= 80 && line == line.trim_end();
        assert!(text.lines().all(fits), "{text}");
    }

    #[test]
    fn a_state_that_is_lost_is_the_verdict() {
        let good = run("c", 1, 1.0, true);
        let report = report(
            &[run("rust", 0, 1.0, false), run("rust", 1, 1.0, true), good],
            9,
        );
        let verdict = report["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("The Rust driver did NOT"), "{verdict}");
        assert_eq!(report["drivers"]["rust"]["pages_wrong"], 1);
    }

    #[test]
    fn the_page_has_what_is_written() {
        let report = report(&[run("rust", 1, 1.0, true), run("c", 1, 1.0, true)], 9);
        let page = documented::testing();
        let tables = documented::tables(&page, "The report of make run");
        assert_eq!(tables[0].names(), keys(&report));
        let driver = &report["drivers"]["rust"];
        assert_eq!(tables[1].names(), keys(driver));
        assert_eq!(tables[1].said_of("phases"), keys(&driver["phases"][0]));
    }
}

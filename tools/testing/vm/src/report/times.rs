// SPDX-License-Identifier: GPL-2.0

//! How long the groups of `make check` have taken.

use anyhow::{
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fs,
    path::Path,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// The report, in the folder of results.
pub const FILE: &str = "check/times.json";
/// How many of the longest are shown.
const SHOWN: usize = 5;

/// What a group of tests has taken, in seconds.
pub struct Time {
    /// Its name.
    pub group: String,
    /// From its begin to its end.
    pub seconds: f64,
    /// How long its machine has kept a core busy.
    pub busy: Option<f64>,
}

impl Time {
    /// Of a group that began then, and has ended now.
    pub fn since(group: &str, begin: Instant) -> Self {
        Self {
            group: group.to_string(),
            seconds: begin.elapsed().as_secs_f64(),
            busy: None,
        }
    }
}

/// Tenths of a second are enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn report(times: &[Time], whole: Duration, cores: usize) -> Value {
    let groups: Vec<Value> = times
        .iter()
        .map(|time| {
            json!({
                "group": time.group,
                "seconds": rounded(time.seconds),
                "busy_seconds": time.busy.map(rounded),
            })
        })
        .collect();
    // The sum of nothing is -0.0.
    let busy = 0.0 + times.iter().filter_map(|time| time.busy).sum::<f64>();
    json!({
        "seconds": rounded(whole.as_secs_f64()),
        "machines_busy_seconds": rounded(busy),
        "cores": cores,
        "groups": groups,
    })
}

/// Writes times.json, and shows the groups that have taken longest.
pub fn publish(mut times: Vec<Time>, whole: Duration, out: &Path) -> Result<()> {
    times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let file = out.join(FILE);
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let report = report(&times, whole, cores);
    fs::create_dir_all(file.parent().unwrap_or(out))?;
    fs::write(&file, super::text(&report)?).with_context(|| file.display().to_string())?;
    println!(
        "# {:.0}s on {cores} cores, of which machines were busy for {}s; times of all groups: {}",
        whole.as_secs_f64(),
        report["machines_busy_seconds"],
        super::path_word(&file)
    );
    for time in times.iter().take(SHOWN) {
        println!("# {:4.0}s {}", time.seconds, time.group);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::documented::{
        self,
        keys, //
    };

    #[test]
    fn a_report_has_each_group_and_what_machines_took() {
        let time = |group: &str, seconds, busy| Time {
            group: group.to_string(),
            seconds,
            busy,
        };
        let times = [
            time("stock-a", 20.04, Some(5.25)),
            time("intree-b", 10.0, Some(10.0)),
            time("cargo", 7.0, None),
        ];
        let report = report(&times, Duration::from_secs(22), 2);
        assert_eq!(report["seconds"], 22.0);
        assert_eq!(report["machines_busy_seconds"], 15.3);
        assert_eq!(report["groups"][0]["seconds"], 20.0);
        assert_eq!(report["groups"][1]["busy_seconds"], 10.0);
        assert!(report["groups"][2]["busy_seconds"].is_null());

        let page = documented::testing();
        let tables = documented::tables(&page, "How many at a time");
        let written = &keys(&report) | &keys(&report["groups"][0]);
        assert_eq!(tables[0].names(), written);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig hwtest` on the emulated adapter.

use super::{
    super::tool::command::{
        fails,
        json,
        objects, //
    },
    Site, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::Value;
use std::fs;
use vfio_mig::{
    bdf::Bdf,
    hwtest::EXPERIMENTS, //
};

/// All experiments of the tool work on the emulated adapter, and leave the VFs running.
pub fn all(site: &Site) -> Result<()> {
    let vfs: Vec<String> = site.vfs()?.iter().map(Bdf::to_string).collect();
    let names: Vec<&str> = vfs.iter().map(String::as_str).collect();
    // Nobody answers.
    let said = fails(&[&["hwtest"], &names[..]].concat(), 1)?;
    ensure!(said.contains("nothing was done"), "{said}");
    // It is found before the experiments that a report has no place.
    let nowhere = ["--yes", "--output", "/nowhere/experiments"];
    let said = fails(&[&["hwtest"], &names[..], &nowhere].concat(), 1)?;
    let begun = format!("{} ...", EXPERIMENTS[0].name);
    ensure!(
        !said.contains(&begun) && said.contains("/nowhere"),
        "{said}"
    );
    let output = ["--yes", "--output", "/tmp/experiments"];
    let report = json(&[&["--json", "hwtest"], &names[..], &output].concat())?;
    let outcomes = report["outcomes"].as_array().context("no outcomes")?;
    ensure!(outcomes.len() == EXPERIMENTS.len(), "{report:#}");
    for outcome in outcomes {
        let figures = outcome["figures"].as_object();
        ensure!(figures.is_some_and(|all| !all.is_empty()), "{outcome:#}");
    }
    let of = |name: &str| {
        let found = outcomes.iter().find(|outcome| outcome["name"] == name);
        found.map_or(Value::Null, |outcome| outcome["figures"].clone())
    };
    ensure!(of("trackers")["trackers"] == 2, "{report:#}");
    ensure!(
        of("stop-copy")["bytes"][0].as_u64() > Some(1 << 20),
        "{report:#}"
    );
    ensure!(
        of("pre-copy")["stopped_bytes"].as_u64() > Some(0),
        "{report:#}"
    );
    let written = objects(&fs::read("/tmp/experiments.json")?)?;
    ensure!(
        written[0]["result"] == report,
        "the file has another report"
    );
    let words = fs::read_to_string("/tmp/experiments.txt")?;
    for experiment in EXPERIMENTS {
        ensure!(
            words.contains(&format!("\n{}: done", experiment.name)),
            "{words}"
        );
    }
    for vf in &names {
        ensure!(json(&["--json", "info", vf])?["state"] == "RUNNING");
    }
    fails(&["hwtest", names[0], names[0], "--yes"], 2)?;
    Ok(())
}

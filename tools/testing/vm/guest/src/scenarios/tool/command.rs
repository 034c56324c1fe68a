// SPDX-License-Identifier: GPL-2.0

//! Runs the vfio-mig command.

use super::schema::Schema;
use crate::scenarios::compare::Site;
use anyhow::{
    bail,
    ensure,
    Context,
    Error,
    Result, //
};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fmt::Debug,
    process::{
        Command,
        Output, //
    },
};

/// Where it is.
pub const PATH: &str = "/bin/vfio-mig";

/// Runs it.
pub fn vfio_mig(args: &[impl AsRef<OsStr>]) -> Result<Output> {
    Command::new(PATH).args(args).output().context("vfio-mig")
}

/// The objects in what it has printed, one in each line, which must be what the schema says.
pub fn objects(printed: &[u8]) -> Result<Vec<Value>> {
    let schema = Schema::new().map_err(Error::msg)?;
    let mut objects = Vec::new();
    for line in std::str::from_utf8(printed)?.lines() {
        let object = serde_json::from_str(line)?;
        schema.check(&object).map_err(Error::msg)?;
        objects.push(object);
    }
    Ok(objects)
}

/// Runs it, and returns its results, one in each line.
pub(super) fn json_lines(args: &[&str]) -> Result<Vec<Value>> {
    let output = vfio_mig(args)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let objects = objects(&output.stdout)?.into_iter();
    Ok(objects.map(|mut object| object["result"].take()).collect())
}

/// Runs it, and returns its only result.
pub fn json(args: &[&str]) -> Result<Value> {
    let mut results = json_lines(args)?;
    ensure!(results.len() == 1, "{args:?}: {results:?}");
    results.pop().context("no result")
}

/// Runs the tool, which must fail with `status`. Returns what it says.
pub fn fails(args: &[impl AsRef<OsStr> + Debug], status: i32) -> Result<String> {
    let output = vfio_mig(args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(status),
        "{args:?}: {}: {said}",
        output.status
    );
    Ok(said)
}

/// The ways to save to `path`.
pub(super) fn ways_to_save(site: &Site, path: &str) -> [Vec<String>; 4] {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect();
    let file = format!("file:{path}");
    [
        words(&["save", &vf, path]),
        words(&["migrate", &vf, &file]),
        words(&["migrate", &vf, &file, "--precopy"]),
        words(&["migrate", &vf, &other, "--through", path]),
    ]
}

pub(super) fn require_running(site: &Site) -> Result<()> {
    for vf in [site.vf, site.other] {
        let info = json(&["--json", "info", &vf.to_string()])?;
        ensure!(info["state"] == "RUNNING", "{info}");
    }
    Ok(())
}

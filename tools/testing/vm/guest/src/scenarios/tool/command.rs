// SPDX-License-Identifier: GPL-2.0

//! Runs the vfio-mig command.

use crate::scenarios::compare::Site;
use anyhow::{
    bail,
    ensure,
    Context,
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

/// Runs it, and returns its object.
pub fn json(args: &[&str]) -> Result<Value> {
    let output = vfio_mig(args)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Several objects, one in each line.
pub(super) fn json_lines(args: &[&str]) -> Result<Vec<Value>> {
    let output = vfio_mig(args)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

/// Runs the tool, which must fail with `status`. Returns what it says.
pub(super) fn fails(args: &[impl AsRef<OsStr> + Debug], status: i32) -> Result<String> {
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

// SPDX-License-Identifier: GPL-2.0

//! What `vfio-mig doctor` says of a host with and without VFs, and of two hosts.

use super::{
    super::tool::command::{
        objects,
        vfio_mig, //
    },
    refuses,
    Site, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::Value;
use std::fs;

/// The report of the doctor, and its exit status.
pub fn doctor(args: &[&str]) -> Result<(Value, Option<i32>)> {
    let output = vfio_mig(&[&["--json", "doctor"], args].concat())?;
    let mut objects = objects(&output.stdout)?;
    let object = objects.pop();
    let mut object =
        object.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((object["result"].take(), output.status.code()))
}

/// Fails unless a check has this verdict.
pub fn check(report: &Value, name: &str, verdict: &str) -> Result<()> {
    let checks = report["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.with_context(|| format!("no {name}: {report:#}"))?;
    ensure!(check["verdict"] == verdict, "{check:#}");
    Ok(())
}

pub fn without_vfs(site: &Site) -> Result<()> {
    let pf = site.pf();
    let (report, status) = doctor(&[&pf])?;
    ensure!(status == Some(1), "{status:?}");
    check(&report, &format!("{pf} VFs"), "missing")?;
    check(&report, &format!("{pf} driver"), "ok")?;
    check(&report, &format!("{pf} e-switch"), "warning")?;
    check(&report, &format!("{pf} autoprobe"), "ok")?;
    check(&report, "kernel", "ok")?;
    check(&report, "IOMMU", "ok")?;
    // From devlink.
    let adapter = &report["adapters"][0];
    let firmware = adapter["firmware"].as_str().unwrap_or_default();
    ensure!(firmware.split('.').count() == 3, "{adapter:#}");
    ensure!(
        adapter["psid"]
            .as_str()
            .is_some_and(|psid| !psid.is_empty()),
        "{adapter:#}"
    );
    Ok(())
}

/// A setup that is killed leaves it so.
pub fn autoprobe(site: &Site) -> Result<()> {
    let pf = site.pf();
    let path = format!("/sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe");
    fs::write(&path, "0")?;
    let (report, _) = doctor(&[&pf])?;
    check(&report, &format!("{pf} autoprobe"), "warning")?;
    let mends = format!("echo 1 > {path}");
    ensure!(report.to_string().contains(&mends), "{report:#}");
    fs::write(&path, "1")?;
    Ok(())
}

pub fn good_doctor(site: &Site) -> Result<()> {
    let pf = site.pf();
    let vf = site.vfs()?[0].to_string();
    let (report, status) = doctor(&[&pf, "--open"])?;
    check(&report, &format!("{vf} driver"), "ok")?;
    check(&report, &format!("{vf} migratable"), "ok")?;
    check(&report, &format!("{vf} group"), "ok")?;
    ensure!(status == Some(0), "{report:#}");
    let (report, _) = doctor(&[&vf])?;
    check(&report, &format!("{vf} migratable"), "warning")?;
    ensure!(
        report["adapters"][0]["vfs"].as_array().map(Vec::len) == Some(1),
        "{report:#}"
    );
    // As wide as a terminal, but for commands.
    let text = String::from_utf8(vfio_mig(&["doctor"])?.stdout)?;
    for line in text.lines().filter(|line| !line.starts_with("         # ")) {
        ensure!(line.chars().count() <= 80, "{line}");
    }
    Ok(())
}

pub fn two_hosts(site: &Site) -> Result<()> {
    let path = "/tmp/report";
    let pf = site.pf();
    // As the other host has printed it, with what all objects of the tool have.
    let printed = vfio_mig(&["--json", "doctor", &pf, "--open"])?.stdout;
    let mut other: Value = serde_json::from_slice(&printed)?;
    let name = format!("{pf} there");
    fs::write(path, &printed)?;
    let (report, status) = doctor(&[&pf, "--open", "--compare", path])?;
    check(&report, &name, "ok")?;
    ensure!(status == Some(0), "{report:#}");
    other["result"]["adapters"][0]["firmware"] = "1.2.3".into();
    fs::write(path, other.to_string())?;
    let (report, status) = doctor(&[&pf, "--compare", path])?;
    check(&report, &name, "missing")?;
    ensure!(status == Some(1), "{status:?}");
    fs::write(path, "{}")?;
    refuses(site, &["doctor", "--compare", path], "it has no version")?;
    refuses(site, &["doctor", "--compare", "/none"], "No such file")
}

// SPDX-License-Identifier: GPL-2.0

//! The vfio-mig command, on devices of both drivers.

use super::Bench;
use crate::{hca::Driver, tap::Results};
use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use std::process::{Command, Output};

fn vfio_mig(args: &[&str]) -> Result<Output> {
    Command::new("/bin/vfio-mig")
        .args(args)
        .output()
        .context("vfio-mig")
}

fn json(args: &[&str]) -> Result<Value> {
    let output = vfio_mig(args)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    for driver in Driver::BOTH {
        let (source, destination) = bench.of(driver);
        let (source, destination) = (source.to_string(), destination.to_string());
        let name = driver.name();
        results.test(&format!("info, {name} driver"), |_| {
            let info = json(&["--json", "info", &source])?;
            ensure!(info["driver"] == driver.sysfs_name(), "{info}");
            ensure!(info["state"] == "RUNNING", "{info}");
            ensure!(info["data_size"].as_u64() > Some(0), "{info}");
            let text = vfio_mig(&["info", &source])?;
            let text = String::from_utf8(text.stdout)?;
            ensure!(text.contains("STOP_COPY, P2P, PRE_COPY"), "{text}");
            Ok(())
        });
        results.test(&format!("migrate, {name} driver"), |_| {
            let report = json(&["migrate", &source, &destination, "--json"])?;
            ensure!(report["bytes"].as_u64() > Some(1 << 20), "{report}");
            ensure!(
                report["phases"].as_array().is_some_and(|p| p.len() == 5),
                "{report}"
            );
            Ok(())
        });
        results.test(&format!("save and load, {name} driver"), |_| {
            let path = "/tmp/saved";
            let saved = json(&["--json", "save", &source, path])?;
            let len = std::fs::metadata(path)?.len();
            ensure!(saved["bytes"].as_u64() == Some(len), "{saved}");
            let loaded = json(&["--json", "load", &destination, path])?;
            ensure!(loaded == saved, "{loaded}");
            let output = vfio_mig(&["save", &source, "-"])?;
            ensure!(output.stdout.len() as u64 == len, "{}", output.stdout.len());
            ensure!(output.stdout == std::fs::read(path)?, "another state");
            Ok(())
        });
        results.test(&format!("migrate with pre-copy, {name} driver"), |_| {
            let mut args = vec!["--json", "migrate", &source, &destination, "--precopy"];
            args.extend([
                "--precopy-info",
                "both",
                "--create",
                "512K",
                "--change",
                "4K",
            ]);
            let report = json(&args)?;
            let of = |version: usize, figure: &str| report[version][figure].as_u64();
            ensure!(
                (of(0, "reinits"), of(1, "reinits")) == (Some(0), Some(1)),
                "{report}"
            );
            // What was created moves before the source stops, or after.
            let (v1, v2) = (of(0, "downtime_bytes"), of(1, "downtime_bytes"));
            ensure!(v1 > Some(512 << 10) && v2 < Some(64 << 10), "{report}");
            args.retain(|arg| *arg != "--json");
            let text = String::from_utf8(vfio_mig(&args)?.stdout)?;
            ensure!(text.contains("downtime, bytes"), "{text}");
            Ok(())
        });
        results.test(&format!("migrate through a file, {name} driver"), |_| {
            let through = ["--through", "/tmp/state"];
            let output = vfio_mig(&["migrate", &source, &destination, through[0], through[1]])?;
            ensure!(output.status.success());
            let saved = std::fs::metadata("/tmp/state")?.len();
            let text = String::from_utf8(output.stdout)?;
            ensure!(text.contains(&format!("{saved} bytes")), "{text}");
            Ok(())
        });
    }
    results.test("completions, and the manual", |_| {
        for (args, text) in [
            (&["completions", "bash"][..], "-o default vfio-mig"),
            (&["completions", "zsh"], "#compdef vfio-mig"),
            (&["man"], ".TH vfio-mig"),
        ] {
            let text_is = String::from_utf8(vfio_mig(args)?.stdout)?;
            ensure!(text_is.contains(text), "{args:?}: {text_is}");
        }
        Ok(())
    });
    results.test("errors say what to do, and give a status", |_| {
        let cases = [
            (vec!["info", "nonsense"], 2, "not a PCI address"),
            (vec!["info", "ff:1f.7"], 1, "no such PCI device"),
            (vec!["info", "00:01.0"], 1, "not a VFIO driver"),
            (vec!["migrate", "01:00.2"], 2, "required arguments"),
            (
                vec!["migrate", "1:0.2", "1:0.3", "--create", "1M"],
                2,
                "--precopy",
            ),
        ];
        for (args, status, text) in cases {
            let output = vfio_mig(&args)?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(status), "{args:?}: {error}");
            ensure!(error.contains(text), "{args:?}: {error}");
        }
        Ok(())
    });
    results.test(
        "a file that cannot be written leaves the source running",
        |_| {
            let (source, destination) = bench.of(Driver::Rust);
            let (source, destination) = (source.to_string(), destination.to_string());
            let through = "/no/such/folder/state";
            let output = vfio_mig(&["migrate", &source, &destination, "--through", through])?;
            ensure!(output.status.code() == Some(1));
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(error.contains(through), "{error}");
            Ok(())
        },
    );
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! The vfio-mig command, on devices of both drivers.

pub(super) mod command;
mod files;
mod hosts;
mod output;
mod pipes;
#[path = "../../../../../../vfio-mig/tests/schema/schema.rs"]
mod schema;
#[path = "../../../../../../vfio-mig/tests/pages/shown.rs"]
mod shown;
mod signals;

use super::{
    compare::{
        self,
        Site, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use command::{
    json,
    json_lines,
    objects,
    vfio_mig,
    PATH, //
};
use files::{
    device_nodes,
    full_disk,
    no_files,
    not_put_back,
    nothing_to_load,
    owner_and_mode, //
};
use hosts::{
    bad_senders,
    no_senders,
    over_tcp,
    reason_of_receiver,
    receiver_not_started, //
};
use output::{
    closed_output,
    full_output,
    messages,
    narrow,
    unread_output, //
};
use pipes::{
    over_a_command,
    over_pipes,
    peer_dies, //
};
use shown::Shown;
use signals::{
    signals,
    signals_of_hosts, //
};
use std::{
    path::Path,
    process::Command, //
};

pub use signals::interrupted_saves;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("tool", run)];

/// A command that a page shows, with devices that our driver has here, too.
fn page(results: &mut Results, vfs: &Vfs, shown: &Shown) {
    // How a device is opened depends on the kernel.
    let shows = |text| shown.output.iter().any(|line| line.contains(text));
    let other_kernel = match Path::new("/dev/iommu").exists() {
        true => shows("type 1 container"),
        false => shows("/dev/iommu"),
    };
    if !shown.needs_device || shown.output.is_empty() || other_kernel {
        return;
    }
    let name = format!("{} shows: {}", shown.page, shown.args.join(" "));
    results.test(&name, |_| {
        let (vf, other) = vfs.of(Driver::Rust);
        let ours = [vf, other].map(|vf| vf.to_string());
        let mut devices = shown.args.iter().filter(|arg| arg.starts_with("01:00."));
        ensure!(
            devices.all(|arg| ours.contains(&format!("0000:{arg}"))),
            "our driver has {ours:?}"
        );
        let output = vfio_mig(&shown.args)?;
        let printed = [output.stdout, output.stderr].concat();
        let compared = shown.compare(&String::from_utf8(printed)?);
        compared.map_err(anyhow::Error::msg)
    });
}

/// What must not be lost, and what the tool says, if something is in its way.
fn run_faults(results: &mut Results, site: &Site, driver: &str) {
    let tests: [compare::Test; 15] = [
        ("a full disk", full_disk),
        ("device nodes stay", device_nodes),
        ("what is no file", no_files),
        ("owner and mode of a file", owner_and_mode),
        ("nothing to load", nothing_to_load),
        ("nobody reads the output", closed_output),
        ("output that cannot be written", full_output),
        ("output that is not read", unread_output),
        ("messages", messages),
        ("80 columns, and no progress in a pipe", narrow),
        ("a source that is not put back", not_put_back),
        ("a receiver that does not start", receiver_not_started),
        ("signals", signals),
        ("signals to one of two hosts", signals_of_hosts),
        ("a host that dies", peer_dies),
    ];
    for (name, test) in tests {
        results.test(&format!("{name}, {driver} driver"), |_| test(site));
    }
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    sys::loopback_up()?;
    for driver in Driver::BOTH {
        let (source, destination) = vfs.of(driver);
        let (source, destination) = (source.to_string(), destination.to_string());
        let name = driver.name();
        results.test(&format!("info, {name} driver"), |_| {
            let info = json(&["--json", "info", &source])?;
            ensure!(info["driver"] == driver.sysfs_name(), "{info}");
            ensure!(info["state"] == "RUNNING", "{info}");
            ensure!(info["data_size"].as_u64() > Some(0), "{info}");
            let listed = json(&["--json", "list"])?;
            let ours = serde_json::json!({ "device": source, "driver": driver.sysfs_name() });
            let mut devices = listed["devices"].as_array().into_iter().flatten();
            ensure!(devices.any(|device| *device == ours), "{listed}");
            let text = vfio_mig(&["info", &source])?;
            let text = String::from_utf8(text.stdout)?;
            ensure!(text.contains("STOP_COPY, P2P, PRE_COPY"), "{text}");
            Ok(())
        });
        results.test(&format!("migrate, {name} driver"), |_| {
            let report = json(&["migrate", &source, &destination, "--json"])?;
            let report = &report["migrations"][0];
            ensure!(report["bytes"].as_u64() > Some(1 << 20), "{report}");
            let phases = report["phases"].as_array().map_or(&[][..], Vec::as_slice);
            let names: Vec<_> = phases.iter().filter_map(|p| p["name"].as_str()).collect();
            let in_order = [
                "prepare the destination",
                "stop the source",
                "save and load",
                "finish",
                "start the destination",
                "free the source",
            ];
            ensure!(names == in_order, "{report}");
            Ok(())
        });
        results.test(&format!("save and load, {name} driver"), |_| {
            let path = "/tmp/saved";
            let saved = json(&["--json", "save", &source, path])?;
            let len = std::fs::metadata(path)?.len();
            ensure!(saved["bytes"].as_u64() == Some(len), "{saved}");
            let loaded = json(&["--json", "load", &destination, path])?;
            ensure!(loaded == saved, "{loaded}");
            let output = vfio_mig(&["--json", "save", &source, "-"])?;
            let said = objects(&output.stderr)?;
            ensure!(said.len() == 1 && said[0]["result"] == saved, "{said:?}");
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
            let migrations = &report["migrations"];
            let of = |version: usize, figure: &str| migrations[version][figure].as_u64();
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
        results.test(&format!("migrate to a file, {name} driver"), |_| {
            let report = json(&["--json", "migrate", &source, "file:/tmp/migrated"])?;
            let sum = Command::new(PATH)
                .args(["--json", "load", &destination, "/tmp/migrated"])
                .output()?;
            ensure!(sum.status.success(), "it cannot be loaded");
            ensure!(
                report["migrations"][0]["sha256"]
                    .as_str()
                    .is_some_and(|sum| sum.len() == 64),
                "{report}"
            );
            Ok(())
        });
        results.test(&format!("migrate to another host, {name} driver"), |_| {
            over_tcp(&source, &destination, &[])?;
            over_tcp(&source, &destination, &["--precopy", "--change", "4K"])
        });
        results.test(&format!("migrate through pipes, {name} driver"), |_| {
            over_pipes(&source, &destination, &[])?;
            over_pipes(&source, &destination, &["--precopy", "--change", "4K"])?;
            over_a_command(&source, &destination)
        });
        results.test(&format!("hosts that are none, {name} driver"), |_| {
            bad_senders(&destination)?;
            no_senders(&source, &destination)?;
            reason_of_receiver(&destination)?;
            let output = vfio_mig(&["migrate", &source, "tcp:127.0.0.1:1"])?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(error.contains("connecting to 127.0.0.1:1"), "{error}");
            Ok(())
        });
        results.test(&format!("state, {name} driver"), |_| {
            let args = ["--json", "state", &source, "stop-copy", "RUNNING"];
            let report = json(&args)?;
            let path = serde_json::json!(["RUNNING_P2P", "STOP", "STOP_COPY"]);
            ensure!(report["state"] == "RUNNING", "{report}");
            ensure!(report["steps"][0]["path"] == path, "{report}");
            ensure!(report["steps"][0]["data_fd"] == true, "{report}");
            let text = String::from_utf8(vfio_mig(&["state", &source, "STOP"])?.stdout)?;
            ensure!(
                text.contains("RUNNING -> RUNNING_P2P -> STOP\nSTOP"),
                "{text}"
            );
            let refused = vfio_mig(&["state", &source, "STOP", "ERROR"])?;
            ensure!(refused.status.code() == Some(1));
            Ok(())
        });
        results.test(&format!("watch, {name} driver"), |_| {
            let mut args = vec!["--json", "watch", &source, "--count", "4"];
            args.extend(["--interval", "0.01", "--change", "64K", "--create", "64K"]);
            let looks = json_lines(&args)?;
            ensure!(looks.len() == 4, "{looks:?}");
            ensure!(
                looks[0]["initial_bytes"].as_u64() > Some(1 << 20),
                "{looks:?}"
            );
            ensure!(
                looks[2]["dirty_bytes"].as_u64() > Some(1 << 15),
                "{looks:?}"
            );
            args.retain(|arg| *arg != "--json");
            let text = String::from_utf8(vfio_mig(&args)?.stdout)?;
            ensure!(text.lines().count() == 5, "{text}");
            Ok(())
        });
        if Path::new("/dev/iommu").exists() {
            results.test(&format!("dirty, {name} driver"), |_| {
                let mut args = vec!["--json", "dirty", &source, "--interval", "0"];
                args.extend(["--count", "2", "--write-pages", "9", "--length", "4M"]);
                let reports = json_lines(&args)?;
                ensure!(reports.len() == 2, "{reports:?}");
                let dirty = reports[0]["dirty_pages"].as_u64();
                ensure!((1..=9).contains(&dirty.unwrap_or(0)), "{reports:?}");
                args.retain(|arg| *arg != "--json");
                let text = String::from_utf8(vfio_mig(&args)?.stdout)?;
                ensure!(
                    text.contains("of 1024 pages dirty") && text.contains('█'),
                    "{text}"
                );
                Ok(())
            });
        } else {
            let reason = "the kernel has no dirty bitmaps (they come with IOMMUFD)";
            results.skip(&format!("dirty, {name} driver"), reason);
        }
        results.test(&format!("test, {name} driver"), |_| {
            let args = ["test", &source, "--only", "feature.stop_copy"];
            let text = String::from_utf8(vfio_mig(&args)?.stdout)?;
            ensure!(
                text.starts_with("KTAP version 1\n1..1\n# vfio.h:1018 "),
                "{text}"
            );
            let report = json(&["--json", "test", &source, "--only", "precopy.enomsg"])?;
            ensure!(report["summary"]["passed"] == 1, "{report}");
            let none = vfio_mig(&["test", &source, "--only", "nonsense"])?;
            ensure!(none.status.code() == Some(2), "{:?}", none.status);
            let skipped = vfio_mig(&["test", &source, "--only", "session.compatible_device"])?;
            ensure!(skipped.status.code() == Some(4), "{:?}", skipped.status);
            Ok(())
        });
        results.test(&format!("stress, {name} driver"), |_| {
            let report = json(&["--json", "stress", &source, &destination, "--count", "3"])?;
            ensure!(report["bytes"].as_u64() > Some(1 << 20), "{report}");
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
        let (vf, other) = vfs.of(driver);
        run_faults(results, &Site { vf, other }, name);
    }
    for shown in shown::all() {
        page(results, &vfs, &shown);
    }
    results.test("devices are offered to a shell", |_| {
        let offered = Command::new(PATH)
            .env("VFIO_MIG_COMPLETE", "fish")
            .args(["--", "vfio-mig", "migrate", "01:00.2", "0000:01"])
            .output()?;
        let offered = String::from_utf8(offered.stdout)?;
        for driver in Driver::BOTH {
            let (vf, other) = vfs.of(driver);
            for device in [vf, other] {
                let line = format!("{device}\t{}", driver.sysfs_name());
                ensure!(offered.lines().any(|one| one == line), "{line}: {offered}");
            }
        }
        Ok(())
    });
    results.test("completions, and the manual", |_| {
        for (args, text) in [
            (&["completions", "bash"][..], "-F _vfio_mig vfio-mig"),
            (&["completions", "zsh"], "#compdef vfio-mig"),
            (&["man"], ".TH VFIO-MIG 8"),
        ] {
            let text_is = String::from_utf8(vfio_mig(args)?.stdout)?;
            ensure!(text_is.contains(text), "{args:?}: {text_is}");
        }
        Ok(())
    });
    results.test("errors say what to do, and give a status", |_| {
        let cases = [
            (vec!["info", "nonsense"], 2, "not a PCI address"),
            (vec!["info", "ff:1f.7"], 1, "no such device"),
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
            let (source, destination) = vfs.of(Driver::Rust);
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

// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig doctor`, `setup`, `bind` and `unbind`, for real: what they change, what the kernel
//! makes of it, and what they must not touch. And what our driver says of VFs that cannot be
//! migrated.

mod reasons;

use super::{
    tool::command::{
        fails,
        json,
        objects,
        vfio_mig, //
    },
    NamedRun, //
};
use crate::{
    fault::{
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    fs,
    net::Ipv4Addr, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    hwtest::EXPERIMENTS,
    sysfs, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("setup", run)];

const OURS: &str = "mlx5_vfio_pci_rust";
/// By which libvirt finds a driver for a VF.
const ALIAS: &[u8] = b"alias=vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*";

/// A PF without VFs, whose VFs go to the driver that matches them, as a host has it.
struct Site {
    pf: Bdf,
}

impl Site {
    fn pf(&self) -> String {
        self.pf.to_string()
    }

    fn number(&self, file: &str) -> Result<u16> {
        let path = sysfs::device_dir(self.pf).join(file);
        Ok(fs::read_to_string(path)?.trim().parse()?)
    }

    fn vfs(&self) -> Result<Vec<Bdf>> {
        Pf::of_address(self.pf).vfs()
    }

    /// Makes two VFs with the tool. Returns what it prints.
    fn set_up(&self) -> Result<String> {
        let output = vfio_mig(&["setup", &self.pf(), "--vfs", "2", "--driver", OURS])?;
        let said = String::from_utf8(output.stdout)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}{error}");
        Ok(said)
    }

    fn take_down(&self) -> Result<()> {
        let output = vfio_mig(&["setup", &self.pf(), "--undo"])?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{error}");
        ensure!(self.number("sriov_numvfs")? == 0, "there are VFs");
        Ok(())
    }
}

/// The report of the doctor, and its exit status.
fn doctor(args: &[&str]) -> Result<(Value, Option<i32>)> {
    let output = vfio_mig(&[&["--json", "doctor"], args].concat())?;
    let mut objects = objects(&output.stdout)?;
    let object = objects.pop();
    let mut object =
        object.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((object["result"].take(), output.status.code()))
}

/// Fails unless a check has this verdict.
fn check(report: &Value, name: &str, verdict: &str) -> Result<()> {
    let checks = report["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.with_context(|| format!("no {name}: {report:#}"))?;
    ensure!(check["verdict"] == verdict, "{check:#}");
    Ok(())
}

/// Fails unless the tool refuses this with these words, and the VFs stay.
fn refuses(site: &Site, args: &[&str], words: &str) -> Result<()> {
    let before = site.vfs()?;
    let drivers = |vfs: &[Bdf]| -> Vec<Option<String>> {
        vfs.iter().map(|vf| sysfs::driver(*vf).ok()).collect()
    };
    let had = drivers(&before);
    let said = fails(args, 1)?;
    ensure!(said.contains(words), "{args:?}: {said}");
    let now = site.vfs()?;
    ensure!(now == before, "{args:?}: the VFs are {now:?}");
    ensure!(drivers(&now) == had, "{args:?}: {:?}", drivers(&now));
    Ok(())
}

fn without_vfs(site: &Site) -> Result<()> {
    let pf = site.pf();
    let (report, status) = doctor(&[&pf])?;
    ensure!(status == Some(1), "{status:?}");
    check(&report, &format!("{pf} VFs"), "missing")?;
    check(&report, &format!("{pf} driver"), "ok")?;
    check(&report, &format!("{pf} e-switch"), "warning")?;
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

fn wrong_names(site: &Site) -> Result<()> {
    let pf = site.pf();
    let total = site.number("sriov_totalvfs")?;
    let many = (total + 1).to_string();
    let most = format!("more than its {total}");
    let setup = ["setup", &pf, "--vfs"];
    for (args, words) in [
        (&["2"][..], "say with --driver"),
        (
            &["2", "--driver", "mlx4_vfio"],
            "able to migrate: mlx5_vfio_pci_rust, mlx5_vfio_pci",
        ),
        (&["2", "--driver", "mlx5_core"], "is not a VFIO driver"),
        (&[&many, "--driver", OURS], &most),
    ] {
        refuses(site, &[&setup, args].concat(), words)?;
        let autoprobe = site.number("sriov_drivers_autoprobe")?;
        ensure!(autoprobe == 1, "{args:?} leaves autoprobe at {autoprobe}");
    }
    refuses(
        site,
        &["setup", "ff:1f.7", "--vfs", "2"],
        &format!("PFs of this host: {pf}"),
    )?;
    refuses(
        site,
        &["bind", &pf, "--driver", OURS],
        "not a VF; it has none",
    )?;
    refuses(site, &["doctor", "00:00.0"], "not a ConnectX adapter")?;
    fails(&["setup", &pf], 2)?;
    fails(&["setup", &pf, "--vfs", "0"], 2)?;
    fails(&["bind"], 2)?;
    Ok(())
}

/// The emulated e-switch has no switchdev mode. What was done before that is undone.
fn no_switchdev(site: &Site) -> Result<()> {
    let faults = Faults::of(&Pf::of_address(site.pf))?;
    // The first table is that of legacy mode, with the VFs. Else mlx5_core would go on to what
    // the model calls a violation.
    faults.arm(Fault::fail(opcode::CREATE_FLOW_TABLE).nth(2))?;
    let args = [
        "setup",
        &site.pf(),
        "--vfs",
        "2",
        "--driver",
        OURS,
        "--switchdev",
    ];
    refuses(site, &args, "devlink dev eswitch set")?;
    ensure!(faults.fired()? == 1, "the fault has not fired");
    ensure!(site.number("sriov_drivers_autoprobe")? == 1);
    let (report, _) = doctor(&[&site.pf()])?;
    check(&report, &format!("{} e-switch", site.pf()), "warning")
}

fn set_up(site: &Site) -> Result<()> {
    let pf = site.pf();
    let args = ["setup", &pf, "--vfs", "2", "--driver", OURS, "--dry-run"];
    let shown = String::from_utf8(vfio_mig(&args)?.stdout)?;
    ensure!(site.vfs()?.is_empty(), "--dry-run has made VFs");
    let done = site.set_up()?;
    let steps = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    ensure!(steps(&shown) == steps(&done), "{shown}\n{done}");
    let vfs = site.vfs()?;
    ensure!(vfs.len() == 2, "{vfs:?}");
    for vf in &vfs {
        ensure!(sysfs::driver(*vf)? == OURS, "{vf}");
        ensure!(done.contains(&format!("# {vf}  {OURS}")), "{done}");
    }
    ensure!(site.number("sriov_drivers_autoprobe")? == 1);
    // The same again has nothing to do.
    let again = site.set_up()?;
    ensure!(
        !steps(&again).iter().any(|step| step.contains(OURS)),
        "{again}"
    );
    Ok(())
}

fn good_doctor(site: &Site) -> Result<()> {
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

fn two_hosts(site: &Site) -> Result<()> {
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

/// All experiments of the tool work on the emulated adapter, and leave the VFs running.
fn experiments(site: &Site) -> Result<()> {
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
    fails(&["hwtest", names[0], names[0], "--yes"], 1)?;
    Ok(())
}

/// Nobody loses a VF that is open.
fn in_use(site: &Site) -> Result<()> {
    let pf = site.pf();
    let vfs = site.vfs()?;
    let vf = vfs[0].to_string();
    let device = Device::open(vfs[0])?;
    let words = format!("{vf}: in use by ");
    refuses(
        site,
        &["bind", &vf, "--driver", "mlx5_vfio_pci", "--force"],
        &words,
    )?;
    refuses(site, &["unbind", &vfs[1].to_string(), &vf], &words)?;
    refuses(site, &["setup", &pf, "--undo", "--force"], &words)?;
    refuses(site, &["hwtest", &vf, "--yes"], &words)?;
    refuses(
        site,
        &["setup", &pf, "--vfs", "1", "--driver", OURS, "--force"],
        &words,
    )?;
    let (report, _) = doctor(&[&vf, "--open"])?;
    let text = report.to_string();
    ensure!(text.contains("in use by"), "{text}");
    // It was not opened, which would have failed.
    check(&report, &format!("{vf} migratable"), "warning")?;
    // The tool relies on this for users that /proc does not show.
    let group = format!("/dev/vfio/{}", sysfs::iommu_group(vfs[0])?);
    let open = || fs::File::options().read(true).write(true).open(&group);
    let err = open().err().context("the group of an open device opens")?;
    ensure!(err.raw_os_error() == Some(libc::EBUSY), "{err}");
    drop(device);
    open().context(group.clone())?;
    Ok(())
}

fn bind_and_unbind(site: &Site) -> Result<()> {
    let vf = site.vfs()?[1];
    let name = vf.to_string();
    for driver in [Driver::C, Driver::Rust] {
        let driver = driver.sysfs_name();
        let report = json(&["--json", "bind", &name, "--driver", driver])?;
        ensure!(report["vfs"][0]["driver"] == driver, "{report}");
        ensure!(sysfs::driver(vf)? == driver, "{report}");
    }
    let report = json(&["--json", "unbind", &name])?;
    // The host has its usual driver.
    ensure!(report["vfs"][0]["driver"] == "mlx5_core", "{report}");
    let naming = fs::read_to_string(sysfs::device_dir(vf).join("driver_override"))?;
    ensure!(naming.trim() == "(null)", "{naming}");
    refuses(site, &["unbind", &name], "there is nothing to undo")
}

/// The host uses a VF itself, with an address.
fn of_the_host(site: &Site) -> Result<()> {
    let vf = site.vfs()?[1];
    let name = vf.to_string();
    let interface = hca::interface(vf)?;
    let address = Ipv4Addr::new(10, 6, 0, 1);
    sys::set_address(&interface, address)?;
    let words = format!("{interface} has the address {address}; end that first, or say --force");
    refuses(site, &["bind", &name, "--driver", OURS], &words)?;
    refuses(site, &["setup", &site.pf(), "--undo"], &words)?;
    let (report, status) = doctor(&[&name])?;
    check(&report, &format!("{name} driver"), "missing")?;
    ensure!(status == Some(1), "{status:?}");
    let report = json(&["--json", "bind", &name, "--driver", OURS, "--force"])?;
    ensure!(sysfs::driver(vf)? == OURS, "{report}");
    Ok(())
}

/// A test: its name, and what it does.
type Test = (&'static str, fn(&Site) -> Result<()>);

/// Both drivers have the alias by which libvirt chooses, with as many wildcards: it cannot tell
/// which one is better.
fn aliases() -> Result<()> {
    for driver in Driver::BOTH {
        let module = fs::read(format!("/lib/modules/{}.ko", driver.sysfs_name()))?;
        if !module.windows(ALIAS.len()).any(|bytes| bytes == ALIAS) {
            bail!("{} has another alias", driver.sysfs_name());
        }
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let pf = Pf::find()?;
    pf.set_vfs(0)?;
    fs::write(pf.dir().join("sriov_drivers_autoprobe"), "1")?;
    let site = Site { pf: pf.address() };
    let tests: [Test; 11] = [
        ("the doctor misses VFs", without_vfs),
        ("wrong names", wrong_names),
        ("an e-switch without switchdev mode", no_switchdev),
        ("setup, as it was shown", set_up),
        ("the doctor misses nothing", good_doctor),
        ("two hosts", two_hosts),
        ("experiments", experiments),
        ("a VF that is open", in_use),
        ("bind, and unbind", bind_and_unbind),
        ("a VF that the host uses", of_the_host),
        ("setup --undo", Site::take_down),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&site));
    }
    results.test("both drivers are found by the same alias", |_| aliases());
    reasons::run(results, &pf);
    Ok(())
}

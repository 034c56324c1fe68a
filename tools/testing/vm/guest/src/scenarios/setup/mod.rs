// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig doctor`, `setup`, `bind` and `unbind`, for real: what they change, what the kernel
//! makes of it, and what they must not touch. And what our driver says of VFs that cannot be
//! migrated.

mod doctor;
mod experiments;
mod reasons;
mod usage;

use super::{
    tool::command::{
        fails,
        json,
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
        Driver,
        Pf, //
    },
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Result, //
};
use std::fs;
use vfio_mig::{
    bdf::Bdf,
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
    let (report, _) = doctor::doctor(&[&site.pf()])?;
    doctor::check(&report, &format!("{} e-switch", site.pf()), "warning")
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
    let bind = format!("not a VFIO driver; `vfio-mig bind {name}`");
    refuses(site, &["info", &name], &bind)?;
    refuses(site, &["unbind", &name], "there is nothing to undo")
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
    let tests: [Test; 13] = [
        ("the doctor misses VFs", doctor::without_vfs),
        ("the doctor misses autoprobe", doctor::autoprobe),
        ("wrong names", wrong_names),
        ("an e-switch without switchdev mode", no_switchdev),
        ("setup, as it was shown", set_up),
        ("the doctor misses nothing", doctor::good_doctor),
        ("two hosts", doctor::two_hosts),
        ("experiments", experiments::all),
        ("a VF that is open", usage::in_use),
        ("a VF that the kernel waits for", usage::waited_for),
        ("bind, and unbind", bind_and_unbind),
        ("a VF that the host uses", usage::of_the_host),
        ("setup --undo", Site::take_down),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&site));
    }
    results.test("both drivers are found by the same alias", |_| aliases());
    reasons::run(results, &pf);
    Ok(())
}

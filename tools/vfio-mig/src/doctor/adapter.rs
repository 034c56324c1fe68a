// SPDX-License-Identifier: GPL-2.0

//! A PF: its driver, its firmware, its e-switch and its VFs.

use super::{
    asking::Ask,
    function,
    report::{
        Adapter,
        Check, //
    },
    versions, //
};
use crate::{
    bdf::Bdf,
    host::{
        devlink::{
            EswitchMode,
            Info, //
        },
        netlink::Failure,
        pci_dir,
        Host, //
    },
};

/// What is looked at.
pub struct Scope {
    pf: Bdf,
    /// A VF, or else all.
    vf: Option<Bdf>,
}

impl Scope {
    /// A PF and its VFs.
    pub fn all(pf: Bdf) -> Self {
        Self { pf, vf: None }
    }

    /// A VF and its PF.
    pub fn of_vf(pf: Bdf, vf: Bdf) -> Self {
        Self { pf, vf: Some(vf) }
    }
}

/// Number of VFs that a ConnectX-7 PF can migrate at the same time, as Red Hat documents it.
const TRACKERS: usize = 4;

fn driver(host: &Host, pf: Bdf) -> Check {
    let name = format!("{pf} driver");
    match host.driver_of(pf).as_deref() {
        Some("mlx5_core") => Check::ok(name, "mlx5_core"),
        Some(other) => Check::missing(
            name,
            format!("{other}: only mlx5_core makes VFs that can be migrated"),
        )
        .run(format!("echo {pf} > /sys/bus/pci/drivers/{other}/unbind"))
        .run(format!("echo {pf} > /sys/bus/pci/drivers/mlx5_core/bind")),
        None => Check::missing(name, "none: without mlx5_core there are no VFs")
            .run("modprobe mlx5_core")
            .run(format!("echo {pf} > /sys/bus/pci/drivers_probe")),
    }
}

fn vfs(host: &Host, pf: Bdf) -> Check {
    let name = format!("{pf} VFs");
    let count = host.vfs(pf).len();
    match host.total_vfs(pf) {
        None => Check::missing(name, "firmware offers none")
            .run(format!(
                "mstconfig -d {pf} set SRIOV_EN=1 NUM_OF_VFS=8 VF_MIGRATION_MODE=2"
            ))
            .say("it takes a reboot after that"),
        Some(most) if count == 0 => Check::missing(name, format!("0 of {most}"))
            .run(format!("vfio-mig setup {pf} --vfs 2 --switchdev")),
        Some(most) if count > TRACKERS => {
            let found = format!(
                "{count} of {most}: firmware can track the pages of a few VFs at a time, of \
                 {TRACKERS} if it is a ConnectX-7"
            );
            let advice = "a migration of more VFs than that at the same time fails (ENOMEM)";
            Check::warning(name, found).say(advice)
        }
        Some(most) => Check::ok(name, format!("{count} of {most}")),
    }
}

/// Whether new VFs get a driver. `vfio-mig setup` turns that off for a while, as do administrators.
fn autoprobe(host: &Host, pf: Bdf) -> Check {
    let name = format!("{pf} autoprobe");
    match host.autoprobe(pf) {
        true => Check::ok(name, "on: new VFs get the driver that matches them"),
        false => Check::warning(name, "off: new VFs get no driver (sriov_drivers_autoprobe)")
            .say("that stays behind if `vfio-mig setup` was killed; unless it is wanted:")
            .run(format!(
                "echo 1 > {}",
                pci_dir(pf).join("sriov_drivers_autoprobe").display()
            )),
    }
}

fn firmware(pf: Bdf, info: &Result<Info, Failure>) -> Check {
    let name = format!("{pf} firmware");
    let unknown = |why: String| {
        Check::warning(name.clone(), format!("unknown: {why}"))
            .run(format!("mstflint -d {pf} query"))
    };
    let info = match info {
        Ok(info) => info,
        Err(err) => return unknown(format!("devlink says {err}")),
    };
    let Some(firmware) = &info.firmware else {
        return unknown("devlink does not tell".to_string());
    };
    let psid = info.psid.as_deref().unwrap_or("unknown");
    let found = format!("{firmware}, PSID {psid}");
    let Some(version) = versions::find(firmware) else {
        return Check::warning(name, found);
    };
    let least = versions::FIRMWARE
        .iter()
        .find(|least| least[0] == version.major());
    match least {
        Some(least) if version.is_at_least(least) => Check::ok(name, found),
        Some(least) => {
            let found = format!("{found}: too old to migrate VFs");
            let least = versions::shown(least);
            Check::missing(name, found).say(format!("install firmware {least}, on both hosts"))
        }
        None => {
            let known = versions::FIRMWARE
                .iter()
                .map(|least| versions::shown(least));
            let known = known.collect::<Vec<_>>().join(" and ");
            let found = format!("{found}: not of those that are known to migrate VFs");
            Check::warning(name, found).say(format!("NVIDIA documents {known}, and later ones"))
        }
    }
}

fn eswitch(pf: Bdf, mode: &Result<EswitchMode, Failure>) -> Check {
    let name = format!("{pf} e-switch");
    match mode {
        Ok(EswitchMode::Switchdev) => Check::ok(name, "switchdev"),
        Ok(mode) => Check::warning(
            name,
            format!("{mode}: only in switchdev mode can VFs be made migratable"),
        )
        .run(format!("devlink dev eswitch set pci/{pf} mode switchdev")),
        Err(err) => Check::warning(name, format!("unknown: devlink says {err}"))
            .run(format!("devlink dev eswitch show pci/{pf}")),
    }
}

/// Looks at a PF, and at its VFs.
pub fn examine(host: &Host, scope: &Scope, ask: Option<&Ask>, checks: &mut Vec<Check>) -> Adapter {
    let pf = scope.pf;
    let info = host.devlink().info(pf);
    let mode = host.devlink().eswitch_mode(pf);
    checks.extend([
        driver(host, pf),
        vfs(host, pf),
        autoprobe(host, pf),
        firmware(pf, &info),
        eswitch(pf, &mode),
    ]);
    let ports = host.devlink().vf_ports(pf).unwrap_or_default();
    let mut functions = Vec::new();
    for (number, vf) in host.vfs(pf).into_iter().enumerate() {
        if scope.vf.is_some_and(|only| only != vf) {
            continue;
        }
        let port = ports.iter().find(|port| port.vf as usize == number);
        functions.push(function::examine(host, vf, port, ask, checks));
    }
    let info = info.unwrap_or_default();
    Adapter {
        pf: pf.to_string(),
        device: host.read(pci_dir(pf).join("device")),
        psid: info.psid,
        firmware: info.firmware,
        vfs: functions,
    }
}

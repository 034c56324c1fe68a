// SPDX-License-Identifier: GPL-2.0

//! A VF: whether it can be migrated, who has it, and what shares its IOMMU group.

use super::{
    asking::{
        Answer,
        Ask, //
    },
    report::{
        Check,
        Function, //
    },
};
use crate::{
    bdf::Bdf,
    host::{
        devlink::VfPort,
        pci_dir,
        sriov::VARIANTS,
        Host, //
    },
};

fn driver(host: &Host, vf: Bdf, driver: Option<&str>) -> Check {
    let name = format!("{vf} driver");
    let bind = format!("vfio-mig bind {vf}");
    match driver {
        None => Check::missing(name, "none").run(bind),
        Some(driver) if VARIANTS.contains(&driver) => match host.user_of(vf) {
            Some(by) => Check::ok(name, format!("{driver}, in use by {by}")),
            None => Check::ok(name, driver),
        },
        Some("vfio-pci") => Check::missing(name, "vfio-pci, which cannot migrate").run(bind),
        Some(driver) => {
            let check = Check::missing(name, format!("{driver}: the host uses the VF itself"));
            match host.network_use_of(vf) {
                None => check.run(bind),
                Some(what) => check.say(format!("{what}; end that first")).run(bind),
            }
        }
    }
}

/// Whether the VF can be migrated: what its driver says, or else what devlink says.
fn migratable(host: &Host, vf: Bdf, port: Option<&VfPort>, answer: Option<&Answer>) -> Check {
    let name = format!("{vf} migratable");
    let pf = host.pf_of(vf).map_or("PF".to_string(), |pf| pf.to_string());
    let [unbind, bind] = ["unbind", "bind"].map(|command| format!("vfio-mig {command} {vf}"));
    match (answer, port.map(|port| (port.index, port.migratable))) {
        (Some(Answer::Migratable { features, logs }), _) => {
            let features = features.join(", ");
            match logs {
                true => Check::ok(name, format!("yes: {features}, logs pages")),
                false => {
                    let found = format!("yes: {features}, but it cannot log pages");
                    Check::warning(name, found)
                        .say("firmware without page tracking needs an update")
                }
            }
        }
        (_, Some((index, Some(false)))) => {
            let check = Check::missing(name, "no: devlink says that this is disabled");
            let enable = format!("devlink port function set pci/{pf}/{index} migratable enable");
            match host.driver_of(vf) {
                // It can only be changed without a driver.
                Some(_) => check.run(unbind).run(enable).run(bind),
                None => check.run(enable),
            }
        }
        (_, Some((_, None))) => Check::missing(name, "no: firmware does not offer migration")
            .run(format!("mstconfig -d {pf} set VF_MIGRATION_MODE=2"))
            .say("it takes a reboot after that; if it does not help, update the firmware"),
        (Some(Answer::NotMigratable), Some((_, Some(true)))) => {
            Check::missing(name, "no: the driver was bound before it was enabled")
                .run(unbind)
                .run(bind)
        }
        (Some(Answer::NotMigratable), None) => {
            Check::missing(name, "no, says the driver; the kernel's log has the reason")
                .run(format!("dmesg | grep {vf}"))
        }
        (None, Some((_, Some(true)))) => Check::ok(name, "yes, says devlink"),
        (None, None) => {
            let found = "unknown: outside of switchdev mode, only the driver can tell";
            let advice = "with --open, the doctor asks the driver, which resets the VF";
            Check::warning(name, found).say(advice)
        }
    }
}

/// Whether VFIO can have the VF: everything in its IOMMU group must be of VFIO.
fn group(host: &Host, vf: Bdf) -> Check {
    let name = format!("{vf} group");
    let Some(group) = host.iommu_group_of(vf) else {
        return Check::missing(name, "none: the IOMMU is off, or not for this VF");
    };
    let others: Vec<String> = host
        .names(format!("/sys/kernel/iommu_groups/{group}/devices"))
        .into_iter()
        .filter(|other| *other != vf.to_string())
        .filter(|other| {
            let other = other.parse::<Bdf>().ok();
            other.is_some_and(|other| {
                host.driver_of(other).is_some() && !host.exists(pci_dir(other).join("vfio-dev"))
            })
        })
        .collect();
    match others.is_empty() {
        true => Check::ok(name, group),
        false => {
            let others = others.join(", ");
            let found = format!("{group}, with devices that the host uses: {others}");
            Check::missing(name, found)
                .say("use a slot, or a firmware setting, with which the VF is alone (ACS)")
        }
    }
}

/// Looks at a VF.
pub fn examine(
    host: &Host,
    vf: Bdf,
    port: Option<&VfPort>,
    ask: Option<&Ask>,
    checks: &mut Vec<Check>,
) -> Function {
    let bound = host.driver_of(vf);
    let is_variant = bound
        .as_deref()
        .is_some_and(|driver| VARIANTS.contains(&driver));
    let may_ask = is_variant && host.user_of(vf).is_none();
    let mut not_asked = None;
    let answer = ask.filter(|_| may_ask).and_then(|ask| match ask(vf) {
        Ok(answer) => Some(answer),
        Err(err) => {
            not_asked = Some(err);
            None
        }
    });
    checks.push(driver(host, vf, bound.as_deref()));
    let check = migratable(host, vf, port, answer.as_ref());
    checks.push(match not_asked {
        Some(err) => check.say(format!("the driver could not be asked: {err}")),
        None => check,
    });
    checks.push(group(host, vf));
    Function {
        vf: vf.to_string(),
        driver: bound,
        migratable: match (&answer, port.and_then(|port| port.migratable)) {
            (Some(Answer::Migratable { .. }), _) => Some(true),
            (Some(Answer::NotMigratable), _) => Some(false),
            (None, by_devlink) => by_devlink,
        },
        msix_vectors: host.msix_vectors(vf),
    }
}

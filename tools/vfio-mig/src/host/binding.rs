// SPDX-License-Identifier: GPL-2.0

//! Which driver has a VF.

use super::{
    driver_dir,
    plan::{
        Change,
        Plan, //
    },
    problem::Problem,
    sriov::{
        Kind,
        VARIANTS, //
    },
    usage::Force,
    Host, //
};
use crate::{
    address::Address,
    bdf::Bdf,
    error::Error, //
};

/// Has the PCI core look for the driver of a function.
const PROBE: &str = "/sys/bus/pci/drivers_probe";

/// The drivers that can migrate and are loaded.
fn loaded_variants(host: &Host) -> Vec<&'static str> {
    let all = VARIANTS.into_iter();
    all.filter(|driver| host.has_driver(driver)).collect()
}

/// The driver that VFs are to have: the one that was named, if it is one of VFIO's, or else the only
/// loaded one that can migrate. Which of two is better, only the administrator knows.
pub fn choose_driver(host: &Host, named: Option<&str>) -> Result<String, Problem> {
    let variants = loaded_variants(host);
    if let Some(driver) = named {
        let is_name = !driver.is_empty() && !driver.starts_with('.') && !driver.contains('/');
        let driver = driver.to_string();
        return match is_name && host.has_driver(&driver) {
            true if host.is_vfio_driver(&driver) => Ok(driver),
            true => Err(Problem::NotOfVfio {
                driver,
                vfio: host.vfio_drivers(),
            }),
            false => Err(Problem::NoDriver { driver, variants }),
        };
    }
    match variants[..] {
        [] => Err(Problem::NoVariant),
        [driver] => Ok(driver.to_string()),
        _ => Err(Problem::BothVariants),
    }
}

/// Fails if a function is no VF of a ConnectX.
pub fn require_vf(host: &Host, function: Bdf) -> Result<(), Problem> {
    match host.connectx(function)? {
        Kind::Vf(_) => Ok(()),
        Kind::Pf => Err(Problem::NotAVf {
            function,
            vfs: host.vfs(function),
        }),
    }
}

/// The command that gives a device to a driver that can migrate it, if it is a VF of a ConnectX.
pub fn command(host: &Host, device: Address) -> Option<String> {
    let Address::Pci(vf) = device else {
        return None;
    };
    let is_vf = require_vf(host, vf).is_ok();
    is_vf.then(|| format!("`vfio-mig bind {vf}` gives it to one that can migrate it"))
}

/// Has a VF name the only driver for it, or none.
fn set_override(plan: &mut Plan<'_>, vf: Bdf, driver: Option<&str>) -> Result<(), Error> {
    let change =
        |name: Option<&str>| Change::of_function(vf, "driver_override", name.unwrap_or_default());
    let before = plan.host.override_of(vf);
    match before.as_deref() == driver {
        true => Ok(()),
        false => plan.change(&change(driver), Some(change(before.as_deref()))),
    }
}

/// Fails if the driver has not taken a VF, or is not one for VFIO.
fn check_taken(host: &Host, vf: Bdf, driver: &str) -> Result<(), Problem> {
    let now = host.driver_of(vf);
    if now.as_deref() != Some(driver) {
        return Err(Problem::NotTaken {
            vf,
            driver: driver.to_string(),
            now,
            group: host.iommu_group_of(vf).is_some(),
        });
    }
    match host.is_vfio(vf) {
        true => Ok(()),
        false => Err(Problem::NotVfio {
            vf,
            driver: driver.to_string(),
            variants: loaded_variants(host),
        }),
    }
}

/// Gives a VF to a driver, by way of its `driver_override`. The caller has checked that the VF is
/// free.
pub(super) fn give(plan: &mut Plan<'_>, vf: Bdf, driver: &str) -> Result<(), Error> {
    let is_bound = plan.driver_of(vf).as_deref() == Some(driver);
    if !is_bound {
        plan.release(vf)?;
    }
    set_override(plan, vf, Some(driver))?;
    if is_bound {
        return Ok(check_taken(plan.host, vf, driver)?);
    }
    plan.change(&Change::write(PROBE, vf), None)?;
    if plan.only_shows() {
        return Ok(());
    }
    if let Some(now) = plan.host.driver_of(vf) {
        plan.undo_later(Change::write(driver_dir(&now).join("unbind"), vf));
    }
    Ok(check_taken(plan.host, vf, driver)?)
}

/// Keeps other processes of the tool from changing VFs. Fails if one is no VF of a ConnectX.
fn lock(plan: &mut Plan<'_>, vfs: &[Bdf]) -> Result<(), Error> {
    let host = plan.host;
    vfs.iter().try_for_each(|vf| require_vf(host, *vf))?;
    plan.lock(vfs.iter().filter_map(|vf| host.pf_of(*vf)).collect())
}

/// Gives VFs to a driver. Nothing is changed if one of them is used, or is no VF.
pub fn bind(plan: &mut Plan<'_>, vfs: &[Bdf], driver: &str, force: Force) -> Result<(), Error> {
    lock(plan, vfs)?;
    for vf in vfs {
        if plan.host.driver_of(*vf).as_deref() != Some(driver) {
            plan.check_free(*vf, force)?;
        }
    }
    if VARIANTS.contains(&driver) {
        say_what_cannot_migrate(plan, vfs)?;
    }
    vfs.iter().try_for_each(|vf| give(plan, *vf, driver))
}

/// Says which VFs are not migratable: the driver takes them nevertheless, and it is too late then.
fn say_what_cannot_migrate(plan: &mut Plan<'_>, vfs: &[Bdf]) -> Result<(), Error> {
    let host = plan.host;
    for vf in vfs {
        let Some((pf, number)) = host.pf_of(*vf).zip(host.vf_number(*vf)) else {
            continue;
        };
        let ports = host.devlink().vf_ports(pf).unwrap_or_default();
        let port = ports.iter().find(|port| port.vf as usize == number);
        if port.and_then(|port| port.migratable) == Some(false) {
            plan.note(&format!(
                "{vf} is not migratable, and with a driver, it cannot be made so: \
                 `vfio-mig doctor {vf}` has the commands"
            ))?;
        }
    }
    Ok(())
}

/// Takes VFs from their VFIO driver, and lets the kernel do with them what it does without
/// `driver_override`.
pub fn unbind(plan: &mut Plan<'_>, vfs: &[Bdf]) -> Result<(), Error> {
    lock(plan, vfs)?;
    for vf in vfs {
        let driver = plan.host.driver_of(*vf);
        let is_vfio = plan.host.is_vfio(*vf);
        if !is_vfio && (driver.is_some() || plan.host.override_of(*vf).is_none()) {
            return Err(Problem::NothingToUndo { vf: *vf, driver }.into());
        }
        plan.check_free(*vf, Force::No)?;
    }
    for vf in vfs {
        plan.release(*vf)?;
        set_override(plan, *vf, None)?;
        // The kernel would do nothing.
        if plan
            .host
            .pf_of(*vf)
            .is_some_and(|pf| plan.host.autoprobe(pf))
        {
            plan.change(&Change::write(PROBE, vf), None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: GPL-2.0

//! Makes the VFs of a PF, and gives them to a driver that can migrate them.

use super::{
    binding::{
        choose_driver,
        give, //
    },
    devlink::EswitchMode,
    plan::{
        Change,
        Plan, //
    },
    problem::Problem,
    sriov::Kind,
    usage::Force,
    Host, //
};
use crate::{
    bdf::Bdf,
    error::Error, //
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Number of VFs.
    pub vfs: u16,
    /// Whether the e-switch is to be in switchdev mode, in which VFs can be made migratable.
    pub switchdev: bool,
    /// The driver of the VFs, or whichever is loaded.
    pub driver: Option<&'a str>,
    /// Whether network configuration may be lost.
    pub force: Force,
}

/// Fails if a function is no PF.
pub fn require_pf(host: &Host, function: Bdf) -> Result<(), Problem> {
    match host.connectx(function)? {
        Kind::Pf => Ok(()),
        Kind::Vf(pf) => Err(Problem::NotAPf { vf: function, pf }),
    }
}

/// Fails if the PF cannot have this many VFs.
fn check_pf(host: &Host, pf: Bdf, wanted: u16) -> Result<(), Problem> {
    let driver = host.driver_of(pf);
    if driver.as_deref() != Some("mlx5_core") {
        return Err(Problem::NotMlx5Core { pf, driver });
    }
    let most = host.total_vfs(pf).ok_or(Problem::NoVfs(pf))?;
    match wanted > most {
        true => Err(Problem::TooManyVfs { pf, wanted, most }),
        false => Ok(()),
    }
}

/// The mode of a PF's e-switch.
fn eswitch_mode(host: &Host, pf: Bdf) -> Result<EswitchMode, Problem> {
    let command = format!("devlink dev eswitch show pci/{pf}");
    let mode = host.devlink().eswitch_mode(pf);
    mode.map_err(|source| Problem::step(command, source))
}

/// Changes the number of VFs: by way of 0, since the kernel does not change it otherwise.
fn set_number(plan: &mut Plan<'_>, pf: Bdf, from: usize, to: u16) -> Result<(), Error> {
    let change = |number: usize| Change::of_function(pf, "sriov_numvfs", number);
    if from != 0 {
        plan.change(&change(0), Some(change(from)))?;
    }
    match to {
        0 => Ok(()),
        to => plan.change(&change(to.into()), Some(change(0))),
    }
}

/// Says what undoing does not bring back, before the VFs of a PF are removed.
fn say_what_is_lost(plan: &mut Plan<'_>, pf: Bdf, vfs: usize) -> Result<(), Error> {
    plan.note(&format!(
        "the VFs of {pf} are removed: if a later step fails, {vfs} are made again, without the \
         drivers, driver_override, migratable, MAC and VLAN that they had"
    ))
}

/// The VFs as they are, or as they will be. Fails if there is another number of them: a PF may
/// have been taken out of its slot.
fn vfs(plan: &mut Plan<'_>, pf: Bdf, wanted: u16) -> Result<Vec<Bdf>, Error> {
    let host = plan.host;
    let there = host.vfs(pf);
    if there.len() == usize::from(wanted) {
        return Ok(there);
    }
    if !plan.only_shows() {
        return Err(Problem::OtherNumber {
            pf,
            wanted,
            there: there.len(),
        }
        .into());
    }
    let future: Vec<Bdf> = (0..wanted)
        .filter_map(|vf| host.future_vf(pf, vf))
        .collect();
    let unknown = usize::from(wanted) - future.len();
    if unknown > 0 {
        plan.note(&format!(
            "{unknown} of the {wanted} VFs are left out of what follows: sriov_offset and \
             sriov_stride of {pf} do not tell their addresses"
        ))?;
    }
    Ok(future)
}

/// Makes each VF migratable that is not. VFs must have no driver while that is done.
fn set_migratable(plan: &mut Plan<'_>, pf: Bdf, vfs: &[Bdf]) -> Result<(), Error> {
    let ports = plan.host.devlink().vf_ports(pf).unwrap_or_default();
    for (number, vf) in vfs.iter().enumerate() {
        let port = ports.iter().find(|port| port.vf as usize == number);
        if port.and_then(|port| port.migratable) == Some(true) {
            continue;
        }
        plan.release(*vf)?;
        let change = |enable| Change::Migratable { pf, number, enable };
        plan.change(&change(true), Some(change(false)))?;
    }
    Ok(())
}

/// Makes the VFs, migratable if the e-switch lets them, and gives them to the driver. Returns
/// them.
pub fn setup(plan: &mut Plan<'_>, pf: Bdf, wanted: &Wanted<'_>) -> Result<Vec<Bdf>, Error> {
    let host = plan.host;
    require_pf(host, pf)?;
    plan.lock(vec![pf])?;
    check_pf(host, pf, wanted.vfs)?;
    let driver = choose_driver(host, wanted.driver)?;
    let there = host.vfs(pf);
    for vf in &there {
        plan.check_free(*vf, wanted.force)?;
    }
    let renumbers = there.len() != usize::from(wanted.vfs);
    if renumbers && !there.is_empty() {
        host.check_representors(pf, wanted.force)?;
    }
    let mode = eswitch_mode(host, pf);
    let switches = match (&mode, wanted.switchdev) {
        (_, false) => false,
        (Ok(mode), true) => *mode != EswitchMode::Switchdev,
        (Err(_), true) => return Err(mode.map(drop).unwrap_err().into()),
    };
    if switches {
        // The PF's interface is set up anew.
        plan.check_free(pf, wanted.force)?;
    }
    // No other driver takes a VF that has just been made.
    let autoprobe = |on: u8| Change::of_function(pf, "sriov_drivers_autoprobe", on);
    let probes = host.autoprobe(pf);
    if probes {
        plan.change(&autoprobe(0), Some(autoprobe(1)))?;
    }
    if renumbers {
        if !there.is_empty() {
            say_what_is_lost(plan, pf, there.len())?;
        }
        set_number(plan, pf, there.len(), wanted.vfs)?;
    }
    if switches {
        let change = |mode| Change::Eswitch(pf, mode);
        let back = change(mode.unwrap_or(EswitchMode::Legacy));
        plan.change(&change(EswitchMode::Switchdev), Some(back))?;
    }
    let vfs = vfs(plan, pf, wanted.vfs)?;
    if wanted.switchdev || matches!(eswitch_mode(host, pf), Ok(EswitchMode::Switchdev)) {
        set_migratable(plan, pf, &vfs)?;
    }
    for vf in &vfs {
        give(plan, *vf, &driver)?;
    }
    if probes {
        plan.change(&autoprobe(1), None)?;
    }
    Ok(vfs)
}

/// Removes all VFs of a PF, and with `legacy`, takes its e-switch back to that mode.
pub fn undo(plan: &mut Plan<'_>, pf: Bdf, legacy: bool, force: Force) -> Result<(), Error> {
    let host = plan.host;
    require_pf(host, pf)?;
    plan.lock(vec![pf])?;
    let there = host.vfs(pf);
    for vf in &there {
        plan.check_free(*vf, force)?;
    }
    if !there.is_empty() {
        host.check_representors(pf, force)?;
    }
    let mode = match legacy {
        true => eswitch_mode(host, pf)?,
        false => EswitchMode::Legacy,
    };
    if mode != EswitchMode::Legacy {
        plan.check_free(pf, force)?;
    }
    if !there.is_empty() {
        if mode != EswitchMode::Legacy {
            say_what_is_lost(plan, pf, there.len())?;
        }
        set_number(plan, pf, there.len(), 0)?;
    }
    if mode != EswitchMode::Legacy {
        let change = |mode| Change::Eswitch(pf, mode);
        plan.change(&change(EswitchMode::Legacy), Some(change(mode)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

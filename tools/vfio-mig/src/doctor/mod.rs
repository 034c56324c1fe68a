// SPDX-License-Identifier: GPL-2.0

//! Whether a host can migrate ConnectX VFs, and what to do about what is missing.
//!
//! [`examine`] only looks, at sysfs, `/proc` and devlink. No device is opened, unless the caller
//! asks for that: opening a VF resets it.

pub mod adapter;
pub mod asking;
pub mod compare;
mod config;
mod function;
mod modules;
mod programs;
pub mod report;
mod system;
mod versions;

#[cfg(test)]
mod tests;

use crate::{
    bdf::Bdf,
    host::{
        problem::Problem,
        sriov::Kind,
        Host, //
    },
};
use adapter::Scope;
use asking::Ask;
use report::{
    Check,
    Report, //
};

/// The kernel has found no adapter, so lspci would list none, either.
fn no_adapter() -> Check {
    let found = "no ConnectX was found: PCI has no network function of the vendor 15b3";
    Check::missing("adapter", found)
        .say("if this is a VM, run the doctor on its host")
        .say(
            "check that the adapter is seated in its slot, and that the settings of the host's \
             firmware have not turned the slot off; what the kernel says of its slots:",
        )
        .run("dmesg | grep -i -e pcieport -e 15b3")
}

/// Examines a host: one PF with its VFs, one VF with its PF, or else all PFs.
pub fn examine(host: &Host, function: Option<Bdf>, ask: Option<&Ask>) -> Result<Report, Problem> {
    let scopes: Vec<Scope> = match function {
        None => host.connectx_pfs().into_iter().map(Scope::all).collect(),
        Some(function) => match host.connectx(function)? {
            Kind::Pf => vec![Scope::all(function)],
            Kind::Vf(pf) => vec![Scope::of_vf(pf, function)],
        },
    };
    let config = config::Config::of(host);
    let mut checks = vec![system::kernel(host), system::configuration(&config)];
    checks.push(system::iommu(host));
    checks.extend(modules::all(host, &config));
    checks.push(system::dirty_tracking(host, &config));
    checks.push(system::locked_memory(host));
    checks.extend(programs::all(host));
    if scopes.is_empty() {
        checks.push(no_adapter());
    }
    let mut adapters = Vec::new();
    for scope in scopes {
        adapters.push(adapter::examine(host, &scope, ask, &mut checks));
    }
    Ok(Report::new(host, checks, adapters))
}

// SPDX-License-Identifier: GPL-2.0

//! QEMU migrates a guest whose device fails.
//!
//! After each fault the guest must run in one QEMU, know what it knew before, and migrate.

mod outcome;

use super::{
    qemu::{
        prepare,
        GuestVfs, //
    },
    NamedRun, //
};
use crate::{
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    qemu::{
        faults::{
            Trials,
            ALL, //
        },
        Access,
        Common,
        Config,
        Guest,
        Program, //
    },
    sys,
    tap::Results, //
};
use anyhow::Result;
use outcome::{
    judge,
    run_fault, //
};
use serde_json::json;
use vfio_mig::precopy::InfoVersion;
use vm_common::{
    faults::{
        Expected,
        Fault as Entry, //
    },
    names, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("qemu-fault", run), ("qemu-faults", run_suite)];

/// Drivers, and how QEMU gets at their VFs, in the order in which they are tested.
const DRIVERS: [Driver; 2] = [Driver::Rust, Driver::C];
const ACCESS: [Access; 2] = [Access::Iommufd, Access::Container];

/// What lockdep says, once, of the C driver: it copies to and from user memory with locks
/// that it also takes under others.
const C_LOCKING: &str = "possible circular locking dependency detected";

/// The title of a fault's test.
fn title(driver: Driver, access: Access, name: &str) -> String {
    format!("{} driver, {}: {name}", driver.name(), access.name())
}

/// The titles that `only` chooses, all as parameters of the kernel: those of the fault
/// with this name, the one with this title, or else all that have it in them.
fn chosen(only: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (driver, access) in DRIVERS.iter().flat_map(|d| ACCESS.map(|a| (*d, a))) {
        let title = |name| names::parameter(&title(driver, access, name));
        all.extend(
            ALL.iter()
                .map(|(name, _)| (names::parameter(name), title(name))),
        );
    }
    let of_fault = |(name, _): &(String, String)| name == only;
    if all.iter().any(of_fault) {
        all.retain(of_fault);
        return all.into_iter().map(|(_, title)| title).collect();
    }
    names::chosen(all.into_iter().map(|(_, title)| title), Some(only))
}

/// Runs some of the faults with a driver.
fn run_all(
    results: &mut Results,
    (common, vfs): (&Common, &GuestVfs),
    (driver, access): (Driver, Access),
    wanted: &dyn Fn(&Entry, &str) -> bool,
) {
    let config = Config {
        driver,
        access,
        // The C driver has no tracepoints.
        traced: false,
        info: InfoVersion::V2,
        program: Program::Work,
        cpus: 1,
    };
    let mut guest = None;
    let trials = Trials {
        skipped: |results: &mut Results, entry: &Entry, why: &str| {
            results.json(&json!({
                "driver": driver.name(),
                "access": access.name(),
                "fault": entry.name,
                "migration": "not run",
                "expected": entry.expected.name(),
                "why": why,
            }));
        },
        attempt: |results: &mut Results, entry: &Entry, fail| {
            if driver == Driver::C {
                kmsg::expect(C_LOCKING);
            }
            let mut here = match guest.take() {
                Some(guest) => guest,
                None => Guest::boot(results, common, config, vfs.take(1))?,
            };
            let outcome = run_fault(results, &mut here, driver, entry, fail);
            if entry.expected == Expected::VfRemoved {
                drop(here);
                vfs.restore(results, driver)?;
            } else if outcome.as_ref().is_ok_and(|seen| seen.again.is_ok()) {
                // The next test needs a guest that can migrate.
                guest = Some(here);
            }
            judge(results, config, entry, outcome?)
        },
    };
    let title = |name: &str| title(driver, access, name);
    trials.run(results, driver, title, wanted);
}

/// One fault of each side.
pub fn run(results: &mut Results) -> Result<()> {
    let Some((common, vfs)) = prepare(results)? else {
        return Ok(());
    };
    vfs.bind(results, Driver::Rust)?;
    let these = (Driver::Rust, Access::Iommufd);
    run_all(results, (&common, &vfs), these, &|entry, _| entry.quick);
    Ok(())
}

/// All faults, or those that `vmtest.only=` chooses.
pub fn run_suite(results: &mut Results) -> Result<()> {
    let Some((common, vfs)) = prepare(results)? else {
        return Ok(());
    };
    let chosen = chosen(&sys::kernel_parameter("vmtest.only")?.unwrap_or_default());
    for driver in DRIVERS {
        vfs.bind(results, driver)?;
        for access in ACCESS {
            let wanted = |_: &Entry, title: &str| chosen.contains(&names::parameter(title));
            run_all(results, (&common, &vfs), (driver, access), &wanted);
        }
        // What may be in use by firmware yet stays until then.
        Pf::find()?.reload()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_can_be_had_alone() {
        let each = DRIVERS.len() * ACCESS.len();
        for (name, _) in ALL {
            let titles = chosen(&names::parameter(name));
            assert_eq!(titles.len(), each, "{titles:?}");
            let one = names::parameter(&title(Driver::C, Access::Container, name));
            assert!(titles.contains(&one));
            assert_eq!(chosen(&one), [one]);
        }
        assert_eq!(chosen("").len(), each * ALL.len());
        assert_eq!(chosen("c-driver,").len(), each / 2 * ALL.len());
    }
}

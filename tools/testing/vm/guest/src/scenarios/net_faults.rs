// SPDX-License-Identifier: GPL-2.0

//! QEMU migrates a guest that streams, and a device fails: its own, or that of the HCA which it
//! is to go to. The faults are those of `qemu-faults` that the table says so of.
//!
//! After each, the guest must stream on where the table says, and migrate. If QEMU has reset its
//! VF, the guest's driver does not know: nothing comes from the guest until the VF tells the
//! driver, which then begins anew, and the streams go on.

use super::{
    net::{
        Case,
        Network,
        Trial,
        USUAL, //
    },
    NamedRun, //
};
use crate::{
    hca::Driver,
    net::{
        guest::DONE,
        Change, //
    },
    qemu::faults::{
        self,
        Fail,
        Trials, //
    },
    tap::Results, //
};
use anyhow::{
    Context,
    Result, //
};
use vm_common::faults::Fault as Entry;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("net-faults", run)];

const CASE: Case = Case {
    name: "a device that fails",
    ..USUAL
};

/// Migrates a guest whose device fails. The migration must end as the table says.
fn fail_and_check(
    trial: &mut Trial<'_>,
    results: &mut Results,
    driver: Driver,
    (entry, fail): (&Entry, Fail),
) -> Result<()> {
    let end = faults::fail(results, &mut trial.guest, driver, entry, fail)?.end;
    end.check(driver, entry)
}

/// The same where QEMU resets the VF.
fn fail_and_reset(
    trial: &mut Trial<'_>,
    results: &mut Results,
    driver: Driver,
    (entry, fail): (&Entry, Fail),
) -> Result<()> {
    trial.guest.ask(results, Change::Hold.order(), DONE)?;
    fail_and_check(trial, results, driver, (entry, fail))?;
    trial.expect_silence(results)?;
    trial.guest.tell_of_reset()?;
    trial.guest.ask(results, Change::Renewed.order(), DONE)?;
    trial.wait_for_stream()
}

/// Has a device fail, and migrates the guest after that.
fn run_fault(
    trial: &mut Trial<'_>,
    results: &mut Results,
    driver: Driver,
    (entry, fail): (&Entry, Fail),
) -> Result<()> {
    let resets = faults::resets(driver, entry);
    trial.provoke(|trial| match resets {
        0 => fail_and_check(trial, results, driver, (entry, fail)),
        _ => fail_and_reset(trial, results, driver, (entry, fail)),
    })?;
    trial.stream(results)?;
    trial.migrate(results).context("the second migration")
}

/// All faults with a driver. A guest has one after another: if one fails, the next has a new
/// guest.
fn run_driver(results: &mut Results, network: &Network, driver: Driver) {
    let prefix = format!("{} driver", driver.name());
    let mut guest = None;
    let trials = Trials {
        skipped: |_: &mut Results, _: &Entry, _: &str| (),
        attempt: |results: &mut Results, entry: &Entry, fail| {
            let mut trial = match guest.take() {
                Some(trial) => trial,
                None => Trial::start(results, network, driver, &CASE)?,
            };
            run_fault(&mut trial, results, driver, (entry, fail))?;
            guest = Some(trial);
            Ok(())
        },
    };
    let title = |name: &str| format!("{prefix}: {name}");
    trials.run(results, driver, title, |entry, _| entry.streams);
    results.test(&format!("{prefix}: nothing is lost or wrong"), |results| {
        let trial = guest.take().context("there is no guest")?;
        trial.conclude(results, driver, &CASE)
    });
}

fn run(results: &mut Results) -> Result<()> {
    let network = Network::new()?;
    for driver in [Driver::Rust, Driver::C] {
        run_driver(results, &network, driver);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::faults::{
        self as table,
        OfC, //
    };

    #[test]
    fn both_kinds_of_faults_are_tried_with_each_driver() {
        for resets in [0, 1] {
            let of = |driver| {
                table::ALL.iter().any(|entry| {
                    let survived = driver == Driver::Rust || !matches!(entry.c, OfC::NotRun(_));
                    entry.streams && survived && faults::resets(driver, entry) == resets
                })
            };
            assert!(of(Driver::Rust) && of(Driver::C));
        }
    }
}

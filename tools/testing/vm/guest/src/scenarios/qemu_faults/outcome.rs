// SPDX-License-Identifier: GPL-2.0

//! Has a device fail, and judges where the guest runs after that.

use crate::{
    hca::Driver,
    qemu::{
        faults::{
            self,
            Fail, //
        },
        Channel,
        Config,
        End,
        Guest,
        Place, //
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::json;
use vm_common::faults::{
    Fault as Entry,
    OfC, //
};

/// The message about resets that should not have happened.
fn resets_error(count: usize) -> String {
    format!("resets of its VF: {count}")
}

/// What a guest did after a fault.
pub(super) struct Outcome {
    /// Where it was after the migration.
    end: End,
    /// What it missed that it should not miss.
    errors: Vec<String>,
    /// Why it did not migrate again.
    pub(super) again: Result<()>,
    /// What the kernel complains of.
    log: usize,
}

pub(super) fn run_fault(
    results: &mut Results,
    guest: &mut Guest<'_>,
    driver: Driver,
    entry: &Entry,
    fail: Fail,
) -> Result<Outcome> {
    let mut failed = faults::fail(results, guest, driver, entry, fail)?;
    failed.wait_for_removal(results, guest)?;
    let end = failed.end;
    let mut errors = Vec::new();
    let mut again = Err(anyhow::anyhow!("the guest is lost"));
    if matches!(end.place, Place::Source | Place::Destination) {
        match guest.go_on_after_resets(results) {
            Ok(resets) if resets == entry.expected.resets() => (),
            Ok(resets) => errors.push(resets_error(resets)),
            Err(err) => errors.push(format!("{err:#}")),
        }
        again = guest.move_on(results, Channel::Socket).map(|_| ());
    }
    Ok(Outcome {
        end,
        errors,
        again,
        log: results.kernel_faults(),
    })
}

/// Gives an outcome to the host, and judges it.
pub(super) fn judge(
    results: &mut Results,
    config: Config,
    entry: &Entry,
    outcome: Outcome,
) -> Result<()> {
    let end = &outcome.end;
    results.json(&json!({
        "driver": config.driver.name(),
        "access": config.access.name(),
        "fault": entry.name,
        "migration": if end.completed { "completed" } else { "failed" },
        "expected": entry.expected.name(),
        "guest_runs_in": end.place.name(),
        "guest_errors": outcome.errors.len(),
        "again_ok": outcome.again.is_ok(),
        "log_faults": outcome.log,
    }));
    end.check(config.driver, entry)?;
    match (config.driver, entry.c) {
        (Driver::C, OfC::Resets(why)) => {
            let known = [resets_error(1)];
            ensure!(
                outcome.errors == known,
                "not just {known:?} ({why}), but {:?}",
                outcome.errors
            );
        }
        _ => ensure!(outcome.errors.is_empty(), "{}", outcome.errors.join("\n")),
    }
    outcome.again.context("the second migration")?;
    ensure!(
        outcome.log == 0,
        "the kernel complains {} times",
        outcome.log
    );
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Has a device fail, and judges where the guest runs after that.

use super::{
    faults::Fail,
    trial::Trial, //
};
use crate::{
    fault::Faults,
    hca::Driver,
    qemu::{
        Channel,
        Config,
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
    completed: bool,
    place: Place,
    /// What it missed that it should not miss.
    errors: Vec<String>,
    /// Why it did not migrate again.
    pub(super) again: Result<()>,
    /// What the kernel complains of.
    log: usize,
}

/// Whether a migration completes without the state of the VF.
fn loses(driver: Driver, entry: &Entry) -> bool {
    driver == Driver::C && matches!(entry.c, OfC::Loses(_))
}

pub(super) fn run_fault(
    results: &mut Results,
    guest: &mut Guest<'_>,
    driver: Driver,
    entry: &Entry,
    fail: Fail,
) -> Result<Outcome> {
    let faults = Faults::open()?;
    let (source, destination) = guest.vhcas();
    let mut trial = Trial {
        results,
        guest,
        faults: &faults,
        driver,
        source,
        destination,
        of_last_load: false,
        unbind: None,
    };
    let to = fail(&mut trial)?;
    let (of_last_load, unbind) = (trial.of_last_load, trial.unbind);
    let end = guest.end(results, to)?;
    // If another LOAD failed, a fault that nobody notices would look like no fault.
    ensure!(
        !of_last_load || end.lacks_last_block || loses(driver, entry),
        "it was not the last LOAD that failed"
    );
    // Firmware carries out what mlx5_core does not wait for any more.
    faults.release()?;
    faults.wait_for_held(0)?;
    let armed = faults.armed()?;
    ensure!(armed == 0, "{armed} faults did not come to pass");
    let mut errors = Vec::new();
    if let Some(unbind) = unbind {
        guest.wait_for_removal(results)?;
        unbind.join().ok().context("the unbind panicked")??;
    }
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
        completed: end.completed,
        place: end.place,
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
    let completes = entry.completes || loses(config.driver, entry);
    let place = match completes {
        true => Place::Destination,
        false => Place::Source,
    };
    results.json(&json!({
        "driver": config.driver.name(),
        "access": config.access.name(),
        "fault": entry.name,
        "migration": if outcome.completed { "completed" } else { "failed" },
        "expected": entry.expected.name(),
        "guest_runs_in": outcome.place.name(),
        "guest_errors": outcome.errors.len(),
        "again_ok": outcome.again.is_ok(),
        "log_faults": outcome.log,
    }));
    ensure!(
        outcome.completed == completes && outcome.place == place,
        "completed: {}, and the guest runs in {:?}",
        outcome.completed,
        outcome.place
    );
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

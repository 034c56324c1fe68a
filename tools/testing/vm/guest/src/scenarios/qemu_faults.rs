// SPDX-License-Identifier: GPL-2.0

//! QEMU migrates a guest whose device fails.
//!
//! After each fault the guest must run in one QEMU, know what it knew before, and migrate.

use super::{
    badinput::PF_UNBIND,
    qemu::{prepare, Bench},
    NamedRun,
};
use crate::{
    fault::{opcode, Fault, Faults},
    hca::{Driver, Pf},
    kmsg,
    qemu::{Access, Channel, Common, Config, Guest, Place, Qemu},
    sys,
    tap::Results,
};
use anyhow::{ensure, Context, Result};
use mlx5_emu_regs as regs;
use serde_json::json;
use std::{
    thread::{self, JoinHandle},
    time::Duration,
};
use vfio_mig::precopy::InfoVersion;
use vm_common::{
    faults::{self as table, Expected, Fault as Entry, OfC},
    judge::UNDESTROYED,
    names,
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("qemu-fault", run), ("qemu-faults", run_suite)];

/// Drivers, and how QEMU gets at their VFs, in the order in which they are tested.
const DRIVERS: [Driver; 2] = [Driver::Rust, Driver::C];
const ACCESS: [Access; 2] = [Access::Iommufd, Access::Container];

/// `MLX5_CMD_STAT_INT_ERR`
const INTERNAL_ERR: u8 = 0x1;
/// What a slow LOAD takes.
const SLOW_LOAD: Duration = Duration::from_secs(5);
/// Until an unbind of the PF waits for a VF.
const UNBINDING: Duration = Duration::from_secs(1);
/// Until a reload of the PF waits for a command that is held.
const RELOADING: Duration = Duration::from_millis(500);

/// What lockdep says, once, of the C driver: it copies to and from user memory with locks
/// that it also takes under others.
const C_LOCKING: &str = "possible circular locking dependency detected";

/// What the C driver sends to a VF that its guest resets: it hears of that too late.
const C_LATE: [&str; 2] = ["QUERY_VHCA_MIGRATION_STATE", "SAVE_VHCA_STATE"];

/// A guest, and the device that is to fail.
struct Trial<'g, 'a> {
    results: &'g mut Results,
    guest: &'g mut Guest<'a>,
    faults: &'g Faults,
    driver: Driver,
    /// VHCAs.
    source: u16,
    destination: u16,
    /// Whether the last LOAD must fail, and no other.
    of_last_load: bool,
    /// An unbind of the PF, which waits for its VFs.
    unbind: Option<JoinHandle<Result<()>>>,
}

/// Starts to migrate the guest, and has something go wrong. Returns the destination.
type Fail = fn(&mut Trial<'_, '_>) -> Result<Qemu>;

/// A function for each fault of the table.
const ALL: &[(&str, Fail)] = &[
    ("SAVE of the first image", |trial| {
        trial.fail(save_error().about(trial.source))
    }),
    ("SAVE of an incremental image", |trial| {
        trial.fail_in_precopy(save_error().about(trial.source))
    }),
    ("SAVE of the last image", |trial| {
        let destination = trial.stop_before_last_save()?;
        trial.faults.arm(save_error().about(trial.source))?;
        trial.faults.release()?;
        Ok(destination)
    }),
    ("first image cannot be saved yet", |trial| {
        trial.fail(Fault::fail(opcode::SAVE_VHCA_STATE).about(trial.source))
    }),
    ("LOAD of the first image", |trial| {
        trial.fail(Fault::fail(opcode::LOAD_VHCA_STATE).about(trial.destination))
    }),
    ("LOAD of the first image takes 5 seconds", |trial| {
        let held = Fault::held(opcode::LOAD_VHCA_STATE);
        trial.faults.arm(held.about(trial.destination))?;
        let destination = trial.guest.begin_any_downtime(trial.results)?;
        trial.faults.wait_for_held(1)?;
        thread::sleep(SLOW_LOAD);
        // Firmware has not answered. So the ack comes after the LOAD, and the downtime
        // after the ack.
        trial.guest.check_not_ready(trial.results)?;
        trial.faults.wait_for_held(1)?;
        trial.faults.release()?;
        trial.guest.wait_for_ack(trial.results)?;
        Ok(destination)
    }),
    ("LOAD of an incremental image", |trial| {
        trial.fail_in_precopy(Fault::fail(opcode::LOAD_VHCA_STATE).about(trial.destination))
    }),
    ("LOAD of the last image", |trial| {
        trial.before_last_load(Fault::fail(opcode::LOAD_VHCA_STATE))
    }),
    ("SUSPEND of the source's initiator", |trial| {
        trial.fail(Fault::fail(opcode::SUSPEND_VHCA).about(trial.source))
    }),
    ("SUSPEND of the source's responder", |trial| {
        let fault = Fault::fail(opcode::SUSPEND_VHCA).nth(2);
        trial.fail(fault.about(trial.source))
    }),
    ("SUSPEND of the destination's initiator", |trial| {
        trial.fail(Fault::fail(opcode::SUSPEND_VHCA).about(trial.destination))
    }),
    ("SUSPEND of the destination's responder", |trial| {
        let fault = Fault::fail(opcode::SUSPEND_VHCA).nth(2);
        trial.fail(fault.about(trial.destination))
    }),
    ("RESUME of the source's responder", |trial| {
        trial.cancel_with(Fault::fail(opcode::RESUME_VHCA))
    }),
    ("RESUME of the source's initiator", |trial| {
        trial.cancel_with(Fault::fail(opcode::RESUME_VHCA).nth(2))
    }),
    ("RESUME of the destination's responder", |trial| {
        trial.fail(Fault::fail(opcode::RESUME_VHCA).about(trial.destination))
    }),
    ("RESUME of the destination's initiator", |trial| {
        let fault = Fault::fail(opcode::RESUME_VHCA).nth(2);
        trial.fail(fault.about(trial.destination))
    }),
    // QEMU starts the tracker first.
    ("CREATE_MKEY for the page tracker", |trial| {
        trial.fail(Fault::fail(opcode::CREATE_MKEY))
    }),
    ("CREATE_MKEY for the first SAVE", |trial| {
        trial.fail(Fault::fail(opcode::CREATE_MKEY).nth(2))
    }),
    ("CREATE_MKEY for the first LOAD", |trial| {
        // The source has what it needs when it saves.
        let held = Fault::held(opcode::SAVE_VHCA_STATE);
        let destination = trial.fail(held.about(trial.source))?;
        trial.faults.wait_for_held(1)?;
        trial.faults.arm(Fault::fail(opcode::CREATE_MKEY))?;
        trial.faults.release()?;
        Ok(destination)
    }),
    ("page tracker in error", |trial| {
        trial.fail_report(regs::TRACK_ERROR)
    }),
    ("page tracker says that it failed", |trial| {
        trial.fail_report(regs::TRACK_ERROR_MESSAGE)
    }),
    ("page tracker's QP fails", |trial| {
        trial.fail_report(regs::TRACK_QP_ERROR)
    }),
    ("page tracker's CQ fails", |trial| {
        trial.fail_report(regs::TRACK_CQ_ERROR)
    }),
    ("page tracker is silent", |trial| {
        trial.fail_report(regs::TRACK_STALL)
    }),
    ("SAVE of the first image is too late", |trial| {
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.fail(late.about(trial.source))
    }),
    ("SAVE of an incremental image is too late", |trial| {
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.fail_in_precopy(late.about(trial.source))
    }),
    ("SAVE of the last image is too late", |trial| {
        let destination = trial.stop_before_last_save()?;
        let late = trial.late(opcode::SAVE_VHCA_STATE);
        trial.faults.arm(late.about(trial.source))?;
        trial.faults.release()?;
        Ok(destination)
    }),
    ("LOAD of the last image is too late", |trial| {
        let late = trial.late(opcode::LOAD_VHCA_STATE);
        trial.before_last_load(late)
    }),
    ("SUSPEND of the initiator is too late", |trial| {
        let late = trial.late(opcode::SUSPEND_VHCA);
        trial.fail(late.about(trial.source))
    }),
    ("page tracker reports too late", |trial| {
        let late = trial.late(opcode::MODIFY_GENERAL_OBJECT);
        trial.fail(late)
    }),
    ("DESTROY_MKEY is too late", |trial| {
        let late = trial.late(opcode::DESTROY_MKEY);
        trial.fail(late)
    }),
    ("guest resets its VF in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        if trial.driver == Driver::C {
            C_LATE.into_iter().for_each(kmsg::expect);
        }
        trial.guest.reset_vf(trial.results)?;
        Ok(destination)
    }),
    ("PF reloaded in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        Pf::find()?.reload()?;
        Ok(destination)
    }),
    ("PF reloaded in stop-copy", |trial| {
        let destination = trial.guest.begin_switchover(trial.results)?;
        // The reload has let the device run: QEMU's RESUME is refused, and so it resets it.
        kmsg::expect("RESUME_VHCA");
        Pf::find()?.reload()?;
        trial.guest.go_on_from_switchover()?;
        Ok(destination)
    }),
    ("PF reloaded in RESUMING", |trial| {
        let destination = trial.before_last_load(Fault::held(opcode::LOAD_VHCA_STATE))?;
        trial.faults.wait_for_held(1)?;
        let reload = thread::spawn(|| Pf::find()?.reload());
        thread::sleep(RELOADING);
        trial.faults.release()?;
        match reload.join() {
            Ok(done) => done?,
            Err(_) => anyhow::bail!("the reload panicked"),
        }
        Ok(destination)
    }),
    ("PF unbound in pre-copy", |trial| {
        let destination = trial.guest.begin_precopy(trial.results)?;
        trial.unbind();
        trial.guest.switch_over()?;
        Ok(destination)
    }),
    ("PF unbound in stop-copy", |trial| {
        let destination = trial.guest.begin_switchover(trial.results)?;
        trial.unbind();
        trial.guest.go_on_from_switchover()?;
        Ok(destination)
    }),
    ("PF unbound in RESUMING", |trial| {
        let destination = trial.before_last_load(Fault::held(opcode::LOAD_VHCA_STATE))?;
        trial.of_last_load = false;
        trial.faults.wait_for_held(1)?;
        trial.unbind();
        trial.faults.release()?;
        Ok(destination)
    }),
];

/// A SAVE that fails. Bad resource state would not do: it says that a running VF cannot be
/// saved right now, and both drivers save all of it once it is stopped.
fn save_error() -> Fault {
    Fault::fail(opcode::SAVE_VHCA_STATE).status(INTERNAL_ERR, 0)
}

impl Trial<'_, '_> {
    /// Firmware answers when the migration has ended, and mlx5_core does not wait so long.
    fn late(&mut self, opcode: u16) -> Fault {
        // What firmware still uses, or is asked to destroy, is not known to be destroyed.
        match self.driver {
            Driver::Rust => [UNDESTROYED, "DESTROY_MKEY"].map(kmsg::expect),
            // It does not look, and goes on to the PD, which is in use.
            Driver::C => ["DEALLOC_PD", "DESTROY_MKEY"].map(kmsg::expect),
        };
        Fault::held(opcode)
    }

    /// A fault of a command that comes by itself.
    fn fail(&mut self, fault: Fault) -> Result<Qemu> {
        self.faults.arm(fault)?;
        self.guest.begin_migration(self.results)
    }

    /// A fault of the next command when the destination has the first image.
    fn fail_in_precopy(&mut self, fault: Fault) -> Result<Qemu> {
        let destination = self.guest.begin_precopy(self.results)?;
        self.faults.arm(fault)?;
        Ok(destination)
    }

    /// A fault of the source's tracker.
    fn fail_report(&mut self, kind: u64) -> Result<Qemu> {
        self.faults.arm_report(self.source, kind)?;
        self.guest.begin_migration(self.results)
    }

    /// The source's first SUSPEND is held when this returns: all images but the last were
    /// saved, and none can be saved before it is released.
    fn stop_before_last_save(&mut self) -> Result<Qemu> {
        let destination = self.guest.begin_precopy(self.results)?;
        let held = Fault::held(opcode::SUSPEND_VHCA);
        self.faults.arm(held.about(self.source))?;
        self.guest.switch_over()?;
        self.faults.wait_for_held(1)?;
        Ok(destination)
    }

    /// A fault of the destination's last LOAD. It is armed when the last SAVE is held and
    /// all other images are loaded.
    fn before_last_load(&mut self, fault: Fault) -> Result<Qemu> {
        let mut destination = self.stop_before_last_save()?;
        let held = Fault::held(opcode::SAVE_VHCA_STATE);
        self.faults.arm(held.about(self.source))?;
        self.faults.release()?;
        self.faults.wait_for_held(1)?;
        let before = self
            .guest
            .wait_for_silence(self.results, &mut destination)?;
        let last = fault.about(self.destination).nth(before + 1);
        self.faults.arm(last)?;
        self.of_last_load = true;
        self.faults.release()?;
        Ok(destination)
    }

    /// Begins to unbind the PF. Returns when the kernel wants the first VF back.
    fn unbind(&mut self) {
        kmsg::expect(PF_UNBIND);
        self.unbind = Some(thread::spawn(|| Pf::find()?.set_bound(false)));
        thread::sleep(UNBINDING);
    }

    /// A fault of the source when the migration is cancelled in stop-copy.
    fn cancel_with(&mut self, fault: Fault) -> Result<Qemu> {
        let destination = self.guest.begin_switchover(self.results)?;
        self.faults.arm(fault.about(self.source))?;
        self.guest.give_up()?;
        Ok(destination)
    }
}

/// What is said of resets that there should not be.
fn resets_error(count: usize) -> String {
    format!("resets of its VF: {count}")
}

/// What a guest did after a fault.
struct Outcome {
    completed: bool,
    place: Place,
    /// What it missed that it should not miss.
    errors: Vec<String>,
    /// Why it did not migrate again.
    again: Result<()>,
    /// What the kernel complains of.
    log: usize,
}

/// Whether a migration completes without the state of the VF.
fn loses(driver: Driver, entry: &Entry) -> bool {
    driver == Driver::C && matches!(entry.c, OfC::Loses(_))
}

fn run_fault(
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
    // One that fails unnoticed is not told from one that does not fail.
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
fn judge(results: &mut Results, config: Config, entry: &Entry, outcome: Outcome) -> Result<()> {
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
    (common, bench): (&Common, &Bench),
    (driver, access): (Driver, Access),
    wanted: &dyn Fn(&Entry, &str) -> bool,
) {
    let config = Config {
        driver,
        access,
        // The C driver has no tracepoints.
        traced: false,
        info: InfoVersion::V2,
    };
    let mut guest = None;
    for (name, fail) in ALL {
        let title = title(driver, access, name);
        let entry = table::find(name).filter(|entry| wanted(entry, &title));
        let Some(entry) = entry else { continue };
        if let (Driver::C, OfC::NotRun(why)) = (driver, entry.c) {
            results.json(&json!({
                "driver": driver.name(),
                "access": access.name(),
                "fault": entry.name,
                "migration": "not run",
                "expected": entry.expected.name(),
                "why": why,
            }));
            results.skip(&title, why);
            continue;
        }
        results.test(&title, |results| {
            if driver == Driver::C {
                kmsg::expect(C_LOCKING);
            }
            let mut here = match guest.take() {
                Some(guest) => guest,
                None => Guest::boot(results, common, config, bench.take(1))?,
            };
            let outcome = run_fault(results, &mut here, driver, entry, *fail);
            if entry.expected == Expected::VfRemoved {
                drop(here);
                bench.restore(results, driver)?;
            } else if outcome.as_ref().is_ok_and(|seen| seen.again.is_ok()) {
                // A guest that cannot migrate is none for the next test.
                guest = Some(here);
            }
            judge(results, config, entry, outcome?)
        });
    }
}

/// One fault of each side.
pub fn run(results: &mut Results) -> Result<()> {
    let Some((common, bench)) = prepare(results)? else {
        return Ok(());
    };
    bench.bind(results, Driver::Rust)?;
    let these = (Driver::Rust, Access::Iommufd);
    run_all(results, (&common, &bench), these, &|entry, _| entry.quick);
    Ok(())
}

/// All faults, or those that `vmtest.only=` chooses.
pub fn run_suite(results: &mut Results) -> Result<()> {
    let Some((common, bench)) = prepare(results)? else {
        return Ok(());
    };
    let chosen = chosen(&sys::kernel_parameter("vmtest.only")?.unwrap_or_default());
    for driver in DRIVERS {
        bench.bind(results, driver)?;
        for access in ACCESS {
            let wanted = |_: &Entry, title: &str| chosen.contains(&names::parameter(title));
            run_all(results, (&common, &bench), (driver, access), &wanted);
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
    fn each_fault_of_the_table_can_be_run() {
        for entry in table::ALL {
            assert!(
                ALL.iter().any(|(name, _)| *name == entry.name),
                "{}",
                entry.name
            );
        }
        assert_eq!(ALL.len(), table::ALL.len());
    }

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

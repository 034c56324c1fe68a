// SPDX-License-Identifier: GPL-2.0

//! One VF's state goes to another, with each driver in turn: the demonstration.

use super::{
    NamedRun,
    Vfs, //
};
use crate::{
    count,
    hca::Driver,
    sys,
    tap::Results,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use serde_json::json;
use std::fs;
use vfio_mig::{
    migrate,
    target::DeviceTarget, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("migrate", run), ("run", run)];

/// Pages of memory that each VF writes to.
const PAGES: u64 = 256;
/// Rounds of work before, and after.
const ROUNDS: u64 = 40;

/// The sequence numbers of the scatter commands among `rounds` of
/// [`Vf::work`] that begin after `seq`: a round is three commands, and the
/// second one scatters.
fn scatters(seq: u64, rounds: u64) -> impl Iterator<Item = u64> {
    (0..rounds).map(move |round| seq + round * 3 + 2)
}

/// The number that a module's build has: a note of its file, which ends in it.
fn build_id(module: &str) -> Option<String> {
    const HEADER: usize = 16;
    let path = format!("/sys/module/{module}/notes/.note.gnu.build-id");
    let note = fs::read(path).ok()?;
    let id = note.get(HEADER..)?.iter();
    Some(id.fold(String::new(), |id, byte| id + &format!("{byte:02x}")))
}

fn migrate(results: &mut Results, vfs: &Vfs, driver: Driver, run: u32) -> Result<()> {
    let (source, destination) = vfs.of(driver);
    let source = Vf::open(source, PAGES)?;
    let destination = Vf::open(destination, PAGES)?;
    let violations = source.violations()?;

    source.work(ROUNDS, PAGES)?;
    let seq = source.seq()?;
    let before = source.digest()?;
    ensure!(
        before != destination.digest()?,
        "the VFs do not differ to begin with"
    );

    let report = count::counted(|| {
        migrate::stop_copy(
            source.device(),
            &mut DeviceTarget::new(destination.device()),
            &mut (),
        )
    })?;
    let after = destination.digest()?;
    let stopped = source.try_command(regs::CMD_DMA_WRITE, &[IOVA, 8])? == regs::STATUS_SUSPENDED;
    let wrong_source = source.wrong_pages(scatters(0, ROUNDS));

    // The destination goes on where the source stopped: with the next number,
    // in memory of its own.
    let continues = destination.seq()? == seq;
    destination.work(ROUNDS, PAGES)?;
    let wrong_destination = destination.wrong_pages(scatters(seq, ROUNDS));
    let violations = source.violations()? - violations;
    let faults = results.kernel_faults();

    results.json(&json!({
        "path": "migrate",
        "driver": driver.name(),
        "run": run,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "kernel_driver": source.device().driver(),
        "build_id": build_id(driver.sysfs_name()),
        "access": source.device().access(),
        "state_size": source.read(regs::STATE_SIZE)?,
        "digest_before": format!("{before:016x}"),
        "digest_after": format!("{after:016x}"),
        "digest_equal": before == after,
        "pages_checked": PAGES * 2,
        "pages_wrong": wrong_source + wrong_destination,
        "sequence_continues": continues,
        "source_stopped": stopped,
        "interrupts": destination.read(regs::IRQS)?,
        "firmware_violations": violations,
        "kernel_log_faults": faults,
        "bytes": report.bytes,
        "phases": report.phases,
    }));
    ensure!(before == after, "digest {before:016x} became {after:016x}");
    ensure!(continues, "the sequence does not go on");
    ensure!(stopped, "the source still works");
    ensure!(wrong_source + wrong_destination == 0, "pages are wrong");
    ensure!(violations == 0, "{violations} violations");
    ensure!(faults == 0, "{faults} faults in the kernel log");
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let runs = match sys::kernel_parameter("vmtest.runs")? {
        Some(runs) => runs.parse()?,
        None => 1,
    };
    for run in 0..runs {
        for driver in super::in_turn(run) {
            let name = format!("run {run}, migrate with the {} driver", driver.name());
            results.test(&name, |results| migrate(results, &vfs, driver, run));
        }
    }
    Ok(())
}

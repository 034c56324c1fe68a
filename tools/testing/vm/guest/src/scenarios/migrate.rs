// SPDX-License-Identifier: GPL-2.0

//! One VF's state goes to another, with each driver: the demonstration.

use super::Bench;
use crate::{
    hca::Driver,
    tap::Results,
    vf::{Vf, IOVA},
};
use anyhow::{ensure, Result};
use mlx5_emu_regs as regs;
use serde_json::json;
use vfio_mig::{
    migrate::{self, Observer},
    target::DeviceTarget,
};

/// Pages of memory that each VF writes to.
const PAGES: u64 = 256;
/// Rounds of work before, and after.
const ROUNDS: u64 = 40;

struct Progress<'a>(&'a mut Results, Driver);

impl Observer for Progress<'_> {
    fn phase(&mut self, name: &'static str, _total: u64) {
        self.0.progress(&format!("{}: {name}", self.1.name()));
    }
    fn bytes(&mut self, _bytes: u64) {}
}

/// The sequence numbers of the scatter commands among `rounds` of
/// [`Vf::work`] that begin after `seq`: a round is three commands, and the
/// second one scatters.
fn scatters(seq: u64, rounds: u64) -> impl Iterator<Item = u64> {
    (0..rounds).map(move |round| seq + round * 3 + 2)
}

fn migrate(results: &mut Results, bench: &Bench, driver: Driver) -> Result<()> {
    let (source, destination) = bench.of(driver);
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

    let report = migrate::stop_copy(
        source.device(),
        &mut DeviceTarget::new(destination.device()),
        &mut Progress(results, driver),
    )?;
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
        "driver": driver.name(),
        "kernel_driver": source.device().driver(),
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
    let bench = Bench::new()?;
    for driver in [Driver::Rust, Driver::C] {
        results.test(
            &format!("migrate with the {} driver", driver.name()),
            |results| migrate(results, &bench, driver),
        );
    }
    Ok(())
}

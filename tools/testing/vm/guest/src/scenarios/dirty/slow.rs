// SPDX-License-Identifier: GPL-2.0

//! Reports that take long, or that a device does not end.

use super::{
    compared::{
        sparse,
        OBSERVATIONS, //
    },
    killed::killed,
    logged::{
        pages,
        pages_of,
        scatter,
        scatter_and_report,
        stalled,
        tracked,
        works_again,
        ALL,
        PAGE,
        PAGES, //
    },
    vectors::vectors_are_shared_out, //
};
use crate::{
    fault::{
        self,
        event,
        opcode,
        Fault,
        Faults, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    lie::Lie,
    scenarios::{
        compare::{
            self,
            outcome,
            Observation,
            Site, //
        },
        Vfs, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    collections::BTreeSet,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    state::State,
    uapi, //
};
use vm_common::judge::UNDESTROYED;

fn silence_is_bounded(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let complaint = "the page tracker does not answer; stop DMA logging";
    let end = kmsg::require(complaint, || Ok(outcome(pages_of(vf.device(), ALL))))?;
    ensure!(end == "ETIMEDOUT", "{end}");
    works_again(&vf)
}

/// The tracker has failed, and the query of its state fails: the driver asks again.
fn fails_unasked(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    scatter(&vf, 10)?;
    let faults = Faults::open()?;
    faults.arm_report(fault::vhca(site.vf)?, regs::TRACK_ERROR)?;
    faults.arm(Fault::fail(opcode::QUERY_GENERAL_OBJECT))?;
    let end = outcome(pages_of(vf.device(), ALL));
    ensure!(end == "EINVAL", "the first report: {end}");
    works_again(&vf)
}

/// A query of the tracker, which has changed, takes longer than the tracker may be silent. The
/// tracker is well, and reports soon after.
fn slow_query(site: &Site) -> Result<()> {
    const LATE: Duration = Duration::from_millis(10_500);
    let faults = Faults::open()?;
    let vf = tracked(site)?;
    let written = scatter(&vf, 10)?;
    faults.arm_report(fault::vhca(site.vf)?, regs::TRACK_HOLD)?;
    let (request, change) = (opcode::MODIFY_GENERAL_OBJECT, event::OBJECT_CHANGE);
    faults.lie(&Lie::events(request, change, None, 1))?;
    faults.arm(Fault::late(opcode::QUERY_GENERAL_OBJECT, LATE))?;
    let reported = thread::scope(|scope| -> Result<_> {
        let reporter = scope.spawn(|| pages(vf.device(), ALL, PAGE));
        thread::sleep(LATE + Duration::from_secs(1));
        let last = faults.last()?;
        faults.release()?;
        let reported = reporter.join().ok().context("the reporter panicked")?;
        ensure!(last == opcode::QUERY_GENERAL_OBJECT, "{last:#x} was late");
        reported
    })?;
    ensure!(reported == written, "other pages");
    scatter_and_report(&vf, 10)
}

/// Firmware does not destroy a part of a tracker.
fn undestroyed(site: &Site, opcode: u16) -> Result<()> {
    let faults = Faults::open()?;
    let vf = tracked(site)?;
    for used in ["DESTROY_QP", "DESTROY_CQ"] {
        kmsg::expect(used);
    }
    faults.arm(Fault::fail(opcode))?;
    kmsg::require(UNDESTROYED, || Ok(vf.device().stop_logging()?))?;
    ensure!(faults.fired()? == 1, "it was destroyed");
    drop(vf);
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    drop(vf);
    Pf::find()?.reload()?;
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// Firmware takes long to make a tracker: no query, arc or reset waits for that.
fn start_keeps_nothing_waiting(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, PAGES)?;
    let device = vf.device();
    faults.arm(Fault::held(opcode::CREATE_GENERAL_OBJECT))?;
    thread::scope(|scope| -> Result<()> {
        let starter = scope.spawn(|| outcome(device.start_logging(PAGE, &[ALL])));
        let others = || -> Result<()> {
            faults.wait_for_held(1)?;
            for state in [State::STOP, State::STOP_COPY, State::STOP, State::RUNNING] {
                device.set_state(state)?;
                ensure!(device.state()? == state);
            }
            device.reset()?;
            ensure!(!starter.is_finished(), "it was not held");
            Ok(())
        };
        let others = others();
        faults.release()?;
        let end = starter.join().ok().context("the starter panicked")?;
        others?;
        ensure!(end == "ok", "tracking did not start: {end}");
        Ok(())
    })?;
    device.enable_bus_master()?;
    scatter_and_report(&vf, 100)
}

/// A report that waits for its device keeps nothing else waiting.
fn nothing_waits(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    let (first, second) = thread::scope(|scope| -> Result<_> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        let second = sys::interrupted(Duration::from_millis(100), || {
            outcome(pages_of(device, ALL))
        });
        let begin = Instant::now();
        for state in [State::STOP, State::STOP_COPY, State::STOP, State::RUNNING] {
            device.set_state(state)?;
        }
        ensure!(device.state()? == State::RUNNING);
        device.stop_logging()?;
        let first = reporter.join().ok().context("the reporter panicked")?;
        // Far less than what silence is allowed to last.
        ensure!(begin.elapsed() < Duration::from_secs(5), "something waited");
        Ok((first, second?))
    })?;
    ensure!(first == "EIO", "the report that was stopped: {first}");
    ensure!(second == "EINTR", "the report that waited for it: {second}");
    let after = outcome(pages_of(device, ALL));
    ensure!(after == "EINVAL", "a report after it: {after}");
    device.start_logging(PAGE, &[ALL])?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(device, ALL, PAGE)?, "other pages");
    Ok(())
}

/// Each page is in one of two reports that are made at once.
fn two_reporters(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let device = vf.device();
    for count in [1, 50, 1000] {
        let written = scatter(&vf, count)?;
        let reports = thread::scope(|scope| -> Result<_> {
            let reporters = [0; 2].map(|_| scope.spawn(|| pages(device, ALL, PAGE)));
            let mut reports = BTreeSet::new();
            for reporter in reporters {
                reports.extend(reporter.join().ok().context("a reporter panicked")??);
            }
            Ok(reports)
        })?;
        ensure!(reports == written, "other pages of {count}");
    }
    Ok(())
}

/// A report whose bitmap is in missing memory: no other call waits for the report.
fn missing_bitmap(results: &mut Results, site: &Site) {
    let name = "a report that waits for its bitmap holds nobody up";
    let memory = match sys::MissingMemory::new() {
        Ok(memory) => memory,
        Err(err) => {
            results.test(name, |_| Err(err.into()));
            return;
        }
    };
    results.test(name, |_| {
        let vf = tracked(site)?;
        // More than a batch.
        scatter(&vf, 1000)?;
        let device = vf.device();
        let report = || {
            let bitmap = memory.addr() as u64;
            compare::words(uapi::logging_report_at(device.fd(), ALL, PAGE, bitmap).map(|()| "ok"))
        };
        let end = thread::scope(|scope| -> Result<_> {
            let reporter = scope.spawn(report);
            let others = || -> Result<()> {
                memory.wait_for_fault()?;
                for state in [State::STOP, State::RUNNING] {
                    device.set_state(state)?;
                }
                device.reset()?;
                device.enable_bus_master()?;
                device.stop_logging()?;
                device.start_logging(PAGE, &[ALL])?;
                Pf::find()?.reload()?;
                device.start_logging(PAGE, &[ALL])?;
                ensure!(device.state()? == State::RUNNING);
                Ok(())
            };
            let others = others();
            // Else the reporter would never end.
            memory.resolve_fault()?;
            let end = reporter.join().ok().context("the reporter panicked")?;
            others.map(|()| end)
        })?;
        ensure!(end == "EIO", "the report ended with {end}");
        Ok(())
    });
}

/// The PF is reloaded in the middle of a report, which ends at once.
fn reloaded(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    thread::scope(|scope| -> Result<()> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        Pf::find()?.reload()?;
        let end = reporter.join().ok().context("the reporter panicked")?;
        // One that had waited for its device would say ETIMEDOUT.
        ensure!(end == "EIO", "the report ended with {end}");
        Ok(())
    })?;
    let after = outcome(pages_of(vf.device(), ALL));
    ensure!(after == "EINVAL", "a report after it: {after}");
    vf.device().start_logging(PAGE, &[ALL])?;
    Ok(())
}

/// A reset in the middle of a report, which it does not end.
fn reset(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    thread::scope(|scope| -> Result<()> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        vf.device().reset()?;
        let end = reporter.join().ok().context("the reporter panicked")?;
        ensure!(end == "ETIMEDOUT", "the report ended with {end}");
        Ok(())
    })?;
    ensure!(vf.device().state()? == State::RUNNING);
    vf.device().enable_bus_master()?;
    works_again(&vf)
}

/// The PF's driver is unbound in the middle of a report: the unbind waits until the device
/// is closed, and the report ends.
fn pf_removed(site: &Site) -> Result<()> {
    let vf = stalled(site)?;
    let device = vf.device();
    let remover = thread::scope(|scope| -> Result<_> {
        let reporter = scope.spawn(|| outcome(pages_of(device, ALL)));
        thread::sleep(Duration::from_millis(200));
        let remover = thread::spawn(|| Pf::find()?.set_bound(false));
        let end = reporter.join().ok().context("the reporter panicked")?;
        ensure!(
            end == "ETIMEDOUT" || end == "EIO",
            "the report ended with {end}"
        );
        Ok(remover)
    })?;
    drop(vf);
    remover.join().ok().context("the remover panicked")??;
    Pf::find()?.set_bound(true)
}

/// Tests of slow reports, and of reports that a device does not end. The latter run only
/// with the Rust driver, since the C driver waits for ever, and cannot be killed.
pub fn run_slow(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let both: [Observation; 2] = [OBSERVATIONS[0], ("sparse memory of 6 GiB", sparse)];
    compare::both(results, &vfs, &both, &[]);
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    let tests: [compare::Test; 10] = [
        ("two reports at once", two_reporters),
        (
            "a tracker that is being made keeps nothing waiting",
            start_keeps_nothing_waiting,
        ),
        ("a tracker that fails unasked", fails_unasked),
        ("a slow query of a tracker that is well", slow_query),
        (
            "VFs take turns with completion vectors",
            vectors_are_shared_out,
        ),
        (
            "a report that waits for its device keeps nothing waiting",
            nothing_waits,
        ),
        ("a device that stops reporting", silence_is_bounded),
        ("killed in the middle of a report", killed),
        ("the PF is reloaded in the middle of a report", reloaded),
        ("a reset in the middle of a report", reset),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&site));
    }
    missing_bitmap(results, &site);
    for (what, opcode) in [
        ("a tracker", opcode::DESTROY_GENERAL_OBJECT),
        ("a tracker's QP", opcode::DESTROY_QP),
        ("a tracker's CQ", opcode::DESTROY_CQ),
        ("a tracker's mkey", opcode::DESTROY_MKEY),
    ] {
        results.test(&format!("{what} that is not destroyed"), |_| {
            // The rate of messages is limited.
            thread::sleep(Duration::from_secs(5));
            undestroyed(&site, opcode)
        });
    }
    results.test(
        "the PF's driver is unbound in the middle of a report",
        |_| {
            kmsg::expect(kmsg::PF_UNBIND);
            pf_removed(&site)
        },
    );
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Events that do not come, or come twice or late: completions of commands, messages of the page
//! tracker, and events that tell of its failures.

use super::{
    again,
    paths,
    session::Session, //
};
use crate::{
    campaign::Counts,
    fault::{
        self,
        event,
        Event,
        Faults, //
    },
    hca::Driver,
    kmsg,
    scenarios::{
        compare::{
            outcome,
            Site, //
        },
        dirty::{
            self,
            ALL, //
        },
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    sync::Arc,
    thread,
    time::Duration, //
};
use vm_common::names;

/// By how much an event is late.
const LATE: Duration = Duration::from_millis(300);
/// By how much that of a command is.
const COMMAND_LATE: Duration = Duration::from_millis(20);
/// What our driver says if a report is not answered.
const SILENT: &str = "the page tracker does not answer; stop DMA logging";

/// An event of a page tracker.
struct Told {
    name: &'static str,
    event: u8,
    /// What it tells of, one of `TRACK_*`; `None` for a message.
    failure: Option<u64>,
    /// How a report ends if the event comes, sooner or later.
    end: &'static str,
}

const TRACKER: &[Told] = &[
    Told {
        name: "a message of the page tracker",
        event: event::COMP,
        failure: None,
        end: "ok",
    },
    Told {
        name: "a failure of the page tracker",
        event: event::OBJECT_CHANGE,
        failure: Some(regs::TRACK_ERROR),
        end: "EIO",
    },
    Told {
        name: "a failure of the page tracker's QP",
        event: event::WQ_CATAS_ERROR,
        failure: Some(regs::TRACK_QP_ERROR),
        end: "EIO",
    },
    Told {
        name: "a failure of the page tracker's CQ",
        event: event::CQ_ERROR,
        failure: Some(regs::TRACK_CQ_ERROR),
        end: "EIO",
    },
];

const EFFECTS: &[(&str, Event)] = &[
    ("comes twice", Event::Twice),
    ("comes late", Event::Late(LATE)),
    ("does not come", Event::Lost),
];

/// What a driver does not survive, and why.
const NOT_SURVIVED: &[(Driver, &str, &str)] = &[(
    Driver::C,
    "does not come",
    "it waits for the event without a limit, holds its state lock, and cannot be killed",
)];

/// A report about which an event is not as it should be.
fn report(site: &Site, told: &Told, effect: Event) -> Result<()> {
    let faults = Faults::open()?;
    let vf = dirty::tracked(site)?;
    dirty::scatter(&vf, 10)?;
    if let Some(failure) = told.failure {
        faults.arm_report(fault::vhca(site.vf)?, failure)?;
    }
    faults.arm_event(told.event, 1, effect)?;
    let want = match effect {
        Event::Lost => "ETIMEDOUT",
        _ => told.end,
    };
    let end = outcome(dirty::pages_of(vf.device(), ALL));
    let met = faults.fired()? - u32::from(told.failure.is_some());
    faults.disarm()?;
    ensure!(end == want && met == 1, "{end} with {met} events");
    if end == "ok" {
        return dirty::scatter_and_report(&vf, 10);
    }
    dirty::works_again(&vf)
}

/// An event about a tracker that comes when there is another one, with the same numbers: the
/// new one has not failed.
fn about_another(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let vf = dirty::tracked(site)?;
    faults.arm_report(fault::vhca(site.vf)?, regs::TRACK_ERROR)?;
    faults.arm_event(event::OBJECT_CHANGE, 1, Event::Late(LATE))?;
    thread::scope(|scope| -> Result<()> {
        let report = scope.spawn(|| outcome(dirty::pages_of(vf.device(), ALL)));
        thread::sleep(LATE / 3);
        vf.device().stop_logging()?;
        let end = report.join().unwrap_or_default();
        ensure!(end == "EIO", "{end}");
        Ok(())
    })?;
    vf.device().start_logging(regs::PAGE, &[ALL])?;
    thread::sleep(LATE);
    ensure!(faults.fired()? == 2, "no event was late");
    dirty::scatter_and_report(&vf, 10)
}

/// All requests, while the event of each command is late.
fn commands_late(driver: Driver, site: &Site, stream: &Arc<[u8]>) -> Result<u32> {
    let faults = Faults::open()?;
    for path in paths::ALL {
        let mut session = Session::open(driver, site.vf, stream.clone())?;
        path.get_ready(&mut session).context(path.name)?;
        if path.is_of_driver() {
            faults.arm_all_events(event::CMD, Event::Late(COMMAND_LATE))?;
        }
        let done = (path.work)(&mut session).and_then(|()| session.settle());
        faults.disarm()?;
        done.context(path.name)?;
        session.recover().context(path.name)?;
    }
    faults.fired()
}

/// All of this with a driver.
pub(super) fn run(
    results: &mut Results,
    (driver, only): (Driver, &str),
    site: &Site,
    stream: &Arc<[u8]>,
    counts: &mut Counts,
) {
    let mut run = |results: &mut Results, name: &str, test: &dyn Fn() -> Result<u32>| {
        let name = format!("{} driver, {name}", driver.name());
        if !names::parameter(&name).contains(only) {
            return;
        }
        let reason = NOT_SURVIVED
            .iter()
            .find(|(of, what, _)| *of == driver && name.ends_with(what));
        if let Some((.., reason)) = reason {
            return results.skip(&name, reason);
        }
        results.test(&name, |_| {
            let done = test();
            counts.requests += 1;
            match &done {
                Ok(met) => {
                    counts.succeeded += 1;
                    counts.faults_injected += u64::from(*met);
                }
                Err(_) => counts.wrong_results += 1,
            }
            done.map(drop)
                .with_context(|| again("firmware-fails", &name))
        });
    };
    for (what, effect) in EFFECTS {
        for told in TRACKER {
            run(results, &format!("{} {what}", told.name), &|| {
                kmsg::expect(SILENT);
                report(site, told, *effect).map(|()| 1)
            });
        }
    }
    if driver == Driver::Rust {
        run(
            results,
            "an event about a page tracker that is gone",
            &|| about_another(site).map(|()| 1),
        );
    }
    run(results, "the event of each command comes late", &|| {
        commands_late(driver, site, stream)
    });
    results.skip(
        &format!(
            "{} driver, the event of a command comes twice",
            driver.name()
        ),
        "mlx5_core does not survive it: with the first event it frees what it knows of the \
         command, and with the second it looks there",
    );
}

// SPDX-License-Identifier: GPL-2.0

//! What happens to a VF, its PF, its host and the process that uses it, in each state and in the
//! middle of each call: errors are those that the call can have, nothing hangs, and afterwards the
//! VF migrates.

mod bench;
mod child;
mod events;
mod express;
mod fates;
mod host;
mod place;

pub use child::use_vf;

use super::{
    firmware_fails::again,
    NamedRun, //
};
use crate::{
    hca::Driver,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use bench::Bench;
use events::Event;
use fates::Fate;
use place::Place;
use std::{
    fs,
    thread,
    time::Duration, //
};
use vm_common::names;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("life", run)];

/// Places that each thing happens at in `make check`, of all those that there are.
const SAMPLE: usize = 1;

/// How many things happen there to VFs of a driver.
fn sample_of(driver: Driver) -> usize {
    match driver {
        Driver::Rust => 11,
        Driver::C => 4,
    }
}

/// What can happen.
#[derive(Clone, Copy)]
enum Thing {
    Event(&'static Event),
    Fate(&'static Fate),
}

impl Thing {
    fn all() -> impl Iterator<Item = Self> {
        let fates = fates::ALL.iter().map(Self::Fate);
        events::ALL.iter().map(Self::Event).chain(fates)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Event(event) => event.name,
            Self::Fate(fate) => fate.name,
        }
    }

    /// Whether it only happens in long runs.
    fn is_long(self) -> bool {
        match self {
            Self::Event(event) => event.is_long,
            Self::Fate(_) => false,
        }
    }

    /// Why it cannot happen with this kernel, if it cannot.
    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Event(event) => (event.missing)(),
            Self::Fate(_) => None,
        }
    }

    /// Why it does not happen to a VF of a driver at a place, if it does not.
    fn reason(self, driver: Driver, place: Place) -> Option<&'static str> {
        match (self, driver) {
            (Self::Event(event), _) if place.closes() && event.closed.is_some() => event.closed,
            (_, Driver::Rust) => None,
            (Self::Event(event), _) => (event.c)(place),
            (Self::Fate(fate), _) => (fate.c)(place),
        }
    }
}

fn open_files() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Everything that happens to VFs of a driver.
fn run_driver(results: &mut Results, driver: Driver) -> Result<()> {
    let seed = sys::seed()?;
    let only = sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    let mut bench = Bench::new(driver, seed)?;
    let files = open_files()?;
    let is_short = only.is_empty() && !sys::is_long()?;
    let mut things = Vec::new();
    for thing in Thing::all().filter(|thing| !(is_short && thing.is_long())) {
        match thing.missing() {
            None => things.push(thing),
            Some(reason) => results.skip(
                &format!("{} driver, {}", driver.name(), thing.name()),
                reason,
            ),
        }
    }
    if is_short {
        bench.shuffle(&mut things);
        things.truncate(sample_of(driver));
    }
    for thing in things {
        let title = |place: Place| {
            format!(
                "{} driver, {}: {}",
                driver.name(),
                place.name(),
                thing.name()
            )
        };
        let mut places: Vec<Place> = Place::all().collect();
        bench.shuffle(&mut places);
        if !only.is_empty() {
            places.retain(|place| names::parameter(&title(*place)).contains(&only));
        } else if is_short {
            places.retain(|place| thing.reason(driver, *place).is_none());
            places.truncate(SAMPLE);
        }
        for place in places {
            let title = title(place);
            if let Some(reason) = thing.reason(driver, place) {
                results.skip(&title, reason);
                continue;
            }
            results.test(&title, |results| {
                let seen = match thing {
                    Thing::Event(event) => bench.event(place, event),
                    Thing::Fate(fate) => bench.fate(place, fate),
                };
                bench.counts.wrong_results += u64::from(seen.is_err());
                let seen =
                    seen.with_context(|| format!("seed {seed}; {}", again("life", &title)))?;
                results.progress(&format!("{title}: {seen}"));
                Ok(())
            });
        }
    }
    results.test(
        &format!("{} driver, no file is left open", driver.name()),
        |_| {
            // The last thread may still be about to end.
            thread::sleep(Duration::from_millis(100));
            let now = open_files()?;
            ensure!(now <= files, "{files} files were open, and {now} are");
            Ok(())
        },
    );
    bench.counts.report(results);
    Ok(())
}

fn run(results: &mut Results) -> Result<()> {
    for driver in [Driver::Rust, Driver::C] {
        run_driver(results, driver)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_unique() {
        let mut names: Vec<&str> = Thing::all().map(Thing::name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

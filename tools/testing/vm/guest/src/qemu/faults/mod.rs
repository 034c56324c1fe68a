// SPDX-License-Identifier: GPL-2.0

//! A device that fails while QEMU migrates its guest: the functions of the faults of
//! [`vm_common::faults`].

mod all;
mod side;
mod trial;

pub use all::{
    Fail,
    ALL, //
};

use super::{
    guest::Guest,
    trial::{
        End,
        Place, //
    },
};
use crate::{
    hca::Driver,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use side::Side;
use std::thread::JoinHandle;
use trial::Trial;
use vm_common::faults::{
    self as table,
    Fault as Entry,
    OfC, //
};

/// What a migration has come to in which a device has failed.
pub struct Failed {
    /// How it has ended.
    pub end: End,
    /// An unbind of the PF, which waits for the guest's VF.
    unbind: Option<JoinHandle<Result<()>>>,
}

/// Whether a migration completes without the state of the VF.
fn loses(driver: Driver, entry: &Entry) -> bool {
    driver == Driver::C && matches!(entry.c, OfC::Loses(_))
}

/// Whether a migration is to complete.
fn completes(driver: Driver, entry: &Entry) -> bool {
    entry.completes || loses(driver, entry)
}

/// How often the guest's VF is to be reset.
pub fn resets(driver: Driver, entry: &Entry) -> usize {
    match (driver, entry.c) {
        (Driver::C, OfC::Resets(_)) => 1,
        _ => entry.expected.resets(),
    }
}

/// Why a fault is not tried with a driver.
fn reason(driver: Driver, entry: &Entry) -> Option<&'static str> {
    match (driver, entry.c) {
        (Driver::C, OfC::NotRun(why)) => Some(why),
        _ => None,
    }
}

/// The faults that are wanted, each with its title, its function, and why it is not tried with the
/// driver.
fn those(
    driver: Driver,
    title: impl Fn(&str) -> String,
    wanted: impl Fn(&Entry, &str) -> bool,
) -> impl Iterator<Item = (String, &'static Entry, Fail, Option<&'static str>)> {
    let all = ALL.iter().filter_map(move |(name, fail)| {
        let entry = table::find(name)?;
        Some((title(name), entry, *fail, reason(driver, entry)))
    });
    all.filter(move |(title, entry, ..)| wanted(entry, title))
}

/// What is done with faults.
pub struct Trials<S, A> {
    /// Told of what is not tried, and why.
    pub skipped: S,
    /// Tries one.
    pub attempt: A,
}

impl<S, A> Trials<S, A>
where
    S: FnMut(&mut Results, &Entry, &str),
    A: FnMut(&mut Results, &Entry, Fail) -> Result<()>,
{
    /// A test of each fault that is wanted, which has this title. What the driver does not survive
    /// is skipped.
    pub fn run(
        mut self,
        results: &mut Results,
        driver: Driver,
        title: impl Fn(&str) -> String,
        wanted: impl Fn(&Entry, &str) -> bool,
    ) {
        for (title, entry, fail, reason) in those(driver, title, wanted) {
            if let Some(why) = reason {
                (self.skipped)(results, entry, why);
                results.skip(&title, why);
                continue;
            }
            results.test(&title, |results| (self.attempt)(results, entry, fail));
        }
    }
}

/// Starts to migrate a guest, has a device fail, and waits until the migration has ended.
pub fn fail(
    results: &mut Results,
    guest: &mut Guest<'_>,
    driver: Driver,
    entry: &Entry,
    fail: Fail,
) -> Result<Failed> {
    let (source, destination) = guest.sides()?;
    let mut trial = Trial {
        results,
        guest,
        driver,
        source: &source,
        destination: &destination,
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
    source.finish()?;
    destination.finish()?;
    Ok(Failed { end, unbind })
}

impl Failed {
    /// Waits until the PF is unbound, if it is to be.
    pub fn wait_for_removal(&mut self, results: &mut Results, guest: &mut Guest<'_>) -> Result<()> {
        if let Some(unbind) = self.unbind.take() {
            guest.wait_for_removal(results)?;
            unbind.join().ok().context("the unbind panicked")??;
        }
        Ok(())
    }
}

impl End {
    /// Fails if the migration has not ended as it was to.
    pub fn check(&self, driver: Driver, entry: &Entry) -> Result<()> {
        let completes = completes(driver, entry);
        let place = match completes {
            true => Place::Destination,
            false => Place::Source,
        };
        ensure!(
            self.completed == completes && self.place == place,
            "completed: {}, and the guest runs in {:?}",
            self.completed,
            self.place
        );
        Ok(())
    }
}

impl Guest<'_> {
    /// Has its VF tell the driver in the guest that it was reset.
    pub fn tell_of_reset(&self) -> Result<()> {
        Side::of(self.vfs.0[0])?.tell_of_reset()
    }

    /// Its VF's side, and that of the VF that it can go to.
    fn sides(&self) -> Result<(Side, Side)> {
        Ok((Side::of(self.vfs.0[0])?, Side::of(self.vfs.1[0])?))
    }
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
    fn the_c_driver_is_reset_where_ours_is_not() {
        let entry = table::find("SAVE of an incremental image").unwrap();
        assert_eq!(resets(Driver::Rust, entry), 0);
        assert_eq!(resets(Driver::C, entry), 1);
        assert!(!completes(Driver::C, entry));
        let lost = table::find("PF reloaded in RESUMING").unwrap();
        assert!(!completes(Driver::Rust, lost) && completes(Driver::C, lost));
    }

    #[test]
    fn what_a_driver_does_not_survive_is_not_tried() {
        let not_tried = |driver, wanted: fn(&Entry) -> bool| {
            let title = |name: &str| format!("a {name}");
            let all = those(driver, title, |entry, title| {
                title == format!("a {}", entry.name) && wanted(entry)
            });
            let (not, tried): (Vec<_>, Vec<_>) = all.partition(|(.., why)| why.is_some());
            (not.len(), tried.len())
        };
        let not_run = |entry: &&Entry| matches!(entry.c, OfC::NotRun(_));
        let count = table::ALL.iter().filter(not_run).count();
        assert!(count > 0);
        assert_eq!(not_tried(Driver::Rust, |_| true), (0, ALL.len()));
        assert_eq!(not_tried(Driver::C, |_| true), (count, ALL.len() - count));
        assert_eq!(not_tried(Driver::C, |_| false), (0, 0));
    }
}

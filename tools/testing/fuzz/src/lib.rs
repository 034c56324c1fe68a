// SPDX-License-Identifier: GPL-2.0

//! What is fuzzed.
//!
//! A target takes any bytes, and panics if they break something. [`TARGETS`] is the list: a new
//! target is a line there.

mod commands;
mod frames;
mod images;
mod machine;
mod queues;
mod tables;

use mlx5_rust_logic::fuzz::{
    cqe,
    pages,
    report,
    stream,
    Seed, //
};

/// The environment variable that names the target for libFuzzer's process.
pub const VARIABLE: &str = "FUZZ_TARGET";

/// Something that is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// Returns inputs to begin with.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
#[rustfmt::skip]
pub const TARGETS: &[Target] = &[
    Target { name: "stream", run: stream::run, seeds: stream::seeds },
    Target { name: "cqe", run: cqe::run, seeds: cqe::seeds },
    Target { name: "report", run: report::run, seeds: report::seeds },
    Target { name: "pages", run: pages::run, seeds: pages::seeds },
    Target { name: "commands", run: commands::run, seeds: commands::seeds },
    Target { name: "frames", run: frames::run, seeds: frames::seeds },
    Target { name: "tables", run: tables::run, seeds: tables::seeds },
    Target { name: "queues", run: queues::run, seeds: queues::seeds },
    Target { name: "images", run: images::run, seeds: images::seeds },
];

/// Returns the target with a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::BTreeSet,
        panic, //
    };

    #[test]
    fn each_target_runs_its_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            let names: BTreeSet<&str> = seeds.iter().map(|(name, _)| *name).collect();
            assert!(!seeds.is_empty() && names.len() == seeds.len());
            let fails = |bytes: &[u8]| panic::catch_unwind(|| (target.run)(bytes)).is_err();
            let failed = seeds.iter().filter(|(_, bytes)| fails(bytes));
            let failed: Vec<&str> = failed.map(|(name, _)| *name).collect();
            assert_eq!(failed, [""; 0], "{}", target.name);
        }
    }

    #[test]
    fn each_target_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), TARGETS.len());
        assert!(names.into_iter().all(|name| find(name).is_some()));
        assert!(find("nosuch").is_none());
    }
}

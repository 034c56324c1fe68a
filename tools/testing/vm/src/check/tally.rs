// SPDX-License-Identifier: GPL-2.0

//! The count of tests, and what they have come to.

use crate::{
    paths::Paths,
    report::times::{
        self,
        Time, //
    },
    tap::{
        Counts,
        Test, //
    },
};
use anyhow::Result;
use std::time::Duration;

/// Counts, and says what fails.
#[derive(Default)]
pub(super) struct Tally {
    counts: Counts,
    times: Vec<Time>,
    /// How to have the groups again that have failed.
    again: Vec<String>,
}

impl Tally {
    fn test(&mut self, test: &Test, log: &str) {
        self.counts.add(test);
        let count = self.counts.all();
        let result = if test.ok { "ok" } else { "not ok" };
        match &test.skipped {
            Some(reason) => println!("{result} {count} {} # SKIP {reason}", test.name),
            None => println!("{result} {count} {}", test.name),
        }
        if !test.ok {
            for line in &test.diagnostics {
                println!("# {line}");
            }
            println!("# log: {log}");
        }
    }

    /// The tests of a group, which have all ended.
    pub(super) fn group(&mut self, time: Time, tests: &[Test], log: &str, again: String) {
        println!("# {}: {:.0}s", time.group, time.seconds);
        for test in tests {
            self.test(test, log);
        }
        if tests.iter().any(|test| !test.ok) {
            println!("# just this again: {again}");
            self.again.push(again);
        }
        self.times.push(time);
    }

    /// Ends. Returns whether all went well.
    pub(super) fn end(self, whole: Duration, paths: &Paths) -> Result<bool> {
        println!("1..{}", self.counts.all());
        times::publish(self.times, whole, &paths.out())?;
        for again in &self.again {
            println!("# failed: {again}");
        }
        println!("{}", self.counts);
        Ok(self.counts.is_good())
    }
}

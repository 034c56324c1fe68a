// SPDX-License-Identifier: GPL-2.0

//! `make check` and `make check-all`: tests of all kinds as TAP, with a count at the end.

mod groups;
mod tally;

use crate::{
    accel::Accel,
    bench,
    campaign,
    children,
    fuzz,
    machine::Machine,
    paths::Paths,
    report::{
        self,
        times::{
            self,
            Time, //
        },
    },
    schedule,
    seed,
    tap::Test, //
};
use anyhow::{
    Context,
    Result, //
};
use groups::{
    machines,
    wanted,
    Command,
    CARGO,
    FUZZ, //
};
use std::{
    cmp::Reverse,
    fs,
    process::{
        self,
        Stdio, //
    },
    sync::{
        Mutex,
        PoisonError, //
    },
    time::Instant, //
};
use tally::Tally;
use vm_common::{
    kernel::Kernel,
    scenarios::Scenario, //
};

#[cfg(test)]
pub use groups::groups;
pub use groups::{
    needs,
    Extent, //
};

/// What is run as one.
enum Job {
    /// All that needs no machine: cargo and kbuild use all cores, and wait for each other.
    Commands,
    /// A machine.
    Machine(Kernel, &'static Scenario),
}

/// What is to be checked.
struct Check<'a> {
    /// Where things are.
    paths: &'a Paths,
    /// `make check` or `make check-all`.
    extent: Extent,
    /// The names of the groups that are run.
    groups: Vec<String>,
    /// Seed of all random choices.
    seed: u64,
    /// The count of the tests that have ended.
    tally: Mutex<Tally>,
}

impl Check<'_> {
    fn wanted(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// Reports the tests of a group together.
    fn add(&self, time: Time, tests: &[Test], log: &str) {
        let again = self.extent.again(&time.group, self.seed);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.group(time, tests, log, again);
    }

    fn command(&self, &Command { name, command, .. }: &Command) -> Result<()> {
        let begin = Instant::now();
        let log = self
            .paths
            .out()
            .join("log")
            .join(format!("check-{}.log", name.replace(' ', "-")));
        let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
        let status = children::bind(&mut process::Command::new("bash"))
            .args(["-c", command])
            .current_dir(&self.paths.top)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        let test = Test {
            name: name.to_string(),
            ok: status.success(),
            skipped: None,
            diagnostics: tail.iter().map(|line| (*line).to_string()).collect(),
        };
        let time = Time::since(name, begin);
        self.add(time, &[test], &report::path_word(&log));
        Ok(())
    }

    /// The cargo tests, each of them.
    fn cargo(&self) -> Result<()> {
        let begin = Instant::now();
        let log = self.paths.out().join("log/check-cargo.log");
        let output = children::bind(&mut process::Command::new("cargo"))
            .args([
                "test",
                "--workspace",
                "--release",
                "--no-fail-fast",
                "--",
                "--test-threads=2",
            ])
            .current_dir(self.paths.top.join("tools"))
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        fs::write(&log, [&output.stdout[..], &output.stderr[..]].concat())?;
        let mut tests = Vec::new();
        for line in text.lines() {
            let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|line| line.rsplit_once(" ... "))
            else {
                continue;
            };
            tests.push(Test {
                name: format!("cargo: {name}"),
                ok: result != "FAILED",
                skipped: result.starts_with("ignored").then(|| result.to_string()),
                diagnostics: Vec::new(),
            });
        }
        tests.push(Test {
            name: "cargo: all tests build and end".to_string(),
            ok: !tests.is_empty() && (output.status.success() || text.contains("FAILED")),
            skipped: None,
            diagnostics: String::from_utf8_lossy(&output.stderr)
                .lines()
                .rev()
                .take(20)
                .map(str::to_string)
                .collect(),
        });
        let time = Time::since(CARGO, begin);
        self.add(time, &tests, &report::path_word(&log));
        Ok(())
    }

    /// All targets that are fuzzed.
    fn fuzz(&self) -> Result<()> {
        let begin = Instant::now();
        let (tests, log) = fuzz::all(self.paths, self.extent.fuzz_seconds(), self.seed)?;
        let time = Time::since(FUZZ, begin);
        self.add(time, &tests, &report::path_word(&log));
        Ok(())
    }

    /// All that needs no machine.
    fn commands(&self) -> Result<()> {
        for one in self.extent.commands().filter(|one| self.wanted(one.name)) {
            self.command(one)?;
        }
        if self.wanted(CARGO) {
            self.cargo()?;
        }
        if self.wanted(FUZZ) {
            self.fuzz()?;
        }
        Ok(())
    }

    /// The parameters of a machine. With all checkers, what has no end of its own goes on for
    /// minutes.
    fn parameters(&self, kernel: Kernel, scenario: &Scenario) -> String {
        let seed = seed::parameter(self.seed);
        let of_campaign = self.extent == Extent::All && kernel == Kernel::Debug;
        match campaign::seconds_of_check(scenario.name).filter(|_| of_campaign) {
            Some(seconds) => format!("{seed} {}", campaign::parameter(seconds)),
            None => seed,
        }
    }

    fn machine(&self, accel: Accel, kernel: Kernel, scenario: &'static Scenario) -> Result<()> {
        let group = scenario.group(kernel);
        let begin = Instant::now();
        let mut outcome = Machine {
            paths: self.paths,
            accel,
            kernel,
            scenario,
            // With all checkers, the usual length takes as long as the full one with others.
            all: self.extent == Extent::All && kernel != Kernel::Debug,
            properties: "",
            parameters: &self.parameters(kernel, scenario),
            kept: None,
        }
        .run(|_| ())
        .with_context(|| group.clone())?;
        let logs = bench::tests(kernel, scenario, &outcome);
        outcome.tests.extend(logs);
        let time = Time {
            busy: Some(outcome.busy.as_secs_f64()),
            ..Time::since(&group, begin)
        };
        for test in &mut outcome.tests {
            test.name = format!("{group}: {}", test.name);
        }
        self.add(time, &outcome.tests, &report::path_word(&outcome.dir));
        Ok(())
    }

    /// What is to be run, what takes longest first.
    fn jobs(&self) -> Vec<Job> {
        let mut machines = machines(self.extent);
        machines.retain(|(kernel, scenario)| self.wanted(&scenario.group(*kernel)));
        machines
            .sort_by_key(|(kernel, scenario)| Reverse((scenario.seconds, kernel.has_checkers())));
        let commands = self.extent.commands().map(|one| one.name);
        let commands = commands.chain([CARGO, FUZZ]);
        let mut jobs = Vec::new();
        if commands.into_iter().any(|name| self.wanted(name)) {
            jobs.push(Job::Commands);
        }
        jobs.extend(machines.into_iter().map(|(k, s)| Job::Machine(k, s)));
        jobs
    }

    /// Runs everything. Returns whether all went well.
    fn run(self) -> Result<bool> {
        let begin = Instant::now();
        fs::create_dir_all(self.paths.out().join("log"))?;
        report::remove(&self.paths.out().join(times::FILE))?;
        println!("TAP version 13");
        println!("# seed {}", self.seed);
        let jobs = self.jobs();
        let accel = match jobs.iter().any(|job| matches!(job, Job::Machine(..))) {
            true => Accel::probe(self.paths)?,
            false => Accel::Tcg,
        };
        schedule::run(jobs, |job| match job {
            Job::Commands => self.commands(),
            Job::Machine(kernel, scenario) => self.machine(accel, kernel, scenario),
        })?;
        let tally = self
            .tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        tally.end(begin.elapsed(), self.paths)
    }
}

/// Runs all tests, or the groups that `only` chooses. Returns whether all went well.
pub fn run(paths: &Paths, extent: Extent, only: Option<&str>, seed: u64) -> Result<bool> {
    let groups = wanted(extent, only)?;
    Check {
        paths,
        extent,
        groups,
        seed,
        tally: Mutex::default(),
    }
    .run()
}

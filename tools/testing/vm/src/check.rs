// SPDX-License-Identifier: GPL-2.0

//! `make check` and `make check-all`: tests of all kinds as TAP, with a count at the end.

use crate::{
    accel::Accel,
    bench, children, fuzz,
    machine::Machine,
    needs::Need,
    paths::Paths,
    report::{
        self, quoted,
        times::{self, Time},
    },
    schedule, seed,
    tap::Test,
};
use anyhow::{ensure, Context, Result};
use std::{
    cmp::Reverse,
    collections::BTreeSet,
    fs,
    process::{self, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use vm_common::{
    kernel::Kernel,
    names,
    scenarios::{self, Scenario, Suite},
};

/// The group of the tests of all Rust programs and libraries.
const CARGO: &str = "cargo";
/// The group of what is fuzzed.
const FUZZ: &str = "fuzz";

/// A group with one test, which is a command.
struct Command {
    name: &'static str,
    /// For a shell, in the checkout.
    command: &'static str,
    needs: &'static [Need],
}

/// All such groups.
const COMMANDS: &[Command] = &[
    Command {
        name: "shell scripts",
        command: "shellcheck -x $(find . -name '*.sh' -not -path './out/*') .ci/run",
        needs: &[],
    },
    Command {
        name: "format of user space",
        command: "cd tools && cargo fmt --all --check",
        needs: &[],
    },
    Command {
        name: "format of the kernel side",
        command: "rustfmt --check --edition 2021 $(find drivers samples -name '*_main.rs' -o -name lib.rs)",
        needs: &[],
    },
    Command {
        name: "clippy of user space",
        command: "cd tools && cargo clippy --workspace --all-targets --release -- -D warnings",
        needs: &[],
    },
    Command {
        name: "clippy of the kernel side",
        command: "tools/testing/vm/check-clippy.sh",
        needs: &[Need::Stock],
    },
    Command {
        name: "checkpatch of the kernel side",
        command: "tools/testing/vm/check-style.sh",
        needs: &[Need::Sources],
    },
    Command {
        name: "documentation",
        command: "tools/testing/vm/check-docs.sh",
        needs: &[Need::Sources],
    },
    Command {
        name: "unsafe only where it may be",
        command: "tools/testing/vm/check-unsafe.sh",
        needs: &[],
    },
    Command {
        name: "builds without warnings",
        command: "tools/testing/vm/check-warnings.sh emu fuzz guest runner module module-bitmaps intree",
        needs: &[Need::Stock, Need::Intree, Need::Fuzz],
    },
    Command {
        name: "SPDX line in every file",
        command: "tools/testing/vm/check-spdx.sh",
        needs: &[],
    },
    Command {
        name: "quotes of the uAPI",
        command: "\"$VM_BUILD/vfio-mig\" test --check-quotes \"$VM_INTREE/../source/include/uapi/linux/vfio.h\"",
        needs: &[Need::Intree],
    },
];

/// How much is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// `make check`.
    Usual,
    /// `make check-all`: the long suites and the third kernel as well, and as much of what
    /// is random as there is.
    All,
}

impl Extent {
    /// The make target.
    const fn target(self) -> &'static str {
        match self {
            Self::Usual => "check",
            Self::All => "check-all",
        }
    }

    /// Seconds that each target is fuzzed.
    const fn fuzz_seconds(self) -> u32 {
        match self {
            Self::Usual => 12,
            Self::All => 120,
        }
    }

    /// Its kernels.
    const fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::Usual => &Kernel::BOTH,
            Self::All => &Kernel::ALL,
        }
    }

    /// Whether it has the scenarios of a suite.
    fn has(self, suite: Suite) -> bool {
        match suite {
            Suite::Check => true,
            Suite::CheckQemu | Suite::CheckQemuFaults => self == Self::All,
            Suite::Bench | Suite::Run => false,
        }
    }

    /// The command that runs just one group, with another one's random choices.
    fn again(self, group: &str, seed: u64) -> String {
        format!("make {} TEST={} SEED={seed}", self.target(), quoted(group))
    }
}

/// Counts, and says what fails.
#[derive(Default)]
struct Tally {
    count: usize,
    failed: usize,
    skipped: usize,
    times: Vec<Time>,
    /// How to have the groups again that have failed.
    again: Vec<String>,
}

impl Tally {
    fn test(&mut self, test: &Test, log: &str) {
        self.count += 1;
        let count = self.count;
        let result = if test.ok { "ok" } else { "not ok" };
        match &test.skipped {
            Some(reason) => {
                self.skipped += 1;
                println!("{result} {count} {} # SKIP {reason}", test.name);
            }
            None => println!("{result} {count} {}", test.name),
        }
        if !test.ok {
            self.failed += 1;
            for line in &test.diagnostics {
                println!("# {line}");
            }
            println!("# log: {log}");
        }
    }

    /// The tests of a group, which have all ended.
    fn group(&mut self, time: Time, tests: &[Test], log: &str, again: String) {
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
    fn end(self, whole: Duration, paths: &Paths) -> Result<bool> {
        println!("1..{}", self.count);
        times::publish(self.times, whole, &paths.out())?;
        for again in &self.again {
            println!("# failed: {again}");
        }
        println!(
            "{} passed, {} failed, {} skipped",
            self.count - self.failed - self.skipped,
            self.failed,
            self.skipped
        );
        Ok(self.failed == 0 && self.count > 0)
    }
}

/// The machines of all tests.
fn machines(extent: Extent) -> Vec<(Kernel, &'static Scenario)> {
    let with = |kernel: Kernel| {
        scenarios::ALL
            .iter()
            .filter(move |one| extent.has(one.suite) && one.runs_with(kernel))
            .map(move |one| (kernel, one))
    };
    extent.kernels().iter().copied().flat_map(with).collect()
}

/// The names of all groups of tests.
pub fn groups(extent: Extent) -> Vec<String> {
    let commands = COMMANDS.iter().map(|one| one.name.to_string());
    let machines = machines(extent)
        .into_iter()
        .map(|(kernel, scenario)| scenario.group(kernel));
    commands
        .chain([CARGO, FUZZ].map(str::to_string))
        .chain(machines)
        .collect()
}

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
    /// How much of it.
    extent: Extent,
    /// The names of the groups that are run.
    groups: Vec<String>,
    /// What is random comes from this.
    seed: u64,
    /// What has come of it.
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
        self.add(time, &[test], &log.display().to_string());
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
        self.add(time, &tests, &log.display().to_string());
        Ok(())
    }

    /// All targets that are fuzzed.
    fn fuzz(&self) -> Result<()> {
        let begin = Instant::now();
        let (tests, log) = fuzz::all(self.paths, self.extent.fuzz_seconds(), self.seed)?;
        let time = Time::since(FUZZ, begin);
        self.add(time, &tests, &log.display().to_string());
        Ok(())
    }

    /// All that needs no machine.
    fn commands(&self) -> Result<()> {
        for one in COMMANDS.iter().filter(|one| self.wanted(one.name)) {
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

    fn machine(&self, accel: Accel, kernel: Kernel, scenario: &'static Scenario) -> Result<()> {
        let group = scenario.group(kernel);
        let begin = Instant::now();
        let mut outcome = Machine {
            paths: self.paths,
            accel,
            kernel,
            scenario,
            all: self.extent == Extent::All,
            properties: "",
            parameters: &seed::parameter(self.seed),
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
        self.add(time, &outcome.tests, &outcome.dir.display().to_string());
        Ok(())
    }

    /// What is to be run, what takes longest first.
    fn jobs(&self) -> Vec<Job> {
        let mut machines = machines(self.extent);
        machines.retain(|(kernel, scenario)| self.wanted(&scenario.group(*kernel)));
        machines
            .sort_by_key(|(kernel, scenario)| Reverse((scenario.seconds, kernel.has_checkers())));
        let commands = COMMANDS.iter().map(|one| one.name);
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

/// The names of the groups that `only` chooses.
fn wanted(extent: Extent, only: Option<&str>) -> Result<Vec<String>> {
    let wanted = names::chosen(groups(extent), only);
    ensure!(
        !wanted.is_empty(),
        "no group of tests has {:?} in its name; there are\n    {}",
        only.unwrap_or_default(),
        groups(extent).join("\n    ")
    );
    Ok(wanted)
}

/// What the groups need that `only` chooses.
pub fn needs(extent: Extent, only: Option<&str>) -> Result<BTreeSet<Need>> {
    let wanted = wanted(extent, only)?;
    let commands = COMMANDS
        .iter()
        .filter(|one| wanted.iter().any(|name| name == one.name))
        .flat_map(|one| one.needs)
        .copied();
    let machines = machines(extent)
        .into_iter()
        .filter(|(kernel, scenario)| wanted.contains(&scenario.group(*kernel)))
        .map(|(kernel, _)| kernel.into());
    let fuzz = wanted.iter().any(|one| one == FUZZ).then_some(Need::Fuzz);
    Ok(commands.chain(machines).chain(fuzz).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn each_group_can_be_had_alone() {
        for extent in [Extent::Usual, Extent::All] {
            for group in groups(extent) {
                assert_eq!(wanted(extent, Some(&group)).unwrap(), [group]);
            }
            assert_eq!(wanted(extent, None).unwrap(), groups(extent));
        }
    }

    #[test]
    fn all_is_more_than_usual() {
        let all = groups(Extent::All);
        assert!(groups(Extent::Usual)
            .iter()
            .all(|group| all.contains(group)));
        for group in ["intree-qemu-suite", "intree-qemu-faults", "bare-random"] {
            assert!(all.contains(&group.to_string()), "{group}");
            assert!(wanted(Extent::Usual, Some(group)).is_err(), "{group}");
        }
        assert!(!all.iter().any(|group| group.contains("bench")));
    }

    #[test]
    fn a_group_needs_what_it_runs() {
        let line = |only| needs::line(&needs(Extent::Usual, only).unwrap());
        assert_eq!(line(None), "sources stock intree fuzz");
        assert_eq!(line(Some("stock-migrate")), "stock");
        assert_eq!(line(Some("intree-migrate")), "intree");
        assert_eq!(line(Some("-migrate")), "stock intree");
        assert_eq!(line(Some("SPDX line in every file")), "");
        assert_eq!(line(Some(CARGO)), "");
        assert_eq!(line(Some(FUZZ)), "fuzz");
        let all = needs::line(&needs(Extent::All, None).unwrap());
        assert_eq!(all, "sources stock intree bare fuzz");
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let err = wanted(Extent::Usual, Some("nosuch"))
            .unwrap_err()
            .to_string();
        assert!(err.contains("stock-migrate"), "{err}");
    }

    #[test]
    fn a_group_that_fails_can_be_had_again() {
        let again = Extent::All.again("clippy of user space", 7);
        assert_eq!(again, "make check-all TEST='clippy of user space' SEED=7");
        let again = Extent::Usual.again("stock-migrate", 7);
        assert_eq!(again, "make check TEST='stock-migrate' SEED=7");
    }
}

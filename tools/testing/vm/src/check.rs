// SPDX-License-Identifier: GPL-2.0

//! `make check`: every test there is, as TAP, with a count at the end.

use crate::{
    accel::Accel, bench, children, machine::Machine, needs::Need, paths::Paths, report::quoted,
    seed, tap::Test,
};
use anyhow::{anyhow, ensure, Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex, PoisonError,
    },
    thread,
    time::Instant,
};
use vm_common::{
    kernel::Kernel,
    names,
    scenarios::{self, Scenario, Suite},
};

/// The group of the tests of all Rust programs and libraries.
const CARGO: &str = "cargo";

/// Tests that are commands: name, command, and what it needs.
const COMMANDS: &[(&str, &str, &[Need])] = &[
    (
        "shell scripts",
        "shellcheck -x $(find . -name '*.sh' -not -path './out/*') .ci/run",
        &[],
    ),
    (
        "format of user space",
        "cd tools && cargo fmt --all --check",
        &[],
    ),
    (
        "format of the kernel side",
        "rustfmt --check --edition 2021 $(find drivers samples -name '*_main.rs')",
        &[],
    ),
    (
        "clippy of user space",
        "cd tools && cargo clippy --workspace --all-targets --release -- -D warnings",
        &[],
    ),
    (
        "clippy of the kernel side",
        "tools/testing/vm/check-clippy.sh",
        &[Need::Stock],
    ),
    (
        "checkpatch of the kernel side",
        "tools/testing/vm/check-style.sh",
        &[Need::Sources],
    ),
    (
        "unsafe only where it may be",
        "tools/testing/vm/check-unsafe.sh",
        &[],
    ),
    (
        "builds without warnings",
        "tools/testing/vm/check-warnings.sh emu guest runner module intree",
        &[Need::Stock, Need::Intree],
    ),
    ("SPDX line in every file", "tools/testing/vm/check-spdx.sh", &[]),
    (
        "quotes of the uAPI",
        "\"$VM_BUILD/vfio-mig\" test --check-quotes \"$VM_INTREE/../source/include/uapi/linux/vfio.h\"",
        &[Need::Intree],
    ),
];

/// Counts, and says what fails.
pub struct Tally {
    count: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn add(&mut self, test: &Test, again: &str, log: &str) {
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
            println!("# just this again: {again}");
        }
    }
}

/// The machines of all tests.
fn machines() -> Vec<(Kernel, &'static Scenario)> {
    let with = |kernel: Kernel| {
        scenarios::ALL
            .iter()
            .filter(move |one| one.suite == Suite::Check && one.runs_with(kernel))
            .map(move |one| (kernel, one))
    };
    Kernel::BOTH.into_iter().flat_map(with).collect()
}

/// The names of all groups of tests.
fn groups() -> Vec<String> {
    let commands = COMMANDS.iter().map(|(name, ..)| (*name).to_string());
    let machines = machines()
        .into_iter()
        .map(|(kernel, scenario)| scenario.group(kernel));
    commands
        .chain([CARGO.to_string()])
        .chain(machines)
        .collect()
}

/// What is to be checked.
struct Check<'a> {
    /// Where things are.
    paths: &'a Paths,
    /// The names of the groups that are run.
    groups: Vec<String>,
    /// What is random comes from this.
    seed: u64,
}

impl Check<'_> {
    fn wanted(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    fn command(&self, tally: &mut Tally, name: &str, command: &str) -> Result<()> {
        let log = self
            .paths
            .out()
            .join("log")
            .join(format!("check-{}.log", name.replace(' ', "-")));
        let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
        let status = children::bind(&mut Command::new("bash"))
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
        tally.add(
            &test,
            &format!("make check TEST={}", quoted(name)),
            &log.display().to_string(),
        );
        Ok(())
    }

    /// The cargo tests, each of them.
    fn cargo(&self, tally: &mut Tally) -> Result<()> {
        let log = self.paths.out().join("log/check-cargo.log");
        let output = children::bind(&mut Command::new("cargo"))
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
        let mut found = 0;
        for line in text.lines() {
            let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|line| line.rsplit_once(" ... "))
            else {
                continue;
            };
            found += 1;
            let test = Test {
                name: format!("cargo: {name}"),
                ok: result != "FAILED",
                skipped: result.starts_with("ignored").then(|| result.to_string()),
                diagnostics: Vec::new(),
            };
            tally.add(&test, "make check TEST=cargo", &log.display().to_string());
        }
        let end = Test {
            name: "cargo: all tests build and end".to_string(),
            ok: found > 0 && (output.status.success() || text.contains("FAILED")),
            skipped: None,
            diagnostics: String::from_utf8_lossy(&output.stderr)
                .lines()
                .rev()
                .take(20)
                .map(str::to_string)
                .collect(),
        };
        tally.add(&end, "make check TEST=cargo", &log.display().to_string());
        Ok(())
    }

    /// Runs one machine, and then reports its tests together.
    fn machine(
        &self,
        tally: &Mutex<Tally>,
        accel: Accel,
        (kernel, scenario): (Kernel, &'static Scenario),
    ) -> Result<()> {
        let group = scenario.group(kernel);
        let begin = Instant::now();
        let mut outcome = Machine {
            paths: self.paths,
            accel,
            kernel,
            scenario,
            properties: "",
            parameters: &seed::parameter(self.seed),
        }
        .run(|_| ())
        .with_context(|| group.clone())?;
        if scenario.machine.counted {
            let goals = bench::paths::tests(&outcome);
            outcome.tests.extend(goals);
        }
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        println!("# {group}: {:.0}s", begin.elapsed().as_secs_f64());
        for mut test in outcome.tests {
            test.name = format!("{group}: {}", test.name);
            tally.add(
                &test,
                &format!("make check TEST={group} SEED={}", self.seed),
                &outcome.dir.display().to_string(),
            );
        }
        Ok(())
    }

    /// Runs all machines, as many at a time as the host has cores.
    fn machines(&self, tally: &Mutex<Tally>) -> Result<()> {
        let mut all = machines();
        all.retain(|(kernel, scenario)| self.wanted(&scenario.group(*kernel)));
        if all.is_empty() {
            return Ok(());
        }
        let accel = Accel::probe(self.paths)?;
        println!("# machines run on {}", accel.name());
        let next = AtomicUsize::new(0);
        let workers = thread::available_parallelism().map_or(1, |n| n.get());
        thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.machine(tally, accel, *one)?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
            })
        })
    }

    /// Runs everything. Returns whether all went well.
    fn run(&self) -> Result<bool> {
        let mut tally = Tally {
            count: 0,
            failed: 0,
            skipped: 0,
        };
        fs::create_dir_all(self.paths.out().join("log"))?;
        println!("TAP version 13");
        println!("# seed {}", self.seed);
        for (name, command, _) in COMMANDS.iter().filter(|(name, ..)| self.wanted(name)) {
            self.command(&mut tally, name, command)?;
        }
        if self.wanted(CARGO) {
            self.cargo(&mut tally)?;
        }
        let tally = Mutex::new(tally);
        self.machines(&tally)?;
        let Tally {
            count,
            failed,
            skipped,
        } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("1..{count}");
        println!(
            "{} passed, {failed} failed, {skipped} skipped",
            count - failed - skipped
        );
        Ok(failed == 0 && count > 0)
    }
}

/// The names of the groups that `only` chooses.
fn wanted(only: Option<&str>) -> Result<Vec<String>> {
    let wanted = names::chosen(groups(), only);
    ensure!(
        !wanted.is_empty(),
        "no group of tests has {:?} in its name; there are\n    {}",
        only.unwrap_or_default(),
        groups().join("\n    ")
    );
    Ok(wanted)
}

/// What the groups need that `only` chooses.
pub fn needs(only: Option<&str>) -> Result<BTreeSet<Need>> {
    let wanted = wanted(only)?;
    let commands = COMMANDS
        .iter()
        .filter(|(name, ..)| wanted.iter().any(|one| one == name))
        .flat_map(|(.., needs)| *needs)
        .copied();
    let machines = machines()
        .into_iter()
        .filter(|(kernel, scenario)| wanted.contains(&scenario.group(*kernel)))
        .map(|(kernel, _)| kernel.into());
    Ok(commands.chain(machines).collect())
}

/// Runs all tests, or the groups that `only` chooses. Returns whether all went well.
pub fn run(paths: &Paths, only: Option<&str>, seed: u64) -> Result<bool> {
    let groups = wanted(only)?;
    Check {
        paths,
        groups,
        seed,
    }
    .run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn each_group_can_be_had_alone() {
        for group in groups() {
            assert_eq!(wanted(Some(&group)).unwrap(), [group]);
        }
        assert_eq!(wanted(None).unwrap(), groups());
    }

    #[test]
    fn a_group_needs_what_it_runs() {
        let line = |only| needs::line(&needs(only).unwrap());
        assert_eq!(line(None), "sources stock intree");
        assert_eq!(line(Some("stock-migrate")), "stock");
        assert_eq!(line(Some("intree-migrate")), "intree");
        assert_eq!(line(Some("-migrate")), "stock intree");
        assert_eq!(line(Some("SPDX line in every file")), "");
        assert_eq!(line(Some(CARGO)), "");
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let err = wanted(Some("nosuch")).unwrap_err().to_string();
        assert!(err.contains("stock-migrate"), "{err}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One mutant: builds it, and runs what should notice until a test fails.

use super::{
    mutant::Mutant,
    suite::Suite,
    tree::{
        Built,
        Tree, //
    },
};
use crate::{
    accel::Accel,
    machine::Machine,
    seed, //
};
use anyhow::{
    Context,
    Result, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::Scenario, //
};

/// What came of a mutant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A test has failed: this one.
    Killed(String),
    /// No test has.
    Survived,
    /// It does not compile, as this log says.
    DoesNotCompile(String),
}

/// The first line of a log of cargo that names a test which has failed.
fn failed_test(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let failed = |line: &str| {
        Some(
            line.strip_prefix("test ")?
                .strip_suffix(" ... FAILED")?
                .to_string(),
        )
    };
    let found = text.lines().find_map(failed);
    found.unwrap_or_else(|| "the tests do not end well".to_string())
}

/// The tests of a crate.
fn of_crate(tree: &Tree, name: &str) -> Result<Verdict> {
    let cargo = |more: &[&str]| {
        let mut command = tree.cargo();
        command
            .args(["test", "--quiet", "--release", "--package", name])
            .args(more);
        command
    };
    let (compiles, log) = tree.run("cargo-build", &mut cargo(&["--no-run"]))?;
    if !compiles {
        return Ok(Verdict::DoesNotCompile(log.display().to_string()));
    }
    let more = ["--", "--format=pretty", "--test-threads=2"];
    let (ok, log) = tree.run("cargo-test", &mut cargo(&more))?;
    Ok(match ok {
        true => Verdict::Survived,
        false => Verdict::Killed(failed_test(&log)),
    })
}

/// The tests of a machine.
fn of_machine(
    tree: &Tree,
    accel: Accel,
    (kernel, scenario): (Kernel, &'static Scenario),
    seed: u64,
) -> Result<Verdict> {
    let group = scenario.group(kernel);
    let outcome = Machine {
        paths: &tree.paths,
        accel,
        kernel,
        scenario,
        all: false,
        properties: "",
        // All cases that a scenario draws some of.
        parameters: &format!("{} vmtest.whole=1", seed::parameter(seed)),
        kept: None,
    }
    .run_until_failure()
    .context(group)?;
    let failed = outcome.tests.into_iter().find(|test| !test.ok);
    Ok(failed.map_or(Verdict::Survived, |test| Verdict::Killed(test.name)))
}

/// Applies a mutant, and finds out whether anything notices.
pub fn run(tree: &Tree, accel: Accel, mutant: &Mutant, seed: u64) -> Result<Verdict> {
    let _applied = tree.apply(mutant)?;
    let mut built = BTreeSet::new();
    for suite in &mutant.suites {
        if let Suite::Machine(kernel, _) = suite {
            if built.insert(kernel.name()) {
                if let Built::No(log) = tree.modules(*kernel)? {
                    return Ok(Verdict::DoesNotCompile(log.display().to_string()));
                }
            }
        }
        let verdict = match *suite {
            Suite::Crate(name) => of_crate(tree, name)?,
            Suite::Machine(kernel, scenario) => of_machine(tree, accel, (kernel, scenario), seed)?,
        };
        match verdict {
            Verdict::Survived => (),
            Verdict::Killed(test) => return Ok(Verdict::Killed(format!("{suite}: {test}"))),
            Verdict::DoesNotCompile(_) => return Ok(verdict),
        }
    }
    Ok(Verdict::Survived)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_that_has_failed_is_named() {
        let log = std::env::temp_dir().join(format!("vm-test-mutant-{}", std::process::id()));
        let text = "test a::b ... ok\ntest a::c ... FAILED\ntest a::d ... FAILED\n";
        fs::write(&log, text).unwrap();
        assert_eq!(failed_test(&log), "a::c");
        fs::remove_file(&log).unwrap();
        assert_eq!(failed_test(&log), "the tests do not end well");
    }
}

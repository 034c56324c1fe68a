// SPDX-License-Identifier: GPL-2.0

//! What KUnit reports of our modules: the tests that their source has, and no failure.

use super::NamedRun;
use crate::{
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use std::{
    collections::BTreeMap,
    fs, //
};
use vm_common::drivers;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("kunit", run)];

/// The tests that must be reported: in each line a suite, and a test of it.
const LIST: &str = "/lib/kunit.list";
/// A folder for each suite of a module that is loaded.
const SUITES: &str = "/sys/kernel/debug/kunit";

/// The result of a test in the report of its suite, which is KTAP: before it is what the
/// kernel had to say about it.
fn verdict(report: &str, test: &str) -> Result<()> {
    let mut about = Vec::new();
    for line in report.lines().map(str::trim) {
        let (ok, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, Some(rest)),
            None => (true, line.strip_prefix("ok ")),
        };
        let Some((_, result)) = rest.and_then(|rest| rest.split_once(' ')) else {
            about.push(line);
            continue;
        };
        match result.strip_prefix(test) {
            Some("") if ok => return Ok(()),
            Some(more) if more.is_empty() || more.starts_with(' ') => {
                about.push(line);
                bail!("{}", about.join("\n"));
            }
            _ => about.clear(),
        }
    }
    bail!("it is not in the report of its suite")
}

pub fn run(results: &mut Results) -> Result<()> {
    // In an image, they have run while it booted.
    let is_module = sys::is_module(drivers::EXAMPLES)?;
    if is_module {
        results.test("the examples load", |_| {
            Ok(sys::load_module(drivers::EXAMPLES, "")?)
        });
    }
    let list = fs::read_to_string(LIST).context(LIST)?;
    let mut suites = BTreeMap::<&str, Vec<&str>>::new();
    for line in list.lines() {
        let (suite, test) = line.split_once(' ').context(LIST)?;
        suites.entry(suite).or_default().push(test);
    }
    for (suite, tests) in suites {
        let path = format!("{SUITES}/{suite}/results");
        let report = fs::read_to_string(&path);
        for test in tests {
            results.test(&format!("{suite}: {test}"), |_| match &report {
                Ok(report) => verdict(report, test),
                Err(err) => bail!("{path}: {err}"),
            });
        }
    }
    if is_module {
        results.test("the examples unload", |_| {
            Ok(sys::unload_module(drivers::EXAMPLES)?)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
KTAP version 1
1..1
    KTAP version 1
    # Subtest: a_suite
    # module: a_module
    1..4
    ok 1 good
    # bad: ASSERTION FAILED at a.rs:7
    Expected 1 == 2 to be true, but is false
    not ok 2 bad
    ok 3 skipped # SKIP
    ok 4 good_as_well
# a_suite: pass:2 fail:1 skip:1 total:4
not ok 1 a_suite
";

    #[test]
    fn a_test_is_good_bad_or_missing() {
        verdict(REPORT, "good").unwrap();
        verdict(REPORT, "good_as_well").unwrap();
        let bad = verdict(REPORT, "bad").unwrap_err().to_string();
        assert!(
            bad.contains("at a.rs:7") && bad.ends_with("not ok 2 bad"),
            "{bad}"
        );
        assert!(!bad.contains("good"), "{bad}");
        assert!(verdict(REPORT, "skipped").is_err());
        assert!(verdict(REPORT, "goo").is_err());
        assert!(verdict("", "good").is_err());
    }
}

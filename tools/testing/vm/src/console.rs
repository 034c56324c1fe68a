// SPDX-License-Identifier: GPL-2.0

//! The console of a machine that has ended: everything that its kernel has said.

use crate::tap::Test;
use std::{
    fs,
    path::Path, //
};
use vm_common::judge::{
    self,
    Judge, //
};

/// The test that fails if the kernel has complained.
pub const COMPLAINED: &str = "the kernel complained of nothing";
/// How much of a log is shown if something is wrong.
const LAST_LINES: usize = 15;

/// The first lines of a text, as diagnostics.
pub fn first_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.take(LAST_LINES).map(str::to_string).collect()
}

/// The last lines of a file, as diagnostics.
pub fn last_lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..]
        .iter()
        .map(|line| line.trim_end().to_string())
        .collect()
}

/// The line with which the kernel says that it does not go on.
pub fn death(console: &str) -> Option<String> {
    let line = console.lines().find(|line| judge::is_death(line))?;
    Some(line.trim_end().to_string())
}

/// Whether the kernel has complained of anything that no test has announced: also
/// of what init has not seen.
pub fn judge(console: &str) -> Test {
    let mut judge = Judge::default();
    let mut faults = Vec::new();
    for line in console.lines() {
        if judge.is_fault(line) {
            faults.push(format!("{}: {}", judge.test(), line.trim_end()));
        }
    }
    Test {
        name: COMPLAINED.to_string(),
        ok: faults.is_empty(),
        skipped: None,
        diagnostics: first_lines(faults.iter().map(String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_outside_of_tests_are_seen() {
        let console = "[ 0.1] boot\r\n[ 0.2] WARNING: CPU: 1 a\r\n[ 1.0] vmtest: begin b\r\n\
                       [ 1.1] BUG: c\r\n[ 1.2] vmtest: end\r\n";
        let test = judge(console);
        assert!(!test.ok);
        let expected = [
            "outside of any test: [ 0.2] WARNING: CPU: 1 a",
            "b: [ 1.1] BUG: c",
        ];
        assert_eq!(test.diagnostics, expected);
        assert!(judge("[ 0.1] boot\n").ok);
    }

    #[test]
    fn a_death_is_seen() {
        assert!(death("a\n[ 1.0] Kernel panic - not syncing: b\r\n").is_some());
        assert_eq!(death("a\n"), None);
    }
}

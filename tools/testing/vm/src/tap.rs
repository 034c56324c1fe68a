// SPDX-License-Identifier: GPL-2.0

//! What a machine writes to its second serial port: results in KTAP, data, and news
//! for a person.

use serde_json::Value;
use std::fmt;

/// A line of results.
#[derive(Clone, Debug)]
pub struct Test {
    /// What was tested.
    pub name: String,
    /// Whether it went well.
    pub ok: bool,
    /// Not run, and why.
    pub skipped: Option<String>,
    /// What it says about that.
    pub diagnostics: Vec<String>,
}

/// Numbers of tests, of each kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    /// Counts one more. What is skipped has not passed.
    pub fn add(&mut self, test: &Test) {
        match (test.ok, &test.skipped) {
            (false, _) => self.failed += 1,
            (true, Some(_)) => self.skipped += 1,
            (true, None) => self.passed += 1,
        }
    }

    /// Of these tests.
    pub fn of(tests: &[Test]) -> Self {
        let mut counts = Self::default();
        tests.iter().for_each(|test| counts.add(test));
        counts
    }

    /// All of them.
    pub fn all(&self) -> usize {
        self.passed + self.failed + self.skipped
    }

    /// Whether there are tests, and none has failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.all() > 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// What a machine tells a person while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News<'a> {
    /// What it does now.
    Progress(&'a str),
    /// What a person may want to keep.
    Say(&'a str),
}

impl<'a> News<'a> {
    /// Takes a line apart.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (kind, text) = line.trim_end().split_once(' ')?;
        match kind {
            "@progress" => Some(Self::Progress(text)),
            "@say" => Some(Self::Say(text)),
            _ => None,
        }
    }
}

/// The lines of `text` that are whole, and behind its first `heard` bytes.
pub fn new_lines(text: &[u8], heard: usize) -> &[u8] {
    let new = text.get(heard..).unwrap_or_default();
    let end = new.iter().rposition(|byte| *byte == b'\n');
    &new[..end.map_or(0, |end| end + 1)]
}

/// Takes KTAP apart: tests, data, and whether it is complete. What ends early, or
/// counts wrongly, is not.
pub fn parse(text: &str) -> (Vec<Test>, Vec<Value>, bool) {
    let mut tests: Vec<Test> = Vec::new();
    let mut data = Vec::new();
    let mut plan = None;
    let mut done = false;
    for line in text.lines().map(str::trim_end) {
        let result = line
            .strip_prefix("not ok ")
            .map(|rest| (false, rest))
            .or_else(|| line.strip_prefix("ok ").map(|rest| (true, rest)));
        if let Some((ok, rest)) = result {
            let name = rest.split_once(' ').map_or(rest, |(_, name)| name);
            let (name, skipped) = match name.split_once(" # SKIP") {
                Some((name, reason)) => (name, Some(reason.trim().to_string())),
                None => (name, None),
            };
            tests.push(Test {
                name: name.to_string(),
                ok,
                skipped,
                diagnostics: Vec::new(),
            });
        } else if let Some(text) = line.strip_prefix("# ") {
            if let Some(test) = tests.last_mut() {
                test.diagnostics.push(text.to_string());
            }
        } else if let Some(json) = line.strip_prefix("@json ") {
            data.extend(serde_json::from_str::<Value>(json));
        } else if let Some(count) = line.strip_prefix("1..") {
            plan = count.parse::<usize>().ok();
        } else if line == "@done" {
            done = true;
        }
    }
    let complete = done && plan == Some(tests.len());
    (tests, data, complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let text = "KTAP version 1\n@progress a\nok 1 a b\r\nnot ok 2 c\n# why\n\
                    ok 3 d # SKIP no device\n@json {\"x\":1}\n1..3\n@done\n";
        let (tests, data, complete) = parse(text);
        assert!(complete);
        assert_eq!(tests.len(), 3);
        assert_eq!((tests[0].name.as_str(), tests[0].ok), ("a b", true));
        assert_eq!(tests[1].diagnostics, ["why"]);
        assert_eq!(tests[2].skipped.as_deref(), Some("no device"));
        assert_eq!(data[0]["x"], 1);
    }

    #[test]
    fn each_test_is_counted_once() {
        let text = "ok 1 a\nnot ok 2 b\nok 3 c # SKIP no device\nnot ok 4 d # SKIP why\nok 5 e\n";
        let (tests, ..) = parse(text);
        let counts = Counts::of(&tests);
        assert_eq!(counts.to_string(), "2 passed, 2 failed, 1 skipped");
        assert_eq!(counts.all(), 5);
        assert!(!counts.is_good());
        assert!(Counts::of(&tests[..1]).is_good());
        // Nothing has run.
        assert!(!Counts::default().is_good());
    }

    #[test]
    fn a_line_is_heard_once_when_it_is_whole() {
        let text = b"@progress a\r\n@say b c\r\nok 1 d\n@say e\n@sa";
        let mut heard = 0;
        let mut said = Vec::new();
        for until in 0..=text.len() {
            let new = new_lines(&text[..until], heard);
            heard += new.len();
            let new = std::str::from_utf8(new).unwrap();
            said.extend(new.lines().filter_map(News::parse));
        }
        assert_eq!(
            said,
            [News::Progress("a"), News::Say("b c"), News::Say("e")]
        );
    }

    #[test]
    fn what_stops_early_is_not_complete() {
        for text in [
            "",
            "ok 1 a\n",
            "ok 1 a\n1..1\n",
            "ok 1 a\n1..2\n@done\n",
            "@done\n",
        ] {
            assert!(!parse(text).2, "{text:?}");
        }
    }
}

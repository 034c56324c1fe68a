// SPDX-License-Identifier: GPL-2.0

//! What a driver is known to fail, and why: a TOML file, each entry of which is
//! a bug report.

use crate::{
    error::{
        Context,
        Error, //
    },
    text,
    text_file, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::{
    io,
    path::Path, //
};

/// A known failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The tests, all for the same reason.
    pub tests: Vec<String>,
    /// The subject of a report about the failure.
    pub subject: String,
    /// Strings. The message of each failure has one of these in it.
    pub observed: Vec<String>,
    /// What is wrong in the driver, or why the driver is right.
    pub cause: String,
    /// Whether the tests pass at times, since timing decides.
    #[serde(default)]
    pub sometimes: bool,
}

/// The known failures of a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Which driver, as sysfs names it, and of which kernel.
    #[serde(default)]
    pub driver: String,
    /// The known failures.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// How the result of a test compares with what is known.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement<'a> {
    /// No entry is about the test.
    Unknown,
    /// The test fails in the known way.
    AsKnown(&'a Known),
    /// The test is known to fail in another way.
    Otherwise(&'a Known),
}

impl Expectations {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = || text::shown_path(path);
        let text = text_file::read(path).context(name())?;
        toml::from_str(&text)
            .map_err(io::Error::other)
            .context(name())
    }

    /// What is known of a test that failed with `message`, or did not fail.
    pub fn judge(&self, test: &str, message: Option<&str>) -> Judgement<'_> {
        let mut all = self.known.iter();
        match all.find(|known| known.tests.iter().any(|name| name == test)) {
            None => Judgement::Unknown,
            Some(known) if known.sometimes && message.is_none() => Judgement::Unknown,
            Some(known)
                if message.is_some_and(|m| known.observed.iter().any(|seen| m.contains(seen))) =>
            {
                Judgement::AsKnown(known)
            }
            Some(known) => Judgement::Otherwise(known),
        }
    }

    /// Names that no test has.
    pub fn unknown_tests<'a>(&'a self, names: &[&str]) -> Vec<&'a str> {
        let all = self.known.iter().flat_map(|known| &known.tests);
        all.map(String::as_str)
            .filter(|name| !names.contains(name))
            .collect()
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn failures_are_compared_with_what_is_known() {
        let text = "driver = 'x'\n[[known]]\ntests = ['a', 'b']\nsubject = 's'\n\
                    observed = ['no error']\ncause = 'c'\n";
        let all: Expectations = toml::from_str(text).unwrap();
        let known = &all.known[0];
        assert_eq!(all.judge("c", None), Judgement::Unknown);
        assert_eq!(
            all.judge("a", Some("x: no error")),
            Judgement::AsKnown(known)
        );
        assert_eq!(all.judge("b", Some("EIO")), Judgement::Otherwise(known));
        assert_eq!(all.judge("b", None), Judgement::Otherwise(known));
        assert_eq!(all.unknown_tests(&["a"]), ["b"]);
        let all: Expectations = toml::from_str(&format!("{text}sometimes = true\n")).unwrap();
        assert_eq!(all.judge("b", None), Judgement::Unknown);
        assert_eq!(
            all.judge("b", Some("no error")),
            Judgement::AsKnown(&all.known[0])
        );
        assert_eq!(
            all.judge("b", Some("EIO")),
            Judgement::Otherwise(&all.known[0])
        );
        assert!(toml::from_str::<Expectations>("nonsense = 1").is_err());
    }
}

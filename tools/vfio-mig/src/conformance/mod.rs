// SPDX-License-Identifier: GPL-2.0

//! The conformance suite: does a driver do what include/uapi/linux/vfio.h says?
//!
//! Each test is about one sentence there, and names it by its line. It runs in a
//! process of its own ([`runner`]), on a device that was just opened, and so
//! just reset.

mod expectations;
mod features;
mod logging;
mod precopy;
mod processes;
mod requests;
mod resets;
mod resuming;
pub mod runner;
mod sessions;
mod site;
mod states;

pub use expectations::Expectations;
pub use site::Site;

use crate::error::Error;
use std::io;

/// The reason for a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A sentence, or most of one, of include/uapi/linux/vfio.h, and the line in
    /// which it begins.
    Uapi(u32, &'static str),
    /// What everybody expects of a driver, but the header does not say.
    Expected(&'static str),
}

/// How a test ended, if not well.
#[derive(Debug)]
pub enum Stop {
    /// The driver does something else.
    Fail(String),
    /// It cannot be run on this device, and why.
    Skip(String),
}

impl From<Error> for Stop {
    fn from(err: Error) -> Self {
        Self::Fail(err.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Self {
        Self::Fail(err.to_string())
    }
}

/// How a test ended.
pub type Verdict = Result<(), Stop>;

/// Fails a test unless `ok`.
fn require(ok: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if ok {
        Ok(())
    } else {
        Err(Stop::Fail(otherwise()))
    }
}

/// Skips a test.
fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(why.into()))
}

/// The name of an error, for people.
fn shown(err: &io::Error) -> String {
    match err.raw_os_error() {
        Some(errno) => format!("{:?}", nix::errno::Errno::from_raw(errno)),
        None => err.to_string(),
    }
}

/// Fails a test unless `result` is this error.
fn require_errno<T>(result: io::Result<T>, errno: i32, of: &str) -> Verdict {
    let wanted = nix::errno::Errno::from_raw(errno);
    match result {
        Ok(_) => Err(Stop::Fail(format!("{of}: no error, expected {wanted:?}"))),
        Err(err) if err.raw_os_error() == Some(errno) => Ok(()),
        Err(err) => Err(Stop::Fail(format!(
            "{of}: {} instead of {wanted:?}",
            shown(&err)
        ))),
    }
}

/// What a test does.
type Body = Box<dyn Fn(&Site) -> Verdict + Send + Sync>;

/// A test.
pub struct Test {
    /// Its name.
    pub name: String,
    /// The reason for it.
    pub source: Source,
    body: Body,
}

impl Test {
    /// A test with this body.
    pub fn new(
        name: impl Into<String>,
        source: Source,
        body: impl Fn(&Site) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            source,
            body: Box::new(body),
        }
    }

    fn uapi(
        name: &str,
        line: u32,
        quote: &'static str,
        body: impl Fn(&Site) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Source::Uapi(line, quote), body)
    }

    fn expected(
        name: impl Into<String>,
        why: &'static str,
        body: impl Fn(&Site) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Source::Expected(why), body)
    }

    /// Runs it, in this process.
    pub fn run(&self, site: &Site) -> Verdict {
        (self.body)(site)
    }
}

/// All tests.
pub fn tests() -> Vec<Test> {
    [
        features::tests(),
        requests::tests(),
        states::tests(),
        sessions::tests(),
        precopy::tests(),
        resuming::tests(),
        resets::tests(),
        processes::tests(),
        logging::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The quotes that are missing from `header`, or in another line, and that line.
pub fn misquoted(header: &str) -> Vec<String> {
    // A comment as running text, with the line of each word.
    let words: Vec<(u32, &str)> = (1..)
        .zip(header.lines())
        .flat_map(|(number, line)| {
            let line = line.trim_start().trim_start_matches(['*', '/']);
            line.split_whitespace().map(move |word| (number, word))
        })
        .collect();
    let mut wrong = Vec::new();
    for test in tests() {
        let Source::Uapi(line, quote) = test.source else {
            continue;
        };
        let quote: Vec<&str> = quote.split_whitespace().collect();
        let found: Vec<u32> = words
            .windows(quote.len())
            .filter(|window| window.iter().map(|(_, word)| word).eq(quote.iter()))
            .map(|window| window[0].0)
            .collect();
        if !found.contains(&line) {
            let name = &test.name;
            wrong.push(match found.first() {
                Some(found) => format!("{name}: is in line {found}, not {line}"),
                None => format!("{name}: is not there (line {line}): {}", quote.join(" ")),
            });
        }
    }
    wrong
}

#[cfg(test)]
mod unit_tests {
    use super::*;
    use crate::state::State;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let tests = tests();
        let names: BTreeSet<_> = tests.iter().map(|test| &test.name).collect();
        assert_eq!(names.len(), tests.len());
        for name in names {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
            assert!(name.chars().all(good), "{name}");
        }
    }

    #[test]
    fn every_request_from_every_state_is_tested() {
        let tests = tests();
        for from in State::ALL {
            for to in State::ALL {
                let name = format!("request.{from}.to_{to}");
                assert!(tests.iter().any(|test| test.name == name), "{name}");
            }
        }
    }

    #[test]
    fn quotes_are_found_over_line_ends() {
        assert!(misquoted("")
            .iter()
            .all(|wrong| wrong.contains("not there")));
    }
}

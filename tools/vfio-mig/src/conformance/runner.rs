// SPDX-License-Identifier: GPL-2.0

//! Runs tests, each in a process of its own, and reports in KTAP.

use super::{
    expectations::{
        Expectations,
        Judgement, //
    },
    tests,
    Site,
    Source,
    Stop,
    Test, //
};
use crate::{
    error::{
        Context,
        Error, //
    },
    process, //
};
use nix::{
    sys::{
        signal::{
            kill,
            Signal, //
        },
        wait::{
            waitpid,
            WaitPidFlag,
            WaitStatus, //
        },
    },
    unistd::{
        pipe,
        ForkResult,
        Pid, //
    },
};
use serde::Serialize;
use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It failed in the known way.
    Known,
    /// It could not be run.
    Skip,
}

/// The result of a test.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Line of include/uapi/linux/vfio.h, where the sentence begins.
    pub line: Option<u32>,
    /// The sentence, or why it is expected without one.
    pub quote: &'static str,
    /// How it ended.
    pub status: Status,
    /// Its message.
    pub message: String,
    /// How long it took.
    pub ms: f64,
}

/// The counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that failed in the known way.
    pub known: usize,
    /// Tests that could not be run.
    pub skipped: usize,
}

impl Summary {
    /// Counts an outcome.
    pub fn add(&mut self, status: Status) {
        *match status {
            Status::Pass => &mut self.passed,
            Status::Fail => &mut self.failed,
            Status::Known => &mut self.known,
            Status::Skip => &mut self.skipped,
        } += 1;
    }
}

/// Returns the tests with one of `only` in their name, or all if `only` is empty.
pub fn selected(only: &[String]) -> Vec<Test> {
    let mut all = tests();
    if !only.is_empty() {
        all.retain(|test| only.iter().any(|part| test.name.contains(part)));
    }
    all
}

/// Interval at which the runner checks whether a test has ended.
const POLL: Duration = Duration::from_millis(5);
/// Time within which a killed process must end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for a process, and kills it after `timeout`.
fn wait(child: Pid, timeout: Duration) -> io::Result<Result<(), String>> {
    let begin = Instant::now();
    let mut killed = false;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).map_err(io::Error::from)? {
            WaitStatus::StillAlive if killed && begin.elapsed() > timeout + PATIENCE => {
                return Ok(Err("it hangs, and cannot be killed".to_string()));
            }
            WaitStatus::StillAlive if !killed && begin.elapsed() > timeout => {
                kill(child, Signal::SIGKILL).map_err(io::Error::from)?;
                killed = true;
            }
            WaitStatus::StillAlive => thread::sleep(POLL),
            _ if killed => return Ok(Err(format!("it hung for {} s", timeout.as_secs()))),
            WaitStatus::Exited(_, 0) => return Ok(Ok(())),
            status => return Ok(Err(format!("the test itself ended with {status:?}"))),
        }
    }
}

/// What a test's process sends: how the test ended, and its message.
fn tell(mut to: File, verdict: super::Verdict) {
    let (status, message) = match verdict {
        Ok(()) => ("pass", String::new()),
        Err(Stop::Fail(why)) => ("fail", why),
        Err(Stop::Skip(why)) => ("skip", why),
    };
    // If nothing arrives, the parent takes that for a failure.
    let _ = write!(to, "{status} {message}");
}

/// Runs a test in a process of its own. The calling process must have just this thread.
fn run_apart(test: &Test, site: &Site, timeout: Duration) -> io::Result<(Status, String)> {
    let (from, to) = pipe()?;
    match process::fork()? {
        ForkResult::Child => {
            drop(from);
            tell(File::from(to), test.run(site));
            process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(to);
            if let Err(why) = wait(child, timeout)? {
                return Ok((Status::Fail, why));
            }
            let mut said = String::new();
            File::from(from).read_to_string(&mut said)?;
            let (status, message) = said.split_once(' ').unwrap_or_default();
            let status = match status {
                "pass" => Status::Pass,
                "skip" => Status::Skip,
                _ => Status::Fail,
            };
            Ok((status, message.to_string()))
        }
    }
}

/// Compares an outcome with what is known.
fn judge(outcome: &mut Outcome, known: &Expectations) {
    let failed = outcome.status == Status::Fail;
    if outcome.status == Status::Skip {
        return;
    }
    match known.judge(&outcome.name, failed.then_some(outcome.message.as_str())) {
        Judgement::Unknown => (),
        Judgement::AsKnown(known) => {
            outcome.status = Status::Known;
            outcome.message = format!("{}: {}", known.subject, outcome.message);
        }
        Judgement::Otherwise(known) => {
            outcome.status = Status::Fail;
            let seen = match failed {
                true => outcome.message.as_str(),
                false => "it passes",
            };
            outcome.message = format!(
                "{seen}; known to fail with {:?} ({}): adapt the expectations",
                known.observed, known.subject
            );
        }
    }
}

/// Runs tests one after another, and calls `heard` with each outcome. Ends if `heard` fails.
pub fn run(
    all: &[Test],
    site: &Site,
    known: &Expectations,
    timeout: Duration,
    mut heard: impl FnMut(&Outcome) -> Result<(), Error>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    for test in all {
        let begin = Instant::now();
        let (status, message) =
            run_apart(test, site, timeout).context(format!("running {}", test.name))?;
        let (line, quote) = match test.source {
            Source::Uapi(line, quote) => (Some(line), quote),
            Source::Expected(why) => (None, why),
        };
        let mut outcome = Outcome {
            name: test.name.clone(),
            line,
            quote,
            status,
            message,
            ms: begin.elapsed().as_secs_f64() * 1e3,
        };
        judge(&mut outcome, known);
        summary.add(outcome.status);
        heard(&outcome)?;
    }
    Ok(summary)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn outcome(status: Status, message: &str) -> Outcome {
        Outcome {
            name: "a".to_string(),
            line: None,
            quote: "",
            status,
            message: message.to_string(),
            ms: 0.0,
        }
    }

    #[test]
    fn what_passes_against_expectations_fails() {
        let text = "[[known]]\ntests = ['a']\nsubject = 's'\nobserved = ['EIO']\ncause = 'c'\n";
        let known: Expectations = toml::from_str(text).unwrap();
        for (status, message, judged) in [
            (Status::Fail, "EIO came", Status::Known),
            (Status::Fail, "EINVAL came", Status::Fail),
            (Status::Pass, "", Status::Fail),
            (Status::Skip, "no PRE_COPY", Status::Skip),
        ] {
            let mut outcome = outcome(status, message);
            judge(&mut outcome, &known);
            assert_eq!(outcome.status, judged, "{message}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the selftests and their runner say, as results.

use super::subjects::Subject;
use crate::{
    kmsg,
    tap::Results, //
};
use anyhow::{
    anyhow,
    ensure,
    Result, //
};
use std::{
    collections::BTreeSet,
    mem, //
};
use vm_common::judge::Mark;

/// What the runner of the selftests names them.
const COLLECTION: &str = "selftests: vfio: ";

/// What came of a test.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has passed.
    Ok,
    /// It has failed.
    Failed,
    /// It was skipped, for this reason.
    Skipped(String),
}

/// Takes a line of results apart: verdict, and the name.
pub fn result(line: &str) -> Option<(Verdict, &str)> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let (name, directive) = match rest.split_once(" # ") {
        Some((name, directive)) => (name, directive.trim()),
        None => (rest, ""),
    };
    // No program expects a failure: that is for us to do.
    let verdict = if !ok || directive.starts_with("XFAIL") {
        Verdict::Failed
    } else if let Some(reason) = directive.strip_prefix("SKIP") {
        Verdict::Skipped(reason.trim().to_string())
    } else {
        Verdict::Ok
    };
    Some((verdict, name.trim_start_matches("- ").trim()))
}

/// Hears what programs say, and reports.
pub struct Listener<'a> {
    results: &'a mut Results,
    subject: &'static Subject,
    /// Programs that have ended.
    ended: BTreeSet<String>,
    /// Results of the program that runs.
    count: usize,
    /// How many of them are failures.
    failed: usize,
    /// How many it has announced.
    plan: Option<usize>,
    /// What it skips for, as a whole.
    reason: Option<String>,
    /// What it has said since its last result.
    said: Vec<String>,
    /// Which skips and failures of the subject's there were.
    seen: BTreeSet<&'static str>,
    program: String,
}

impl<'a> Listener<'a> {
    /// Listens to programs that test a subject.
    pub fn new(results: &'a mut Results, subject: &'static Subject) -> Self {
        Self {
            results,
            subject,
            ended: BTreeSet::new(),
            count: 0,
            failed: 0,
            plan: None,
            reason: None,
            said: Vec::new(),
            seen: BTreeSet::new(),
            program: String::new(),
        }
    }

    /// Reports a result, with the complaints of the kernel since the last one.
    fn report(&mut self, name: &str, verdict: Verdict) {
        let faults = self.results.kernel_faults();
        let said = mem::take(&mut self.said);
        let full = format!("{}{name}", self.subject.name);
        let known = self.subject.known(name);
        let result = match verdict {
            Verdict::Skipped(reason) => match self.subject.may_skip(name, &reason) {
                Some(why) if faults == 0 => {
                    self.seen.insert(why);
                    self.results.skip(&full, &reason);
                    return;
                }
                _ => Err(anyhow!("skipped, and should not be: {reason}")),
            },
            Verdict::Failed => match known {
                Some(known) if faults == 0 => {
                    self.seen.insert(known.test);
                    let why = format!("fails, as is known: {}", known.why);
                    self.results.record(&full, true, None, &[why]);
                    return;
                }
                _ => Err(anyhow!("{}", said.join("\n"))),
            },
            Verdict::Ok => match known {
                Some(known) if !known.sometimes => {
                    Err(anyhow!("passes, but is known to fail: {}", known.why))
                }
                _ if faults == 0 => Ok(()),
                _ => Err(anyhow!("{}", said.join("\n"))),
            },
        };
        self.results.conclude(&full, result);
    }

    /// A program begins.
    pub fn begin(&mut self, program: &str) {
        self.program = program.to_string();
        (self.count, self.failed, self.plan, self.reason) = (0, 0, None, None);
        self.said.clear();
        if program.starts_with("vfio_migration_") {
            for complaint in self.subject.complaints {
                kmsg::expect(complaint);
            }
        }
        self.results
            .progress(&format!("{}{program}", self.subject.name));
    }

    /// A line of a program.
    pub fn inner(&mut self, line: &str) {
        if let Some(plan) = line.strip_prefix("1..") {
            let (count, reason) = plan.split_once(" # SKIP").unwrap_or((plan, ""));
            self.plan = count.trim().parse().ok();
            if !reason.is_empty() {
                self.reason = Some(reason.trim().to_string());
            }
        } else if let Some((verdict, name)) = result(line) {
            self.count += 1;
            self.failed += usize::from(verdict == Verdict::Failed);
            self.report(&format!("{}: {name}", self.program), verdict);
        } else if !line.trim().is_empty() {
            if let Some((_, name)) = line.split_once(" RUN ") {
                self.results.progress(name.trim().trim_end_matches(" ..."));
            }
            let text = line.strip_prefix("# ").unwrap_or(line);
            self.said.push(text.to_string());
        }
    }

    /// The end of the program, with this exit status.
    pub fn exited(&mut self, status: Option<i32>) {
        let name = self.program.clone();
        let fails = status != Some(0);
        let verdict = if fails == (self.failed > 0) {
            Verdict::Ok
        } else {
            let failed = self.failed;
            self.said
                .push(format!("exit status {status:?} after {failed} failures"));
            Verdict::Failed
        };
        self.end(verdict, &name);
    }

    /// The end of a program.
    fn end(&mut self, verdict: Verdict, name: &str) {
        let verdict = match verdict {
            // The runner does not say why; the program has said it last.
            Verdict::Skipped(_) => Verdict::Skipped(
                self.reason
                    .take()
                    .or_else(|| self.said.last().cloned())
                    .unwrap_or_default(),
            ),
            Verdict::Ok if self.count == 0 || self.plan != Some(self.count) => {
                let (count, plan) = (self.count, self.plan);
                self.said
                    .push(format!("{count} results where the plan is {plan:?}"));
                Verdict::Failed
            }
            verdict => verdict,
        };
        self.report(name, verdict);
        self.ended.insert(name.to_string());
        self.program.clear();
        kmsg::mark(Mark::End);
    }

    /// A line of the runner.
    pub fn line(&mut self, line: &str) {
        let inner = line.strip_prefix("# ").or_else(|| line.strip_prefix('#'));
        if let Some((verdict, name)) = result(line) {
            if let Some(name) = name.strip_prefix(COLLECTION) {
                self.end(verdict, name);
                return;
            }
        }
        match inner {
            Some(inner) => match inner.strip_prefix(COLLECTION) {
                Some(name) => self.begin(name),
                None => self.inner(inner),
            },
            None => self.said.push(line.to_string()),
        }
    }

    /// One more result: `outcome`, and that these programs have ended and nothing of what the
    /// subject skips and fails was missing.
    pub fn finish(self, programs: &BTreeSet<String>, outcome: Result<()>) {
        let Self {
            results,
            subject,
            ended,
            said,
            seen,
            ..
        } = self;
        let name = format!("{}the selftests run to their end", subject.name);
        results.test(&name, |_| {
            outcome.map_err(|err| err.context(said.join("\n")))?;
            ensure!(
                ended == *programs && !ended.is_empty(),
                "of {programs:?}, {ended:?} ended\n{}",
                said.join("\n")
            );
            for (test, why) in subject.skipped {
                ensure!(seen.contains(why), "{test} was not skipped");
            }
            for lack in subject.lacks {
                ensure!(seen.contains(lack), "nothing was skipped for {lack:?}");
            }
            for known in subject.known {
                let seen = known.sometimes || seen.contains(known.test);
                ensure!(seen, "{} was not run, or has passed", known.test);
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_apart() {
        let skipped = |reason: &str| Verdict::Skipped(reason.to_string());
        for (line, expected) in [
            ("ok 1 a.b.c", Some((Verdict::Ok, "a.b.c"))),
            ("ok 2 - a b", Some((Verdict::Ok, "a b"))),
            ("not ok 3 a # exit=1", Some((Verdict::Failed, "a"))),
            ("ok 4 a # SKIP no device", Some((skipped("no device"), "a"))),
            ("ok 5 a # SKIP", Some((skipped(""), "a"))),
            ("ok 6 a # XFAIL", Some((Verdict::Failed, "a"))),
            ("okay 7 a", None),
            ("ok then", None),
            ("    ok 1 nested", None),
        ] {
            assert_eq!(result(line), expected, "{line}");
        }
    }
}

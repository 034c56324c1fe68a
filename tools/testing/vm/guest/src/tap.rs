// SPDX-License-Identifier: GPL-2.0

//! Results, in KTAP, and events for the host's eyes.

use crate::kmsg::{
    self,
    KernelLog, //
};
use anyhow::Result;
use serde_json::Value;
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::Write, //
};
use vm_common::judge::Mark;

/// Where results go: the second serial port.
const PORT: &str = "/dev/ttyS1";

/// The results of a scenario.
pub struct Results {
    port: File,
    log: KernelLog,
    count: usize,
}

impl Results {
    /// Begins.
    pub fn new() -> Result<Self> {
        let mut results = Self {
            port: OpenOptions::new().write(true).open(PORT)?,
            log: KernelLog::new()?,
            count: 0,
        };
        results.line("KTAP version 1");
        Ok(results)
    }

    fn line(&mut self, text: &str) {
        // If this fails, the host notices that the end is missing.
        let _ = writeln!(self.port, "{text}");
    }

    /// Tells the user what is going on.
    pub fn progress(&mut self, text: &str) {
        self.log.pull();
        self.line(&format!("@progress {text}"));
    }

    /// Tells the user what has happened.
    pub fn say(&mut self, text: &str) {
        self.line(&format!("@say {text}"));
    }

    /// Gives data to the host.
    pub fn json(&mut self, value: &Value) {
        self.line(&format!("@json {value}"));
    }

    /// Faults in the kernel log since this test has begun.
    pub fn kernel_faults(&mut self) -> usize {
        self.log.faults()
    }

    /// The kernel's messages since this test has begun.
    pub fn kernel_lines(&mut self) -> Vec<String> {
        self.log.lines()
    }

    /// Fails if the kernel has complained since the last test: of a set-up.
    fn judge_between(&mut self, what: &str) {
        let faults = self.log.end_span();
        if !faults.is_empty() {
            self.report(&format!("kernel log {what}"), Ok(()), &faults);
        }
    }

    fn report(&mut self, name: &str, result: Result<()>, faults: &[String]) {
        self.count += 1;
        let count = self.count;
        if result.is_ok() && faults.is_empty() {
            self.line(&format!("ok {count} {name}"));
            return;
        }
        self.line(&format!("not ok {count} {name}"));
        if let Err(err) = result {
            for line in format!("{err:#}").lines() {
                self.line(&format!("# {line}"));
            }
        }
        for fault in faults {
            self.line(&format!("# kernel log: {fault}"));
        }
    }

    /// Runs one test. A complaint of the kernel while it runs fails it, unless the test has
    /// announced the complaint: [`kmsg::expect`].
    pub fn test(&mut self, name: &str, test: impl FnOnce(&mut Self) -> Result<()>) {
        self.judge_between(&format!("before {name}"));
        kmsg::mark(Mark::Begin(name));
        self.progress(name);
        let result = test(self);
        let faults = self.log.end_span();
        kmsg::mark(Mark::End);
        self.report(name, result, &faults);
    }

    /// A test that a program has run since the last one. What the kernel has said
    /// since then belongs to it.
    pub fn conclude(&mut self, name: &str, result: Result<()>) {
        let faults = self.log.end_span();
        self.report(name, result, &faults);
    }

    /// A test that somebody else has run.
    pub fn record(&mut self, name: &str, ok: bool, skipped: Option<&str>, about: &[String]) {
        self.count += 1;
        let result = if ok { "ok" } else { "not ok" };
        let skipped = skipped.map_or(String::new(), |why| format!(" # SKIP {why}"));
        self.line(&format!("{result} {} {name}{skipped}", self.count));
        for line in about {
            self.line(&format!("# {line}"));
        }
    }

    /// A test that cannot be run here.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.record(name, true, Some(reason), &[]);
    }

    /// Ends.
    pub fn finish(mut self) {
        self.judge_between("after the last test");
        let count = self.count;
        self.line(&format!("1..{count}"));
        self.line("@done");
    }
}

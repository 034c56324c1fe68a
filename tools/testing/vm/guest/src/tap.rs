// SPDX-License-Identifier: GPL-2.0

//! Results, in KTAP, and events for the host's eyes.

use crate::kmsg::{self, KernelLog};
use anyhow::Result;
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::Write,
};

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
        // Nobody is left to tell if this fails; the host misses the end.
        let _ = writeln!(self.port, "{text}");
    }

    /// Tells a person what is going on.
    pub fn progress(&mut self, text: &str) {
        self.line(&format!("@progress {text}"));
    }

    /// Tells a person what has happened.
    pub fn say(&mut self, text: &str) {
        self.line(&format!("@say {text}"));
    }

    /// Gives data to the host.
    pub fn json(&mut self, value: &Value) {
        self.line(&format!("@json {value}"));
    }

    /// Messages of the kernel log that tell of a bug, since the last test.
    pub fn kernel_faults(&mut self) -> usize {
        self.log.faults().len()
    }

    /// The kernel's messages since the last test.
    pub fn kernel_lines(&mut self) -> Vec<String> {
        self.log.lines()
    }

    /// Runs one test. Whatever the kernel complains of meanwhile fails it.
    pub fn test(&mut self, name: &str, test: impl FnOnce(&mut Self) -> Result<()>) {
        self.test_despite(name, None, test);
    }

    /// As [`Self::test`], but the kernel may complain of `known`, which must
    /// have nothing to do with what is tested.
    pub fn test_despite(
        &mut self,
        name: &str,
        known: Option<&str>,
        test: impl FnOnce(&mut Self) -> Result<()>,
    ) {
        self.log.lines();
        kmsg::note(&format!("begin {name}"));
        self.progress(name);
        let result = test(self);
        let mut faults = self.log.faults();
        faults.retain(|fault| !known.is_some_and(|known| fault.contains(known)));
        kmsg::note(&format!("end {name}"));
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
        let count = self.count;
        self.line(&format!("1..{count}"));
        self.line("@done");
    }
}

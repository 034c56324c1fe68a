// SPDX-License-Identifier: GPL-2.0

//! Waits for the end of a machine, and ends one that hangs.

use crate::{
    command::{
        CONSOLE,
        RESULTS, //
    },
    monitor,
    tap::{
        self,
        News, //
    },
};
use anyhow::Result;
use std::{
    fs,
    path::Path,
    process::Child,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::kernel::Kernel;

/// A machine that says nothing new for so long is hung.
const SILENCE: Duration = Duration::from_secs(120);
/// How much longer a machine may run at full length.
const LONGER: u32 = 4;
const POLL: Duration = Duration::from_millis(100);
/// In which the kernel tells what a process has used of processors.
const TICK: Duration = Duration::from_millis(10);

/// In which a test that has failed says why.
const WHY: Duration = Duration::from_millis(500);

/// How far a machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// To its end.
    End,
    /// To the first test that fails.
    Failure,
}

impl Until {
    /// Whether these lines of results are the last that are wanted.
    fn is_reached(self, lines: &str) -> bool {
        self == Self::Failure && lines.lines().any(|line| line.starts_with("not ok "))
    }
}

/// How long a machine may run, and be silent, and how far it runs.
pub struct Limits {
    length: Duration,
    silence: Duration,
    until: Until,
}

impl Limits {
    /// Those of a machine that may run for `limit` with a kernel that is not slow, at usual
    /// length.
    pub fn of(limit: Duration, all: bool, kernel: Kernel, until: Until) -> Self {
        Self {
            length: limit * kernel.slowness() * if all { LONGER } else { 1 },
            silence: SILENCE * kernel.slowness(),
            until,
        }
    }

    /// Why a machine has to be ended, if it must.
    fn exceeded(&self, silent: Duration, runs: Duration) -> Option<String> {
        if silent > self.silence {
            let seconds = self.silence.as_secs();
            return Some(format!("the machine hung: silent for {seconds}s"));
        }
        let seconds = self.length.as_secs();
        (runs > self.length).then(|| format!("the machine ran for more than {seconds}s"))
    }
}

/// How a machine has ended.
pub struct End {
    /// What has ended it, if not itself.
    pub stopped: Option<String>,
    /// How long it has kept a core busy.
    pub busy: Duration,
}

/// What a process has used of processors: /proc/PID/stat, taken apart.
fn busy(stat: &str) -> Option<Duration> {
    // The name of the program may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(TICK * (user + system))
}

/// Waits until the machine with its files in `dir` has ended, within its limits. `hear` gets
/// what it says until then.
pub fn wait(
    machine: &mut Child,
    dir: &Path,
    limits: &Limits,
    mut hear: impl FnMut(News<'_>),
) -> Result<End> {
    let stat = format!("/proc/{}/stat", machine.id());
    let results = dir.join(RESULTS);
    let console = dir.join(CONSOLE);
    let begin = Instant::now();
    let mut last_news = begin;
    let (mut seen, mut heard) = (0, 0);
    let mut used = Duration::ZERO;
    let stopped = loop {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        used = busy(&text).unwrap_or(used);
        let exited = machine.try_wait()?;
        let text = fs::read(&results).unwrap_or_default();
        let size = text.len() as u64 + fs::metadata(&console).map_or(0, |meta| meta.len());
        if size != seen {
            seen = size;
            last_news = Instant::now();
            let new = tap::new_lines(&text, heard);
            heard += new.len();
            let new = String::from_utf8_lossy(new);
            new.lines().filter_map(News::parse).for_each(&mut hear);
            if exited.is_none() && limits.until.is_reached(&new) {
                thread::sleep(WHY);
                machine.kill()?;
                machine.wait()?;
                break Some("a test has failed".to_string());
            }
        }
        if let Some(status) = exited {
            break (!status.success()).then(|| format!("QEMU ended with {status}"));
        }
        if let Some(why) = limits.exceeded(last_news.elapsed(), begin.elapsed()) {
            let state = monitor::ask(machine, dir);
            machine.kill()?;
            machine.wait()?;
            break Some(match state {
                Ok(state) => format!("{why}; its processors: {}", state.display()),
                Err(err) => format!("{why}; its monitor: {err:#}"),
            });
        }
        thread::sleep(POLL);
    };
    Ok(End {
        stopped,
        busy: used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_length_have_limits() {
        let [short, long] = [1, 900].map(Duration::from_secs);
        let limits = Limits::of(short, false, Kernel::Intree, Until::End);
        assert_eq!(limits.exceeded(short, short), None);
        let silent = limits.exceeded(SILENCE * 2, short);
        assert!(silent.is_some_and(|why| why.contains("hung")));
        let late = limits.exceeded(short, long);
        assert!(late.is_some_and(|why| why.contains("more than 1s")));
    }

    #[test]
    fn full_length_and_a_slow_kernel_take_longer() {
        let second = Duration::from_secs(1);
        let limits = Limits::of(second, true, Kernel::Stock, Until::End);
        assert_eq!(limits.exceeded(SILENCE, second * LONGER), None);
        let limits = Limits::of(second, false, Kernel::Debug, Until::End);
        assert_eq!(limits.exceeded(SILENCE * 2, second * 2), None);
    }

    #[test]
    fn a_failure_ends_only_who_asks_for_it() {
        let lines = "ok 1 a\nnot ok 2 b\n";
        assert!(Until::Failure.is_reached(lines));
        assert!(!Until::End.is_reached(lines));
        assert!(!Until::Failure.is_reached("ok 1 not ok \n"));
    }

    #[test]
    fn processor_time_is_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 9 8 7 6 250 50 3 4 20 0 5 0 99\n";
        assert_eq!(busy(stat), Some(Duration::from_secs(3)));
        assert_eq!(busy(""), None);
    }
}

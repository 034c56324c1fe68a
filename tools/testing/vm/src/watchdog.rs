// SPDX-License-Identifier: GPL-2.0

//! Waits for the end of a machine, and ends one that hangs.

use crate::{
    command::{CONSOLE, RESULTS},
    tap::{self, News},
};
use anyhow::Result;
use std::{
    fs,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// A machine that says nothing new for so long is hung.
const SILENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Why a machine has to be ended, if it must.
fn overdue(silent: Duration, runs: Duration, limit: Duration) -> Option<String> {
    if silent > SILENCE {
        let seconds = SILENCE.as_secs();
        return Some(format!("the machine hung: silent for {seconds}s"));
    }
    (runs > limit).then(|| format!("the machine ran for more than {}s", limit.as_secs()))
}

/// Waits until the machine with its files in `dir` has ended, for `limit` at most.
/// `hear` gets what it says meanwhile. Returns what has ended it, if not itself.
pub fn wait(
    machine: &mut Child,
    dir: &Path,
    limit: Duration,
    mut hear: impl FnMut(News<'_>),
) -> Result<Option<String>> {
    let results = dir.join(RESULTS);
    let console = dir.join(CONSOLE);
    let begin = Instant::now();
    let mut last_news = begin;
    let (mut seen, mut heard) = (0, 0);
    loop {
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
        }
        if let Some(status) = exited {
            return Ok((!status.success()).then(|| format!("QEMU ended with {status}")));
        }
        if let Some(why) = overdue(last_news.elapsed(), begin.elapsed(), limit) {
            machine.kill()?;
            machine.wait()?;
            return Ok(Some(why));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_length_have_limits() {
        let [short, long] = [1, 900].map(Duration::from_secs);
        assert_eq!(overdue(short, short, long), None);
        assert!(overdue(SILENCE * 2, short, long).is_some_and(|why| why.contains("hung")));
        assert!(overdue(short, long, short).is_some_and(|why| why.contains("more than 1s")));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What counter.so has counted, put to what the guest has said it is.

use crate::{command::COUNTS, machine::Outcome};
use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
};

/// What was executed between two marks.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Section {
    /// Instructions.
    pub total: u64,
    /// Instructions of each block of code, by its address.
    pub blocks: BTreeMap<u64, u64>,
}

/// What was counted in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// What the guest did.
    pub path: String,
    /// With which driver.
    pub driver: String,
    /// What was executed.
    pub section: Section,
}

/// Reads the log.
fn sections(log: impl BufRead) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut now = Section::default();
    for line in log.lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["end", total] => {
                now.total = total.parse()?;
                sections.push(std::mem::take(&mut now));
            }
            [address, length, times] => {
                let address = u64::from_str_radix(address, 16)?;
                let executed = length.parse::<u64>()? * times.parse::<u64>()?;
                *now.blocks.entry(address).or_default() += executed;
            }
            _ => bail!("not a line of a count: {line:?}"),
        }
    }
    Ok(sections)
}

/// Puts sections to what was counted, in the same order. The first run is discarded: its
/// code was new to the machine.
fn pair(data: &[Value], sections: Vec<Section>) -> Result<Vec<Count>> {
    let counted: Vec<&Value> = data.iter().filter(|v| v["path"].is_string()).collect();
    ensure!(
        counted.len() == sections.len(),
        "{} counts of {} calls",
        sections.len(),
        counted.len()
    );
    let pairs = counted.into_iter().zip(sections);
    Ok(pairs
        .filter(|(value, _)| value["run"] != 0)
        .map(|(value, section)| {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
            Count {
                path: text("path"),
                driver: text("driver"),
                section,
            }
        })
        .collect())
}

/// All counts of a machine.
pub fn of(outcome: &Outcome) -> Result<Vec<Count>> {
    let path = outcome.dir.join(COUNTS);
    let log = File::open(&path).with_context(|| path.display().to_string())?;
    let counts = sections(BufReader::new(log)).and_then(|s| pair(&outcome.data, s));
    counts.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_belong_to_the_calls_in_their_order() {
        let log = "10 5 3\nend 15\n10 5 2\n20 1 2\n10 3 1\nend 15\n";
        let call = |run: u32| json!({ "path": "a", "driver": "c", "run": run });
        let data = [json!({ "clearing": [0, 1] }), call(0), call(1)];
        let counts = pair(&data, sections(log.as_bytes()).unwrap()).unwrap();
        let blocks = BTreeMap::from([(0x10, 13), (0x20, 2)]);
        let section = Section { total: 15, blocks };
        let (path, driver) = ("a".to_string(), "c".to_string());
        assert_eq!(
            counts,
            [Count {
                path,
                driver,
                section
            }]
        );
    }

    #[test]
    fn a_call_without_a_count_is_an_error() {
        assert!(pair(&[json!({ "path": "a" })], Vec::new()).is_err());
        assert!(sections("what".as_bytes()).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What counter.so has counted, put to what the guest has said it is.

use crate::{
    command::COUNTS,
    machine::Outcome, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{
        BufRead,
        BufReader, //
    },
    ops::Range, //
};

/// A block of code.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Block {
    /// How often it was executed.
    pub times: u64,
    /// Instructions that were executed, all times together.
    pub instructions: u64,
}

/// What was executed between two marks.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Section {
    /// Instructions.
    pub total: u64,
    /// Each block of code, by its address.
    pub blocks: BTreeMap<u64, Block>,
}

impl Section {
    /// Instructions in a range of addresses.
    pub fn within(&self, addresses: &Range<u64>) -> u64 {
        let blocks = self.blocks.range(addresses.clone());
        blocks.map(|(_, block)| block.instructions).sum()
    }

    /// How often a function that begins at an address was called.
    pub fn calls(&self, function: u64) -> u64 {
        self.blocks.get(&function).map_or(0, |block| block.times)
    }
}

/// What was counted in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// What the guest has reported with it.
    pub said: Value,
    /// What was executed.
    pub section: Section,
}

/// The counts of all runs, by what the guest did and with which driver.
#[derive(Default, Debug)]
pub struct Counts {
    /// In the order in which the guest came to them.
    paths: Vec<String>,
    of: BTreeMap<(String, String), Vec<Count>>,
}

impl Counts {
    /// What the guest did.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// The counts of a path with a driver.
    pub fn of(&self, path: &str, driver: &str) -> &[Count] {
        let key = (path.to_string(), driver.to_string());
        self.of.get(&key).map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<Count> for Counts {
    fn from_iter<I: IntoIterator<Item = Count>>(counts: I) -> Self {
        let mut all = Self::default();
        for count in counts {
            let text = |name: &str| count.said[name].as_str().unwrap_or_default().to_string();
            let (path, driver) = (text("path"), text("driver"));
            if !all.paths.contains(&path) {
                all.paths.push(path.clone());
            }
            all.of.entry((path, driver)).or_default().push(count);
        }
        all
    }
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
                let times = times.parse::<u64>()?;
                let block = now.blocks.entry(address).or_default();
                block.times += times;
                block.instructions += length.parse::<u64>()? * times;
            }
            _ => bail!("not a line of a count: {line:?}"),
        }
    }
    Ok(sections)
}

/// Whether the guest has told of something that was counted, and not of a figure that it
/// has itself.
fn is_counted(said: &Value) -> bool {
    said["path"].is_string() && said["value"].is_null()
}

/// Whether the run is discarded: its code was new to the machine.
pub fn is_first(said: &Value) -> bool {
    said["run"] == 0
}

/// Puts sections to what was counted, in the same order.
fn pair(data: &[Value], sections: Vec<Section>) -> Result<Counts> {
    let counted: Vec<&Value> = data.iter().filter(|said| is_counted(said)).collect();
    ensure!(
        counted.len() == sections.len(),
        "{} counts of {} calls",
        sections.len(),
        counted.len()
    );
    let pairs = counted.into_iter().zip(sections);
    Ok(pairs
        .filter(|(said, _)| !is_first(said))
        .map(|(said, section)| Count {
            said: said.clone(),
            section,
        })
        .collect())
}

/// All counts of a machine.
pub fn of(outcome: &Outcome) -> Result<Counts> {
    let path = outcome.dir.join(COUNTS);
    let log = File::open(&path).with_context(|| path.display().to_string())?;
    let counts = sections(BufReader::new(log)).and_then(|s| pair(&outcome.data, s));
    counts.with_context(|| path.display().to_string())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// Returns a section of blocks with these numbers of instructions, each executed once.
    pub fn section(blocks: &[(u64, u64)]) -> Section {
        let block = |instructions| Block {
            times: 1,
            instructions,
        };
        Section {
            total: blocks.iter().map(|(_, instructions)| instructions).sum(),
            blocks: blocks.iter().map(|(at, n)| (*at, block(*n))).collect(),
        }
    }

    #[test]
    fn counts_belong_to_the_calls_in_their_order() {
        let log = "10 5 3\nend 15\n10 5 2\n20 1 2\n10 3 1\nend 15\n1 1 1\nend 1\n";
        let call = |run: u32, path: &str| json!({ "path": path, "driver": "c", "run": run });
        let figure = json!({ "path": "b", "driver": "c", "run": 1, "value": 7 });
        let data = [
            json!({ "clearing": [0, 1] }),
            call(0, "z"),
            call(1, "z"),
            figure,
            call(1, "a"),
        ];
        let counts = pair(&data, sections(log.as_bytes()).unwrap()).unwrap();
        assert_eq!(counts.paths().collect::<Vec<_>>(), ["z", "a"]);
        let [count] = counts.of("z", "c") else {
            panic!("one run is discarded");
        };
        assert_eq!(count.section.total, 15);
        assert_eq!(count.section.within(&(0x10..0x20)), 13);
        assert_eq!(count.section.calls(0x20), 2);
        assert_eq!(counts.of("a", "c")[0].section.total, 1);
        assert!(counts.of("a", "rust").is_empty());
    }

    #[test]
    fn a_call_without_a_count_is_an_error() {
        assert!(pair(&[json!({ "path": "a" })], Vec::new()).is_err());
        assert!(sections("what".as_bytes()).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What firmware did during a downtime, or to load a state, from the emulated HCA's log of
//! commands.

use crate::machine::Outcome;
use anyhow::{
    bail,
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs, //
};

/// A command. The log has them in the order in which they ended.
pub struct Command<'a> {
    name: &'a str,
    op_mod: &'a str,
    vhca: Option<u64>,
    start: u64,
    bytes: u64,
    ns: u64,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let start = words.next()?.parse().ok()?;
        let name = words.nth(2)?;
        let field = |key: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        Some(Self {
            name,
            op_mod: field("op_mod")?,
            vhca: field("vhca").and_then(|vhca| vhca.parse().ok()),
            start,
            bytes: field("bytes")?.parse().ok()?,
            ns: field("ns")?.parse().ok()?,
        })
    }

    /// Returns the nanoseconds that it took from `begin` on.
    fn ns_since(&self, begin: u64) -> u64 {
        (self.start + self.ns).saturating_sub(begin).min(self.ns)
    }
}

/// The VHCAs between which a device is migrated.
#[derive(Clone, Copy)]
pub struct Vhcas {
    /// Where it was.
    pub source: u64,
    /// Where it goes.
    pub destination: u64,
}

impl Vhcas {
    /// Those that a machine has told of.
    pub fn parse(told: &Value) -> Result<Self> {
        let number = |end| {
            told[end]
                .as_u64()
                .with_context(|| format!("no {end}: {told}"))
        };
        Ok(Self {
            source: number("source")?,
            destination: number("destination")?,
        })
    }
}

/// What firmware did for a device.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Work {
    /// What SAVE_VHCA_STATE took.
    pub save_ns: u64,
    /// What LOAD_VHCA_STATE took.
    pub load_ns: u64,
    /// What both moved.
    pub bytes: u64,
}

impl Work {
    /// What LOAD_VHCA_STATE took, in milliseconds.
    pub fn load_ms(self) -> f64 {
        self.load_ns as f64 / 1e6
    }

    /// What both took, in milliseconds.
    pub fn ms(self) -> f64 {
        (self.save_ns + self.load_ns) as f64 / 1e6
    }
}

/// From when the first initiator of a source is suspended until those of all
/// destinations run.
struct Downtime {
    begin: u64,
    suspended: BTreeSet<usize>,
    resumed: BTreeSet<usize>,
    work: Vec<Work>,
}

impl Downtime {
    fn new(begin: u64, devices: usize) -> Self {
        Self {
            begin,
            suspended: BTreeSet::new(),
            resumed: BTreeSet::new(),
            work: vec![Work::default(); devices],
        }
    }
}

/// What firmware was told to load a state.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Load {
    /// Commands, LOAD_VHCA_STATE among them.
    pub commands: u64,
    /// Images.
    pub images: u64,
    /// When the VHCA was stopped.
    begin: u64,
    /// When the first image was begun with.
    first: u64,
    /// When the last one had been loaded.
    end: u64,
    /// What LOAD_VHCA_STATE took.
    load_ns: u64,
}

impl Load {
    /// From when the VHCA was stopped until all was loaded, in milliseconds.
    pub fn ms(self) -> f64 {
        (self.end - self.begin) as f64 / 1e6
    }

    /// How much of the time from the first image on firmware loaded nothing.
    pub fn idle(self) -> f64 {
        let whole = (self.end - self.first) as f64;
        (whole - self.load_ns as f64) / whole
    }
}

/// Reads the log of commands.
pub fn log(outcome: &Outcome) -> Result<String> {
    let path = outcome.dir.join("commands.log");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The commands of a log.
pub fn commands(log: &str) -> impl Iterator<Item = Command<'_>> {
    log.lines().filter_map(Command::parse)
}

/// What firmware did for each device during the next downtime of them all. Goes
/// to its end, from where the next migration's can be looked for.
pub fn downtime<'a>(
    commands: &mut impl Iterator<Item = Command<'a>>,
    devices: &[Vhcas],
) -> Result<Vec<Work>> {
    let mut down = Downtime::new(0, devices.len());
    for command in commands {
        let source = devices.iter().position(|d| command.vhca == Some(d.source));
        let destination = devices
            .iter()
            .position(|d| command.vhca == Some(d.destination));
        match (command.name, command.op_mod, source, destination) {
            ("SUSPEND_VHCA", "0x0", Some(device), _) => {
                // A second time: it was reset, and had been stopped for another reason.
                if down.suspended.is_empty() || down.suspended.contains(&device) {
                    down = Downtime::new(command.start, devices.len());
                }
                down.suspended.insert(device);
            }
            // The guest went on in the source.
            ("RESUME_VHCA", "0x1", Some(_), _) => down = Downtime::new(0, devices.len()),
            _ if down.suspended.is_empty() => (),
            ("SAVE_VHCA_STATE", _, Some(device), _) => {
                down.work[device].save_ns += command.ns_since(down.begin);
                down.work[device].bytes += command.bytes;
            }
            ("LOAD_VHCA_STATE", _, _, Some(device)) => {
                down.work[device].load_ns += command.ns_since(down.begin);
                down.work[device].bytes += command.bytes;
            }
            ("RESUME_VHCA", "0x1", _, Some(device)) => {
                down.resumed.insert(device);
                if down.resumed.len() == devices.len() {
                    return Ok(down.work);
                }
            }
            _ => (),
        }
    }
    bail!("the log of commands has no end of a migration")
}

/// What firmware was told the next time that images were loaded into a VHCA: from when it
/// is stopped until it runs. Goes to its end.
pub fn load<'a>(commands: &mut impl Iterator<Item = Command<'a>>, vhca: u64) -> Result<Load> {
    let mut load = None;
    for command in commands {
        let about = command.vhca == Some(vhca);
        let end = command.start + command.ns;
        match (command.name, &mut load) {
            ("SUSPEND_VHCA", _) if about => {
                load = Some(Load {
                    begin: end,
                    ..Load::default()
                });
            }
            ("RESUME_VHCA", Some(done)) if about => match done.images {
                0 => load = None,
                _ => return Ok(*done),
            },
            (name, Some(load)) => {
                load.commands += 1;
                if about && name == "LOAD_VHCA_STATE" {
                    if load.images == 0 {
                        load.first = command.start;
                    }
                    load.images += 1;
                    load.load_ns += command.ns;
                    load.end = end;
                }
            }
            _ => (),
        }
    }
    bail!("the log of commands has nothing that was loaded into VHCA {vhca}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of commands: start, name, op_mod, VHCA, bytes and nanoseconds.
    fn event_log(commands: &[(u64, &str, u64, u64, u64, u64)]) -> String {
        let line = |(start, name, op_mod, vhca, bytes, ns): &(_, _, _, _, _, _)| {
            format!(
                "{start} fn=0 op=0x1 {name} op_mod=0x{op_mod:x} vhca={vhca} status=0x0 \
                 syndrome=0x0 bytes={bytes} ns={ns}\n"
            )
        };
        commands.iter().map(line).collect()
    }

    const HERE: [Vhcas; 2] = [
        Vhcas {
            source: 1,
            destination: 5,
        },
        Vhcas {
            source: 2,
            destination: 6,
        },
    ];

    #[test]
    fn devices_share_a_downtime() {
        let log = event_log(&[
            // The destination, and pre-copy.
            (10, "SUSPEND_VHCA", 0, 5, 0, 1),
            (20, "SAVE_VHCA_STATE", 0, 1, 1000, 10),
            (30, "LOAD_VHCA_STATE", 0, 5, 1000, 10),
            (100, "SUSPEND_VHCA", 0, 1, 0, 1),
            (102, "SUSPEND_VHCA", 0, 2, 0, 1),
            // It was under way when the downtime began.
            (90, "SAVE_VHCA_STATE", 0, 2, 7, 15),
            (110, "SAVE_VHCA_STATE", 0, 1, 8, 20),
            (130, "LOAD_VHCA_STATE", 0, 6, 7, 30),
            (140, "LOAD_VHCA_STATE", 0, 5, 8, 40),
            (190, "RESUME_VHCA", 1, 6, 0, 1),
            (191, "LOAD_VHCA_STATE", 0, 5, 1, 2),
            (200, "RESUME_VHCA", 0, 5, 0, 1),
            (201, "RESUME_VHCA", 1, 5, 0, 1),
            // And back.
            (300, "SUSPEND_VHCA", 0, 1, 0, 1),
            (301, "SUSPEND_VHCA", 0, 2, 0, 1),
            (310, "LOAD_VHCA_STATE", 0, 1, 1000, 10),
            (400, "SUSPEND_VHCA", 0, 5, 0, 1),
            (401, "SUSPEND_VHCA", 0, 6, 0, 1),
            (410, "LOAD_VHCA_STATE", 0, 1, 9, 50),
            (490, "RESUME_VHCA", 1, 1, 0, 1),
            (491, "RESUME_VHCA", 1, 2, 0, 1),
        ]);
        let back = HERE.map(|vhcas| Vhcas {
            source: vhcas.destination,
            destination: vhcas.source,
        });
        let work = |save_ns, load_ns, bytes| Work {
            save_ns,
            load_ns,
            bytes,
        };
        let mut commands = commands(&log);
        let there = downtime(&mut commands, &HERE).unwrap();
        assert_eq!(there, [work(20, 42, 17), work(5, 30, 14)]);
        let back = downtime(&mut commands, &back).unwrap();
        assert_eq!(back, [work(0, 50, 9), work(0, 0, 0)]);
        assert!(downtime(&mut commands, &HERE).is_err());
    }

    #[test]
    fn a_source_that_stops_for_another_reason_begins_no_downtime() {
        let end = event_log(&[
            (200, "SAVE_VHCA_STATE", 0, 1, 9, 10),
            (300, "SUSPEND_VHCA", 0, 1, 0, 1),
            (310, "SAVE_VHCA_STATE", 0, 1, 4, 10),
            (320, "RESUME_VHCA", 1, 5, 0, 1),
        ]);
        let suspended = event_log(&[(100, "SUSPEND_VHCA", 0, 1, 0, 1)]);
        let resumed = event_log(&[(101, "RESUME_VHCA", 1, 1, 0, 1)]);
        for begin in [suspended.clone(), suspended + &resumed] {
            let log = begin + &end;
            let work = downtime(&mut commands(&log), &HERE[..1]).unwrap();
            assert_eq!((work[0].save_ns, work[0].bytes), (10, 4));
        }
    }

    #[test]
    fn loading_a_state_begins_when_the_device_is_stopped() {
        let log = event_log(&[
            // It is saved.
            (10, "SUSPEND_VHCA", 1, 5, 0, 1),
            (20, "SAVE_VHCA_STATE", 0, 5, 9, 1),
            (30, "RESUME_VHCA", 1, 5, 0, 1),
            (100, "SUSPEND_VHCA", 0, 5, 0, 1),
            (110, "SUSPEND_VHCA", 1, 5, 0, 10),
            (130, "CREATE_MKEY", 0, 0, 0, 0),
            (140, "LOAD_VHCA_STATE", 0, 5, 9, 20),
            (180, "LOAD_VHCA_STATE", 0, 5, 9, 40),
            (230, "DESTROY_MKEY", 0, 0, 0, 0),
            (240, "RESUME_VHCA", 1, 5, 0, 1),
        ]);
        let mut commands = commands(&log);
        let loaded = load(&mut commands, 5).unwrap();
        assert_eq!((loaded.commands, loaded.images), (4, 2));
        assert_eq!(loaded.ms(), 100.0 / 1e6);
        assert_eq!(loaded.idle(), 0.25);
        assert!(load(&mut commands, 5).is_err());
    }
}

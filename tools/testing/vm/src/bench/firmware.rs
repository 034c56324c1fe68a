// SPDX-License-Identifier: GPL-2.0

//! What firmware did during a downtime, or to load a state, from the emulated HCA's log of
//! commands.

use crate::machine::Outcome;
use anyhow::{
    bail,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::BTreeSet,
    fs, //
};

/// A command. The log has them in the order in which they ended.
pub struct Command<'a> {
    name: &'a str,
    op_mod: &'a str,
    hca: usize,
    vhca: Option<u64>,
    start: u64,
    bytes: u64,
    ns: u64,
}

impl<'a> Command<'a> {
    fn parse(hca: usize, line: &'a str) -> Option<Self> {
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
            hca,
            vhca: field("vhca").and_then(|vhca| vhca.parse().ok()),
            start,
            bytes: field("bytes")?.parse().ok()?,
            ns: field("ns")?.parse().ok()?,
        })
    }

    fn end(&self) -> u64 {
        self.start + self.ns
    }

    /// Returns the nanoseconds that it took from `begin` on.
    fn ns_since(&self, begin: u64) -> u64 {
        self.end().saturating_sub(begin).min(self.ns)
    }

    fn is_about(&self, vhca: Vhca) -> bool {
        self.hca == vhca.hca && self.vhca == Some(vhca.number)
    }
}

/// What firmware knows a VF by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vhca {
    /// Which HCA's, from 0 on.
    pub hca: usize,
    /// Its number there.
    pub number: u64,
}

/// The VHCAs between which a device is migrated.
#[derive(Clone, Copy)]
pub struct Vhcas {
    /// Where it was.
    pub source: Vhca,
    /// Where it goes.
    pub destination: Vhca,
}

impl Vhcas {
    /// Those that a machine has told of. If it does not tell of HCAs, it has one.
    pub fn parse(told: &Value) -> Result<Self> {
        let vhca = |end: &str| -> Result<Vhca> {
            let number = told[end].as_u64();
            let hca = told[format!("{end}_hca")].as_u64().unwrap_or(0);
            Ok(Vhca {
                hca: hca as usize,
                number: number.with_context(|| format!("no {end}: {told}"))?,
            })
        };
        Ok(Self {
            source: vhca("source")?,
            destination: vhca("destination")?,
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

fn read(outcome: &Outcome, name: &str) -> Result<String> {
    let path = outcome.dir.join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Reads the log of commands of a machine's first HCA.
pub fn log(outcome: &Outcome) -> Result<String> {
    read(outcome, "commands.log")
}

/// Reads the logs of commands of both HCAs of a machine with a network.
pub fn logs(outcome: &Outcome) -> Result<[String; 2]> {
    Ok([log(outcome)?, read(outcome, "commands-peer.log")?])
}

/// The commands of the first HCA's log.
pub fn commands(log: &str) -> impl Iterator<Item = Command<'_>> {
    log.lines().filter_map(|line| Command::parse(0, line))
}

/// The commands of several HCAs, whose clock is the same, in the order in which they ended.
pub fn commands_of_all(logs: &[String]) -> impl Iterator<Item = Command<'_>> {
    let mut commands: Vec<Command<'_>> = Vec::new();
    for (hca, log) in logs.iter().enumerate() {
        commands.extend(log.lines().filter_map(|line| Command::parse(hca, line)));
    }
    commands.sort_by_key(Command::end);
    commands.into_iter()
}

/// Adds to a migration, and to its devices, what firmware did for it during the downtime. Goes
/// to its end, as [`downtime`] does.
pub fn add_downtime<'a>(
    commands: &mut impl Iterator<Item = Command<'a>>,
    migration: &mut Value,
) -> Result<()> {
    let devices = migration["devices"].as_array_mut();
    let devices = devices.map_or(&mut [][..], Vec::as_mut_slice);
    let vhcas: Vec<Vhcas> = devices.iter().map(Vhcas::parse).collect::<Result<_>>()?;
    let all = downtime(commands, &vhcas)?;
    for (device, work) in devices.iter_mut().zip(&all) {
        device["firmware_ms"] = json!(work.ms());
        device["firmware_bytes"] = json!(work.bytes);
    }
    migration["firmware_ms"] = json!(all.iter().map(|work| work.ms()).sum::<f64>());
    migration["firmware_bytes"] = json!(all.iter().map(|work| work.bytes).sum::<u64>());
    Ok(())
}

/// What firmware did for each device during the next downtime of them all. Goes
/// to its end, from where the next migration's can be looked for.
pub fn downtime<'a>(
    commands: &mut impl Iterator<Item = Command<'a>>,
    devices: &[Vhcas],
) -> Result<Vec<Work>> {
    let mut down = Downtime::new(0, devices.len());
    for command in commands {
        let source = devices.iter().position(|d| command.is_about(d.source));
        let destination = devices.iter().position(|d| command.is_about(d.destination));
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
            source: Vhca { hca: 0, number: 1 },
            destination: Vhca { hca: 0, number: 5 },
        },
        Vhcas {
            source: Vhca { hca: 0, number: 2 },
            destination: Vhca { hca: 0, number: 6 },
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
    fn hcas_have_logs_of_their_own() {
        let logs = [
            event_log(&[
                (90, "SUSPEND_VHCA", 0, 1, 0, 1),
                (92, "SAVE_VHCA_STATE", 0, 1, 8, 20),
            ]),
            event_log(&[
                // It has the number of the source, but no downtime begins with it.
                (95, "SUSPEND_VHCA", 0, 1, 0, 1),
                (130, "LOAD_VHCA_STATE", 0, 1, 8, 40),
                (190, "RESUME_VHCA", 1, 1, 0, 1),
            ]),
        ];
        let mut migration = json!({ "devices": [{
            "source": 1, "source_hca": 0, "destination": 1, "destination_hca": 1,
        }] });
        let mut commands = commands_of_all(&logs);
        add_downtime(&mut commands, &mut migration).unwrap();
        assert_eq!(migration["firmware_ms"], 60.0 / 1e6);
        assert_eq!(migration["devices"][0]["firmware_bytes"], 16);
        assert!(commands.next().is_none());
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

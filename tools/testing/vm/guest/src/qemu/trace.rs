// SPDX-License-Identifier: GPL-2.0

//! QEMU's trace events of a migration.

use crate::tap::Results;
use anyhow::Result;
use std::{
    fs::File,
    io::{
        ErrorKind,
        Read,
        Seek,
        SeekFrom, //
    },
    time::UNIX_EPOCH, //
};

/// An event.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// In seconds, since 1970.
    pub at: f64,
    /// As QEMU calls it.
    pub name: String,
    /// The VF that it is about, or an empty string.
    pub device: String,
    /// The rest of the line.
    pub about: String,
}

/// "2026-11-21T14:40:36.460672Z" in seconds, since 1970. A migration can go on over midnight.
fn seconds(time: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339(time).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let rest = rest.trim();
        let about = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (device, about) = about.unwrap_or(("", rest));
        Some(Self {
            at: seconds(time)?,
            name: name.to_string(),
            device: device.to_string(),
            about: about.trim().to_string(),
        })
    }

    /// The field behind a word, or behind `word=`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut words = self.about.split([' ', ',', '=']).filter(|w| !w.is_empty());
        words.find(|word| *word == name)?;
        words.next()
    }

    /// The same, as a number.
    pub fn number(&self, name: &str) -> u64 {
        self.field(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// The event in words, if it is of interest to a person.
    fn comment(&self) -> Option<String> {
        let device = &self.device;
        Some(match self.name.as_str() {
            "migrate_set_state" => match self.field("state")? {
                // Of the migration, not of a device.
                "device" => "migration moves the last state of the devices".to_string(),
                state => format!("migration is {state}"),
            },
            "vfio_migration_set_device_state" => format!("{device} is {}", self.field("state")?),
            "vfio_query_precopy_size_request_switchover_ack" => {
                format!("{device} has new initial bytes, to be loaded first")
            }
            "source_return_path_thread_switchover_acked" => {
                "the destination has loaded a VF's initial bytes".to_string()
            }
            "vmstate_downtime_checkpoint" => match self.about.as_str() {
                "src-downtime-start" => "the guest stops".to_string(),
                "dst-precopy-bh-vm-started" => "the guest runs".to_string(),
                _ => return None,
            },
            "vfio_device_dirty_tracking_start" => "VFs note what they write to".to_string(),
            _ => return None,
        })
    }
}

/// The events of a QEMU.
pub struct Trace {
    /// Of the QEMU.
    name: String,
    path: String,
    /// Bytes read so far.
    read: u64,
    /// Bytes of a line that is not complete yet.
    rest: String,
    /// All since the last migration.
    pub events: Vec<Event>,
}

impl Trace {
    /// Of a file that may not exist yet.
    pub fn new(name: &str, path: String) -> Self {
        Self {
            name: name.to_string(),
            path,
            read: 0,
            rest: String::new(),
            events: Vec::new(),
        }
    }

    /// Takes in what is new.
    fn update(&mut self) -> Result<usize> {
        let before = self.events.len();
        let mut file = match File::open(&self.path) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(before),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes)? as u64;
        self.rest += &String::from_utf8_lossy(&bytes);
        let end = self.rest.rfind('\n').map_or(0, |end| end + 1);
        self.events
            .extend(self.rest[..end].lines().filter_map(Event::parse));
        self.rest.drain(..end);
        Ok(before)
    }

    /// Reads the events since the last call, and reports them.
    pub fn tell(&mut self, results: &mut Results) -> Result<()> {
        let before = self.update()?;
        for event in &self.events[before..] {
            if let Some(comment) = event.comment() {
                results.say(&format!("{}: {comment}", self.name));
            }
        }
        Ok(())
    }

    /// Forgets the events so far, which are about another migration.
    pub fn forget(&mut self) -> Result<()> {
        self.update()?;
        self.events.clear();
        Ok(())
    }

    /// All of one name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart() {
        let parse = |line| Event::parse(line).unwrap();
        let event =
            parse("1970-01-02T01:01:01.500000Z vfio_save_block  (0000:01:00.2) data_size 7");
        assert_eq!(event.at, 86_400.0 + 3661.5);
        assert_eq!(event.device, "0000:01:00.2");
        assert_eq!(event.number("data_size"), 7);
        let event = parse(
            "2026-11-21T01:01:01.5Z vmstate_downtime_save type=iterable idstr=0000:00:04.0/vfio \
             instance_id=0 downtime=12",
        );
        assert_eq!(event.field("idstr"), Some("0000:00:04.0/vfio"));
        assert_eq!(event.number("downtime"), 12);
        assert_eq!(event.device, "");
        assert_eq!(Event::parse("qemu-system-x86_64: something"), None);
    }

    #[test]
    fn time_goes_on_at_midnight() {
        let at = |time: &str| Event::parse(&format!("{time} a")).unwrap().at;
        let step = at("2026-11-30T00:00:00.250000Z") - at("2026-11-29T23:59:59.750000Z");
        assert!((0.499..0.501).contains(&step), "{step}");
    }
}

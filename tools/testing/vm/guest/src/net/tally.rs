// SPDX-License-Identifier: GPL-2.0

//! What the two ends of connections have counted.

use super::datagrams::Datagrams;
use anyhow::{
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};

/// Of an end of a connection, or of several.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Number of the connection; 0 for several.
    pub connection: u64,
    /// Bytes that the kernel has taken.
    pub sent: u64,
    /// Bytes that have come.
    pub received: u64,
    /// Those of them that are wrong.
    pub wrong: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// What has ended it, if not its ends.
    pub error: Option<String>,
}

impl Tally {
    /// Adds another connection.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.wrong += other.wrong;
        self.retransmits += other.retransmits;
    }

    fn json(&self) -> Value {
        json!({
            "connection": self.connection,
            "sent": self.sent,
            "received": self.received,
            "wrong": self.wrong,
            "retransmits": self.retransmits,
            "broken": self.error,
        })
    }

    fn parse(value: &Value) -> Result<Self> {
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        Ok(Self {
            connection: number("connection")?,
            sent: number("sent")?,
            received: number("received")?,
            wrong: number("wrong")?,
            retransmits: number("retransmits")?,
            error: value["broken"].as_str().map(str::to_string),
        })
    }
}

/// What a guest has counted, which goes to its host in a line.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GuestTally {
    /// Of each stream.
    pub streams: Vec<Tally>,
    /// Of datagrams.
    pub datagrams: Datagrams,
    /// Of all short connections.
    pub visits: Tally,
    /// Number of those.
    pub visits_made: u64,
    /// Of those, how many have failed.
    pub visits_lost: u64,
    /// Changes of what is received.
    pub rules_changed: u64,
    /// Why a change has failed, of each that has.
    pub rules_failed: Vec<String>,
    /// What the kernel has complained of.
    pub log_faults: Vec<String>,
}

impl GuestTally {
    /// The line.
    pub fn line(&self) -> String {
        json!({
            "streams": self.streams.iter().map(Tally::json).collect::<Vec<_>>(),
            "datagrams": self.datagrams.json(),
            "visits": self.visits.json(),
            "visits_made": self.visits_made,
            "visits_lost": self.visits_lost,
            "rules_changed": self.rules_changed,
            "rules_failed": self.rules_failed,
            "log_faults": self.log_faults,
        })
        .to_string()
    }

    /// Takes the line apart.
    pub fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        let array = |name: &str| value[name].as_array().with_context(|| format!("no {name}"));
        let texts = |name: &str| -> Result<Vec<String>> {
            let text = |one: &Value| one.as_str().unwrap_or_default().to_string();
            Ok(array(name)?.iter().map(text).collect())
        };
        let streams: Result<Vec<Tally>> = array("streams")?.iter().map(Tally::parse).collect();
        Ok(Self {
            streams: streams?,
            datagrams: Datagrams::parse(&value["datagrams"])?,
            visits: Tally::parse(&value["visits"])?,
            visits_made: number("visits_made")?,
            visits_lost: number("visits_lost")?,
            rules_changed: number("rules_changed")?,
            rules_failed: texts("rules_failed")?,
            log_faults: texts("log_faults")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_the_way_to_the_host() {
        let stream = Tally {
            connection: 1,
            sent: 2,
            received: 3,
            wrong: 4,
            retransmits: 5,
            error: Some("reset by peer".to_string()),
        };
        let tally = GuestTally {
            streams: vec![stream.clone(), Tally::default()],
            datagrams: Datagrams {
                sent: 9,
                wrong: 10,
                twice: 11,
                came: vec![(0, 4), (6, 7)],
                dropped: vec![((3, 5), 12)],
            },
            visits: stream,
            visits_made: 6,
            visits_lost: 7,
            rules_changed: 8,
            rules_failed: vec!["no room".to_string()],
            log_faults: vec!["WARNING: a".to_string(), "b".to_string()],
        };
        assert_eq!(GuestTally::parse(&tally.line()).unwrap(), tally);
        assert!(GuestTally::parse("{}").is_err());
        assert!(GuestTally::parse("round 8").is_err());
    }
}

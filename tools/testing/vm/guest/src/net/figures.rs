// SPDX-License-Identifier: GPL-2.0

//! The figures of a guest's traffic, from what it and its peer have counted.

use super::{
    datagrams::Span,
    lost::Lost,
    peer::PeerTally,
    tally::{
        GuestTally,
        Tally, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use serde_json::{
    json,
    Value, //
};

/// Both sides of the traffic.
pub struct Sides<'a> {
    /// What the guest has counted.
    pub guest: &'a GuestTally,
    /// What its peer has.
    pub peer: &'a PeerTally,
    /// When something was done to the guest.
    pub provoked: &'a [Span<f64>],
    /// The figures of each migration.
    pub migrations: &'a [Value],
    /// Violations of the firmware interface.
    pub violations: u64,
}

impl Sides<'_> {
    /// The two ends of each stream. What one side has no end of, it has counted nothing of.
    fn streams(&self) -> Vec<(Tally, Tally)> {
        let missing = |connection| Tally {
            connection,
            error: Some("there was no such connection".to_string()),
            ..Tally::default()
        };
        let of_peer = |own: &Tally| {
            let mut streams = self.peer.streams.iter();
            let other = streams.find(|one| one.connection == own.connection);
            other.cloned().unwrap_or_else(|| missing(own.connection))
        };
        let guest = self.guest.streams.iter();
        guest.map(|own| (own.clone(), of_peer(own))).collect()
    }

    /// Bytes that one end of a connection has sent and the other has not received. The ends of
    /// short connections are added up: the peer has counted its end before the guest's ends well.
    fn bytes_lost(&self) -> u64 {
        let lost = |(one, other): (Tally, Tally)| {
            one.sent.abs_diff(other.received) + other.sent.abs_diff(one.received)
        };
        let visits = (self.guest.visits.clone(), self.peer.visits.clone());
        self.streams().into_iter().chain([visits]).map(lost).sum()
    }

    /// Why streams have ended that should not.
    fn broken(&self) -> Vec<String> {
        let ends = |(one, other): (Tally, Tally)| {
            let of = |side: &str, end: Tally| {
                let error = end.error?;
                Some(format!("stream {}, {side}: {error}", end.connection))
            };
            of("guest", one).or_else(|| of("peer", other))
        };
        self.streams().into_iter().filter_map(ends).collect()
    }

    /// All ends.
    fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for (one, other) in self.streams() {
            sum.add(&one);
            sum.add(&other);
        }
        sum.add(&self.guest.visits);
        sum.add(&self.peer.visits);
        sum
    }

    /// A figure of each migration.
    fn of_migrations(&self, name: &str) -> Vec<u64> {
        let migrations = self.migrations.iter();
        migrations.filter_map(|one| one[name].as_u64()).collect()
    }

    /// How often QEMU has given a migration up for a change that came too late.
    fn refusals(&self) -> usize {
        let of = |one: &Value| one["refusals"].as_array().map_or(0, Vec::len);
        self.migrations.iter().map(of).sum()
    }

    /// The longest silence that a migration has caused, in milliseconds.
    fn stop_gap(&self) -> Option<f64> {
        let gaps = self.migrations.iter().filter_map(|one| {
            let [stopped, runs] = ["stopped_at", "runs_at"].map(|name| one[name].as_f64());
            Some(self.peer.timeline.gap_from(stopped?, runs?))
        });
        gaps.reduce(f64::max)
    }

    /// All figures.
    pub fn figures(&self) -> Value {
        let sum = self.sum();
        let broken = self.broken();
        let (own, other) = (&self.guest.datagrams, &self.peer.datagrams);
        let lost = Lost::of(own, other, self.provoked);
        json!({
            "streams": self.guest.streams.len(),
            "connections": self.guest.visits_made + self.guest.streams.len() as u64,
            "connections_lost": self.guest.visits_lost + broken.len() as u64,
            "broken": broken,
            "bytes": sum.received,
            "bytes_lost": self.bytes_lost(),
            "bytes_wrong": sum.wrong,
            "retransmits": sum.retransmits,
            "datagrams": own.received(other.counted.sent) + other.counted.received(own.sent),
            "datagrams_lost": lost.all,
            "datagrams_missed": lost.missed,
            "frames_dropped": own.dropped().saturating_add(other.counted.dropped()),
            "datagrams_wrong": own.wrong
                + own.invented(other.counted.sent)
                + other.counted.wrong
                + other.counted.invented(own.sent),
            "datagrams_twice": own.twice + other.counted.twice,
            "rules_changed": self.guest.rules_changed,
            "rules_failed": self.guest.rules_failed,
            "guest_log": self.guest.log_faults,
            "guest_log_faults": self.guest.log_faults.len(),
            "gap_ms": self.peer.timeline.gap_ms(),
            "stop_gap_ms": self.stop_gap(),
            "timeline": self.peer.timeline.json(),
            "firmware_violations": self.violations,
            // The longest one.
            "downtime_ms": self.of_migrations("downtime_ms").into_iter().max(),
            "dirty_pages": self.of_migrations("dirty_pages").iter().sum::<u64>(),
            "reinits": self.of_migrations("reinits").iter().sum::<u64>(),
            "refusals": self.refusals(),
            "migrations": self.migrations,
        })
    }
}

/// Fails if anything was lost, or wrong.
pub fn judge(figures: &Value) -> Result<()> {
    for name in ["bytes", "connections", "datagrams", "rules_changed"] {
        ensure!(
            figures[name].as_u64() > Some(0),
            "no {name}: {}",
            brief(figures)
        );
    }
    for name in [
        "bytes_lost",
        "bytes_wrong",
        "connections_lost",
        "datagrams_missed",
        "datagrams_wrong",
        "datagrams_twice",
        "guest_log_faults",
        "firmware_violations",
    ] {
        ensure!(
            figures[name] == 0,
            "{name} is {}: {}",
            figures[name],
            brief(figures)
        );
    }
    let failed = &figures["rules_failed"];
    ensure!(
        *failed == json!([]),
        "rules_failed is {failed}: {}",
        brief(figures)
    );
    Ok(())
}

/// The figures for a message: without the timeline, which is hundreds of numbers.
fn brief(figures: &Value) -> Value {
    let mut brief = figures.clone();
    if let Some(all) = brief.as_object_mut() {
        all.remove("timeline");
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            datagrams::{
                Datagrams,
                Witness, //
            },
            timeline::Timeline, //
        },
        *, //
    };
    use vm_common::documented::{
        self,
        keys, //
    };

    fn end(connection: u64, sent: u64, received: u64) -> Tally {
        Tally {
            connection,
            sent,
            received,
            retransmits: 1,
            ..Tally::default()
        }
    }

    type Both = (GuestTally, PeerTally);
    type Spoiler = fn(&mut Both);

    fn sides() -> Both {
        let datagrams = Datagrams {
            came: vec![(0, 4)],
            sent: 4,
            ..Datagrams::default()
        };
        let guest = GuestTally {
            streams: vec![end(1, 100, 70), end(2, 50, 60)],
            visits: end(0, 8, 8),
            visits_made: 4,
            rules_changed: 3,
            datagrams: datagrams.clone(),
            ..GuestTally::default()
        };
        let mut timeline = Timeline::default();
        timeline.hear(11.0, 100);
        timeline.hear(11.5, 50);
        let peer = PeerTally {
            // They may connect in any order.
            streams: vec![end(2, 60, 50), end(1, 70, 100)],
            visits: end(0, 8, 8),
            datagrams: Witness {
                counted: datagrams,
                ..Witness::default()
            },
            timeline,
        };
        (guest, peer)
    }

    fn figures((guest, peer): &Both) -> Value {
        let sides = Sides {
            guest,
            peer,
            provoked: &[],
            migrations: &[
                json!({
                    "stopped_at": 11.25, "runs_at": 11.375, "downtime_ms": 125, "reinits": 1,
                    "dirty_pages": 10, "refusals": [[9.5, 10.5]],
                }),
                json!({ "downtime_ms": 100, "reinits": 1, "dirty_pages": 20 }),
            ],
            violations: 0,
        };
        sides.figures()
    }

    #[test]
    fn figures_are_of_all_migrations() {
        let figures = figures(&sides());
        for (name, value) in [
            ("downtime_ms", 125),
            ("reinits", 2),
            ("dirty_pages", 30),
            ("refusals", 1),
        ] {
            assert_eq!(figures[name], value, "{name}");
        }
        assert_eq!(figures["stop_gap_ms"], 250.0);
    }

    #[test]
    fn the_page_has_what_is_written() {
        let mut written = figures(&sides());
        written["driver"] = "rust".into();
        written["case"] = "one queue".into();
        let page = documented::testing();
        let heading = "The report of make run-net";
        let tables = documented::tables(&page, heading);
        assert_eq!(tables[0].names(), keys(&written));
        let said = tables[0].said_of("timeline");
        let timeline = &mut keys(&written["timeline"]);
        timeline.retain(|name| !said.contains(name));
        assert_eq!(timeline.len(), 0, "{timeline:?}");
    }

    #[test]
    fn figures_are_of_both_sides() {
        let figures = figures(&sides());
        for (name, value) in [
            ("bytes", 296),
            ("connections", 6),
            ("datagrams", 8),
            ("datagrams_lost", 0),
            ("retransmits", 6),
            ("bytes_lost", 0),
            ("connections_lost", 0),
        ] {
            assert_eq!(figures[name], value, "{name}");
        }
        assert_eq!(figures["gap_ms"], 500.0);
        judge(&figures).unwrap();
    }

    #[test]
    fn what_a_nic_had_no_buffers_for_is_no_mystery() {
        let mut sides = sides();
        sides.0.datagrams.sent += 2;
        for (frames, missed) in [(0, 2), (1, 1), (2, 0), (3, 0)] {
            // What the guest's NIC drops, the peer has sent.
            sides.0.datagrams.dropped = vec![((0, 4), 9)];
            sides.1.datagrams.counted.dropped = vec![((0, 4), frames)];
            let figures = figures(&sides);
            assert_eq!(figures["datagrams_missed"], missed);
            assert_eq!(figures["frames_dropped"], frames + 9);
            assert_eq!(judge(&figures).is_ok(), missed == 0);
        }
    }

    #[test]
    fn what_goes_wrong_is_noticed() {
        let spoilers: [(&str, Spoiler); 14] = [
            ("datagrams_wrong", |sides| sides.0.datagrams.wrong = 1),
            ("datagrams_wrong", |sides| {
                sides.0.datagrams.came = vec![(0, 5)];
            }),
            ("datagrams_wrong", |sides| {
                sides.1.datagrams.counted.came = vec![(0, 4), (7, 8)];
            }),
            ("datagrams_twice", |sides| {
                sides.1.datagrams.counted.twice = 1;
            }),
            ("datagrams_missed", |sides| sides.0.datagrams.sent += 1),
            ("bytes_lost", |sides| sides.1.streams[0].received -= 1),
            ("bytes_lost", |sides| sides.1.visits.received -= 1),
            ("bytes_lost", |sides| sides.1.visits = Tally::default()),
            ("bytes_wrong", |sides| sides.0.visits.wrong = 1),
            ("connections_lost", |sides| sides.0.visits_lost = 1),
            ("connections_lost", |sides| {
                sides.1.streams[1].error = Some("reset".to_string());
            }),
            ("bytes_lost", |sides| sides.1.streams.truncate(1)),
            ("guest_log_faults", |sides| {
                sides.0.log_faults.push("a".to_string());
            }),
            ("rules_failed", |sides| {
                sides.0.rules_failed.push("b".to_string());
            }),
        ];
        for (name, spoil) in spoilers {
            let mut sides = sides();
            spoil(&mut sides);
            let err = judge(&figures(&sides)).unwrap_err().to_string();
            assert!(err.starts_with(&format!("{name} is ")), "{err}");
            assert!(!err.contains("timeline"), "{err}");
        }
    }
}

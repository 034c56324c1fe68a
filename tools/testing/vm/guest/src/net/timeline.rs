// SPDX-License-Identifier: GPL-2.0

//! When how much has come: for the longest silence, and for a picture.

use serde_json::{
    json,
    Value, //
};
use std::time::{
    SystemTime,
    UNIX_EPOCH, //
};

/// Time that one number of the picture is about, in seconds.
const STEP: f64 = 0.1;
/// Most numbers of the picture: an hour. No guest streams for so long.
const MOST: usize = 36_000;
/// Shortest silence that is noted, in seconds.
const SILENCE: f64 = 0.02;

/// The time, in seconds since 1970, as QEMU's trace events have it.
pub fn now() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0.0, |time| time.as_secs_f64())
}

/// What has come, since something has come first.
#[derive(Default, Debug)]
pub struct Timeline {
    /// When that was.
    begin: Option<f64>,
    /// Bytes that have come in each [`STEP`], as far as the picture goes.
    bytes: Vec<u64>,
    /// All bytes.
    total: u64,
    /// When something has come last.
    last: Option<f64>,
    /// When each silence began, and how long it was.
    silences: Vec<(f64, f64)>,
}

/// The longest of silences.
fn longest<'a>(silences: impl Iterator<Item = &'a (f64, f64)>) -> (f64, f64) {
    let longer = |one: (f64, f64), other: &(f64, f64)| match other.1 > one.1 {
        true => *other,
        false => one,
    };
    silences.fold((0.0, 0.0), longer)
}

impl Timeline {
    /// Something has come.
    pub fn hear(&mut self, now: f64, bytes: usize) {
        let begin = *self.begin.get_or_insert(now);
        self.total += bytes as u64;
        let index = ((now - begin) / STEP).max(0.0) as usize;
        // A clock can be set ahead, by years.
        if index < MOST {
            let len = self.bytes.len().max(index + 1);
            self.bytes.resize(len, 0);
            self.bytes[index] += bytes as u64;
        }
        if let Some(last) = self.last.filter(|last| now - last >= SILENCE) {
            self.silences.push((last, now - last));
        }
        self.last = Some(now);
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest silence, in milliseconds.
    pub fn gap_ms(&self) -> f64 {
        longest(self.silences.iter()).1 * 1e3
    }

    /// The longest silence of which some was between two times, in milliseconds. It counts from
    /// the first of them on: what was silent before that was so for another reason.
    pub fn gap_from(&self, from: f64, to: f64) -> f64 {
        let meets = |(begin, len): &&(f64, f64)| *begin < to && begin + len > from;
        let silences = self.silences.iter().filter(meets);
        let lengths = silences.map(|(begin, len)| begin + len - begin.max(from));
        lengths.fold(0.0, f64::max) * 1e3
    }

    /// For the host.
    pub fn json(&self) -> Value {
        json!({
            "begin": self.begin,
            "step_ms": STEP * 1e3,
            "bytes": self.bytes,
            "beyond": self.total - self.bytes.iter().sum::<u64>(),
            "gap_begin": longest(self.silences.iter()).0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_found() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.gap_ms(), 0.0);
        for now in [105.0, 105.125, 105.25, 106.0, 106.125] {
            timeline.hear(now, 10);
        }
        assert_eq!(timeline.gap_ms(), 750.0);
        assert_eq!(timeline.json()["gap_begin"], 105.25);
        timeline.hear(108.125, 10);
        assert_eq!(timeline.gap_ms(), 2000.0);
    }

    #[test]
    fn a_silence_counts_from_the_stop_on() {
        let mut timeline = Timeline::default();
        for now in [105.0, 105.125, 105.25, 106.0, 106.125] {
            timeline.hear(now, 10);
        }
        assert_eq!(timeline.gap_from(105.0, 105.25), 125.0);
        // The silence goes on after the guest runs again.
        assert_eq!(timeline.gap_from(105.125, 105.375), 750.0);
        // The guest was silent before it was stopped, and for longer than after that.
        assert_eq!(timeline.gap_from(105.75, 105.875), 250.0);
        assert_eq!(timeline.gap_from(106.25, 106.375), 0.0);
    }

    #[test]
    fn bytes_are_where_they_have_come() {
        let mut timeline = Timeline::default();
        for now in [100.0, 100.01, 100.25] {
            timeline.hear(now, 10);
        }
        // A clock that was turned back.
        timeline.hear(99.0, 1);
        assert_eq!(timeline.json()["bytes"], json!([21, 0, 10]));
        assert_eq!(timeline.json()["begin"], 100.0);
        assert_eq!(timeline.total(), 31);
    }
    #[test]
    fn a_clock_that_jumps_ahead_takes_no_memory() {
        let mut timeline = Timeline::default();
        for now in [100.0, 1e9, 1e300, f64::INFINITY, 100.25] {
            timeline.hear(now, 10);
        }
        let json = timeline.json();
        assert_eq!(json["bytes"], json!([10, 0, 10]));
        assert_eq!(json["beyond"], 30);
        assert_eq!(timeline.total(), 50);
        timeline.hear(100.0 + (MOST - 1) as f64 * STEP + STEP / 2.0, 1);
        assert_eq!(timeline.bytes.len(), MOST);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Which datagrams were lost, and what explains that.
//!
//! A loss is explained if something was done to the guest at that time, or else by a frame that
//! the NIC had no buffer for to which the datagram was to come, at about that time. Such a frame
//! explains one datagram at most, since it has carried no more. What a NIC has dropped explains
//! nothing of what its own end has sent.

use super::datagrams::{
    Datagrams,
    Dropped,
    Span,
    Witness,
    BETWEEN, //
};

/// Seconds before and after something that is done to a guest in which datagrams may be lost:
/// in that time the network learns where the guest is.
const AROUND: f64 = 1.0;
/// How many numbers a datagram may be away from those that were next when a frame was dropped: a
/// second of them. The frames in front of it may not have left the NIC's ring yet.
const NEAR: u64 = 1000 / BETWEEN.as_millis() as u64;

/// Datagrams that were lost, both ways.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// All.
    pub all: u64,
    /// Those that nothing explains.
    pub missed: u64,
}

/// Frames that explain no datagram yet.
struct Frames(Vec<Dropped>);

impl Frames {
    /// Takes frames for lost datagrams with these numbers, of which `count` are to be explained.
    /// Returns how many are not.
    fn explain(&mut self, lost: Span<u64>, count: u64) -> u64 {
        let near = |(next, _): &&mut Dropped| {
            next.0 < lost.1.saturating_add(NEAR) && lost.0 <= next.1.saturating_add(NEAR)
        };
        let mut left = count;
        for (_, frames) in self.0.iter_mut().filter(near) {
            let used = left.min(*frames);
            *frames -= used;
            left -= used;
        }
        left
    }
}

/// When datagrams may be lost, in order. Spans that meet are one, so that no time counts twice.
fn around(provoked: &[Span<f64>]) -> Vec<Span<f64>> {
    let widen = |(from, to): &Span<f64>| (from - AROUND, to + AROUND);
    let mut spans: Vec<Span<f64>> = provoked.iter().map(widen).collect();
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    spans.dedup_by(|next, last| {
        let meets = next.0 <= last.1;
        if meets {
            last.1 = last.1.max(next.1);
        }
        meets
    });
    spans
}

/// How many datagrams the time between two times explains: no more than can have been sent in what
/// it has in common with when they may be lost.
fn excused((from, to): Span<f64>, around: &[Span<f64>]) -> u64 {
    let common = |span: &Span<f64>| to.min(span.1) - from.max(span.0);
    let times = around.iter().map(common).filter(|time| *time >= 0.0);
    times
        .map(|time| (time / BETWEEN.as_secs_f64()) as u64 + 1)
        .sum()
}

impl Lost {
    /// Of a guest and its peer. `provoked` is when something was done to the guest.
    pub fn of(guest: &Datagrams, peer: &Witness, provoked: &[Span<f64>]) -> Self {
        let mut lost = Self::default();
        let around = around(provoked);
        let sent = &peer.sent_at;
        let mut frames = Frames(guest.dropped.clone());
        for (from, to) in guest.missing(sent.len() as u64) {
            let unprovoked = |number: &u64| {
                let number = *number as usize;
                // Its sender may have stood still then: it was sent before the next one.
                let next = sent.get(number + 1).unwrap_or(&sent[number]);
                excused((sent[number], *next), &around) == 0
            };
            let count = (from..to).filter(unprovoked).count() as u64;
            lost.all += to - from;
            lost.missed += frames.explain((from, to), count);
        }
        let mut frames = Frames(peer.counted.dropped.clone());
        for (from, to) in peer.counted.missing(guest.sent) {
            // Between the one before, and the one after.
            let mut before = peer.came_at.range(..from);
            let before = before.next_back().map_or(f64::NEG_INFINITY, |one| *one.1);
            let mut after = peer.came_at.range(to..);
            let after = after.next().map_or(f64::INFINITY, |one| *one.1);
            let count = (to - from).saturating_sub(excused((before, after), &around));
            lost.all += to - from;
            lost.missed += frames.explain((from, to), count);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn times(numbers: &[u64]) -> BTreeMap<u64, f64> {
        numbers.iter().map(|n| (*n, 100.0 + *n as f64)).collect()
    }

    fn peer() -> Witness {
        Witness {
            counted: Datagrams {
                came: vec![(0, 3), (5, 9)],
                ..Datagrams::default()
            },
            sent_at: times(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
                .into_values()
                .collect(),
            came_at: times(&[0, 1, 2, 5, 6, 7, 8]),
        }
    }

    fn guest() -> Datagrams {
        Datagrams {
            sent: 9,
            came: vec![(0, 4), (5, 9)],
            ..Datagrams::default()
        }
    }

    #[test]
    fn what_is_lost_without_a_reason_is_told_apart() {
        let (guest, peer) = (guest(), peer());
        let lost = |provoked: &[_]| {
            let lost = Lost::of(&guest, &peer, provoked);
            (lost.all, lost.missed)
        };
        // Of the guest, 3 and 4, and of the peer, 4 and 9.
        assert_eq!(lost(&[]), (4, 4));
        assert_eq!(lost(&[(103.5, 104.5)]), (4, 1));
        assert_eq!(lost(&[(103.5, 104.5), (109.5, 120.0)]), (4, 0));
        assert_eq!(lost(&[(111.0, 120.0)]), (4, 4));
        // Nothing came any more of what the guest has sent: three seconds of that are excused.
        let silent = Datagrams {
            sent: 209,
            ..guest.clone()
        };
        let lost = Lost::of(&silent, &peer, &[(109.5, 110.5)]);
        assert_eq!(lost.all, 204);
        assert!((140..=143).contains(&lost.missed), "{lost:?}");
    }

    #[test]
    fn what_is_done_twice_at_a_time_explains_no_more() {
        let peer = Witness {
            counted: Datagrams {
                came: vec![(0, 1), (101, 102)],
                ..Datagrams::default()
            },
            came_at: [(0, 95.0), (101, 110.0)].into(),
            ..Witness::default()
        };
        let guest = Datagrams {
            sent: 102,
            ..Datagrams::default()
        };
        let missed = |provoked: &[_]| Lost::of(&guest, &peer, provoked).missed;
        // Four seconds, and three twice.
        let once = missed(&[(100.0, 102.0)]);
        assert_eq!(missed(&[(100.0, 102.0), (100.0, 102.0)]), once);
        assert_eq!(
            missed(&[(101.0, 102.0), (100.0, 101.0), (100.5, 101.0)]),
            once
        );
        assert!((19..=20).contains(&once), "{once}");
        assert_eq!(missed(&[(97.0, 98.0), (101.0, 102.0)]), 0);
    }

    #[test]
    fn a_sender_that_stands_still_may_send_later_than_it_says() {
        let peer = Witness {
            sent_at: vec![100.0, 100.05, 104.0, 104.05],
            ..Witness::default()
        };
        let guest = Datagrams {
            came: vec![(0, 1), (2, 4)],
            ..Datagrams::default()
        };
        let missed = |provoked| Lost::of(&guest, &peer, &[provoked]).missed;
        assert_eq!(missed((102.0, 102.5)), 0);
        assert_eq!(missed((97.0, 98.0)), 1);
        assert_eq!(missed((106.0, 107.0)), 1);
    }

    #[test]
    fn a_frame_explains_what_was_to_come_to_its_nic() {
        // Two are lost each way.
        let missed = |of_guest, of_peer| {
            let (mut guest, mut peer) = (guest(), peer());
            guest.dropped = vec![((2, 6), of_guest)];
            peer.counted.dropped = vec![((2, 6), of_peer)];
            Lost::of(&guest, &peer, &[]).missed
        };
        assert_eq!(missed(0, 0), 4);
        assert_eq!(missed(1, 0), 3);
        assert_eq!(missed(1, 1), 2);
        // However many frames one NIC drops, they explain nothing of the other direction.
        assert_eq!(missed(500, 0), 2);
        assert_eq!(missed(0, 500), 2);
        assert_eq!(missed(2, 2), 0);
    }

    #[test]
    fn a_frame_explains_nothing_of_another_time() {
        let unexplained = |lost, dropped| Frames(vec![(dropped, 9)]).explain(lost, 3);
        for (dropped, left) in [
            ((300, 320), 0),
            ((200, 280), 0),
            ((200, 279), 3),
            ((322, 340), 0),
            ((323, 340), 3),
            ((0, 1000), 0),
        ] {
            assert_eq!(unexplained((300, 303), dropped), left, "{dropped:?}");
        }
        // Nothing came for as long as frames were dropped.
        assert_eq!(unexplained((300, 900), (300, 300)), 0);
    }

    #[test]
    fn a_frame_explains_one_datagram() {
        let mut frames = Frames(vec![((0, 20), 2), ((20, 40), 1)]);
        assert_eq!(frames.explain((10, 11), 1), 0);
        assert_eq!(frames.explain((15, 18), 3), 1);
        assert_eq!(frames.explain((19, 20), 1), 1);
    }
}

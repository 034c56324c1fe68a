// SPDX-License-Identifier: GPL-2.0

//! Counters of the physical port, as the groups of PPCNT have them. They count frames on the
//! wire, with their checksums.

use crate::{
    ifc::ethernet::register,
    packet::Packet,
    vport::{
        Traffic,
        FCS, //
    }, //
};

/// Upper ends of the ranges of lengths that RFC 2819 counts, as far as frames are that long.
const LENGTHS: [usize; 10] = [64, 127, 255, 511, 1023, 1518, 2047, 4095, 8191, 10239];
/// Bits of a tag that are not its priority.
const PRIORITY_SHIFT: u32 = 13;

/// What passed one way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Way {
    all: Traffic,
    multicast: u64,
    broadcast: u64,
    /// By the priority of their tags; without one, a frame has priority 0.
    priorities: [Traffic; 8],
    lengths: [u64; LENGTHS.len()],
}

/// The counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PortCounters {
    sent: Way,
    received: Way,
    /// Frames that were longer than the port takes.
    pub too_long: u64,
}

impl Way {
    fn count(&mut self, frame: &[u8]) {
        let len = frame.len() + FCS;
        self.all.count(len);
        match frame {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => self.broadcast += 1,
            [first, ..] if first & 1 == 1 => self.multicast += 1,
            _ => (),
        }
        let tag = Packet::parse(frame).and_then(|packet| packet.vlan);
        let priority = tag.map_or(0, |tag| tag.tci >> PRIORITY_SHIFT);
        self.priorities[usize::from(priority)].count(len);
        if let Some(range) = LENGTHS.iter().position(|end| len <= *end) {
            self.lengths[range] += 1;
        }
    }

    fn unicast(&self) -> u64 {
        self.all.frames - self.multicast - self.broadcast
    }
}

impl PortCounters {
    /// A frame goes out.
    pub fn sent(&mut self, frame: &[u8]) {
        self.sent.count(frame);
    }

    /// A frame has come.
    pub fn received(&mut self, frame: &[u8]) {
        self.received.count(frame);
    }

    /// Reads PPCNT, into `data` that has what the driver gave. The counters of what cannot
    /// happen here, such as bit errors, are 0, and so are groups that are not modelled.
    pub fn read(&self, data: &mut [u8]) {
        let Self {
            sent,
            received,
            too_long,
        } = *self;
        // By their place in the group.
        let counters: Vec<(usize, u64)> = match register::PPCNT_GROUP.get(data) {
            register::IEEE_802_3 => vec![
                (0, sent.all.frames),
                (1, received.all.frames),
                (4, sent.all.octets),
                (5, received.all.octets),
                (6, sent.multicast),
                (7, sent.broadcast),
                (8, received.multicast),
                (9, received.broadcast),
                (12, too_long),
            ],
            register::RFC_2863 => vec![
                (0, received.all.octets),
                (1, received.unicast()),
                (3, too_long),
                (5, sent.all.octets),
                (6, sent.unicast()),
                (9, received.multicast),
                (10, received.broadcast),
                (11, sent.multicast),
                (12, sent.broadcast),
            ],
            register::RFC_2819 => [
                (1, received.all.octets),
                (2, received.all.frames),
                (3, received.broadcast),
                (4, received.multicast),
                (7, too_long),
            ]
            .into_iter()
            .chain((11..).zip(received.lengths))
            .collect(),
            register::PER_PRIORITY => {
                let priority = register::PPCNT_PRIORITY.get(data) as usize;
                let of = |way: Way| way.priorities.get(priority).copied().unwrap_or_default();
                let (sent, received) = (of(sent), of(received));
                vec![
                    (0, received.octets),
                    (4, received.frames),
                    (5, sent.octets),
                    (9, sent.frames),
                ]
            }
            _ => Vec::new(),
        };
        let set = data.get_mut(register::PPCNT_SET..).unwrap_or_default();
        set.fill(0);
        for (place, value) in counters {
            if let Some(counter) = set.get_mut(place * 8..place * 8 + 8) {
                counter.copy_from_slice(&value.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counters of a group that are not 0, by their place.
    fn group(counters: &PortCounters, group: u64, priority: u64) -> Vec<(usize, u64)> {
        let mut data = vec![0xee; 0x100];
        register::PPCNT_GROUP.set(&mut data, group);
        register::PPCNT_PRIORITY.set(&mut data, priority);
        counters.read(&mut data);
        let values = data[register::PPCNT_SET..].chunks_exact(8);
        let values = values.map(|value| u64::from_be_bytes(value.try_into().unwrap()));
        values
            .enumerate()
            .filter(|(_, value)| *value != 0)
            .collect()
    }

    fn frame(first: u8, len: usize, tci: Option<u16>) -> Vec<u8> {
        let mut frame = vec![first; 6];
        frame.extend([2; 6]);
        if let Some(tci) = tci {
            frame.extend([0x81, 0]);
            frame.extend(tci.to_be_bytes());
        }
        frame.extend([0x12, 0x34]);
        frame.resize(len, 0);
        frame
    }

    #[test]
    fn all_groups_count_the_same_frames() {
        let mut counters = PortCounters::default();
        for (first, len, tci) in [
            (0xff, 60, None),
            (2, 61, Some(0x6005)),
            (2, 1514, Some(5)),
            (1, 1515, None),
        ] {
            counters.received(&frame(first, len, tci));
        }
        counters.sent(&frame(1, 100, Some(0xe000)));
        counters.sent(&frame(2, 10_236, None));
        counters.too_long = 7;
        let octets = 60 + 61 + 1514 + 1515 + 16;
        let of_802_3 = [
            (0, 2),
            (1, 4),
            (4, 10_344),
            (5, octets),
            (6, 1),
            (8, 1),
            (9, 1),
            (12, 7),
        ];
        assert_eq!(group(&counters, register::IEEE_802_3, 0), of_802_3);
        let of_2863 = [
            (0, octets),
            (1, 2),
            (3, 7),
            (5, 10_344),
            (6, 1),
            (9, 1),
            (10, 1),
            (11, 1),
        ];
        assert_eq!(group(&counters, register::RFC_2863, 0), of_2863);
        let of_2819 = [
            (1, octets),
            (2, 4),
            (3, 1),
            (4, 1),
            (7, 7),
            (11, 1),
            (12, 1),
            (16, 1),
            (17, 1),
        ];
        assert_eq!(group(&counters, register::RFC_2819, 0), of_2819);
        let priority = |priority| group(&counters, register::PER_PRIORITY, priority);
        let rest = octets - 65;
        assert_eq!(priority(0), [(0, rest), (4, 3), (5, 10_240), (9, 1)]);
        assert_eq!(priority(3), [(0, 65), (4, 1)]);
        assert_eq!(priority(7), [(5, 104), (9, 1)]);
        assert_eq!(priority(8), []);
        assert_eq!(group(&counters, 0x12, 0), []);
    }
}

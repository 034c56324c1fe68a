// SPDX-License-Identifier: GPL-2.0

//! What the driver of an interface counts (`ethtool -S`).

use crate::sys;
use anyhow::{
    Context,
    Result, //
};
use std::{
    collections::BTreeMap,
    io, //
};

// include/uapi/linux/ethtool.h
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;
/// Bytes of the name of a counter.
const ETH_GSTRING_LEN: usize = 32;
/// Bytes before the names in a struct ethtool_gstrings, and before the values in a struct
/// ethtool_stats.
const NAMES: usize = 12;
const VALUES: usize = 8;
/// The words of a struct ethtool_sset_info that asks for the number of counters.
const COUNT: [u32; 4] = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0];
/// Counters for which there is room beside those that there are. The kernel writes all, whatever
/// number it is told: there can be more of them if the number of queues has just changed.
const SPARE: usize = 4096;

/// Counters by name.
#[derive(Clone, Debug)]
pub struct Statistics(BTreeMap<String, u64>);

/// A command that begins with `words`, with `room` bytes behind them for the answer.
fn with_room(words: &[u32], room: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(bytes.len() + room, 0);
    bytes
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let word = bytes[index * 4..].first_chunk();
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

impl Statistics {
    /// Those of an interface.
    pub fn of(interface: &str) -> io::Result<Self> {
        let mut info = with_room(&COUNT, 4);
        sys::ethtool(interface, &mut info)?;
        let count = word(&info, COUNT.len());
        let room = count as usize + SPARE;
        let mut names = with_room(
            &[ETHTOOL_GSTRINGS, ETH_SS_STATS, count],
            room * ETH_GSTRING_LEN,
        );
        sys::ethtool(interface, &mut names)?;
        let mut values = with_room(&[ETHTOOL_GSTATS, count], room * 8);
        sys::ethtool(interface, &mut values)?;
        Ok(Self::parse(&names, &values))
    }

    /// Those of the answers to ETHTOOL_GSTRINGS and ETHTOOL_GSTATS.
    fn parse(names: &[u8], values: &[u8]) -> Self {
        let count = word(names, 2).min(word(values, 1)) as usize;
        let name = |bytes: &[u8]| {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        let names = names[NAMES..].chunks_exact(ETH_GSTRING_LEN).map(name);
        let values = values[VALUES..].chunks_exact(8);
        let value = |bytes: &[u8]| bytes.first_chunk().map_or(0, |v| u64::from_ne_bytes(*v));
        Self(names.zip(values.map(value)).take(count).collect())
    }

    /// A counter.
    pub fn get(&self, name: &str) -> Result<u64> {
        let value = self.0.get(name);
        value
            .copied()
            .with_context(|| format!("there is no counter {name}"))
    }

    /// The counters of channels, from the first on: `rx0_packets`, `rx1_packets`, …
    pub fn of_channels(&self, prefix: &str, suffix: &str) -> Vec<u64> {
        let name = |channel| format!("{prefix}{channel}_{suffix}");
        let counters = (0..).map_while(|channel| self.0.get(&name(channel)));
        counters.copied().collect()
    }

    /// What was counted since then.
    pub fn since(self, before: &Self) -> Self {
        let then = |name| before.0.get(name).copied().unwrap_or(0);
        let counted = self
            .0
            .iter()
            .map(|(name, value)| (name.clone(), value.wrapping_sub(then(name))));
        Self(counted.collect())
    }
}

/// Frames that an interface has dropped because its driver had given it no buffers for them.
pub fn out_of_buffer(interface: &str) -> Result<u64> {
    Statistics::of(interface)?.get("rx_out_of_buffer")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of a driver that has these counters, in more room than it needs.
    fn answers(all: &[(&str, u64)]) -> [Vec<u8>; 2] {
        let count = all.len() as u32;
        let room = all.len() + 2;
        let words = [ETHTOOL_GSTRINGS, ETH_SS_STATS, count];
        let mut names = with_room(&words, room * ETH_GSTRING_LEN);
        let mut values = with_room(&[ETHTOOL_GSTATS, count], room * 8);
        for (i, (name, value)) in all.iter().enumerate() {
            names[NAMES + i * ETH_GSTRING_LEN..][..name.len()].copy_from_slice(name.as_bytes());
            values[VALUES + i * 8..][..8].copy_from_slice(&value.to_ne_bytes());
        }
        [names, values]
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let [names, values] = answers(&[
            ("rx_packets", 5),
            ("rx_out_of_buffer_too", 6),
            ("rx_out_of_buffer", 7),
        ]);
        let statistics = Statistics::parse(&names, &values);
        assert_eq!(statistics.get("rx_out_of_buffer").unwrap(), 7);
        assert_eq!(statistics.get("rx_packets").unwrap(), 5);
        assert!(statistics.get("rx").is_err());
        assert_eq!(statistics.0.len(), 3);
    }

    #[test]
    fn a_name_may_be_as_long_as_its_place() {
        let long = "x".repeat(ETH_GSTRING_LEN);
        let [names, values] = answers(&[(&long, 1), ("rx0_a", 2), ("rx1_a", 3), ("rx3_a", 4)]);
        let statistics = Statistics::parse(&names, &values);
        assert_eq!(statistics.get(&long).unwrap(), 1);
        assert_eq!(statistics.of_channels("rx", "a"), [2, 3]);
    }

    #[test]
    fn what_was_counted_since_then_is_the_difference() {
        let of = |value| {
            let [names, values] = answers(&[("rx_packets", value)]);
            Statistics::parse(&names, &values)
        };
        assert_eq!(of(9).since(&of(4)).get("rx_packets").unwrap(), 5);
    }
}

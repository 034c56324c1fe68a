// SPDX-License-Identifier: GPL-2.0

//! Which entries of a table match a packet, without a look at each: they are kept by the mask of
//! their group, and by their value under that. It is made of groups and entries, so no image has
//! it.

use crate::packet::Key;
use std::collections::{
    BTreeSet,
    HashMap, //
};

/// What groups of one mask have.
#[derive(Clone, Default, Debug)]
struct OfMask {
    groups: usize,
    /// Indices of entries, by their values under the mask.
    entries: HashMap<Key, BTreeSet<u32>>,
}

/// The entries of a table.
#[derive(Clone, Default, Debug)]
pub struct Index {
    masks: HashMap<Key, OfMask>,
}

fn under(mask: &Key, value: &Key) -> Key {
    std::array::from_fn(|at| mask[at] & value[at])
}

impl Index {
    /// How many masks there are: a packet is looked up once for each.
    pub fn masks(&self) -> usize {
        self.masks.len()
    }

    /// Whether a group has this mask.
    pub fn has(&self, mask: &Key) -> bool {
        self.masks.contains_key(mask)
    }

    /// There is a group more.
    pub fn add_group(&mut self, mask: &Key) {
        self.masks.entry(*mask).or_default().groups += 1;
    }

    /// There is a group less, which has no entries.
    pub fn remove_group(&mut self, mask: &Key) {
        if let Some(of_mask) = self.masks.get_mut(mask) {
            of_mask.groups -= 1;
            if of_mask.groups == 0 {
                self.masks.remove(mask);
            }
        }
    }

    /// There is an entry more, of a group with this mask.
    pub fn add_entry(&mut self, mask: &Key, value: &Key, index: u32) {
        if let Some(of_mask) = self.masks.get_mut(mask) {
            let same = of_mask.entries.entry(under(mask, value)).or_default();
            same.insert(index);
        }
    }

    /// There is an entry less.
    pub fn remove_entry(&mut self, mask: &Key, value: &Key, index: u32) {
        let Some(of_mask) = self.masks.get_mut(mask) else {
            return;
        };
        let value = under(mask, value);
        if let Some(same) = of_mask.entries.get_mut(&value) {
            same.remove(&index);
            if same.is_empty() {
                of_mask.entries.remove(&value);
            }
        }
    }

    /// The first entry that matches.
    pub fn find(&self, key: &Key) -> Option<u32> {
        let masks = self.masks.iter();
        let firsts = masks.filter_map(|(mask, of_mask)| {
            let same = of_mask.entries.get(&under(mask, key))?;
            same.first().copied()
        });
        firsts.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Key {
        std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0))
    }

    #[test]
    fn the_first_entry_counts_whatever_its_mask() {
        let (all, one, two) = (key(&[]), key(&[0xff]), key(&[0xff, 0xff]));
        let mut index = Index::default();
        for mask in [&all, &one, &two, &two] {
            index.add_group(mask);
        }
        assert_eq!(index.masks(), 3);
        assert_eq!(index.find(&key(&[1, 2])), None);
        index.add_entry(&all, &key(&[9, 9]), 7);
        index.add_entry(&two, &key(&[1, 2]), 9);
        index.add_entry(&two, &key(&[1, 2]), 3);
        index.add_entry(&one, &key(&[1, 9]), 5);
        assert_eq!(index.find(&key(&[1, 2])), Some(3));
        assert_eq!(index.find(&key(&[1, 3])), Some(5));
        assert_eq!(index.find(&key(&[2, 3])), Some(7));
        index.remove_entry(&two, &key(&[1, 2]), 3);
        assert_eq!(index.find(&key(&[1, 2])), Some(5));
        index.remove_entry(&one, &key(&[1, 0]), 5);
        index.remove_group(&one);
        assert_eq!(index.find(&key(&[1, 2])), Some(7));
        index.remove_entry(&all, &key(&[]), 7);
        assert_eq!(index.find(&key(&[1, 2])), Some(9));
        index.remove_entry(&two, &key(&[1, 2]), 9);
        assert_eq!(index.find(&key(&[1, 2])), None);
        index.remove_group(&two);
        assert!(index.has(&two) && !index.has(&one));
        index.remove_group(&two);
        index.remove_group(&all);
        assert_eq!(index.masks(), 0);
    }
}

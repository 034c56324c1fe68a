// SPDX-License-Identifier: GPL-2.0

//! What a function has created. Each has numbers of its own, as a VHCA has on
//! hardware, so that no function can name what belongs to another.

use crate::{
    cq::CompletionQueue,
    eq::EventQueue,
    mkey::Mkey,
    qp::QueuePair,
    track::PageTrack, //
};
use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    ops::Range, //
};

/// Objects that are nothing but their numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    taken: BTreeSet<u32>,
}

impl Numbers {
    /// The lowest free number of `range`, now taken.
    pub fn alloc(&mut self, mut range: Range<u32>) -> Option<u32> {
        let number = range.find(|n| !self.taken.contains(n))?;
        self.taken.insert(number);
        Some(number)
    }

    /// Whether `number` is taken.
    pub fn has(&self, number: u32) -> bool {
        self.taken.contains(&number)
    }

    /// Gives a number back.
    pub fn free(&mut self, number: u32) -> bool {
        self.taken.remove(&number)
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

/// Objects by their numbers.
#[derive(Debug, Default)]
pub struct Objects {
    /// Event queues.
    pub eqs: BTreeMap<u8, EventQueue>,
    /// Protection domains.
    pub pds: Numbers,
    /// UAR pages.
    pub uars: Numbers,
    /// Memory keys, by index.
    pub mkeys: BTreeMap<u32, Mkey>,
    /// Completion queues.
    pub cqs: BTreeMap<u32, CompletionQueue>,
    /// Queue pairs.
    pub qps: BTreeMap<u32, QueuePair>,
    /// Page trackers.
    pub trackers: BTreeMap<u32, PageTrack>,
    /// A fault has left one here that a driver wanted to destroy: so it is no
    /// violation if what that one uses is destroyed, too, or if some are left.
    pub undestroyed: bool,
}

/// Inserts an object with the lowest free number of `range`.
pub fn insert<K: Copy + Ord, T>(
    map: &mut BTreeMap<K, T>,
    mut range: impl Iterator<Item = K>,
    object: T,
) -> Option<K> {
    let number = range.find(|n| !map.contains_key(n))?;
    map.insert(number, object);
    Some(number)
}

impl Objects {
    /// The mkey with this key, if its low byte is right, too.
    pub fn mkey(&self, key: u32) -> Option<&Mkey> {
        let mkey = self.mkeys.get(&(key >> 8))?;
        (mkey.variant == key as u8).then_some(mkey)
    }

    /// Whether an mkey or a QP is in a protection domain.
    pub fn uses_pd(&self, pd: u32) -> bool {
        let mkeys = self.mkeys.values().map(|mkey| mkey.pd);
        let qps = self.qps.values().map(|qp| qp.pd);
        mkeys.chain(qps).any(|used| used == pd)
    }

    /// Whether a QP has its completions on a CQ.
    pub fn uses_cq(&self, cqn: u32) -> bool {
        let mut receives = self.qps.values().filter_map(|qp| qp.receive.as_ref());
        receives.any(|receive| receive.cqn == cqn)
    }

    /// Whether a tracker reports through a QP.
    pub fn uses_qp(&self, qpn: u32) -> bool {
        self.trackers.values().any(|track| track.qpn == qpn)
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> [(&'static str, usize); 7] {
        [
            ("mkeys", self.mkeys.len()),
            ("PDs", self.pds.len()),
            ("UARs", self.uars.len()),
            ("EQs", self.eqs.len()),
            ("CQs", self.cqs.len()),
            ("QPs", self.qps.len()),
            ("trackers", self.trackers.len()),
        ]
    }

    /// The EQ that takes events of a type.
    pub fn eq_for(&mut self, kind: u8) -> Option<&mut EventQueue> {
        let mut eqs = self.eqs.values_mut();
        eqs.find(|eq| (eq.events >> kind) & 1 == 1)
    }
}

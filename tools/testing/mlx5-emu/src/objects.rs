// SPDX-License-Identifier: GPL-2.0

//! What a function has created. Each has numbers of its own, as a VHCA has on
//! hardware, so that no function can name what belongs to another.

use crate::{
    cq::CompletionQueue,
    encoded::U32,
    eq::EventQueue,
    flow_counter::FlowCounters,
    mkey::Mkey,
    numbers::Numbers,
    pool::Pool,
    qp::QueuePair,
    records::{
        Key,
        Kind, //
    },
    resources::Saved,
    rq::Rq,
    rqt::Rqt,
    sq::Sq,
    steering::{
        FlowTables,
        Named, //
    },
    tir::{
        Dispatch,
        Tir, //
    },
    tis::Tis,
    track::PageTrack, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::collections::BTreeMap;

/// A set of counters that receive queues share.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct QCounter {
    /// Frames that there was no memory for.
    pub out_of_buffer: u32,
}

impl Saved for QCounter {
    const MAX_LEN: usize = U32;

    fn is_sound(&self) -> bool {
        true
    }
}

/// Objects by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Event queues.
    pub eqs: Pool<u8, EventQueue>,
    /// Protection domains.
    pub pds: Numbers,
    /// UAR pages.
    pub uars: Numbers,
    /// Memory keys, by index.
    pub mkeys: Pool<u32, Mkey>,
    /// Completion queues.
    pub cqs: Pool<u32, CompletionQueue>,
    /// Queue pairs.
    pub qps: Pool<u32, QueuePair>,
    /// Transport domains.
    pub domains: Numbers,
    /// TISs.
    pub tiss: BTreeMap<u32, Tis>,
    /// TIRs.
    pub tirs: BTreeMap<u32, Tir>,
    /// RQTs.
    pub rqts: BTreeMap<u32, Rqt>,
    /// Send queues.
    pub sqs: Pool<u32, Sq>,
    /// Receive queues.
    pub rqs: Pool<u32, Rq>,
    /// Queue counters.
    pub q_counters: BTreeMap<u8, QCounter>,
    /// Flow counters.
    pub flow_counters: FlowCounters,
    /// Flow tables.
    pub flow_tables: FlowTables,
    /// Page trackers.
    pub trackers: BTreeMap<u32, PageTrack>,
    /// A fault has left one here that a driver wanted to destroy: so it is no
    /// violation if what that one uses is destroyed, too, or if some are left.
    pub undestroyed: bool,
}

/// Most objects of a kind, whatever their numbers: they take memory of the host.
pub const MAX_OBJECTS: usize = 1 << 16;

/// Most pages in the lists of all mkeys and queues: 64 GiB in pages of 4 KiB.
pub const MAX_PAGES: usize = 1 << 24;

/// Inserts an object with the lowest free number of `range`.
pub fn insert<K: Copy + Ord, T>(
    map: &mut BTreeMap<K, T>,
    mut range: impl Iterator<Item = K>,
    object: T,
) -> Option<K> {
    if map.len() >= MAX_OBJECTS {
        return None;
    }
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

    /// Whether there is what a record is of. What a driver does not create is always there.
    pub fn has(&self, Key { kind, number }: Key) -> bool {
        let byte = u8::try_from(number);
        match kind {
            Kind::Eq => byte.is_ok_and(|number| self.eqs.contains_key(&number)),
            Kind::Mkey => self.mkeys.contains_key(&number),
            Kind::Cq => self.cqs.contains_key(&number),
            Kind::Qp => self.qps.contains_key(&number),
            Kind::Tis => self.tiss.contains_key(&number),
            Kind::Tir => self.tirs.contains_key(&number),
            Kind::Rqt => self.rqts.contains_key(&number),
            Kind::Sq => self.sqs.contains_key(&number),
            Kind::Rq => self.rqs.contains_key(&number),
            Kind::QCounter => byte.is_ok_and(|number| self.q_counters.contains_key(&number)),
            Kind::FlowCounter => self.flow_counters.has(number),
            Kind::FlowTable => self.flow_tables.tables().contains_key(&number),
            Kind::Registers
            | Kind::Command
            | Kind::Pages
            | Kind::Vport
            | Kind::Counters
            | Kind::Pds
            | Kind::Uars
            | Kind::Domains
            | Kind::Root => true,
        }
    }

    /// Pages in the lists of all mkeys and queues.
    pub fn pages(&self) -> usize {
        self.mkeys.pages()
            + self.eqs.pages()
            + self.cqs.pages()
            + self.qps.pages()
            + self.sqs.pages()
            + self.rqs.pages()
    }

    /// Whether there are no more than commands can make in `states` states of a function.
    pub fn fit(&self, states: usize) -> bool {
        let counts = self.counts();
        let mut counts = counts.iter().map(|(_, count)| *count);
        self.pages() <= MAX_PAGES * states
            && counts.all(|count| count <= MAX_OBJECTS * states)
            && self.flow_tables.fit(states)
    }

    /// Whether an mkey or a queue is in a protection domain.
    pub fn uses_pd(&self, pd: u32) -> bool {
        let mkeys = self.mkeys.values().map(|mkey| mkey.pd);
        let qps = self.qps.values().map(|qp| qp.pd);
        let sqs = self.sqs.values().map(|sq| sq.queue.pd);
        let rqs = self.rqs.values().map(|rq| rq.queue.pd);
        let mut used = mkeys.chain(qps).chain(sqs).chain(rqs);
        used.any(|used| used == pd)
    }

    /// Whether a queue has its completions on a CQ.
    pub fn uses_cq(&self, cqn: u32) -> bool {
        let receives = self.qps.values().filter_map(|qp| qp.receive.as_ref());
        let qps = receives.map(|receive| receive.cqn);
        let sqs = self.sqs.values().map(|sq| sq.queue.cqn());
        let rqs = self.rqs.values().map(|rq| rq.queue.cqn());
        qps.chain(sqs).chain(rqs).any(|used| used == cqn)
    }

    /// Whether a TIS or a TIR is in a transport domain.
    pub fn uses_domain(&self, domain: u32) -> bool {
        let tiss = self.tiss.values().map(Tis::transport_domain);
        let tirs = self.tirs.values().map(Tir::transport_domain);
        tiss.chain(tirs).any(|used| used == domain)
    }

    /// Whether an SQ sends through a TIS.
    pub fn uses_tis(&self, tis: u32) -> bool {
        self.sqs.values().any(|sq| sq.tis() == Some(tis))
    }

    /// Whether a TIR sends packets to an RQT.
    pub fn uses_rqt(&self, rqt: u32) -> bool {
        let mut tirs = self.tirs.values();
        tirs.any(|tir| tir.dispatch() == Dispatch::Indirect(rqt))
    }

    /// Whether a TIR sends packets to an RQ, or an RQT has it.
    pub fn uses_rq(&self, rqn: u32) -> bool {
        let mut tirs = self.tirs.values();
        tirs.any(|tir| tir.dispatch() == Dispatch::Direct(rqn))
            || self.rqts.values().any(|rqt| rqt.rqs().contains(&rqn))
    }

    /// Whether an RQ counts with a queue counter.
    pub fn uses_q_counter(&self, set: u8) -> bool {
        self.rqs.values().any(|rq| rq.counter_set() == set)
    }

    /// Whether a tracker reports through a QP.
    pub fn uses_qp(&self, qpn: u32) -> bool {
        self.trackers.values().any(|track| track.qpn == qpn)
    }

    /// Whether each object has those that it was created with, as far as those cannot be
    /// destroyed before it.
    pub fn is_whole(&self) -> bool {
        let pd = |pd| self.pds.has(pd);
        let cq = |cqn: u32| self.cqs.contains_key(&cqn);
        let rq = |rqn: &u32| self.rqs.contains_key(rqn);
        let domain = |domain| self.domains.has(domain);
        let counter = |set: u8| set == 0 || self.q_counters.contains_key(&set);
        self.mkeys.values().all(|mkey| pd(mkey.pd))
            && self.qps.values().all(|qp| {
                let receive = qp.receive.as_ref();
                pd(qp.pd) && receive.is_none_or(|receive| cq(receive.cqn))
            })
            && self.tiss.values().all(|tis| domain(tis.transport_domain()))
            && self.tirs.values().all(|tir| {
                domain(tir.transport_domain())
                    && match tir.dispatch() {
                        Dispatch::Direct(rqn) => rq(&rqn),
                        Dispatch::Indirect(rqt) => self.rqts.contains_key(&rqt),
                    }
            })
            && self.rqts.values().all(|rqt| rqt.rqs().iter().all(rq))
            && self.sqs.values().all(|sq| {
                let tis = sq.tis();
                pd(sq.queue.pd)
                    && cq(sq.queue.cqn())
                    && tis.is_none_or(|tis| self.tiss.contains_key(&tis))
            })
            && self.rqs.values().all(|rq| {
                (rq.queue.pd == 0 || pd(rq.queue.pd))
                    && cq(rq.queue.cqn())
                    && counter(rq.counter_set())
            })
            && self.flow_tables.is_whole(|named| match named {
                Named::Tir(tir) => self.tirs.contains_key(&tir),
                Named::Counter(number) => self.flow_counters.has(number),
                Named::Vport(_) => false,
            })
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> [(&'static str, usize); 16] {
        [
            ("mkeys", self.mkeys.len()),
            ("PDs", self.pds.len()),
            ("UARs", self.uars.len()),
            ("EQs", self.eqs.len()),
            ("CQs", self.cqs.len()),
            ("QPs", self.qps.len()),
            ("trackers", self.trackers.len()),
            ("transport domains", self.domains.len()),
            ("TISs", self.tiss.len()),
            ("TIRs", self.tirs.len()),
            ("RQTs", self.rqts.len()),
            ("SQs", self.sqs.len()),
            ("RQs", self.rqs.len()),
            ("queue counters", self.q_counters.len()),
            ("flow counters", self.flow_counters.all().len()),
            ("flow tables", self.flow_tables.len()),
        ]
    }

    /// The EQ that takes events of a type.
    pub fn eq_for(&self, kind: u8) -> Option<u8> {
        let mut eqs = self.eqs.iter();
        let takes = |eq: &EventQueue| (eq.events >> kind) & 1 == 1;
        eqs.find(|(_, eq)| takes(eq)).map(|(number, _)| *number)
    }
}

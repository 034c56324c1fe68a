// SPDX-License-Identifier: GPL-2.0

//! Receive queues.

use crate::{
    cq::Cqe,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        ethernet::{
            rqc,
            CONTEXT, //
        },
        Status, //
    },
    objects::Objects,
    packet::{
        self,
        Packet,
        Protocol,
        ETHERNET, //
    },
    pool::Listed,
    resources::Saved,
    tir::{
        Dispatch,
        Hash, //
    },
    vport::{
        Direction,
        FCS, //
    },
    wq::{
        DataSegment,
        QueueState,
        Syndrome,
        WorkQueue, //
    },
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Bytes of a WQE, as shifts: up to 64 data segments. A queue for frames that are to be
/// dropped has no room for one.
const LOG_STRIDES: std::ops::RangeInclusive<u64> = 0..=10;
/// `MLX5_RQC_MEM_RQ_TYPE_MEMORY_RQ_INLINE`
const MEMORY_INLINE: u64 = 0;
/// Where the counter of posted WQEs is in the doorbell record.
const RECORD: u64 = 0;
/// MLX5_TERMINATE_SCATTER_LIST_LKEY: no segments follow.
const TERMINATE: u32 = 0x100;
/// MLX5_HW_START_PADDING, in a byte count.
const START_PADDING: u32 = 1 << 31;
/// MLX5_CQE_RESP_SEND and MLX5_CQE_RESP_ERR.
const RESPONDER_SEND: u8 = 2;
const RESPONDER_ERROR: u8 = 14;
/// CQE_L2_OK, CQE_L3_OK, CQE_L4_OK.
const L2_OK: u8 = 1 << 0;
const L3_OK: u8 = 1 << 1;
const L4_OK: u8 = 1 << 2;

/// A receive queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rq {
    /// Its context, state and WQEs.
    pub queue: WorkQueue,
}

/// Checks what only the context of a receive queue has.
fn check(context: &[u8]) -> Result<(), Status> {
    match rqc::MEMORY.get(context) {
        MEMORY_INLINE => Ok(()),
        _ => Err(Status::BadParam),
    }
}

impl Saved for Rq {
    const MAX_LEN: usize = WorkQueue::max_len(*LOG_STRIDES.end());

    fn is_sound(&self) -> bool {
        self.queue.is_sound(LOG_STRIDES) && check(&self.queue.context).is_ok()
    }
}

impl Listed for Rq {
    fn pages(&self) -> usize {
        self.queue.pages()
    }
}

impl Rq {
    /// CREATE_RQ.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT..).unwrap_or_default();
        check(context)?;
        Ok(Self {
            queue: WorkQueue::parse(context, LOG_STRIDES)?,
        })
    }

    /// What counts the frames that it has no memory for.
    pub fn counter_set(&self) -> u8 {
        rqc::COUNTER_SET.get(&self.queue.context) as u8
    }

    fn strips_vlan(&self) -> bool {
        rqc::VSD.get(&self.queue.context) == 0
    }

    fn flushes(&self) -> bool {
        rqc::FLUSH.get(&self.queue.context) == 1
    }

    /// MODIFY_RQ: what `bitmask` says, and its state.
    pub fn modify(&mut self, bitmask: u64, new: &[u8], state: QueueState) -> Result<(), Status> {
        if bitmask & !rqc::MODIFY_VSD != 0 {
            return Err(Status::BadParam);
        }
        if bitmask & rqc::MODIFY_VSD != 0 {
            let vsd = rqc::VSD.get(new);
            rqc::VSD.set(&mut self.queue.context, vsd);
        }
        self.queue.set_state(state);
        Ok(())
    }

    /// Writes a frame to the memory of the next WQE.
    fn scatter(
        &self,
        host: &mut dyn Host,
        id: FunctionId,
        objects: &Objects,
        frame: &[u8],
    ) -> Result<(), Syndrome> {
        let wqe = self.queue.read(host, id, 0);
        let wqe = wqe.map_err(|_| Syndrome::Protection)?;
        let mut rest = frame;
        for segment in wqe.chunks_exact(DataSegment::LEN) {
            let segment = DataSegment::parse(segment).ok_or(Syndrome::Operation)?;
            if rest.is_empty() || segment.lkey == TERMINATE {
                break;
            }
            let room = (segment.count & !START_PADDING) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            segment.write(host, objects, self.queue.pd, now)?;
            rest = later;
        }
        match rest {
            [] => Ok(()),
            _ => Err(Syndrome::Length),
        }
    }
}

/// The CQE of a frame that was received.
fn received(frame: &[u8], hash: Hash, tag: u32, vlan: Option<u16>) -> Cqe {
    let packet = Packet::parse(frame);
    let checks = packet.as_ref().map_or([false; 2], |packet| {
        [packet.network_ok(frame), packet.transport_ok(frame)]
    });
    let ok = L2_OK | if checks[0] { L3_OK } else { 0 } | if checks[1] { L4_OK } else { 0 };
    let l3 = match packet.as_ref().and_then(|packet| packet.ip) {
        Some(ip) if ip.version == 4 => 2,
        Some(_) => 1,
        None => 0,
    };
    let l4 = packet.as_ref().map_or(0, |packet| {
        let protocol = packet.transport.map(|transport| transport.protocol);
        match (protocol, packet.is_ack(), packet.has_data()) {
            (None, ..) => 0,
            (Some(Protocol::Udp), ..) => 2,
            (Some(Protocol::Tcp), false, _) => 1,
            (Some(Protocol::Tcp), true, false) => 3,
            (Some(Protocol::Tcp), true, true) => 4,
        }
    });
    // Over all that follows the Ethernet header (cqe_checksum_full).
    let sum = packet::sum(frame.get(ETHERNET..).unwrap_or_default());
    Cqe::new(RESPONDER_SEND)
        .hash(hash.value, hash.kind)
        .headers(ok, (l4 << 4) | (l3 << 2), sum)
        .vlan(vlan)
        .bytes(frame.len() as u32)
        .queue(0, tag)
}

impl Hca {
    /// A frame has come to a function.
    pub fn receive_frame(&mut self, host: &mut dyn Host, id: FunctionId, frame: &[u8]) {
        // One that is being reset under its driver is no bus master any more.
        let is_deaf = self.is_suspended(id) || !host.is_bus_master(id);
        let function = &mut self.functions[usize::from(id.0)];
        if is_deaf {
            // It has nowhere to put it.
            function.vport.miss(frame);
            return;
        }
        let Some(packet) = Packet::parse(frame) else {
            function.vport.count_error(Direction::Receive, frame);
            return;
        };
        let objects = &mut function.objects;
        let found = objects.flow_tables.find_headers(&packet.match_set(frame));
        found.count(&mut objects.flow_counters, frame.len());
        let hits = found.hits();
        self.turn.received(hits.len(), found.looks);
        if hits.is_empty() {
            return;
        }
        if frame.len() + FCS > function.vport.mtu() {
            function.vport.count_error(Direction::Receive, frame);
            return;
        }
        let mut queues = Vec::new();
        for hit in hits {
            let Some(tir) = objects.tirs.get(&hit.tir) else {
                continue;
            };
            let hash = tir.hash(&packet);
            let rqn = match tir.dispatch() {
                Dispatch::Direct(rqn) => Some(rqn),
                Dispatch::Indirect(rqt) => objects
                    .rqts
                    .get(&rqt)
                    .and_then(|rqt| rqt.choose(hash.value)),
            };
            queues.extend(rqn.map(|rqn| (rqn, hash, hit.tag)));
        }
        function.vport.count(Direction::Receive, frame);
        for (rqn, hash, tag) in queues {
            self.receive_on(host, id, rqn, (frame, &packet), (hash, tag));
        }
    }

    fn receive_on(
        &mut self,
        host: &mut dyn Host,
        id: FunctionId,
        rqn: u32,
        (frame, packet): (&[u8], &Packet),
        (hash, tag): (Hash, u32),
    ) {
        let objects = &mut self.functions[usize::from(id.0)].objects;
        let Some(rq) = objects.rqs.get(&rqn) else {
            return;
        };
        if rq.queue.state != QueueState::Ready {
            return;
        }
        let (cqn, wqe) = (rq.queue.cqn(), rq.queue.counter);
        let stripped = match rq.strips_vlan() {
            true => packet::strip_vlan(frame, packet),
            false => None,
        };
        let vlan = stripped.as_ref().map(|(_, tci)| *tci);
        let frame = stripped.as_ref().map_or(frame, |(frame, _)| frame);
        let result = match rq.queue.posted(host, id, RECORD) {
            Ok(Some(0)) => {
                let set = rq.counter_set();
                if let Some(counter) = objects.q_counters.get_mut(&set) {
                    counter.out_of_buffer = counter.out_of_buffer.wrapping_add(1);
                }
                return;
            }
            Ok(Some(_)) => rq.scatter(host, id, objects, frame),
            Ok(None) | Err(_) => Err(Syndrome::Protection),
        };
        let Some(rq) = objects.rqs.get_mut(&rqn) else {
            return;
        };
        rq.queue.counter = wqe.wrapping_add(1);
        match result {
            Ok(()) => {
                let now = host.now();
                let cqe = received(frame, hash, tag, vlan).timestamp(now).wqe(wqe);
                self.complete(host, id, cqn, cqe);
            }
            Err(syndrome) => {
                rq.queue.state = QueueState::Error;
                let what = format!("RQ {rqn:#x}, WQE {wqe:#x}: {syndrome:?}");
                self.violation(host, id, &what);
                let cqe = Cqe::new(RESPONDER_ERROR).syndrome(syndrome).queue(0, rqn);
                self.complete(host, id, cqn, cqe.wqe(wqe));
                self.flush_receives(host, id, rqn);
            }
        }
    }

    /// What is posted to a receive queue that has failed ends with an error.
    pub fn flush_receives(&mut self, host: &mut dyn Host, id: FunctionId, rqn: u32) {
        let Some(rq) = self.objects(id).rqs.get_mut(&rqn) else {
            return;
        };
        let posted = match rq.queue.posted(host, id, RECORD) {
            Ok(Some(posted)) if rq.flushes() => posted,
            _ => return,
        };
        let first = rq.queue.counter;
        rq.queue.counter = first.wrapping_add(posted);
        let cqn = rq.queue.cqn();
        for ahead in 0..posted {
            let cqe = Cqe::new(RESPONDER_ERROR)
                .syndrome(Syndrome::Flushed)
                .queue(0, rqn)
                .wqe(first.wrapping_add(ahead));
            self.complete(host, id, cqn, cqe);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Completion queues.

use crate::{
    encoded::{
        list_len,
        BYTE,
        U32,
        U64, //
    },
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        ethernet,
        Status, //
    },
    lies::Said,
    moderation::{
        self,
        Moderation, //
    },
    pool::Listed,
    queue::{
        self,
        Ring, //
    },
    resources::Saved,
    wq::Syndrome, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Bytes of a CQE (`struct mlx5_cqe64`), and as a shift.
const CQE_LEN: usize = 64;
const CQE_SHIFT: u32 = 6;
/// Where the owner bit is; written last.
const OP_OWN: usize = 63;
/// What there is of an index.
const INDEX: u32 = 0xff_ffff;
/// Largest queue, as a shift.
pub const MAX_LOG_SIZE: u64 = 22;
/// `MLX5_CQE_INVALID`
const INVALID: u8 = 15;

/// MLX5_CQ_MODIFY_PERIOD, MLX5_CQ_MODIFY_COUNT, MLX5_CQ_MODIFY_PERIOD_MODE.
const MODIFY_PERIOD: u64 = 1 << 0;
const MODIFY_COUNT: u64 = 1 << 1;
const MODIFY_PERIOD_MODE: u64 = 1 << 4;

/// create_cq_in, modify_cq_in: where `cq_context` is.
const CONTEXT: std::ops::Range<usize> = 0x10..0x50;
/// Bits of modify_field_select, in the order of [`moderation::FIELDS`].
const MODERATION: [u64; 3] = [MODIFY_PERIOD_MODE, MODIFY_PERIOD, MODIFY_COUNT];

/// An entry of a CQ, without its owner bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cqe([u8; CQE_LEN]);

impl Cqe {
    /// An entry with this opcode, and zeros.
    pub fn new(opcode: u8) -> Self {
        let mut cqe = [0; CQE_LEN];
        cqe[OP_OWN] = opcode << 4;
        Self(cqe)
    }

    fn set<const N: usize>(mut self, at: usize, bytes: [u8; N]) -> Self {
        self.0[at..at + N].copy_from_slice(&bytes);
        self
    }

    /// Has it say something else.
    pub fn lie(&mut self, said: Said) {
        said.put(&mut self.0);
    }

    /// `rss_hash_result` and `rss_hash_type`.
    pub fn hash(self, value: u32, kind: u8) -> Self {
        self.set(12, value.to_be_bytes()).set(16, [kind])
    }

    /// `hds_ip_ext`, `l4_l3_hdr_type` and `check_sum`.
    pub fn headers(self, ok: u8, kinds: u8, sum: u16) -> Self {
        self.set(28, [ok, kinds]).set(20, sum.to_be_bytes())
    }

    /// `vlan_info`, if there was a tag.
    pub fn vlan(self, tci: Option<u16>) -> Self {
        match tci {
            Some(tci) => {
                let kinds = self.0[29] | 1;
                self.set(29, [kinds]).set(30, tci.to_be_bytes())
            }
            None => self,
        }
    }

    /// `immediate`.
    pub fn immediate(self, immediate: u32) -> Self {
        self.set(36, immediate.to_be_bytes())
    }

    /// `byte_cnt`.
    pub fn bytes(self, count: u32) -> Self {
        self.set(44, count.to_be_bytes())
    }

    /// `timestamp`.
    pub fn timestamp(self, now: u64) -> Self {
        self.set(48, now.to_be_bytes())
    }

    /// `syndrome`, of an error.
    pub fn syndrome(self, syndrome: Syndrome) -> Self {
        self.set(55, [syndrome as u8])
    }

    /// `sop_drop_qpn`: the opcode and the queue; or, in its place, the tag of a
    /// flow.
    pub fn queue(self, opcode: u8, number: u32) -> Self {
        let word = (u32::from(opcode) << 24) | (number & 0xff_ffff);
        self.set(56, word.to_be_bytes())
    }

    /// `wqe_counter`.
    pub fn wqe(self, counter: u16) -> Self {
        self.set(60, counter.to_be_bytes())
    }
}

/// A message that was received from another QP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// `immediate`.
    pub immediate: u32,
    /// `byte_cnt`.
    pub bytes: u32,
    /// `wqe_counter`.
    pub wqe: u16,
    /// The QP.
    pub qpn: u32,
}

impl From<Received> for Cqe {
    fn from(what: Received) -> Self {
        Self::new(RESP_SEND_IMM)
            .immediate(what.immediate)
            .bytes(what.bytes)
            .queue(0, what.qpn)
            .wqe(what.wqe)
    }
}

/// A completion queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CompletionQueue {
    /// Whose it is.
    #[serde(skip)]
    pub owner: FunctionId,
    /// The EQ that hears of completions.
    pub eq: u8,
    /// Its doorbells are on this UAR page.
    pub uar: u32,
    ring: Ring,
    doorbell_record: u64,
    producer: u32,
    armed: bool,
    /// Completions that its EQ does not know of yet.
    pub moderation: Moderation,
    /// It has overrun: nothing comes any more.
    pub failed: bool,
    /// `cq_context`.
    context: Vec<u8>,
}

/// It overruns, or its memory is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun;

/// `MLX5_CQE_RESP_SEND_IMM`
const RESP_SEND_IMM: u8 = 3;

impl Saved for CompletionQueue {
    const MAX_LEN: usize = 3 * BYTE
        + U32
        + Ring::max_len(MAX_LOG_SIZE as u32 + CQE_SHIFT)
        + U64
        + U32
        + Moderation::MAX_LEN
        + list_len(CONTEXT.end - CONTEXT.start, BYTE);

    fn is_sound(&self) -> bool {
        // Where CREATE_CQ had it.
        let input = [&[0; CONTEXT.start], self.context.as_slice()].concat();
        self.ring.is_sound(MAX_LOG_SIZE, CQE_SHIFT..=CQE_SHIFT)
            && self.producer <= INDEX
            && self.context.len() == CONTEXT.len()
            && ifc::CQC_CQE_SZ.get(&input) == 0
            && self.eq == ifc::CQC_EQN.get(&input) as u8
            && u64::from(self.uar) == ifc::CQC_UAR.get(&input)
            && self.doorbell_record == ifc::CQC_DBR.get(&input)
            && self.ring.is_as(
                ifc::CQC_LOG_PAGE_SIZE.get(&input),
                ifc::CQC_LOG_SIZE.get(&input),
            )
    }

    fn belong(&mut self, id: FunctionId) {
        self.owner = id;
    }
}

impl Listed for CompletionQueue {
    fn pages(&self) -> usize {
        self.ring.pages()
    }
}

impl CompletionQueue {
    /// CREATE_CQ.
    pub fn parse(owner: FunctionId, input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT).ok_or(Status::BadInputLen)?;
        let log_size = ifc::CQC_LOG_SIZE.get(input);
        if log_size > MAX_LOG_SIZE || ifc::CQC_CQE_SZ.get(input) != 0 {
            return Err(Status::BadParam);
        }
        Ok(Self {
            owner,
            eq: ifc::CQC_EQN.get(input) as u8,
            uar: ifc::CQC_UAR.get(input) as u32,
            ring: Ring::parse(
                input.get(ifc::QUEUE_PAS..).unwrap_or_default(),
                ifc::CQC_LOG_PAGE_SIZE.get(input) as u32,
                log_size as u32,
                CQE_SHIFT,
            )?,
            doorbell_record: ifc::CQC_DBR.get(input),
            producer: 0,
            armed: false,
            moderation: Moderation::default(),
            failed: false,
            context: context.to_vec(),
        })
    }

    /// Whether there is no room for one more: the consumer index is in the
    /// doorbell record.
    pub fn is_full(&self, host: &mut dyn Host) -> bool {
        let consumer = queue::read_be32(host, self.owner, self.doorbell_record).unwrap_or(0);
        self.producer.wrapping_sub(consumer) & INDEX >= self.ring.count()
    }

    /// Appends a completion. Returns whether there is to be an event now.
    pub fn post(&mut self, host: &mut dyn Host, cqe: Cqe) -> Result<bool, Overrun> {
        if self.is_full(host) {
            return Err(Overrun);
        }
        self.append(host, cqe)
    }

    /// The same, whether there is room or not.
    pub fn append(&mut self, host: &mut dyn Host, Cqe(mut cqe): Cqe) -> Result<bool, Overrun> {
        cqe[OP_OWN] |= self.ring.lap(self.producer);
        let at = self.ring.address(self.producer);
        host.dma_write(self.owner, at, &cqe[..OP_OWN])
            .and_then(|()| {
                host.dma_write(self.owner, at.wrapping_add(OP_OWN as u64), &cqe[OP_OWN..])
            })
            .map_err(|_| Overrun)?;
        self.producer = (self.producer + 1) & INDEX;
        let now = host.now();
        self.moderation.completed(&self.context, now);
        Ok(self.tells(now))
    }

    /// Whether there is to be an event now, after which the CQ is not armed any more.
    pub fn tells(&mut self, now: u64) -> bool {
        let tells = self.armed && self.moderation.tells(&self.context, now);
        self.armed &= !tells;
        tells
    }

    /// MODIFY_CQ, as far as it is about moderation. Returns whether there is to be an event
    /// now.
    pub fn modify(&mut self, input: &[u8], now: u64) -> Result<bool, Status> {
        let select = ethernet::CQ_MODIFY.get(input);
        let known = MODERATION.iter().fold(0, |all, bit| all | bit);
        if select & !known != 0 {
            return Err(Status::BadParam);
        }
        let new = input.get(CONTEXT).ok_or(Status::BadInputLen)?;
        let fields = MODERATION.iter().zip(moderation::FIELDS);
        for (_, field) in fields.filter(|(bit, _)| select & **bit != 0) {
            let value = field.get(new);
            field.set(&mut self.context, value);
        }
        Ok(self.tells(now))
    }

    /// The driver wants an event for what comes after `consumer`. Returns
    /// whether there is to be one now.
    pub fn arm(&mut self, consumer: u32, now: u64) -> bool {
        self.note_arm(consumer);
        self.tells(now)
    }

    /// The same while the function is suspended: the event comes later.
    pub fn note_arm(&mut self, consumer: u32) {
        self.armed = true;
        self.moderation.untold = self.producer.wrapping_sub(consumer) & INDEX;
    }

    /// Whether the driver has made every entry invalid beforehand, without
    /// which it would take old memory for completions.
    pub fn was_prepared(&self, host: &mut dyn Host) -> bool {
        let is_invalid = |cqe: &[u8]| cqe[OP_OWN] >> 4 == INVALID;
        self.ring.all(host, self.owner, is_invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cq_of_an_image_is_as_its_context_says() {
        let mut input = vec![0; ifc::QUEUE_PAS + 8];
        for (field, value) in [
            (ifc::CQC_EQN, 0x12),
            (ifc::CQC_UAR, 0x34),
            (ifc::CQC_DBR, 0x5000),
            (ifc::CQC_LOG_SIZE, 3),
            (ifc::CQC_LOG_PAGE_SIZE, 1),
            (ethernet::CQC_PERIOD, 7),
        ] {
            field.set(&mut input, value);
        }
        let good = CompletionQueue::parse(FunctionId(1), &input).unwrap();
        assert!(good.is_sound());
        let is_sound = |change: &dyn Fn(&mut CompletionQueue)| {
            let mut cq = good.clone();
            change(&mut cq);
            cq.is_sound()
        };
        assert!(is_sound(&|cq| cq.producer = INDEX));
        let bad: [&dyn Fn(&mut CompletionQueue); 6] = [
            &|cq| cq.eq = 0x13,
            &|cq| cq.uar = 0x35,
            &|cq| cq.doorbell_record = 0,
            &|cq| cq.producer = INDEX + 1,
            &|cq| cq.context.truncate(0x20),
            &|cq| cq.context.fill(0),
        ];
        for (number, change) in bad.into_iter().enumerate() {
            assert!(!is_sound(change), "{number}");
        }
        for (field, value) in [
            (ifc::CQC_CQE_SZ, 1),
            (ifc::CQC_LOG_SIZE, 4),
            (ifc::CQC_LOG_PAGE_SIZE, 0),
        ] {
            let mut changed = input.clone();
            field.set(&mut changed, value);
            let changed = changed[CONTEXT].to_vec();
            assert!(!is_sound(&|cq| cq.context = changed.clone()), "{field:?}");
        }
    }
}

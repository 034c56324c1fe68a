// SPDX-License-Identifier: GPL-2.0

//! What send queues and receive queues have in common: a context, a state, a cyclic ring of
//! WQEs and a record that says how far it is filled.

use crate::{
    encoded::{
        list_len,
        BYTE,
        U16,
        U32,
        U64, //
    },
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc::{
        ethernet::wq,
        Status, //
    },
    mkey::AccessError,
    objects::Objects,
    queue::{
        self,
        Ring, //
    },
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::ops::RangeInclusive;

/// `MLX5_WQ_TYPE_CYCLIC`
const CYCLIC: u64 = 1;
/// Largest queue, as a shift (`log_max_qp_sz`).
pub const MAX_LOG_SIZE: u64 = 15;

/// State of a queue (MLX5_SQC_STATE_*, MLX5_RQC_STATE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[repr(u8)]
pub enum QueueState {
    /// It was just made.
    Reset = 0,
    /// It works.
    Ready = 1,
    /// It has failed, or was told to.
    Error = 3,
}

impl QueueState {
    /// The state with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Reset, Self::Ready, Self::Error]
            .into_iter()
            .find(|state| *state as u64 == number)
    }

    /// Whether a driver may have a queue go from this state to that.
    pub fn allows(self, next: Self) -> bool {
        !matches!((self, next), (Self::Error, Self::Ready))
    }
}

/// Why a WQE fails, by the syndrome that its CQE tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Syndrome {
    /// MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR: it is longer than there is room.
    Length = 0x01,
    /// MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR: it is none.
    Operation = 0x02,
    /// MLX5_CQE_SYNDROME_LOCAL_PROT_ERR: its memory is not its queue's.
    Protection = 0x04,
    /// MLX5_CQE_SYNDROME_WR_FLUSH_ERR: another one has failed before.
    Flushed = 0x05,
}

/// A send queue or a receive queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorkQueue {
    /// As the driver gave it, without the list of pages.
    pub context: Vec<u8>,
    /// Whether it works.
    pub state: QueueState,
    /// Protection domain of what WQEs name.
    pub pd: u32,
    /// How far it was worked through.
    pub counter: u16,
    ring: Ring,
    doorbell_record: u64,
    log_stride: u32,
}

/// Checks the context of a queue, with entries of `strides` bytes, as shifts.
fn check(context: &[u8], strides: RangeInclusive<u64>) -> Result<(), Status> {
    if wq::STATE.get(context) != QueueState::Reset as u64
        || wq::TYPE.get(context) != CYCLIC
        || wq::SIGNATURE.get(context) != 0
        || wq::PAGE_OFFSET.get(context) != 0
        || wq::UMEM_VALID.get(context) != 0
        || wq::LOG_SIZE.get(context) > MAX_LOG_SIZE
        || !strides.contains(&wq::LOG_STRIDE.get(context))
    {
        return Err(Status::BadParam);
    }
    Ok(())
}

impl WorkQueue {
    /// Most bytes that the record of a queue has whose entries have 1 << `log_stride` bytes.
    pub const fn max_len(log_stride: u64) -> usize {
        list_len(wq::CONTEXT_LEN, BYTE)
            + BYTE
            + U32
            + U16
            + Ring::max_len((MAX_LOG_SIZE + log_stride) as u32)
            + U64
            + U32
    }

    /// From the context of an SQ or an RQ, with entries of `strides` bytes, as
    /// shifts.
    pub fn parse(context: &[u8], strides: RangeInclusive<u64>) -> Result<Self, Status> {
        check(context, strides)?;
        let (own, pages) = context
            .split_at_checked(wq::CONTEXT_LEN)
            .ok_or(Status::BadInputLen)?;
        Ok(Self {
            context: own.to_vec(),
            state: QueueState::Reset,
            pd: wq::PD.get(context) as u32,
            counter: 0,
            ring: Ring::parse(
                pages,
                wq::LOG_PAGE_SIZE.get(context) as u32,
                wq::LOG_SIZE.get(context) as u32,
                wq::LOG_STRIDE.get(context) as u32,
            )?,
            doorbell_record: wq::DBR.get(context),
            log_stride: wq::LOG_STRIDE.get(context) as u32,
        })
    }

    /// Whether one that was loaded is one that [`Self::parse`] could have made.
    pub fn is_sound(&self, strides: RangeInclusive<u64>) -> bool {
        let (context, log_stride) = (&self.context, self.log_stride);
        context.len() == wq::CONTEXT_LEN
            && check(context, strides).is_ok()
            && u64::from(self.pd) == wq::PD.get(context)
            && self.doorbell_record == wq::DBR.get(context)
            && u64::from(log_stride) == wq::LOG_STRIDE.get(context)
            && self.ring.is_sound(MAX_LOG_SIZE, log_stride..=log_stride)
            && self
                .ring
                .is_as(wq::LOG_PAGE_SIZE.get(context), wq::LOG_SIZE.get(context))
    }

    /// QUERY_SQ, QUERY_RQ: its context.
    pub fn query(&self) -> Vec<u8> {
        let mut context = self.context.clone();
        wq::STATE.set(&mut context, self.state as u64);
        context
    }

    /// Pages of its list.
    pub fn pages(&self) -> usize {
        self.ring.pages()
    }

    /// Where its completions go.
    pub fn cqn(&self) -> u32 {
        wq::CQN.get(&self.context) as u32
    }

    /// The driver moves it from one state to another.
    pub fn set_state(&mut self, state: QueueState) {
        if state == QueueState::Ready && self.state == QueueState::Reset {
            self.counter = 0;
        }
        self.state = state;
    }

    /// How many entries were posted and not worked through yet: the counter of
    /// those posted is `at` bytes into the doorbell record. `None` if that are
    /// more than the ring has.
    pub fn posted(
        &self,
        host: &mut dyn Host,
        owner: FunctionId,
        at: u64,
    ) -> Result<Option<u16>, DmaFault> {
        let record = queue::read_be32(host, owner, self.doorbell_record.wrapping_add(at))?;
        let posted = (record as u16).wrapping_sub(self.counter);
        Ok((u32::from(posted) <= self.ring.count()).then_some(posted))
    }

    /// Reads the entry that is `ahead` of the next one.
    pub fn read(
        &self,
        host: &mut dyn Host,
        owner: FunctionId,
        ahead: u16,
    ) -> Result<Vec<u8>, DmaFault> {
        let mut entry = vec![0; 1 << self.log_stride];
        let at = self.ring.address(self.counter.wrapping_add(ahead).into());
        host.dma_read(owner, at, &mut entry)?;
        Ok(entry)
    }
}

/// A data segment (`struct mlx5_wqe_data_seg`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataSegment {
    /// `byte_count`.
    pub count: u32,
    /// `lkey`.
    pub lkey: u32,
    /// `addr`.
    pub addr: u64,
}

impl DataSegment {
    /// Bytes of it.
    pub const LEN: usize = 16;

    /// Parses a segment.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (lkey, rest) = rest.split_first_chunk()?;
        Some(Self {
            count: u32::from_be_bytes(*count),
            lkey: u32::from_be_bytes(*lkey),
            addr: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }

    fn mkey<'a>(&self, objects: &'a Objects, pd: u32) -> Result<&'a crate::mkey::Mkey, Syndrome> {
        let mkey = objects.mkey(self.lkey).filter(|mkey| mkey.pd == pd);
        mkey.ok_or(Syndrome::Protection)
    }

    /// Reads `len` bytes of its memory.
    pub fn read(
        &self,
        host: &mut dyn Host,
        objects: &Objects,
        pd: u32,
        len: usize,
    ) -> Result<Vec<u8>, Syndrome> {
        Ok(self.mkey(objects, pd)?.read(host, self.addr, len)?)
    }

    /// Writes to its memory.
    pub fn write(
        &self,
        host: &mut dyn Host,
        objects: &Objects,
        pd: u32,
        data: &[u8],
    ) -> Result<(), Syndrome> {
        Ok(self.mkey(objects, pd)?.write(host, self.addr, data)?)
    }
}

impl From<AccessError> for Syndrome {
    fn from(_: AccessError) -> Self {
        Self::Protection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_has_failed_is_reset_before_it_works_again() {
        use QueueState::*;
        assert!(Reset.allows(Ready) && Ready.allows(Error) && Error.allows(Reset));
        assert!(Ready.allows(Reset));
        assert!(!Error.allows(Ready));
        assert_eq!(QueueState::from_number(3), Some(Error));
        assert_eq!(QueueState::from_number(2), None);
    }

    #[test]
    fn a_queue_that_is_not_modelled_is_refused() {
        let mut good = vec![0; wq::CONTEXT_LEN + 8];
        for (field, value) in [(wq::TYPE, 1), (wq::LOG_STRIDE, 6), (wq::LOG_SIZE, 6)] {
            field.set(&mut good, value);
        }
        assert!(WorkQueue::parse(&good, 6..=6).is_ok());
        for (field, value) in [
            (wq::STATE, 1),
            (wq::TYPE, 0),
            (wq::TYPE, 3),
            (wq::SIGNATURE, 1),
            (wq::PAGE_OFFSET, 1),
            (wq::UMEM_VALID, 1),
            (wq::LOG_STRIDE, 5),
            (wq::LOG_SIZE, 16),
            // More pages than there are.
            (wq::LOG_SIZE, 7),
        ] {
            let mut bad = good.clone();
            field.set(&mut bad, value);
            assert!(WorkQueue::parse(&bad, 6..=6).is_err());
        }
    }

    #[test]
    fn a_queue_of_an_image_is_as_its_context_says() {
        let mut context = vec![0; wq::CONTEXT_LEN + 8];
        for (field, value) in [
            (wq::TYPE, 1),
            (wq::LOG_STRIDE, 6),
            (wq::LOG_SIZE, 6),
            (wq::PD, 5),
            (wq::DBR, 0x5000),
        ] {
            field.set(&mut context, value);
        }
        let good = WorkQueue::parse(&context, 6..=6).unwrap();
        assert!(good.is_sound(6..=6) && !good.is_sound(7..=7));
        let bad: [fn(&mut WorkQueue); 4] = [
            |queue| queue.pd = 6,
            |queue| queue.doorbell_record = 0,
            |queue| queue.log_stride = 5,
            |queue| queue.context.truncate(wq::CONTEXT_LEN - 1),
        ];
        for (number, change) in bad.into_iter().enumerate() {
            let mut queue = good.clone();
            change(&mut queue);
            assert!(!queue.is_sound(6..=6), "{number}");
        }
        for (field, value) in [
            (wq::STATE, 1),
            (wq::TYPE, 0),
            (wq::SIGNATURE, 1),
            (wq::UMEM_VALID, 1),
            (wq::LOG_SIZE, 5),
            (wq::LOG_PAGE_SIZE, 1),
        ] {
            let mut queue = good.clone();
            field.set(&mut queue.context, value);
            assert!(!queue.is_sound(6..=6), "{field:?}");
        }
    }

    #[test]
    fn a_segment_has_three_fields() {
        let bytes: Vec<u8> = (0..16).collect();
        let segment = DataSegment {
            count: 0x0001_0203,
            lkey: 0x0405_0607,
            addr: 0x0809_0a0b_0c0d_0e0f,
        };
        assert_eq!(DataSegment::parse(&bytes), Some(segment));
        assert_eq!(DataSegment::parse(&bytes[1..]), None);
    }
}

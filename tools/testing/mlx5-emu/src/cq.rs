// SPDX-License-Identifier: GPL-2.0

//! Completion queues.

use crate::{
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        Status, //
    },
    queue::{
        self,
        Ring, //
    },
};

/// Bytes of a CQE (`struct mlx5_cqe64`), and as a shift.
const CQE_LEN: usize = 64;
const CQE_SHIFT: u32 = 6;
/// Where the owner bit is; written last.
const OP_OWN: usize = 63;
/// Largest queue, as a shift.
pub const MAX_LOG_SIZE: u64 = 22;
/// `MLX5_CQE_INVALID`
const INVALID: u8 = 15;

/// What a CQE is about, as far as it is modelled: a message that was received.
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

/// A completion queue.
#[derive(Clone, Debug)]
pub struct CompletionQueue {
    /// Whose it is.
    pub owner: FunctionId,
    /// The EQ that hears of completions.
    pub eq: u8,
    /// Its doorbells are on this UAR page.
    pub uar: u32,
    ring: Ring,
    doorbell_record: u64,
    producer: u32,
    armed: bool,
}

/// It overruns, or its memory is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun;

/// `MLX5_CQE_RESP_SEND_IMM`
const RESP_SEND_IMM: u8 = 3;

impl CompletionQueue {
    /// CREATE_CQ.
    pub fn parse(owner: FunctionId, input: &[u8]) -> Result<Self, Status> {
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
        })
    }

    /// Whether there is no room for one more: the consumer index is in the
    /// doorbell record.
    fn is_full(&self, host: &mut dyn Host) -> bool {
        let consumer = queue::read_be32(host, self.owner, self.doorbell_record).unwrap_or(0);
        self.producer.wrapping_sub(consumer) & 0xff_ffff >= self.ring.count()
    }

    /// Appends a completion. Returns whether there is to be an event.
    pub fn post(&mut self, host: &mut dyn Host, what: Received) -> Result<bool, Overrun> {
        if self.is_full(host) {
            return Err(Overrun);
        }
        let mut cqe = [0; CQE_LEN];
        cqe[36..40].copy_from_slice(&what.immediate.to_be_bytes());
        cqe[44..48].copy_from_slice(&what.bytes.to_be_bytes());
        cqe[56..60].copy_from_slice(&what.qpn.to_be_bytes());
        cqe[60..62].copy_from_slice(&what.wqe.to_be_bytes());
        cqe[OP_OWN] = (RESP_SEND_IMM << 4) | self.ring.lap(self.producer);
        let at = self.ring.address(self.producer);
        host.dma_write(self.owner, at, &cqe[..OP_OWN])
            .and_then(|()| host.dma_write(self.owner, at + OP_OWN as u64, &cqe[OP_OWN..]))
            .map_err(|_| Overrun)?;
        self.producer = (self.producer + 1) & 0xff_ffff;
        Ok(std::mem::replace(&mut self.armed, false))
    }

    /// The driver wants an event for what comes after `consumer`. Returns
    /// whether there is to be one at once.
    pub fn arm(&mut self, consumer: u32) -> bool {
        let behind = consumer & 0xff_ffff != self.producer;
        self.armed = !behind;
        behind
    }

    /// Whether the driver has made every entry invalid beforehand, without
    /// which it would take old memory for completions.
    pub fn was_prepared(&self, host: &mut dyn Host) -> bool {
        (0..self.ring.count()).all(|i| {
            let mut op_own = [0];
            let at = self.ring.address(i) + OP_OWN as u64;
            host.dma_read(self.owner, at, &mut op_own).is_ok() && op_own[0] >> 4 == INVALID
        })
    }
}

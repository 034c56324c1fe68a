// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: reliable connections that firmware sends its reports through.

use crate::{
    encoded::{
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
        Status, //
    },
    pool::Listed,
    queue::{
        self,
        Ring, //
    },
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// `MLX5_QP_ST_RC`
const RELIABLE_CONNECTION: u64 = 0;
/// `MLX5_NON_ZERO_RQ`
const NON_ZERO_RQ: u64 = 0;
/// Most entries of a receive queue, and their bytes, as shifts: what CREATE_QP has bits for.
const LOG_MAX_RQ: u64 = 15;
const LOG_STRIDES: std::ops::RangeInclusive<u32> = 4..=11;
/// Largest number of a QP that a command has bits for.
const MAX_NUMBER: u32 = 0xff_ffff;
/// Bytes of a data segment (`struct mlx5_wqe_data_seg`).
const DATA_SEGMENT: usize = 16;

/// State of a QP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub enum QpState {
    /// After CREATE_QP.
    Reset,
    /// Receives can be posted.
    Init,
    /// It can receive.
    ReadyToReceive,
    /// It can send.
    ReadyToSend,
    /// It has failed.
    Error,
}

/// A receive queue, and where its completions go.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReceiveQueue {
    /// The CQ.
    pub cqn: u32,
    ring: Ring,
    doorbell_record: u64,
    consumer: u32,
}

/// Memory that was posted to receive a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posted {
    /// Number of the entry.
    pub wqe: u16,
    /// Bytes.
    pub len: u32,
    /// The mkey.
    pub lkey: u32,
    /// Where in it.
    pub addr: u64,
}

/// A queue pair.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QueuePair {
    /// Whose it is.
    #[serde(skip)]
    pub owner: FunctionId,
    /// Its protection domain.
    pub pd: u32,
    /// How far it is set up.
    pub state: QpState,
    /// The other end.
    pub remote: u32,
    /// How it receives, if it does.
    pub receive: Option<ReceiveQueue>,
}

impl Saved for QueuePair {
    const MAX_LEN: usize = 2 * U32
        + 2 * BYTE
        + U32
        + Ring::max_len(LOG_MAX_RQ as u32 + *LOG_STRIDES.end())
        + U64
        + U32;

    fn is_sound(&self) -> bool {
        let receive = self.receive.as_ref();
        // A QP gets its other end with INIT2RTR_QP.
        let remotes = match self.state {
            QpState::Reset | QpState::Init => 0..=0,
            _ => 0..=MAX_NUMBER,
        };
        remotes.contains(&self.remote)
            && receive.is_none_or(|receive| receive.ring.is_sound(LOG_MAX_RQ, LOG_STRIDES))
    }

    fn belong(&mut self, id: FunctionId) {
        self.owner = id;
    }
}

impl Listed for QueuePair {
    fn pages(&self) -> usize {
        let receive = self.receive.as_ref();
        receive.map_or(0, |receive| receive.ring.pages())
    }
}

impl QueuePair {
    /// CREATE_QP.
    pub fn parse(owner: FunctionId, input: &[u8]) -> Result<Self, Status> {
        if ifc::QPC_ST.get(input) != RELIABLE_CONNECTION || ifc::QPC_NO_SQ.get(input) != 1 {
            return Err(Status::BadParam);
        }
        let receive = match ifc::QPC_RQ_TYPE.get(input) {
            NON_ZERO_RQ => Some(ReceiveQueue {
                cqn: ifc::QPC_CQN_RCV.get(input) as u32,
                ring: Ring::parse(
                    input.get(ifc::QUEUE_PAS..).unwrap_or_default(),
                    ifc::QPC_LOG_PAGE_SIZE.get(input) as u32,
                    ifc::QPC_LOG_RQ_SIZE.get(input) as u32,
                    ifc::QPC_LOG_RQ_STRIDE.get(input) as u32 + 4,
                )?,
                doorbell_record: ifc::QPC_DBR.get(input),
                consumer: 0,
            }),
            _ => None,
        };
        Ok(Self {
            owner,
            pd: ifc::QPC_PD.get(input) as u32,
            state: QpState::Reset,
            remote: 0,
            receive,
        })
    }

    /// RST2INIT_QP, INIT2RTR_QP and RTR2RTS_QP.
    pub fn modify(&mut self, opcode: u16, input: &[u8]) -> Result<(), Status> {
        self.state = match (opcode, self.state) {
            (ifc::RST2INIT_QP, QpState::Reset) => QpState::Init,
            (ifc::INIT2RTR_QP, QpState::Init) => {
                self.remote = ifc::QPC_REMOTE_QPN.get(input) as u32;
                QpState::ReadyToReceive
            }
            (ifc::RTR2RTS_QP, QpState::ReadyToReceive) => QpState::ReadyToSend,
            _ => return Err(Status::BadResState),
        };
        Ok(())
    }

    /// The next memory that was posted for a message; `None` where there is
    /// none yet (RNR), or no such queue.
    pub fn take_posted(&mut self, host: &mut dyn Host) -> Option<Posted> {
        let owner = self.owner;
        let receive = self.receive.as_mut()?;
        let posted = queue::read_be32(host, owner, receive.doorbell_record).ok()?;
        if posted & 0xffff == receive.consumer & 0xffff {
            return None;
        }
        let mut segment = [0; DATA_SEGMENT];
        let at = receive.ring.address(receive.consumer);
        host.dma_read(owner, at, &mut segment).ok()?;
        let wqe = receive.consumer as u16;
        receive.consumer = receive.consumer.wrapping_add(1);
        let be32 = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap_or([0; 4]));
        Some(Posted {
            wqe,
            len: be32(0),
            lkey: be32(4),
            addr: (u64::from(be32(8)) << 32) | u64::from(be32(12)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qp_of_an_image_has_its_other_end_from_a_command() {
        let fields = [(ifc::QPC_NO_SQ, 1), (ifc::QPC_RQ_TYPE, 3)];
        let mut input = vec![0; ifc::QUEUE_PAS];
        for (field, value) in fields {
            field.set(&mut input, value);
        }
        let mut qp = QueuePair::parse(FunctionId(1), &input).unwrap();
        assert!(qp.is_sound());
        qp.remote = 5;
        for (state, ok) in [
            (QpState::Reset, false),
            (QpState::Init, false),
            (QpState::ReadyToReceive, true),
            (QpState::ReadyToSend, true),
            (QpState::Error, true),
        ] {
            qp.state = state;
            assert_eq!(qp.is_sound(), ok, "{state:?}");
        }
        qp.remote = MAX_NUMBER + 1;
        assert!(!qp.is_sound());
    }
}

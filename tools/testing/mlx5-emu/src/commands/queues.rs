// SPDX-License-Identifier: GPL-2.0

//! Commands about completion queues, queue pairs and page trackers.

use super::{violation, Context, Failure, Result};
use crate::{
    cq::CompletionQueue,
    ifc::{self, Status},
    qp::QueuePair,
    track::{limits, PageTrack, TrackState},
};

/// Numbers of completion queues.
const CQS: std::ops::Range<u32> = 0x80..1 << 16;
/// Numbers of queue pairs.
const QPS: std::ops::Range<u32> = 0x40..1 << 16;
/// Numbers of page trackers.
const TRACKERS: std::ops::Range<u32> = 1..1 << 16;

impl Context<'_> {
    pub(super) fn create_cq(&mut self) -> Result<()> {
        let cq = CompletionQueue::parse(self.function, self.input)?;
        if !self.hca.uars[usize::from(self.function.0)].has(self.function, cq.uar) {
            return Err(violation(Status::BadRes, format!("UAR {:#x}", cq.uar)));
        }
        if !self.me().eqs.contains_key(&cq.eq) {
            return Err(violation(Status::BadRes, format!("EQ {}", cq.eq)));
        }
        if !cq.was_prepared(self.host) {
            return Err(violation(Status::BadParam, "CQEs are not invalid at first"));
        }
        let number = CQS.clone().find(|n| !self.hca.cqs.contains_key(n));
        let number = number.ok_or(Failure::from(Status::Lim))?;
        self.hca.cqs.insert(number, cq);
        ifc::OBJECT.set(self.output, number.into());
        Ok(())
    }

    pub(super) fn destroy_cq(&mut self) -> Result<()> {
        let number = ifc::OBJECT.get(self.input) as u32;
        let used = |qp: &QueuePair| qp.receive.as_ref().is_some_and(|r| r.cqn == number);
        if self.hca.qps.values().any(used) {
            return Err(violation(
                Status::BadResState,
                format!("CQ {number} is in use"),
            ));
        }
        match self.hca.cqs.remove(&number) {
            Some(cq) if cq.owner == self.function => Ok(()),
            _ => Err(violation(Status::BadRes, format!("CQ {number:#x}"))),
        }
    }

    pub(super) fn create_qp(&mut self) -> Result<()> {
        let qp = QueuePair::parse(self.function, self.input)?;
        if !self.hca.pds.has(self.function, qp.pd) {
            return Err(violation(Status::BadRes, format!("PD {}", qp.pd)));
        }
        if let Some(receive) = &qp.receive {
            if !self.hca.cqs.contains_key(&receive.cqn) {
                return Err(violation(Status::BadRes, format!("CQ {:#x}", receive.cqn)));
            }
        }
        let number = QPS.clone().find(|n| !self.hca.qps.contains_key(n));
        let number = number.ok_or(Failure::from(Status::Lim))?;
        self.hca.qps.insert(number, qp);
        ifc::OBJECT.set(self.output, number.into());
        Ok(())
    }

    fn qp(&mut self) -> Result<&mut QueuePair> {
        let number = ifc::OBJECT.get(self.input) as u32;
        let function = self.function;
        match self.hca.qps.get_mut(&number) {
            Some(qp) if qp.owner == function => Ok(qp),
            _ => Err(violation(Status::BadRes, format!("QP {number:#x}"))),
        }
    }

    pub(super) fn modify_qp(&mut self, opcode: u16) -> Result<()> {
        let input = self.input;
        Ok(self.qp()?.modify(opcode, input)?)
    }

    pub(super) fn destroy_qp(&mut self) -> Result<()> {
        self.qp()?;
        let number = ifc::OBJECT.get(self.input) as u32;
        if self.hca.trackers.values().any(|t| t.qpn == number) {
            return Err(violation(
                Status::BadResState,
                format!("QP {number} is in use"),
            ));
        }
        self.hca.qps.remove(&number);
        Ok(())
    }

    /// The tracker that a command about a general object names.
    fn tracker(&mut self) -> Result<u32> {
        if ifc::OBJ_TYPE.get(self.input) != u64::from(ifc::OBJ_PAGE_TRACK) {
            return Err(violation(Status::BadParam, "no such type of object"));
        }
        let id = ifc::OBJ_ID.get(self.input) as u32;
        match self.hca.trackers.get(&id) {
            Some(track) if track.owner == self.function => {
                self.subject = Some(track.vhca);
                Ok(id)
            }
            _ => Err(violation(Status::BadRes, format!("tracker {id}"))),
        }
    }

    pub(super) fn create_object(&mut self) -> Result<()> {
        if ifc::OBJ_TYPE.get(self.input) != u64::from(ifc::OBJ_PAGE_TRACK) {
            return Err(violation(Status::BadParam, "no such type of object"));
        }
        let track = PageTrack::parse(self.function, self.input)?;
        self.subject = Some(track.vhca);
        let vf = self.hca.functions.get(usize::from(track.vhca));
        if !vf.is_some_and(|f| f.enabled && f.vf.is_some()) {
            return Err(violation(Status::BadRes, format!("VHCA {}", track.vhca)));
        }
        if !self.hca.qps.contains_key(&track.qpn) {
            return Err(violation(Status::BadRes, format!("QP {:#x}", track.qpn)));
        }
        if self.hca.trackers.len() >= 1 << limits::LOG_MAX_NUM {
            return Err(Status::Lim.into());
        }
        let id = TRACKERS
            .clone()
            .find(|n| !self.hca.trackers.contains_key(n));
        let id = id.ok_or(Failure::from(Status::Lim))?;
        self.hca.trackers.insert(id, track);
        ifc::OBJ_ID.set(self.output, id.into());
        Ok(())
    }

    pub(super) fn modify_object(&mut self) -> Result<()> {
        let id = self.tracker()?;
        // The range, and the state.
        if ifc::TRACK_MODIFY.get(self.input) != 0b11
            || ifc::TRACK_STATE.get(self.input) != TrackState::Reporting as u64
        {
            return Err(violation(Status::BadParam, "not a request for a report"));
        }
        let start = ifc::TRACK_START.get(self.input);
        let len = ifc::TRACK_LENGTH.get(self.input);
        let begun = self.hca.begin_report(self.host, id, start, len);
        // Which range is asked for is up to user space.
        begun.map_err(|status| Failure {
            status: status as u8,
            syndrome: 0,
            violation: None,
        })
    }

    pub(super) fn query_object(&mut self) -> Result<()> {
        let id = self.tracker()?;
        let state = self.hca.trackers[&id].state;
        ifc::TRACK_STATE.set(self.output, state as u64);
        Ok(())
    }

    pub(super) fn destroy_object(&mut self) -> Result<()> {
        let id = self.tracker()?;
        self.hca.trackers.remove(&id);
        Ok(())
    }
}

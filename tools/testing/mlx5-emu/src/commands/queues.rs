// SPDX-License-Identifier: GPL-2.0

//! Commands about completion queues, queue pairs and page trackers.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    cq::CompletionQueue,
    ifc::{
        self,
        Status, //
    },
    numbers, objects,
    pool::Listed,
    qp::QueuePair,
    track::{
        PageTrack,
        TrackState, //
    },
};

/// Numbers of page trackers.
const TRACKERS: std::ops::Range<u32> = 1..1 << 16;

impl Context<'_> {
    pub(super) fn create_cq(&mut self) -> Result<()> {
        let cq = CompletionQueue::parse(self.function, self.input)?;
        self.check_list(cq.pages())?;
        if !self.objects().uars.has(cq.uar) {
            return Err(violation(Status::BadRes, format!("UAR {:#x}", cq.uar)));
        }
        if !self.objects().eqs.contains_key(&cq.eq) {
            return Err(violation(Status::BadRes, format!("EQ {}", cq.eq)));
        }
        // If the driver has given the command up, the memory may be gone.
        if !self.given_up && !cq.was_prepared(self.host) {
            return Err(violation(Status::BadParam, "CQEs are not invalid at first"));
        }
        let number = self.objects().cqs.create(numbers::CQS, cq);
        let number = number.ok_or(Failure::from(Status::Lim))?;
        ifc::OBJECT.set(self.output, number.into());
        Ok(())
    }

    pub(super) fn destroy_cq(&mut self) -> Result<()> {
        let number = ifc::OBJECT.get(self.input) as u32;
        if self.objects().uses_cq(number) {
            return Err(self.in_use(format!("CQ {number}")));
        }
        match self.objects().cqs.remove(&number) {
            Some(_) => Ok(()),
            None => Err(violation(Status::BadRes, format!("CQ {number:#x}"))),
        }
    }

    pub(super) fn create_qp(&mut self) -> Result<()> {
        let qp = QueuePair::parse(self.function, self.input)?;
        self.check_list(qp.pages())?;
        if !self.objects().pds.has(qp.pd) {
            return Err(violation(Status::BadRes, format!("PD {}", qp.pd)));
        }
        if let Some(receive) = &qp.receive {
            if !self.objects().cqs.contains_key(&receive.cqn) {
                return Err(violation(Status::BadRes, format!("CQ {:#x}", receive.cqn)));
            }
        }
        let numbers = numbers::FIRST_QP..1 << self.me().chosen.log_max_qp;
        let number = self.objects().qps.create(numbers, qp);
        let number = number.ok_or(Failure::from(Status::Lim))?;
        ifc::OBJECT.set(self.output, number.into());
        Ok(())
    }

    fn qp(&mut self) -> Result<&mut QueuePair> {
        let number = ifc::OBJECT.get(self.input) as u32;
        match self.objects().qps.get_mut(&number) {
            Some(qp) => Ok(qp),
            None => Err(violation(Status::BadRes, format!("QP {number:#x}"))),
        }
    }

    pub(super) fn modify_qp(&mut self, opcode: u16) -> Result<()> {
        let input = self.input;
        Ok(self.qp()?.modify(opcode, input)?)
    }

    pub(super) fn destroy_qp(&mut self) -> Result<()> {
        self.qp()?;
        let number = ifc::OBJECT.get(self.input) as u32;
        if self.objects().uses_qp(number) {
            return Err(self.in_use(format!("QP {number}")));
        }
        self.objects().qps.remove(&number);
        Ok(())
    }

    /// The tracker that a command about a general object names.
    fn tracker(&mut self) -> Result<u32> {
        if ifc::OBJ_TYPE.get(self.input) != u64::from(ifc::OBJ_PAGE_TRACK) {
            return Err(violation(Status::BadParam, "no such type of object"));
        }
        let id = ifc::OBJ_ID.get(self.input) as u32;
        match self.objects().trackers.get(&id).map(|track| track.vhca) {
            Some(vhca) => {
                self.subject = Some(vhca);
                Ok(id)
            }
            None => Err(violation(Status::BadRes, format!("tracker {id}"))),
        }
    }

    pub(super) fn create_object(&mut self) -> Result<()> {
        // Only who migrates VFs sees what they write.
        self.check_manager()?;
        if ifc::OBJ_TYPE.get(self.input) != u64::from(ifc::OBJ_PAGE_TRACK) {
            return Err(violation(Status::BadParam, "no such type of object"));
        }
        let track = PageTrack::parse(self.input, &self.hca.config)?;
        self.subject = Some(track.vhca);
        let vf = self.hca.functions.get(usize::from(track.vhca));
        if !vf.is_some_and(|f| f.enabled && f.vf.is_some()) {
            return Err(violation(Status::BadRes, format!("VHCA {}", track.vhca)));
        }
        if !self.objects().qps.contains_key(&track.qpn) {
            return Err(violation(Status::BadRes, format!("QP {:#x}", track.qpn)));
        }
        if self.objects().trackers.len() >= usize::from(self.hca.config.trackers) {
            // How many others there are, a driver cannot know.
            return Err(Failure {
                status: Status::Lim as u8,
                syndrome: 0,
                violation: None,
            });
        }
        let id = objects::insert(&mut self.objects().trackers, TRACKERS, track);
        let id = id.ok_or(Failure::from(Status::Lim))?;
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
        let begun = self
            .hca
            .begin_report(self.host, (self.function, id), start, len);
        // Which range is asked for is up to user space.
        begun.map_err(|status| Failure {
            status: status as u8,
            syndrome: 0,
            violation: None,
        })
    }

    pub(super) fn query_object(&mut self) -> Result<()> {
        let id = self.tracker()?;
        let state = self.objects().trackers[&id].state;
        ifc::TRACK_STATE.set(self.output, state as u64);
        Ok(())
    }

    pub(super) fn destroy_object(&mut self) -> Result<()> {
        let id = self.tracker()?;
        self.objects().trackers.remove(&id);
        Ok(())
    }
}

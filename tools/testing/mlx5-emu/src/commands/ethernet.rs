// SPDX-License-Identifier: GPL-2.0

//! Commands about what an Ethernet driver sends and receives with.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    ifc::{
        self,
        ethernet::{
            rqtc,
            CONTEXT,
            COUNTER_CLEAR,
            COUNTER_SET,
            CURRENT_STATE,
            MODIFY_BITMASK,
            OUT_OF_BUFFER,
            QUERY_COUNTER_SET, //
        },
        Status, //
    },
    numbers,
    objects::{
        self,
        QCounter, //
    },
    rq::Rq,
    rqt::Rqt,
    sq::Sq,
    tir::{
        Dispatch,
        Tir, //
    },
    tis::Tis,
    wq::QueueState,
};

/// Most objects of a kind, as a shift.
pub const LOG_MAX: u32 = 10;
fn none(what: &str, number: u32) -> Failure {
    violation(Status::BadRes, format!("{what} {number:#x}"))
}

/// The state that a command brings a queue to. The command also names the state that it brings
/// the queue from, which must be its state `now`.
fn next_state(input: &[u8], now: QueueState) -> Result<QueueState> {
    let from = QueueState::from_number(CURRENT_STATE.get(input));
    let to =
        QueueState::from_number(ifc::ethernet::wq::STATE.get(&input[CONTEXT.min(input.len())..]));
    match (from, to) {
        (Some(from), Some(to)) if from == now && now.allows(to) => Ok(to),
        (Some(_), Some(to)) => Err(violation(
            Status::BadResState,
            format!("from {now:?} to {to:?}"),
        )),
        _ => Err(violation(Status::BadParam, "no such state")),
    }
}

impl Context<'_> {
    /// The number of an object that a command is about.
    fn number(&self) -> u32 {
        ifc::OBJECT.get(self.input) as u32
    }

    fn made(&mut self, number: Option<u32>) -> Result<()> {
        let number = number.ok_or(Failure::from(Status::Lim))?;
        ifc::OBJECT.set(self.output, number.into());
        Ok(())
    }

    fn check_pd(&mut self, pd: u32) -> Result<()> {
        match self.objects().pds.has(pd) {
            true => Ok(()),
            false => Err(none("PD", pd)),
        }
    }

    fn check_domain(&mut self, domain: u32) -> Result<()> {
        match self.objects().domains.has(domain) {
            true => Ok(()),
            false => Err(none("transport domain", domain)),
        }
    }

    fn check_cq(&mut self, cqn: u32) -> Result<()> {
        match self.objects().cqs.contains_key(&cqn) {
            true => Ok(()),
            false => Err(none("CQ", cqn)),
        }
    }

    fn check_rqs(&mut self, rqs: &[u32]) -> Result<()> {
        let known = &self.objects().rqs;
        match rqs.iter().find(|rqn| !known.contains_key(rqn)) {
            None => Ok(()),
            Some(rqn) => Err(none("RQ", *rqn)),
        }
    }

    pub(super) fn modify_cq(&mut self) -> Result<()> {
        let (number, input) = (self.number(), self.input);
        let now = self.host.now();
        let cq = self.objects().cqs.get_mut(&number);
        let tells = cq.ok_or(none("CQ", number))?.modify(input, now)?;
        self.hca.tell(self.host, self.function, number, tells);
        Ok(())
    }

    pub(super) fn alloc_q_counter(&mut self) -> Result<()> {
        let counters = &mut self.objects().q_counters;
        let set = objects::insert(counters, 1..u8::MAX, QCounter::default());
        let set = set.ok_or(Failure::from(Status::Lim))?;
        COUNTER_SET.set(self.output, set.into());
        Ok(())
    }

    pub(super) fn dealloc_q_counter(&mut self) -> Result<()> {
        let set = COUNTER_SET.get(self.input) as u8;
        if self.objects().uses_q_counter(set) {
            return Err(self.in_use(format!("queue counter {set}")));
        }
        let counter = self.objects().q_counters.remove(&set);
        counter.map(drop).ok_or(none("queue counter", set.into()))
    }

    pub(super) fn query_q_counter(&mut self) -> Result<()> {
        let set = QUERY_COUNTER_SET.get(self.input) as u8;
        let clear = COUNTER_CLEAR.get(self.input) == 1;
        let counter = self.objects().q_counters.get_mut(&set);
        let counter = counter.ok_or(none("queue counter", set.into()))?;
        let out_of_buffer = counter.out_of_buffer;
        if clear {
            *counter = QCounter::default();
        }
        OUT_OF_BUFFER.set(self.output, out_of_buffer.into());
        Ok(())
    }

    pub(super) fn alloc_domain(&mut self) -> Result<()> {
        let domain = self.objects().domains.alloc(numbers::DOMAINS);
        self.made(domain)
    }

    pub(super) fn dealloc_domain(&mut self) -> Result<()> {
        let domain = self.number();
        if self.objects().uses_domain(domain) {
            return Err(self.in_use(format!("transport domain {domain}")));
        }
        match self.objects().domains.free(domain) {
            true => Ok(()),
            false => Err(none("transport domain", domain)),
        }
    }

    pub(super) fn create_tis(&mut self) -> Result<()> {
        let tis = Tis::parse(self.input)?;
        self.check_domain(tis.transport_domain())?;
        let number = objects::insert(&mut self.objects().tiss, numbers::TISS, tis);
        self.made(number)
    }

    pub(super) fn destroy_tis(&mut self) -> Result<()> {
        let number = self.number();
        if self.objects().uses_tis(number) {
            return Err(self.in_use(format!("TIS {number:#x}")));
        }
        let tis = self.objects().tiss.remove(&number);
        tis.map(drop).ok_or(none("TIS", number))
    }

    pub(super) fn create_tir(&mut self) -> Result<()> {
        let tir = Tir::parse(self.input)?;
        self.check_domain(tir.transport_domain())?;
        match tir.dispatch() {
            Dispatch::Direct(rqn) => self.check_rqs(&[rqn])?,
            Dispatch::Indirect(rqt) if self.objects().rqts.contains_key(&rqt) => (),
            Dispatch::Indirect(rqt) => return Err(none("RQT", rqt)),
        }
        let number = objects::insert(&mut self.objects().tirs, numbers::TIRS, tir);
        self.made(number)
    }

    pub(super) fn modify_tir(&mut self) -> Result<()> {
        let (number, input) = (self.number(), self.input);
        let tir = self.objects().tirs.get_mut(&number);
        let tir = tir.ok_or(none("TIR", number))?;
        Ok(tir.modify(MODIFY_BITMASK.get(input), input)?)
    }

    pub(super) fn destroy_tir(&mut self) -> Result<()> {
        let number = self.number();
        if self.objects().flow_tables.uses_tir(number) {
            return Err(self.in_use(format!("TIR {number:#x}")));
        }
        let tir = self.objects().tirs.remove(&number);
        tir.map(drop).ok_or(none("TIR", number))
    }

    pub(super) fn create_rqt(&mut self) -> Result<()> {
        let rqt = Rqt::parse(self.input)?;
        self.check_rqs(rqt.rqs())?;
        let number = objects::insert(&mut self.objects().rqts, numbers::RQTS, rqt);
        self.made(number)
    }

    pub(super) fn modify_rqt(&mut self) -> Result<()> {
        let (number, input) = (self.number(), self.input);
        let rqt = self.objects().rqts.get(&number);
        let modified = rqt.ok_or(none("RQT", number))?.modified(input)?;
        if MODIFY_BITMASK.get(input) != rqtc::MODIFY_LIST {
            return Err(violation(Status::BadParam, "what is not modelled"));
        }
        self.check_rqs(modified.rqs())?;
        self.objects().rqts.insert(number, modified);
        Ok(())
    }

    pub(super) fn destroy_rqt(&mut self) -> Result<()> {
        let number = self.number();
        if self.objects().uses_rqt(number) {
            return Err(self.in_use(format!("RQT {number:#x}")));
        }
        let rqt = self.objects().rqts.remove(&number);
        rqt.map(drop).ok_or(none("RQT", number))
    }

    pub(super) fn create_sq(&mut self) -> Result<()> {
        let sq = Sq::parse(self.input)?;
        self.check_list(sq.queue.pages())?;
        self.check_pd(sq.queue.pd)?;
        self.check_cq(sq.queue.cqn())?;
        if let Some(tis) = sq.tis() {
            if !self.objects().tiss.contains_key(&tis) {
                return Err(none("TIS", tis));
            }
        }
        if !self.objects().uars.has(sq.uar()) {
            return Err(none("UAR", sq.uar()));
        }
        let number = self.objects().sqs.create(numbers::SQS, sq);
        self.made(number)
    }

    fn sq(&mut self) -> Result<&mut Sq> {
        let number = self.number();
        let sq = self.objects().sqs.get_mut(&number);
        sq.ok_or(none("SQ", number))
    }

    pub(super) fn modify_sq(&mut self) -> Result<()> {
        let (number, input) = (self.number(), self.input);
        let sq = self.sq()?;
        let state = next_state(input, sq.queue.state)?;
        if MODIFY_BITMASK.get(input) != 0 {
            return Err(violation(Status::BadParam, "what is not modelled"));
        }
        sq.set_state(state);
        self.hca.send_posted(self.host, self.function, number);
        Ok(())
    }

    pub(super) fn query_sq(&mut self) -> Result<()> {
        let context = self.sq()?.queue.query();
        self.give(CONTEXT, &context)
    }

    pub(super) fn destroy_sq(&mut self) -> Result<()> {
        let number = self.number();
        let sq = self.objects().sqs.remove(&number);
        sq.map(drop).ok_or(none("SQ", number))
    }

    pub(super) fn create_rq(&mut self) -> Result<()> {
        let rq = Rq::parse(self.input)?;
        self.check_list(rq.queue.pages())?;
        // No mkey is in domain 0: a queue without one has no memory for frames.
        if rq.queue.pd != 0 {
            self.check_pd(rq.queue.pd)?;
        }
        self.check_cq(rq.queue.cqn())?;
        let set = rq.counter_set();
        if set != 0 && !self.objects().q_counters.contains_key(&set) {
            return Err(none("queue counter", set.into()));
        }
        let number = self.objects().rqs.create(numbers::RQS, rq);
        self.made(number)
    }

    fn rq(&mut self) -> Result<&mut Rq> {
        let number = self.number();
        let rq = self.objects().rqs.get_mut(&number);
        rq.ok_or(none("RQ", number))
    }

    pub(super) fn modify_rq(&mut self) -> Result<()> {
        let (number, input) = (self.number(), self.input);
        let rq = self.rq()?;
        let state = next_state(input, rq.queue.state)?;
        let context = &input[CONTEXT.min(input.len())..];
        rq.modify(MODIFY_BITMASK.get(input), context, state)?;
        if state == QueueState::Error {
            self.hca.flush_receives(self.host, self.function, number);
        }
        Ok(())
    }

    pub(super) fn query_rq(&mut self) -> Result<()> {
        let context = self.rq()?.queue.query();
        self.give(CONTEXT, &context)
    }

    pub(super) fn destroy_rq(&mut self) -> Result<()> {
        let number = self.number();
        if self.objects().uses_rq(number) {
            return Err(self.in_use(format!("RQ {number:#x}")));
        }
        let rq = self.objects().rqs.remove(&number);
        rq.map(drop).ok_or(none("RQ", number))
    }

    /// Copies a context to the output, as far as there is room.
    pub(super) fn give(&mut self, at: usize, context: &[u8]) -> Result<()> {
        let output = self.output.get_mut(at..).unwrap_or_default();
        let len = context.len().min(output.len());
        output[..len].copy_from_slice(&context[..len]);
        Ok(())
    }
}

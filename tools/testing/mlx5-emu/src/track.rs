// SPDX-License-Identifier: GPL-2.0

//! The page tracker: which pages of host memory a VF has written to.

use crate::{
    cmdq::NEVER,
    config::{
        Config,
        LOG_MESSAGE, //
    },
    cq::{
        Cqe,
        Received, //
    },
    faults::TrackFault,
    hca::Hca,
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        event,
        Status, //
    },
    lies::{
        self,
        MessageLie, //
    },
    log::CommandRecord,
    qp::{
        Posted,
        QpState,
        QueuePair, //
    },
    wq::QueueState,
};
use std::collections::{
    BTreeSet,
    VecDeque, //
};

/// Bytes of an entry of a report (`page_track_report_entry`).
const ENTRY: usize = 8;
/// `MLX5_CQ_ERROR_SYNDROME_CQ_OVERRUN`
const CQ_OVERRUN: u8 = 0x01;
/// How long a sender waits that found nothing posted, in nanoseconds.
const RNR_WAIT: u64 = 20_000;

/// `MLX5_PAGE_TRACK_STATE_*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TrackState {
    /// Nothing is being reported.
    Tracking = 0,
    /// A range is.
    Reporting = 1,
    /// It has failed.
    Error = 2,
}

/// Limits of the tracker, as capabilities tell them.
pub mod limits {
    /// `pg_track_max_num_range`
    pub const MAX_RANGES: u64 = 16;
    /// `pg_track_log_min_addr_space`
    pub const LOG_MIN_SPACE: u64 = 12;
    /// `pg_track_log_max_addr_space`
    pub const LOG_MAX_SPACE: u64 = 44;
    /// `pg_track_log_min_page_size` and `pg_track_log_max_page_size`
    pub const LOG_PAGE: std::ops::RangeInclusive<u64> = 12..=21;
}

/// The function that has created a tracker, and the number of the tracker.
pub type TrackId = (FunctionId, u32);

/// A tracker (`MLX5_OBJ_TYPE_PAGE_TRACK`).
#[derive(Clone, Debug)]
pub struct PageTrack {
    /// Whose writes it sees.
    pub vhca: u16,
    /// The QP that reports are sent through.
    pub qpn: u32,
    /// What it is doing.
    pub state: TrackState,
    log_page: u32,
    message: usize,
    ranges: Vec<(u64, u64)>,
    dirty: BTreeSet<u64>,
    /// Addresses that are still to be reported.
    outgoing: VecDeque<u64>,
    stalled: bool,
    /// When the next message of a report is sent.
    due: u64,
}

impl PageTrack {
    /// CREATE_GENERAL_OBJECT.
    pub fn parse(input: &[u8], config: &Config) -> Result<Self, Status> {
        let messages = u64::from(*LOG_MESSAGE.start())..=u64::from(config.log_max_message);
        let count = ifc::TRACK_NUM_RANGES.get(input);
        let log_page = ifc::TRACK_LOG_PAGE.get(input);
        let log_msg = ifc::TRACK_LOG_MSG.get(input);
        let space = ifc::TRACK_LOG_SPACE.get(input);
        if count == 0
            || count > limits::MAX_RANGES
            || !limits::LOG_PAGE.contains(&log_page)
            || !messages.contains(&log_msg)
            || !(limits::LOG_MIN_SPACE..=limits::LOG_MAX_SPACE).contains(&space)
        {
            return Err(Status::BadParam);
        }
        let word = |at: usize| {
            let bytes = input.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let range = |i: usize| {
            let at = ifc::TRACK_RANGES + i * 16;
            Some((word(at)?, word(at + 8)?))
        };
        let ranges: Vec<(u64, u64)> = (0..count as usize).map_while(range).collect();
        if ranges.len() as u64 != count {
            return Err(Status::BadInputLen);
        }
        let sum = ranges
            .iter()
            .try_fold(0u64, |sum, (_, len)| sum.checked_add(*len));
        let fits = sum.is_some_and(|sum| sum > 0 && sum <= 1 << space);
        let sane = |(start, len): &(u64, u64)| *len > 0 && start.checked_add(*len - 1).is_some();
        if !fits || !ranges.iter().all(sane) {
            return Err(Status::BadParam);
        }
        Ok(Self {
            vhca: ifc::TRACK_VHCA.get(input) as u16,
            qpn: ifc::TRACK_QPN.get(input) as u32,
            state: TrackState::Tracking,
            log_page: log_page as u32,
            message: 1 << log_msg,
            ranges,
            dirty: BTreeSet::new(),
            outgoing: VecDeque::new(),
            stalled: false,
            due: 0,
        })
    }

    /// Whether it has seen that a page was written.
    #[cfg(test)]
    pub fn is_dirty(&self, addr: u64) -> bool {
        self.dirty.contains(&(addr >> self.log_page))
    }

    /// The VF has written `len` bytes to `addr`.
    fn written(&mut self, addr: u64, len: u64) {
        if len == 0 {
            return;
        }
        let last = addr.saturating_add(len - 1);
        for (start, len) in &self.ranges {
            let (from, to) = (addr.max(*start), last.min(start + (len - 1)));
            if from <= to {
                self.dirty
                    .extend(from >> self.log_page..=to >> self.log_page);
            }
        }
    }

    /// MODIFY_GENERAL_OBJECT to REPORTING: begins to report a range.
    /// Each page is in it `repeats` times.
    fn report(&mut self, start: u64, len: u64, repeats: u16) -> Result<(), Status> {
        if self.state != TrackState::Tracking {
            return Err(Status::BadResState);
        }
        let last = len.checked_sub(1).and_then(|len| start.checked_add(len));
        let last = last.ok_or(Status::BadParam)?;
        let within = |(from, len): &(u64, u64)| start >= *from && last - from < *len;
        if !self.ranges.iter().any(within) {
            return Err(Status::BadParam);
        }
        let (first, last) = (start >> self.log_page, last >> self.log_page);
        let mut reported = self.dirty.split_off(&first);
        let mut later = reported.split_off(&(last + 1));
        self.dirty.append(&mut later);
        let address = |page| page << self.log_page;
        let addresses = reported.iter().copied().map(address);
        self.outgoing = (0..repeats).flat_map(|_| addresses.clone()).collect();
        self.state = TrackState::Reporting;
        Ok(())
    }
}

/// Passes everything on, and notes what VFs write to memory.
struct Noting<'a> {
    host: &'a mut dyn Host,
    /// Function, address and length.
    written: Vec<(FunctionId, u64, u64)>,
}

impl Host for Noting<'_> {
    fn dma_read(
        &mut self,
        function: FunctionId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaFault> {
        self.host.dma_read(function, addr, buf)
    }

    fn dma_write(&mut self, function: FunctionId, addr: u64, buf: &[u8]) -> Result<(), DmaFault> {
        if function != FunctionId::PF {
            self.written.push((function, addr, buf.len() as u64));
        }
        // If it fails, some of it may have been written.
        self.host.dma_write(function, addr, buf)
    }

    fn is_bus_master(&mut self, function: FunctionId) -> bool {
        self.host.is_bus_master(function)
    }

    fn interrupt(&mut self, function: FunctionId, vector: u16) {
        self.host.interrupt(function, vector);
    }

    fn now(&mut self) -> u64 {
        self.host.now()
    }

    fn wake_at(&mut self, time: u64) {
        self.host.wake_at(time);
    }

    fn log_command(&mut self, record: &CommandRecord) {
        self.host.log_command(record);
    }

    fn send_frame(&mut self, frame: &[u8]) {
        self.host.send_frame(frame);
    }

    fn log_violation(&mut self, function: FunctionId, what: &str) {
        self.host.log_violation(function, what);
    }
}

impl Hca {
    fn track(&mut self, (owner, number): TrackId) -> Option<&mut PageTrack> {
        self.objects(owner).trackers.get_mut(&number)
    }

    /// Ranges and bytes that are tracked for a VF.
    pub fn tracked(&self, vhca: u16) -> (u64, u64) {
        let functions = self.functions.iter();
        let trackers = functions.flat_map(|function| function.objects.trackers.values());
        let ranges = trackers
            .filter(|track| track.vhca == vhca)
            .flat_map(|track| &track.ranges);
        ranges.fold((0, 0), |(count, bytes), (_, len)| (count + 1, bytes + len))
    }

    /// Calls `act`, in a turn of its own. Trackers note what VFs write to memory during the call: the trackers that
    /// exist after it. So a report that begins during the call has these pages, or the next
    /// one does.
    pub fn noting(&mut self, host: &mut dyn Host, act: impl FnOnce(&mut Self, &mut dyn Host)) {
        let mut noting = Noting {
            host,
            written: Vec::new(),
        };
        self.turn.begin();
        act(self, &mut noting);
        let written = noting.written;
        let functions = self.functions.iter_mut();
        let trackers = functions.flat_map(|function| function.objects.trackers.values_mut());
        for track in trackers {
            let vhca = track.vhca;
            for (_, addr, len) in written.iter().filter(|(of, ..)| of.0 == vhca) {
                track.written(*addr, *len);
            }
        }
    }

    /// MODIFY_GENERAL_OBJECT to REPORTING. The report itself comes by itself.
    pub fn begin_report(
        &mut self,
        host: &mut dyn Host,
        id: TrackId,
        start: u64,
        len: u64,
    ) -> Result<(), Status> {
        let config = &self.config;
        let due = host.now() + config.report_ns.max(config.message_ns);
        let repeats = config.page_repeats;
        let track = self.track(id).ok_or(Status::BadRes)?;
        track.report(start, len, repeats)?;
        track.due = due;
        let vhca = track.vhca;
        match self.faults.report(vhca) {
            None => self.send_reports(host),
            Some(TrackFault::Stall) => self.stall(id),
            Some(TrackFault::Held) => self.hold(id),
            Some(TrackFault::Error) => self.track_error(host, id),
            Some(TrackFault::Qp) => self.sender_error(host, id),
            Some(TrackFault::Cq) => self.receiver_error(host, id),
            Some(TrackFault::Message) => {
                if let Some(track) = self.track(id) {
                    track.state = TrackState::Error;
                    track.outgoing.clear();
                }
                // Nothing may be posted for it, and it is not tried again.
                let _ = self.send_message(host, id);
            }
        }
        Ok(())
    }

    /// The QP that a tracker reports through fails.
    fn sender_error(&mut self, host: &mut dyn Host, id: TrackId) {
        let (owner, _) = id;
        let Some(qpn) = self.track(id).map(|track| track.qpn) else {
            return;
        };
        if let Some(qp) = self.objects(owner).qps.get_mut(&qpn) {
            qp.state = QpState::Error;
        }
        let mut data = [0; 28];
        data[24..].copy_from_slice(&qpn.to_be_bytes());
        self.post_event(host, owner, event::WQ_CATAS_ERROR, &data);
    }

    /// The CQ that tells of a tracker's messages fails.
    fn receiver_error(&mut self, host: &mut dyn Host, id: TrackId) {
        let (owner, _) = id;
        let sender = self.track(id).map_or(0, |track| track.qpn);
        let qps = &self.objects(owner).qps;
        let receiver = qps.get(&sender).and_then(|sender| qps.get(&sender.remote));
        if let Some(receive) = receiver.and_then(|qp| qp.receive.as_ref()) {
            let cqn = receive.cqn;
            self.cq_error(host, owner, cqn, 0);
        }
    }

    /// A CQ fails, and with it the queues that have their completions there.
    fn cq_error(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32, syndrome: u8) {
        let objects = self.objects(owner);
        for qp in objects.qps.values_mut() {
            if qp.receive.as_ref().is_some_and(|r| r.cqn == cqn) {
                qp.state = QpState::Error;
            }
        }
        let sqs = objects.sqs.values_mut().map(|sq| &mut sq.queue);
        let rqs = objects.rqs.values_mut().map(|rq| &mut rq.queue);
        for queue in sqs.chain(rqs).filter(|queue| queue.cqn() == cqn) {
            queue.state = QueueState::Error;
        }
        let mut data = [0; 28];
        data[..4].copy_from_slice(&cqn.to_be_bytes());
        data[11] = syndrome;
        self.post_event(host, owner, event::CQ_ERROR, &data);
    }

    fn stall(&mut self, id: TrackId) {
        if let Some(track) = self.track(id) {
            track.stalled = true;
        }
    }

    fn hold(&mut self, id: TrackId) {
        if let Some(track) = self.track(id) {
            track.due = NEVER;
        }
    }

    /// Has all held reports sent.
    pub fn release_reports(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let functions = self.functions.iter_mut();
        let trackers = functions.flat_map(|function| function.objects.trackers.values_mut());
        for track in trackers.filter(|track| track.due == NEVER) {
            track.due = now;
            host.wake_at(now);
        }
    }

    /// The tracker goes to its error state.
    fn track_error(&mut self, host: &mut dyn Host, id: TrackId) {
        let Some(track) = self.track(id) else {
            return;
        };
        track.state = TrackState::Error;
        track.outgoing.clear();
        let (owner, number) = id;
        let mut data = [0; 28];
        data[2..4].copy_from_slice(&ifc::OBJ_PAGE_TRACK.to_be_bytes());
        data[4..8].copy_from_slice(&number.to_be_bytes());
        self.post_event(host, owner, event::OBJECT_CHANGE, &data);
    }

    /// Sends what trackers have to report, as far as there is memory for it.
    pub fn send_reports(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let message_ns = self.config.message_ns;
        let reporting: Vec<(TrackId, u64)> = (0..)
            .map(FunctionId)
            .zip(&self.functions)
            .flat_map(|(owner, function)| {
                let trackers = function.objects.trackers.iter();
                trackers.map(move |(number, track)| ((owner, *number), track))
            })
            .filter(|(_, track)| track.state == TrackState::Reporting && !track.stalled)
            .map(|(id, track)| (id, track.due))
            .collect();
        for (id, due) in reporting {
            if due > now {
                if due != NEVER {
                    host.wake_at(due);
                }
                continue;
            }
            let mut retries = self.config.rnr_retries;
            loop {
                match self.send_message(host, id) {
                    Ok(true) if message_ns == 0 => (),
                    Ok(true) => {
                        let next = now + message_ns;
                        if let Some(track) = self.track(id) {
                            track.due = next;
                        }
                        host.wake_at(next);
                        break;
                    }
                    Ok(false) => break,
                    Err(Rnr) if retries > 0 => retries -= 1,
                    Err(Rnr) => {
                        host.wake_at(now + RNR_WAIT);
                        break;
                    }
                }
            }
        }
    }

    /// Sends one message. `Ok(true)` where there is another one to send.
    fn send_message(&mut self, host: &mut dyn Host, id: TrackId) -> Result<bool, Rnr> {
        let (owner, _) = id;
        let Some(qpn) = self.track(id).map(|track| track.qpn) else {
            return Ok(false);
        };
        let qps = &mut self.objects(owner).qps;
        let remote = qps.get(&qpn).map(|qp| (qp.state, qp.remote));
        // A QP that has failed sends nothing. An event has told its driver.
        if let Some((QpState::Error, _)) = remote {
            return Ok(false);
        }
        let Some((QpState::ReadyToSend, receiver)) = remote else {
            self.violation(
                host,
                owner,
                "a tracker reports through a QP that cannot send",
            );
            self.track_error(host, id);
            return Ok(false);
        };
        let failed = |qp: &QueuePair| qp.state == QpState::Error;
        if qps.get(&receiver).is_some_and(failed) {
            return Ok(false);
        }
        let Some(qp) = qps.get_mut(&receiver).filter(|qp| {
            qp.remote == qpn && matches!(qp.state, QpState::ReadyToReceive | QpState::ReadyToSend)
        }) else {
            self.violation(
                host,
                owner,
                "a tracker reports to a QP that is not connected",
            );
            self.track_error(host, id);
            return Ok(false);
        };
        let posted = qp.take_posted(host).ok_or(Rnr)?;
        let cqn = qp.receive.as_ref().map_or(0, |receive| receive.cqn);
        // The entry and the place of its completion are taken together: what the driver gives
        // back after it has posted the entry comes too late.
        if !self.has_place(host, owner, cqn) {
            return Ok(false);
        }
        let Some(track) = self.track(id) else {
            return Ok(false);
        };
        let room = track.message.min(posted.len as usize) / ENTRY;
        let vhca = track.vhca;
        let lies = self.lies_in_message(vhca);
        let Some(track) = self.track(id) else {
            return Ok(false);
        };
        let n = track.outgoing.len().min(room);
        let mut addresses: Vec<u64> = track.outgoing.drain(..n).collect();
        let mut more = !track.outgoing.is_empty();
        for lie in &lies {
            match lie {
                MessageLie::Addresses(said) => addresses.fill(*said),
                MessageLie::Endless(said) => {
                    addresses = vec![*said; room];
                    more = true;
                }
                _ => (),
            }
        }
        let entries: Vec<u8> = addresses.into_iter().flat_map(u64::to_be_bytes).collect();
        if !more && track.state == TrackState::Reporting {
            track.state = TrackState::Tracking;
        }
        let state = track.state as u32;
        if !self.receive(host, owner, posted, &entries) {
            self.track_error(host, id);
            return Ok(false);
        }
        let received = Received {
            immediate: state << 28,
            bytes: entries.len() as u32,
            wqe: posted.wqe,
            qpn: receiver,
        };
        let mut cqe = Cqe::from(received);
        let count = lies::about_completion(&lies, &mut cqe);
        self.complete(host, owner, cqn, cqe);
        for _ in 1..count {
            self.complete_anyway(host, owner, cqn, cqe);
        }
        Ok(more)
    }

    /// Writes a message to the memory that was posted for it.
    fn receive(
        &mut self,
        host: &mut dyn Host,
        owner: FunctionId,
        posted: Posted,
        message: &[u8],
    ) -> bool {
        let mkey = self.objects(owner).mkey(posted.lkey);
        match mkey.map(|mkey| mkey.write(host, posted.addr, message)) {
            Some(Ok(())) => true,
            _ => {
                self.violation(host, owner, "memory that was posted for a message is none");
                false
            }
        }
    }

    /// Whether a CQ has room for a completion. If not, it has overrun.
    fn has_place(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32) -> bool {
        let cq = self.objects(owner).cqs.get(&cqn);
        let full = cq.is_some_and(|cq| !cq.failed && cq.is_full(host));
        if full {
            self.overrun(host, owner, cqn);
        }
        !full
    }

    /// A CQ has no room for a completion.
    fn overrun(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32) {
        if let Some(cq) = self.objects(owner).cqs.get_mut(&cqn) {
            cq.failed = true;
        }
        self.violation(host, owner, "completion queue overrun");
        self.cq_error(host, owner, cqn, CQ_OVERRUN);
    }

    /// Posts a completion, and the event that it may be worth.
    pub fn complete(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32, what: Cqe) {
        let Some(cq) = self.objects(owner).cqs.get_mut(&cqn) else {
            self.violation(host, owner, "a completion without a CQ");
            return;
        };
        if cq.failed {
            return;
        }
        match cq.post(host, what) {
            Ok(tells) => self.tell(host, owner, cqn, tells),
            Err(_) => self.overrun(host, owner, cqn),
        }
    }

    /// Posts a completion that there need not be room for, as a lie.
    fn complete_anyway(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32, cqe: Cqe) {
        let cq = self.objects(owner).cqs.get_mut(&cqn);
        if let Some(Ok(tells)) = cq.map(|cq| cq.append(host, cqe)) {
            self.tell(host, owner, cqn, tells);
        }
    }

    /// Tells the EQ of a CQ, now or when that is due.
    pub fn tell(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32, now: bool) {
        let cq = self.objects(owner).cqs.get(&cqn);
        match cq.and_then(|cq| cq.moderation.due) {
            _ if now => self.completion(host, owner, cqn),
            Some(due) => host.wake_at(due),
            None => (),
        }
    }

    /// Tells the EQs of CQs whose moderation has held an event back until now, and has the
    /// timer fire when the next one is due.
    pub fn tell_due(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let mut due = Vec::new();
        for (id, function) in self.functions.iter_mut().enumerate() {
            if function.is_suspended() {
                continue;
            }
            for (cqn, cq) in &mut function.objects.cqs {
                if cq.moderation.due.is_some() {
                    due.push((FunctionId(id as u16), *cqn, cq.tells(now)));
                }
            }
        }
        for (owner, cqn, now) in due {
            self.tell(host, owner, cqn, now);
        }
    }

    /// Tells the EQ of a CQ.
    fn completion(&mut self, host: &mut dyn Host, owner: FunctionId, cqn: u32) {
        let Some(eq) = self.objects(owner).cqs.get(&cqn).map(|cq| cq.eq) else {
            return;
        };
        let mut data = [0; 28];
        data[24..].copy_from_slice(&cqn.to_be_bytes());
        self.post_to(host, owner, eq, (event::COMP, 0), &data);
    }
}

/// Nothing was posted to receive into.
struct Rnr;

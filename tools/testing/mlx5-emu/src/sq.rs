// SPDX-License-Identifier: GPL-2.0

//! Send queues.

use crate::{
    cq::Cqe,
    encoded::U32,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        ethernet::{
            sqc,
            wq,
            CONTEXT, //
        },
        Status, //
    },
    objects::Objects,
    packet::{
        self,
        ETHERNET, //
    },
    pool::Listed,
    resources::Saved,
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

/// Bytes of a basic block (MLX5_SEND_WQE_BB), and as a shift.
const BLOCK: usize = 64;
const LOG_BLOCK: u64 = 6;
/// Bytes that `ds` counts (MLX5_WQE_DS_UNITS).
const UNIT: usize = 16;
/// Most bytes of a WQE (`max_wqe_sz_sq`): all that `ds` can say.
pub const MAX_WQE: u64 = 1024;
/// Where the counter of posted WQEs is in the doorbell record.
const RECORD: u64 = 4;
/// Doorbells of send queues on a UAR page: two registers in turn, of which only
/// the first words count.
const DOORBELLS: u64 = 0x800;
/// Bytes of each, as a shift (`log_bf_reg_size`).
pub const LOG_DOORBELL: u64 = 9;
/// Most bytes of the frame that a WQE gives, as a shift (`max_lso_cap`).
pub const LOG_MAX_LSO: u64 = 18;
/// MLX5_OPCODE_*
const NOP: u8 = 0x00;
const SEND: u8 = 0x0a;
const LSO: u8 = 0x0e;
/// MLX5_WQE_CTRL_CQ_UPDATE: there is a CQE of its completion.
const CQ_UPDATE: u8 = 0x08;
/// MLX5_ETH_WQE_*
const L3_CHECKSUM: u8 = 1 << 6;
const L4_CHECKSUM: u8 = 1 << 7;
/// Where the inline header of an Ethernet segment begins, after its size.
const INLINE: usize = UNIT + 14;
/// MLX5_CQE_REQ and MLX5_CQE_REQ_ERR.
const REQUESTER: u8 = 0;
const REQUESTER_ERROR: u8 = 13;

/// A send queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sq {
    /// Its context, state and WQEs.
    pub queue: WorkQueue,
    /// Frames of the next WQE that were sent: all of them were too much for one turn.
    segments: u32,
    /// The timer is to go on with what is posted: that was too much for one turn. A VF that
    /// resumes looks at all queues.
    #[serde(skip)]
    pub behind: bool,
}

/// Whether a register of a UAR page is the last word of a doorbell of send
/// queues; `None` where it is none.
pub fn doorbell(register: u64) -> Option<bool> {
    let within = register.checked_sub(DOORBELLS)?;
    let first = within < 2 << LOG_DOORBELL;
    match within % (1 << LOG_DOORBELL) {
        0 if first => Some(false),
        4 if first => Some(true),
        _ => None,
    }
}

/// What a WQE has the queue do.
#[derive(Debug)]
struct Work {
    opcode: u8,
    /// Blocks that it takes.
    blocks: u16,
    signalled: bool,
    output: Option<Output>,
}

/// What a WQE has the queue send.
#[derive(Debug)]
struct Output {
    frame: Vec<u8>,
    /// Bytes of the headers and the size of the pieces, if the frame is to be cut.
    cut: Option<(usize, usize)>,
    /// Checksums that are to be set.
    network: bool,
    transport: bool,
}

/// A WQE that fails, and what its CQE says of it.
#[derive(Debug)]
struct Failed {
    syndrome: Syndrome,
    opcode: u8,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Checks what only the context of a send queue has.
fn check(context: &[u8]) -> Result<(), Status> {
    match sqc::TIS_COUNT.get(context) {
        0 | 1 => Ok(()),
        _ => Err(Status::BadParam),
    }
}

impl Saved for Sq {
    const MAX_LEN: usize = WorkQueue::max_len(LOG_BLOCK) + U32;

    fn is_sound(&self) -> bool {
        self.queue.is_sound(LOG_BLOCK..=LOG_BLOCK)
            && check(&self.queue.context).is_ok()
            && self.segments < 1 << LOG_MAX_LSO
    }
}

impl Listed for Sq {
    fn pages(&self) -> usize {
        self.queue.pages()
    }
}

impl Sq {
    /// CREATE_SQ.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT..).unwrap_or_default();
        check(context)?;
        Ok(Self {
            queue: WorkQueue::parse(context, LOG_BLOCK..=LOG_BLOCK)?,
            segments: 0,
            behind: false,
        })
    }

    /// What it sends through: an internal queue, which sends no frames, has none.
    pub fn tis(&self) -> Option<u32> {
        let tis = sqc::TIS.get(&self.queue.context) as u32;
        (sqc::TIS_COUNT.get(&self.queue.context) > 0).then_some(tis)
    }

    /// The UAR page of its doorbells.
    pub fn uar(&self) -> u32 {
        wq::UAR.get(&self.queue.context) as u32
    }

    /// MODIFY_SQ. A WQE that was begun goes on if the queue stays in its state.
    pub fn set_state(&mut self, state: QueueState) {
        if state != self.queue.state {
            self.segments = 0;
        }
        self.queue.set_state(state);
    }

    fn flushes(&self) -> bool {
        sqc::FLUSH.get(&self.queue.context) == 1
    }

    /// Reads the next WQE, and what it has to be sent.
    fn fetch(
        &self,
        host: &mut dyn Host,
        (id, sqn): (FunctionId, u32),
        objects: &Objects,
        posted: u16,
    ) -> Result<Work, Failed> {
        let failed = |opcode| move |syndrome| Failed { syndrome, opcode };
        let read = |host: &mut dyn Host, ahead| {
            let block = self.queue.read(host, id, ahead);
            block.map_err(|_| failed(0)(Syndrome::Protection))
        };
        let mut wqe = read(host, 0)?;
        let opcode = wqe[3];
        let bad = || failed(opcode)(Syndrome::Operation);
        let len = usize::from(wqe[7] & 0x3f) * UNIT;
        let blocks = len.div_ceil(BLOCK) as u16;
        let named = u32::from_be_bytes([0, wqe[4], wqe[5], wqe[6]]);
        if !(1..=posted).contains(&blocks)
            || named != sqn
            || be16(&wqe, 1) != self.queue.counter
            || wqe[0] != 0
        {
            return Err(bad());
        }
        for ahead in 1..blocks {
            wqe.extend(read(host, ahead)?);
        }
        wqe.truncate(len);
        let output = match opcode {
            NOP => None,
            SEND | LSO if self.tis().is_some() => {
                let frame = self.gather(host, objects, &wqe);
                let output = frame
                    .and_then(|(frame, inline)| Output::new(&wqe, opcode == LSO, frame, inline));
                Some(output.map_err(failed(opcode))?)
            }
            _ => return Err(bad()),
        };
        Ok(Work {
            opcode,
            blocks,
            signalled: wqe[11] & CQ_UPDATE != 0,
            output,
        })
    }

    /// The frame that a WQE gives, and how much of it was in the WQE itself.
    fn gather(
        &self,
        host: &mut dyn Host,
        objects: &Objects,
        wqe: &[u8],
    ) -> Result<(Vec<u8>, usize), Syndrome> {
        let size = wqe.get(INLINE - 2..INLINE).ok_or(Syndrome::Operation)?;
        let inline = usize::from(be16(size, 0));
        let header = wqe.get(INLINE..INLINE + inline);
        let mut frame = header.ok_or(Syndrome::Operation)?.to_vec();
        // The first two bytes are in the segment.
        let segments = 2 * UNIT + inline.saturating_sub(2).next_multiple_of(UNIT);
        for segment in wqe.get(segments..).unwrap_or_default().chunks(UNIT) {
            let segment = DataSegment::parse(segment).ok_or(Syndrome::Operation)?;
            let len = segment.count as usize;
            // Bit 31 says that the data are in the WQE, 0 bytes are 2^31.
            if len == 0 || frame.len() + len > 1 << LOG_MAX_LSO {
                return Err(Syndrome::Length);
            }
            frame.extend(segment.read(host, objects, self.queue.pd, len)?);
        }
        match frame.len() {
            0..ETHERNET => Err(Syndrome::Length),
            _ => Ok((frame, inline)),
        }
    }
}

impl Output {
    fn new(wqe: &[u8], segmented: bool, frame: Vec<u8>, inline: usize) -> Result<Self, Syndrome> {
        let flags = wqe[UNIT + 4];
        if flags & !(L3_CHECKSUM | L4_CHECKSUM) != 0 {
            return Err(Syndrome::Operation);
        }
        let mss = usize::from(be16(wqe, UNIT + 6));
        if segmented && packet::segment(&frame, inline, mss).is_none() {
            return Err(Syndrome::Operation);
        }
        Ok(Self {
            frame,
            cut: segmented.then_some((inline, mss)),
            network: flags & L3_CHECKSUM != 0,
            transport: flags & L4_CHECKSUM != 0,
        })
    }

    /// Calls `send` for each frame but the first `begun` ones, which were sent before, as long as
    /// it returns `true`. Returns how many were sent by now, or `None` if all were.
    fn send(self, begun: usize, mut send: impl FnMut(Vec<u8>) -> bool) -> Option<usize> {
        let mut send = |mut frame: Vec<u8>| {
            packet::set_checksums(&mut frame, self.network, self.transport);
            send(frame)
        };
        let Some((headers, mss)) = self.cut else {
            send(self.frame);
            return None;
        };
        let segments = packet::segments_from(&self.frame, headers, mss, begun)?;
        let mut segments = segments.peekable();
        let mut sent = begun;
        for frame in segments.by_ref() {
            sent += 1;
            if !send(frame) {
                break;
            }
        }
        segments.peek().map(|_| sent)
    }
}

impl Hca {
    /// The doorbell of a send queue was rung on a UAR page.
    pub fn sq_doorbell(&mut self, host: &mut dyn Host, id: FunctionId, uar: u32, sqn: u32) {
        match self.objects(id).sqs.get(&sqn).map(Sq::uar) {
            Some(own) if own == uar => self.send_posted(host, id, sqn),
            Some(_) => self.violation(host, id, &format!("doorbell of SQ {sqn:#x}, not its UAR")),
            None => self.violation(host, id, &format!("doorbell of SQ {sqn:#x}, not created")),
        }
    }

    /// Works through what was posted to a send queue, for one turn.
    pub fn send_posted(&mut self, host: &mut dyn Host, id: FunctionId, sqn: u32) {
        // How far to go is in memory, and is looked at when it resumes.
        if self.is_suspended(id) {
            return;
        }
        loop {
            let behind = self.turn.sends == 0;
            if let Some(sq) = self.objects(id).sqs.get_mut(&sqn) {
                sq.behind = behind;
            }
            if behind {
                self.go_on_later(host);
                return;
            }
            let objects = &self.functions[usize::from(id.0)].objects;
            let Some(sq) = objects.sqs.get(&sqn) else {
                return;
            };
            let posted = sq.queue.posted(host, id, RECORD);
            let result = match (sq.queue.state, posted) {
                (QueueState::Reset, _) | (_, Ok(Some(0))) => return,
                (QueueState::Ready, Ok(Some(posted))) => sq.fetch(host, (id, sqn), objects, posted),
                (QueueState::Error, Ok(Some(posted))) if sq.flushes() => {
                    self.flush_sends(host, id, sqn, posted);
                    continue;
                }
                (QueueState::Error, _) => return,
                (QueueState::Ready, _) => Err(Failed {
                    syndrome: Syndrome::Protection,
                    opcode: 0,
                }),
            };
            match result {
                Ok(work) => self.sent(host, id, sqn, work),
                Err(failed) => self.send_failed(host, id, sqn, &failed),
            }
        }
    }

    /// Sends what a WQE says, or as much as fits into this turn.
    fn sent(&mut self, host: &mut dyn Host, id: FunctionId, sqn: u32, work: Work) {
        let Some(sq) = self.objects(id).sqs.get(&sqn) else {
            return;
        };
        let (cqn, wqe, begun) = (sq.queue.cqn(), sq.queue.counter, sq.segments);
        let len = work.output.as_ref().map_or(0, |output| output.frame.len());
        self.turn.sent(len);
        // At least one frame in each turn, whatever it costs to read the WQE again.
        let left = work.output.and_then(|output| {
            output.send(begun as usize, |frame| {
                self.turn.sent(0);
                self.transmit(host, id, frame);
                self.turn.sends > 0
            })
        });
        let Some(sq) = self.objects(id).sqs.get_mut(&sqn) else {
            return;
        };
        sq.segments = left.unwrap_or(0) as u32;
        if left.is_some() {
            return;
        }
        sq.queue.counter = wqe.wrapping_add(work.blocks);
        if work.signalled {
            let now = host.now();
            let cqe = Cqe::new(REQUESTER)
                .timestamp(now)
                .queue(work.opcode, sqn)
                .wqe(wqe);
            self.complete(host, id, cqn, cqe);
        }
    }

    fn send_failed(&mut self, host: &mut dyn Host, id: FunctionId, sqn: u32, failed: &Failed) {
        self.turn.sent(0);
        let Some(sq) = self.objects(id).sqs.get_mut(&sqn) else {
            return;
        };
        sq.segments = 0;
        sq.queue.state = QueueState::Error;
        let (cqn, wqe) = (sq.queue.cqn(), sq.queue.counter);
        sq.queue.counter = wqe.wrapping_add(1);
        let what = format!("SQ {sqn:#x}, WQE {wqe:#x}: {:?}", failed.syndrome);
        self.violation(host, id, &what);
        let cqe = Cqe::new(REQUESTER_ERROR)
            .syndrome(failed.syndrome)
            .queue(failed.opcode, sqn)
            .wqe(wqe);
        self.complete(host, id, cqn, cqe);
    }

    /// What was posted to a queue that has failed ends with an error, or as much as fits into
    /// this turn.
    fn flush_sends(&mut self, host: &mut dyn Host, id: FunctionId, sqn: u32, posted: u16) {
        let most = self.turn.sends;
        let Some(sq) = self.objects(id).sqs.get_mut(&sqn) else {
            return;
        };
        let mut begins = Vec::new();
        let mut ahead = 0;
        while ahead < posted && begins.len() < most {
            let Ok(block) = sq.queue.read(host, id, ahead) else {
                ahead = posted;
                break;
            };
            begins.push(sq.queue.counter.wrapping_add(ahead));
            let blocks = (usize::from(block[7] & 0x3f) * UNIT).div_ceil(BLOCK);
            ahead = ahead.saturating_add(blocks.max(1) as u16);
        }
        sq.segments = 0;
        sq.queue.counter = sq.queue.counter.wrapping_add(ahead.min(posted));
        let cqn = sq.queue.cqn();
        for wqe in begins {
            self.turn.sent(0);
            let cqe = Cqe::new(REQUESTER_ERROR)
                .syndrome(Syndrome::Flushed)
                .queue(0, sqn)
                .wqe(wqe);
            self.complete(host, id, cqn, cqe);
        }
    }
}

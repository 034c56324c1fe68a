// SPDX-License-Identifier: GPL-2.0

//! The page tracker: firmware that notes where a VF writes to, and reports it in
//! messages through a connection within the device.

use super::{
    bindings::{
        self, mlx5_ifc_general_obj_in_cmd_hdr_bits, MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
        MLX5_CMD_OP_DESTROY_GENERAL_OBJECT, MLX5_CMD_OP_MODIFY_GENERAL_OBJECT,
        MLX5_CMD_OP_QUERY_GENERAL_OBJECT, MLX5_OBJ_TYPE_PAGE_TRACK, MLX5_PAGE_TRACK_STATE_ERROR,
        MLX5_PAGE_TRACK_STATE_REPORTING,
    },
    bits::{Part, Value},
    core_dev::CoreDev,
    cq::CompletionQueue,
    cqe::{Message, State},
    dma_buffer::Mkey,
    ifc::{constant, field, mailbox, part, LargeMailbox, Mailbox},
    pd::Pd,
    qp::{QueuePair, ReceiveQueue},
    track_events::{Subjects, TrackEvents, TrackNotifier},
    uar::Uar,
};
use crate::vfio::{
    coherent::Coherent,
    dirty_log::{IovaRange, IovaRanges},
    errno,
};
use kernel::{
    prelude::*,
    sizes::{SZ_2M, SZ_64K},
    sync::Arc,
};

/// Bytes of an entry of a report: an address.
const ENTRY: usize = 8;
/// Memory for messages that have not been looked at.
const RING: usize = SZ_2M;
/// Fewest messages that there is room for.
const MIN_MESSAGES: usize = 4;
/// Pieces that the memory for messages is made of.
const PIECE: usize = SZ_64K;
/// A tracker that says nothing for so many milliseconds says nothing any more.
const SILENCE_MS: u32 = 10_000;
/// What a tracker tracks: `track_type`.
const TRACK_PAGES: u32 = 1;
/// The fields that a request for a report sets: `modify_field_select`.
const SELECT_RANGE_AND_STATE: u64 = 0x3;

/// The memory for messages, for the device at addresses from 0 in an mkey.
struct Memory {
    pieces: KVec<Coherent>,
}

impl Memory {
    fn new(core: &CoreDev, len: usize) -> Result<Self> {
        let dev = core.dma_device()?;
        let mut pieces = KVec::new();
        for _ in 0..len.div_ceil(PIECE) {
            pieces.push(Coherent::new(&dev, PIECE)?, GFP_KERNEL)?;
        }
        Ok(Self { pieces })
    }

    /// Calls `each` with every address in `len` bytes from `offset` on.
    fn for_each_address(&self, mut offset: usize, len: usize, mut each: impl FnMut(u64)) {
        let end = offset.saturating_add(len);
        while let Some(piece) = self.pieces.get(offset / PIECE) {
            let at = offset % PIECE;
            let n = (PIECE - at).min(end.saturating_sub(offset));
            if n == 0 {
                return;
            }
            piece.for_each_be64(at, n, &mut each);
            offset += n;
        }
    }
}

/// Joins pages that follow each other, as most of a report do.
struct Runs<F: FnMut(u64, u64)> {
    each: F,
    page_size: u64,
    start: u64,
    len: u64,
}

impl<F: FnMut(u64, u64)> Runs<F> {
    fn page(&mut self, addr: u64) {
        if self.len > 0 && self.start.checked_add(self.len) == Some(addr) {
            self.len = self.len.saturating_add(self.page_size);
        } else {
            self.flush();
            self.start = addr;
            self.len = self.page_size;
        }
    }

    fn flush(&mut self) {
        if self.len > 0 {
            (self.each)(self.start, self.len);
            self.len = 0;
        }
    }
}

/// A PAGE_TRACK object; destroyed on drop.
struct Object {
    core: Arc<CoreDev>,
    id: u32,
}

impl Object {
    /// Fills in the header of a command about it, which is a part of `input`.
    fn about<L, const N: usize>(
        &self,
        input: Mailbox<L, N>,
        header: Part<L, mlx5_ifc_general_obj_in_cmd_hdr_bits>,
        opcode: impl Value,
    ) -> Mailbox<L, N> {
        input
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, opcode)),
                opcode,
            )
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, obj_type)),
                constant!(MLX5_OBJ_TYPE_PAGE_TRACK),
            )
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, obj_id)),
                self.id,
            )
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let mut input = self.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_DESTROY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        // Refused while the PF is detached: then it is gone anyway.
        let _ = self.core.execute(&mut input.bytes, &mut output.bytes);
    }
}

/// A tracker that runs.
///
/// Fields drop in order: what firmware uses goes before what it uses it for.
pub(crate) struct PageTracker {
    _notifier: Pin<KBox<TrackNotifier>>,
    object: Object,
    _sender: QueuePair,
    _receiver: QueuePair,
    queue: ReceiveQueue,
    _mkey: Mkey,
    memory: Memory,
    cq: Pin<KBox<CompletionQueue>>,
    _pd: Pd,
    _uar: Uar,
    events: Arc<TrackEvents>,
    core: Arc<CoreDev>,
    page_size: u64,
    /// Bytes of a message, at most.
    message: usize,
    /// Entries of the receive queue, and messages that were looked at.
    slots: u32,
    seen: u32,
}

/// What the device can track.
struct Limits(bindings::mlx5_rust_track_limits);

impl Limits {
    fn of(core: &CoreDev) -> Result<Self> {
        core.check_attached()?;
        let mut limits = bindings::mlx5_rust_track_limits::default();
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`.
        unsafe { bindings::mlx5_rust_track_limits_of(core.mdev.as_ptr(), &mut limits) };
        Ok(Self(limits))
    }

    /// The page size, as a shift, that is nearest to `page_size`.
    fn log_page(&self, page_size: u64) -> u32 {
        let log = page_size.max(1).ilog2();
        log.max(self.0.log_min_page_size.into())
            .min(self.0.log_max_page_size.into())
    }
}

impl CoreDev {
    /// Whether firmware can track pages.
    pub(crate) fn can_track(&self) -> bool {
        self.tracks_pages
    }
}

impl PageTracker {
    /// Begins to track `ranges` in pages of about `page_size` bytes.
    pub(crate) fn new(
        core: &Arc<CoreDev>,
        mut ranges: IovaRanges<'_>,
        page_size: u64,
    ) -> Result<Self> {
        let limits = Limits::of(core)?;
        let log_page = limits.log_page(page_size);
        let log_message = u32::from(limits.0.log_max_msg_size);
        let message = 1usize.checked_shl(log_message).ok_or(EINVAL)?;
        if !(ENTRY..=RING).contains(&message) {
            return Err(errno::eopnotsupp());
        }
        let slots = (RING / message).max(MIN_MESSAGES);
        let log_slots = slots.ilog2();
        ranges.combine(limits.0.max_num_range.into());

        let events = TrackEvents::new()?;
        let uar = Uar::new(core)?;
        let pd = Pd::new(core)?;
        let cq = CompletionQueue::new(core, events.clone(), log_slots)?;
        let memory = Memory::new(core, slots * message)?;
        let mkey = Mkey::of_pages(
            core,
            &pd,
            PIECE.trailing_zeros(),
            memory.pieces.len() * PIECE,
            memory.pieces.iter().map(Coherent::dma),
        )?;
        // CAST: At most `RING`.
        let queue = ReceiveQueue::new(core, log_slots, mkey.number(), message as u32)?;
        let receiver = QueuePair::new(core, &pd, &uar, Some((&queue, &cq)))?;
        let sender = QueuePair::new(core, &pd, &uar, None)?;
        receiver.init()?;
        queue.post(1 << log_slots);
        receiver.connect(sender.number())?;
        sender.init()?;
        sender.connect(receiver.number())?;
        sender.start()?;
        let context = Context {
            log_page,
            log_message,
            sender: sender.number(),
        };
        let object = create(core, &limits, &ranges, context)?;
        let notifier = TrackNotifier::new(
            core,
            events.clone(),
            Subjects {
                qpns: [receiver.number(), sender.number()],
                object: object.id,
            },
        )?;
        cq.arm(0);
        Ok(Self {
            _notifier: notifier,
            object,
            _sender: sender,
            _receiver: receiver,
            queue,
            _mkey: mkey,
            memory,
            cq,
            _pd: pd,
            _uar: uar,
            events,
            core: core.clone(),
            page_size: 1 << log_page,
            message,
            slots: 1 << log_slots,
            seen: 0,
        })
    }

    /// Bytes of the pages that it tells apart.
    pub(crate) fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Where to end a report early.
    pub(crate) fn events(&self) -> &Arc<TrackEvents> {
        &self.events
    }

    /// Calls `each` with address and bytes of all pages in `range` that the VF has
    /// written to since it was last asked, or of some around them.
    ///
    /// `EIO` where the tracker has failed, `ETIMEDOUT` where it says nothing any
    /// more, `EINTR` where the process is killed: then its state is not known, and
    /// it is of no more use.
    pub(crate) fn report(&mut self, range: IovaRange, each: impl FnMut(u64, u64)) -> Result {
        if self.events.has_failed() {
            return Err(EIO);
        }
        // What is refused has no effect.
        self.request(range)?;
        // A device that reports more than there is does not come to an end.
        let pages = range.len().unwrap_or(u64::MAX) >> self.page_size.trailing_zeros();
        let mut left = pages.saturating_add(u64::from(self.slots));
        let mut runs = Runs {
            each,
            page_size: self.page_size,
            start: 0,
            len: 0,
        };
        let received = self.receive_all(|addr| runs.page(addr), &mut left);
        runs.flush();
        received.inspect_err(|_| self.events.fail())
    }

    fn receive_all(&mut self, mut each: impl FnMut(u64), left: &mut u64) -> Result {
        loop {
            let message = match self.receive(&mut each)? {
                Some(message) => message,
                None => {
                    // Whatever has come meanwhile raises no interrupt.
                    self.cq.arm(self.seen);
                    match self.receive(&mut each)? {
                        Some(message) => message,
                        None => {
                            self.wait()?;
                            continue;
                        }
                    }
                }
            };
            match message.state {
                State::Tracking => return Ok(()),
                State::Reporting => (),
                State::Failed => return Err(EIO),
            }
            let entries = (message.len / ENTRY).max(1) as u64;
            *left = left.checked_sub(entries).ok_or(EIO)?;
        }
    }

    /// Waits for a completion, or for bad news.
    fn wait(&self) -> Result {
        self.events.signal.wait(SILENCE_MS)?;
        if self.events.has_failed() || (self.events.take_changed() && self.is_in_error()?) {
            return Err(EIO);
        }
        Ok(())
    }

    /// Looks at the next message, if there is one.
    fn receive(&mut self, each: &mut impl FnMut(u64)) -> Result<Option<Message>> {
        let Some(message) = self.cq.entry(self.seen, self.slots, self.message)? else {
            return Ok(None);
        };
        // CAST: To a type that is not smaller.
        let at = message.slot as usize * self.message;
        self.memory.for_each_address(at, message.len, each);
        self.seen = self.seen.wrapping_add(1);
        self.queue.post(self.seen.wrapping_add(self.slots));
        self.cq.release(self.seen);
        Ok(Some(message))
    }

    /// Has a range reported.
    fn request(&self, range: IovaRange) -> Result {
        let mut input = self
            .object
            .about(
                mailbox!(mlx5_ifc_modify_page_track_obj_in_bits),
                part!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    general_obj_in_cmd_hdr
                ),
                constant!(MLX5_CMD_OP_MODIFY_GENERAL_OBJECT),
            )
            .set(
                field!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    obj_context.modify_field_select
                ),
                SELECT_RANGE_AND_STATE,
            )
            .set(
                field!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    obj_context.range_start_address
                ),
                range.start,
            )
            .set(
                field!(mlx5_ifc_modify_page_track_obj_in_bits, obj_context.length),
                range.len().ok_or(EINVAL)?,
            )
            .set(
                field!(mlx5_ifc_modify_page_track_obj_in_bits, obj_context.state),
                constant!(MLX5_PAGE_TRACK_STATE_REPORTING),
            );
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }

    fn is_in_error(&self) -> Result<bool> {
        let mut input = self.object.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_QUERY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_query_page_track_obj_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)?;
        let state = output.get(field!(
            mlx5_ifc_query_page_track_obj_out_bits,
            obj_context.state
        ));
        Ok(state == u64::from(MLX5_PAGE_TRACK_STATE_ERROR))
    }
}

/// What a tracker is created with, besides its ranges.
struct Context {
    log_page: u32,
    log_message: u32,
    sender: u32,
}

/// CREATE_GENERAL_OBJECT. `EOPNOTSUPP` where the ranges are smaller, or larger,
/// than what the device can track.
fn create(
    core: &Arc<CoreDev>,
    limits: &Limits,
    ranges: &IovaRanges<'_>,
    context: Context,
) -> Result<Object> {
    let range_bytes = size_of::<bindings::mlx5_ifc_page_track_range_bits>() / 8;
    let mut input = LargeMailbox::new(ranges.len() * range_bytes)?;
    let mut total = 0u64;
    for (mut entry, range) in input.entries().zip(ranges.iter()) {
        // VFIO lets empty ranges through.
        let len = range.len().ok_or(EINVAL)?;
        total = total.checked_add(len).ok_or(EOVERFLOW)?;
        entry.set(
            field!(mlx5_ifc_page_track_range_bits, start_address),
            range.start,
        );
        entry.set(field!(mlx5_ifc_page_track_range_bits, length), len);
    }
    let log_space = total.checked_next_power_of_two().ok_or(EOVERFLOW)?.ilog2();
    let space = u32::from(limits.0.log_min_addr_space)..=u32::from(limits.0.log_max_addr_space);
    if !space.contains(&log_space) {
        return Err(errno::eopnotsupp());
    }
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            general_obj_in_cmd_hdr.opcode
        ),
        constant!(MLX5_CMD_OP_CREATE_GENERAL_OBJECT),
    );
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            general_obj_in_cmd_hdr.obj_type
        ),
        constant!(MLX5_OBJ_TYPE_PAGE_TRACK),
    );
    input.set(
        field!(mlx5_ifc_create_page_track_obj_in_bits, obj_context.vhca_id),
        core.vhca_id,
    );
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.track_type
        ),
        constant!(TRACK_PAGES),
    );
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_addr_space_size
        ),
        log_space,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_page_size
        ),
        context.log_page,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_msg_size
        ),
        context.log_message,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.reporting_qpn
        ),
        context.sender,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.num_ranges
        ),
        u32::try_from(ranges.len())?,
    )?;
    let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
    core.execute(&mut input.bytes, &mut output.bytes)?;
    Ok(Object {
        core: core.clone(),
        id: output
            .get(field!(mlx5_ifc_general_obj_out_cmd_hdr_bits, obj_id))
            .try_into()?,
    })
}

// SPDX-License-Identifier: GPL-2.0

//! The page tracker: firmware that notes where a VF writes to, and reports it in
//! messages through a connection within the device.
//!
//! [`PageTracker`] is used by one thread at a time; [`tracking`](super::tracking)
//! shares it.

use super::{
    bindings::{
        self,
        mlx5_ifc_general_obj_in_cmd_hdr_bits,
        MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
        MLX5_CMD_OP_DESTROY_GENERAL_OBJECT,
        MLX5_CMD_OP_MODIFY_GENERAL_OBJECT,
        MLX5_CMD_OP_QUERY_GENERAL_OBJECT,
        MLX5_OBJ_TYPE_PAGE_TRACK,
        MLX5_PAGE_TRACK_STATE_ERROR,
        MLX5_PAGE_TRACK_STATE_REPORTING, //
    },
    bits::{
        Part,
        Value, //
    },
    cq::CompletionQueue,
    cqe::Message,
    device::{
        Device,
        PfGuard, //
    },
    events::{
        Subjects,
        TrackEvents,
        TrackNotifier, //
    },
    ifc::{
        constant,
        field,
        mailbox,
        part,
        LargeMailbox,
        Mailbox, //
    },
    mkey::Mkey,
    pd::Pd,
    qp::{
        QueuePair,
        Receive, //
    },
    registry::{
        Owned,
        Resource, //
    },
    remainder::{
        Piece,
        Remainder, //
    },
    report::{
        self,
        Batch,
        Failed,
        Fault,
        Progress,
        Report, //
    },
    track_limits::{
        Ring,
        TrackLimits, //
    },
    uar::Uar, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    sync::Arc, //
};
use vfio_rust::{
    dirty_log::{
        IovaRange,
        IovaRanges, //
    },
    kernel::{
        dma::DmaMapping,
        error,
        page::{
            Fill,
            Pages, //
        }, //
    },
};

/// What a tracker tracks: `track_type`.
const TRACK_PAGES: u32 = 1;
/// The fields that a request for a report sets: `modify_field_select`.
const SELECT_RANGE_AND_STATE: u64 = 0x3;

/// A PAGE_TRACK object.
struct Object {
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

impl Resource for Object {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        let mut input = self.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_DESTROY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        pf.execute(&mut input.bytes, &mut output.bytes)
    }
}

/// A tracker, and what it reports through.
///
/// Fields are dropped in declaration order: the receiver of events, the object, the
/// QPs, the mkey with the memory, the completion queue.
struct Tracked {
    _notifier: Owned<TrackNotifier>,
    object: Owned<Object>,
    _sender: QueuePair,
    receiver: QueuePair,
    mkey: Owned<Mkey<DmaMapping<Arc<Pages>>>>,
    cq: CompletionQueue,
    _pd: Pd,
    _uar: Uar,
    ring: Ring,
    /// Messages that were released.
    seen: u32,
}

/// A tracker that runs.
pub(super) struct PageTracker {
    tracked: Tracked,
    report: Report<IovaRange>,
    remainder: Remainder,
    events: Arc<TrackEvents>,
    log_page: u32,
}

/// Memory for the messages of a tracker that is to be made, within the limits of the device.
pub(crate) struct TrackMemory {
    limits: TrackLimits,
    /// Most ranges of a tracker.
    max_ranges: u32,
    ring: Ring,
    pages: Arc<Pages>,
}

impl TrackMemory {
    /// Allocates it, which may wait until other memory is reclaimed: without a guard, for
    /// which a PF that goes waits, and the caller should hold no lock.
    ///
    /// `EOPNOTSUPP` if the device insists on more than there is ever memory for.
    pub(crate) fn new(device: &Arc<Device>) -> Result<Self> {
        let capabilities = capabilities(&Device::enter(device)?);
        let limits = TrackLimits::from(&capabilities);
        let ring = limits.ring().ok_or_else(error::eopnotsupp)?;
        // Zeroed: a message may be longer than what the device has written of it.
        let pages = Pages::with_len(ring.len(), Fill::Zero)?;
        Ok(Self {
            limits,
            max_ranges: capabilities.max_num_range.into(),
            ring,
            pages: Arc::new(pages, GFP_KERNEL_ACCOUNT)?,
        })
    }
}

/// Returns what the `pg_track_*` capabilities say.
fn capabilities(pf: &PfGuard<'_>) -> bindings::mlx5_rust_track_limits {
    let mut limits: bindings::mlx5_rust_track_limits = pin_init::zeroed();
    // SAFETY: `mdev` is valid: `pf` is a guard of it. `limits` is a local variable.
    unsafe { bindings::mlx5_rust_track_limits_of(pf.mdev(), &mut limits) };
    limits
}

impl From<&bindings::mlx5_rust_track_limits> for TrackLimits {
    fn from(limits: &bindings::mlx5_rust_track_limits) -> Self {
        let pair = |min: u8, max: u8| (u32::from(min), u32::from(max));
        Self {
            log_message: pair(limits.log_min_msg_size, limits.log_max_msg_size),
            log_page: pair(limits.log_min_page_size, limits.log_max_page_size),
            log_space: pair(limits.log_min_addr_space, limits.log_max_addr_space),
        }
    }
}

impl From<IovaRange> for Piece {
    fn from(range: IovaRange) -> Self {
        Self {
            first: range.start,
            last: range.last,
        }
    }
}

impl PageTracker {
    /// Begins to track `ranges` in pages of about `page_size` bytes, with `memory` that was
    /// allocated for `device`.
    ///
    /// `EOPNOTSUPP` if the device cannot track so much, or so little. If firmware
    /// has no tracker left, it is the error that mlx5_core makes of that: `ENOMEM`.
    pub(super) fn new(
        device: &Arc<Device>,
        memory: TrackMemory,
        mut ranges: IovaRanges<'_>,
        page_size: u64,
    ) -> Result<Self> {
        let TrackMemory {
            limits,
            max_ranges,
            ring,
            pages,
        } = memory;
        let log_page = limits.log_page(page_size);
        ranges.combine(max_ranges);

        let pf = &Device::enter(device)?;
        let events = TrackEvents::new()?;
        let uar = Uar::new(pf)?;
        let pd = Pd::new(pf)?;
        let cq = CompletionQueue::new(pf, events.clone(), ring.log_slots)?;
        // SAFETY: The mapping belongs to the mkey, whose `release` drops it; or it is
        // dropped before this returns.
        let dma = unsafe { pf.dma_device() }?;
        let mapping = DmaMapping::new(&dma, pages, ring.len(), DataDirection::FromDevice)?;
        let mkey = Mkey::new(pf, &pd, mapping)?;
        let receive = Receive {
            cq: &cq,
            log_size: ring.log_slots,
            lkey: mkey.on(pf)?.number(),
            // CAST: A ring of this length is in memory for messages of 4 MiB.
            room: ring.message_len() as u32,
        };
        let receiver = QueuePair::new(pf, &pd, &uar, Some(receive))?;
        let sender = QueuePair::new(pf, &pd, &uar, None)?;
        receiver.init(pf)?;
        receiver.post(ring.slots());
        receiver.connect(pf, sender.number())?;
        sender.init(pf)?;
        sender.connect(pf, receiver.number())?;
        sender.start(pf)?;
        let context = Context {
            log_page,
            log_message: ring.log_message,
            sender: sender.number(),
        };
        let object = create(pf, &limits, &ranges, context)?;
        let subjects = Subjects {
            qpns: [receiver.number(), sender.number()],
            object: object.id,
        };
        let notifier = TrackNotifier::new(pf, events.clone(), subjects)?;
        cq.arm(0);
        let tracked = Tracked {
            _notifier: notifier,
            object,
            _sender: sender,
            receiver,
            mkey,
            cq,
            _pd: pd,
            _uar: uar,
            ring,
            seen: 0,
        };
        Ok(Self {
            tracked,
            report: Report::new(),
            remainder: Remainder::new(),
            events,
            log_page,
        })
    }

    /// Returns the size of the pages that it tells apart.
    pub(super) fn page_size(&self) -> u64 {
        1 << self.log_page
    }

    /// Returns what its events are told to.
    pub(super) fn events(&self) -> &Arc<TrackEvents> {
        &self.events
    }

    /// Returns the size of a message at most.
    pub(super) fn message_len(&self) -> usize {
        self.tracked.ring.message_len()
    }

    /// Begins to report the pages in `range` that the VF has written to since that
    /// was asked last. Returns the memory of messages. `EIO` if the tracker is being
    /// destroyed.
    pub(super) fn begin(&mut self, range: IovaRange) -> Result<Arc<Pages>> {
        let pages = self.tracked.mkey.with(|mapping| mapping.pages().clone());
        // `None` is a range that firmware refuses.
        let count = range.len().unwrap_or(u64::MAX) >> self.log_page;
        self.report.begin(range, count, self.tracked.ring.entries());
        pages.map_err(|_| EIO)
    }

    /// Returns what earlier reports have left.
    pub(super) fn remainder(&self) -> &Remainder {
        &self.remainder
    }

    /// Replaces the messages in `batch` by the next ones of the report about `range`. Waits
    /// for a firmware command at most.
    ///
    /// `EIO` if the tracker has failed, which it does for good, or if the device
    /// does not come to an end.
    pub(super) fn next_batch(&mut self, range: IovaRange, batch: &mut Batch) -> Result<Progress> {
        self.check()?;
        let next = self.report.next_batch(&mut self.tracked, batch);
        match next {
            Ok(Progress::More) => self.keep_rest(batch)?,
            Ok(Progress::Done) => self.remainder.forget(range.into()),
            _ => (),
        }
        next.map_err(|fault| match fault {
            Fault::Flood => EIO,
            Fault::Refused(err) => {
                // Messages about this request may come yet: they would be taken for
                // those of the next one, and those for the one after it.
                self.unanswered(err);
                err
            }
            Fault::Failed => {
                self.events.fail();
                EIO
            }
        })
    }

    /// Keeps what is beyond the range that firmware was asked for, of the pages in `batch`.
    fn keep_rest(&mut self, batch: &Batch) -> Result {
        let Some(asked) = self.report.asked().map(Piece::from) else {
            return Ok(());
        };
        let page_size = 1 << self.log_page;
        if !Remainder::is_part(asked, page_size) {
            return Ok(());
        }
        let pages = self.tracked.mkey.with(|mapping| mapping.pages().clone());
        let pages = pages.map_err(|_| EIO)?;
        for message in batch.messages() {
            let (offset, len) = message.place(self.message_len());
            pages.for_words(offset, len, |words| {
                for page in (0..).map_while(|index| words.get(index)) {
                    self.remainder.keep(page, asked, page_size);
                }
            })?;
        }
        Ok(())
    }

    /// The tracker has failed if firmware did not answer.
    fn unanswered(&self, err: Error) {
        if err == ETIMEDOUT {
            self.events.fail();
        }
    }

    /// `EIO` if the tracker has failed.
    fn check(&self) -> Result {
        if self.events.take_changed() {
            let in_error = self.tracked.is_in_error().inspect_err(|err| {
                // Who could not ask has to ask again.
                self.events.change();
                self.unanswered(*err);
            })?;
            if in_error {
                self.events.fail();
            }
        }
        if self.events.has_failed() {
            return Err(EIO);
        }
        Ok(())
    }
}

impl report::Device for Tracked {
    type Range = IovaRange;
    type Error = Error;

    fn request(&mut self, range: IovaRange) -> Result {
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
        let pf = self.enter()?;
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    fn spare(&self) -> u32 {
        self.ring.slots() / 2
    }

    fn message(&mut self, index: u32) -> Result<Option<Message>, Failed> {
        let index = self.seen.wrapping_add(index);
        let (slots, room) = (self.ring.slots(), self.ring.message_len());
        self.cq.entry(index, slots, room).map_err(|_| Failed)
    }

    fn arm(&mut self) {
        self.cq.arm(self.seen);
    }

    fn make_readable(&self, messages: &[Message]) -> Result<(), Failed> {
        let place = |message: &Message| message.place(self.ring.message_len());
        let readable = self.mkey.with(|mapping| {
            for run in messages.chunk_by(|one, next| one.slot + 1 == next.slot) {
                if let [first, ..] = run {
                    let (start, _) = place(first);
                    let (last, len) = run.last().map_or((start, 0), place);
                    mapping.sync_part_for_cpu(start, last + len - start);
                }
            }
        });
        // The memory is gone: the tracker is being destroyed.
        readable.map_err(|_| Failed)
    }

    fn release(&mut self, count: u32) {
        self.seen = self.seen.wrapping_add(count);
        self.cq.release(self.seen);
    }

    fn post(&mut self) {
        self.receiver
            .post(self.seen.wrapping_add(self.ring.slots()));
    }
}

impl Tracked {
    /// Admits whoever sends commands about the tracker. `EIO` if the PF takes none, or was
    /// away: the tracker goes with it.
    fn enter(&self) -> Result<PfGuard<'_>> {
        let pf = Device::enter(self.object.device()).map_err(|_| EIO)?;
        self.object.on(&pf).map_err(|_| EIO)?;
        Ok(pf)
    }

    /// Asks firmware whether the tracker has failed.
    fn is_in_error(&self) -> Result<bool> {
        let mut input = self.object.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_QUERY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_query_page_track_obj_out_bits);
        let pf = self.enter()?;
        pf.execute(&mut input.bytes, &mut output.bytes)?;
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

/// CREATE_GENERAL_OBJECT. `EOPNOTSUPP` if the ranges are smaller, or larger,
/// than what the device can track.
fn create(
    pf: &PfGuard<'_>,
    limits: &TrackLimits,
    ranges: &IovaRanges<'_>,
    context: Context,
) -> Result<Owned<Object>> {
    let range_bytes = size_of::<bindings::mlx5_ifc_page_track_range_bits>() / 8;
    let mut input = LargeMailbox::new(ranges.len() * range_bytes)?;
    for (mut entry, range) in input.entries().zip(ranges.iter()) {
        // VFIO lets empty ranges through.
        let len = range.len().ok_or(EINVAL)?;
        entry.set(
            field!(mlx5_ifc_page_track_range_bits, start_address),
            range.start,
        );
        entry.set(field!(mlx5_ifc_page_track_range_bits, length), len);
    }
    let log_space = limits
        .log_space(ranges.iter().filter_map(IovaRange::len))
        .ok_or_else(error::eopnotsupp)?;
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
        pf.device().vhca_id,
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
    Owned::new(pf, |pf| {
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        pf.execute(&mut input.bytes, &mut output.bytes)?;
        let id = output.get(field!(mlx5_ifc_general_obj_out_cmd_hdr_bits, obj_id));
        Ok(Object {
            // CAST: The field has 32 bits.
            id: id as u32,
        })
    })
}

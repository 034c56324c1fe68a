// SPDX-License-Identifier: GPL-2.0

//! Completion queues.

use super::{
    bindings::{self, mlx5_core_cq, mlx5_cqe64, mlx5_eqe, mlx5_event, mlx5_ifc_create_cq_in_bits},
    core_dev::CoreDev,
    cqe::{self, Message},
    ifc::{field, mailbox, LargeMailbox},
    track_events::TrackEvents,
    uar::Uar,
};
use crate::vfio::coherent::{dma_rmb, Coherent};
use kernel::{container_of, error::to_result, prelude::*, sync::Arc, types::Opaque};

/// Bytes of an entry.
const CQE_BYTES: usize = cqe::WORDS * 4;
/// Bytes of the doorbell records: the consumer index, and what was armed for.
const RECORDS: usize = 8;

// `cqe` has no kernel types, and so none of the headers' names.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<mlx5_cqe64>() == CQE_BYTES);
    assert!(offset_of!(mlx5_cqe64, srqn) + size_of::<u32>() == cqe::IMMEDIATE * 4);
    assert!(offset_of!(mlx5_cqe64, byte_cnt) == cqe::BYTE_COUNT * 4);
    assert!(offset_of!(mlx5_cqe64, wqe_counter) == cqe::OWNER_WORD * 4);
    assert!(offset_of!(mlx5_cqe64, op_own) == cqe::OWNER_WORD * 4 + 3);
    assert!(bindings::MLX5_CQE_INVALID == cqe::INVALID);
    assert!(bindings::MLX5_CQE_RESP_SEND_IMM == cqe::RESP_SEND_IMM);
    assert!(bindings::MLX5_PAGE_TRACK_STATE_TRACKING == cqe::STATE_TRACKING);
    assert!(bindings::MLX5_PAGE_TRACK_STATE_REPORTING == cqe::STATE_REPORTING);
};

/// A completion queue; destroyed on drop.
///
/// # Invariants
///
/// `cq` is created, unless the object is being made.
#[pin_data(PinnedDrop)]
pub(super) struct CompletionQueue {
    #[pin]
    cq: Opaque<mlx5_core_cq>,
    core: Arc<CoreDev>,
    events: Arc<TrackEvents>,
    uar: Uar,
    ring: Coherent,
    records: Coherent,
    log_size: u32,
}

// SAFETY: The queue is used by one thread at a time, behind the tracker's lock;
// callbacks use only `events`.
unsafe impl Send for CompletionQueue {}
// SAFETY: As above.
unsafe impl Sync for CompletionQueue {}

impl CoreDev {
    /// Returns the completion vector of this VF: VFs take turns.
    fn completion_vector(&self) -> u16 {
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`.
        let vectors = unsafe { bindings::mlx5_comp_vectors_max(self.mdev.as_ptr()) };
        let vf = self.vf.0.unsigned_abs();
        // CAST: A PF has fewer than 2^16 VFs.
        vf.checked_rem(vectors).unwrap_or(0) as u16
    }
}

impl CompletionQueue {
    /// A queue of `1 << log_size` entries. `events` hear of it.
    pub(super) fn new(
        core: &Arc<CoreDev>,
        events: Arc<TrackEvents>,
        log_size: u32,
    ) -> Result<Pin<KBox<Self>>> {
        let dev = core.dma_device()?;
        let ring = Coherent::new(&dev, CQE_BYTES << log_size)?;
        for index in 0..1 << log_size {
            ring.write_be32(index * CQE_BYTES + cqe::OWNER_WORD * 4, cqe::NEVER_WRITTEN);
        }
        let records = Coherent::new(&dev, RECORDS)?;
        let uar = Uar::new(core)?;
        let mut input = Self::input(core, &uar, &ring, &records, log_size)?;
        let (consumer, armed) = (
            records.word_ptr(0).ok_or(EINVAL)?,
            records.word_ptr(4).ok_or(EINVAL)?,
        );
        let mdev = core.mdev;
        KBox::try_pin_init(
            try_pin_init!(Self {
                core: core.clone(),
                events,
                uar,
                ring,
                records,
                log_size,
                // Last: callbacks may come as soon as it is created.
                cq <- Opaque::try_ffi_init(move |slot: *mut mlx5_core_cq| {
                    // SAFETY: `slot` is valid for writes; all zeroes are a
                    // mlx5_core_cq that is not created yet.
                    unsafe { slot.write(pin_init::zeroed()) };
                    // SAFETY: Initialised above.
                    let cq = unsafe { &mut *slot };
                    cq.cqe_sz = CQE_BYTES as c_int;
                    cq.set_ci_db = consumer.as_ptr();
                    cq.arm_db = armed.as_ptr();
                    cq.comp = Some(Self::completed);
                    cq.event = Some(Self::failed);
                    let mut output = mailbox!(mlx5_ifc_create_cq_out_bits);
                    // SAFETY: `mdev` is valid by the invariant of `CoreDev`; input
                    // and output are as long as they say, and aligned; `slot` is
                    // pinned until `drop`, which destroys the queue.
                    to_result(unsafe {
                        bindings::mlx5_core_create_cq(
                            mdev.as_ptr(),
                            slot,
                            input.bytes.as_mut_ptr().cast(),
                            input.bytes.len().try_into()?,
                            output.bytes.as_mut_ptr().cast(),
                            output.bytes.len().try_into()?,
                        )
                    })
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn input(
        core: &CoreDev,
        uar: &Uar,
        ring: &Coherent,
        records: &Coherent,
        log_size: u32,
    ) -> Result<LargeMailbox<mlx5_ifc_create_cq_in_bits>> {
        let mut input = LargeMailbox::new(size_of::<u64>())?;
        let mut eqn = 0;
        let vector = core.completion_vector();
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`.
        to_result(unsafe { bindings::mlx5_comp_eqn_get(core.mdev.as_ptr(), vector, &mut eqn) })?;
        input.try_set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.log_cq_size),
            log_size,
        )?;
        input.set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.c_eqn_or_apu_element),
            u32::try_from(eqn)?,
        );
        input.try_set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.uar_page),
            uar.index(),
        )?;
        input.try_set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.log_page_size),
            log_page_size(ring, CQE_BYTES << log_size),
        )?;
        input.set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.dbr_addr),
            records.dma(),
        );
        input.set_addresses([ring.dma()]);
        Ok(input)
    }

    /// What firmware calls it.
    pub(super) fn number(&self) -> u32 {
        // SAFETY: Created by the type invariant; the field does not change.
        unsafe { (*self.cq.get()).cqn }
    }

    /// The message that entry `index` is about, if the device has written it:
    /// one that fits into `room` bytes in a queue of `slots`. `EIO` where it is
    /// about anything else.
    pub(super) fn entry(&self, index: u32, slots: u32, room: usize) -> Result<Option<Message>> {
        // CAST: To a type that is not smaller.
        let at = (index & ((1 << self.log_size) - 1)) as usize * CQE_BYTES;
        let owner = self.ring.read_be32(at + cqe::OWNER_WORD * 4);
        if !cqe::is_written(owner, index, self.log_size) {
            return Ok(None);
        }
        dma_rmb();
        let cqe = core::array::from_fn(|word| self.ring.read_be32(at + word * 4));
        cqe::parse(&cqe, slots, room).map(Some).ok_or(EIO)
    }

    /// Gives all entries before `index` back to the device.
    pub(super) fn release(&self, index: u32) {
        self.records.write_be32(0, index & 0xff_ffff);
    }

    /// Wants an interrupt for entry `index`, and those after it.
    pub(super) fn arm(&self, index: u32) {
        // SAFETY: Created by the type invariant; the UAR page is held.
        unsafe { bindings::mlx5_rust_cq_arm(self.cq.get(), self.uar.as_ptr(), index) };
    }

    /// # Safety
    ///
    /// `cq` is that of a `CompletionQueue`.
    unsafe fn events<'a>(cq: *mut mlx5_core_cq) -> &'a TrackEvents {
        // SAFETY: By the requirements of this function.
        unsafe { &(*container_of!(Opaque::cast_from(cq), Self, cq)).events }
    }

    /// # Safety
    ///
    /// Only called by mlx5_core, for a queue that is created.
    unsafe extern "C" fn completed(cq: *mut mlx5_core_cq, _eqe: *mut mlx5_eqe) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::events(cq) }.signal.raise();
    }

    /// # Safety
    ///
    /// Only called by mlx5_core, for a queue that is created.
    unsafe extern "C" fn failed(cq: *mut mlx5_core_cq, event: mlx5_event) {
        if event == bindings::mlx5_event_MLX5_EVENT_TYPE_CQ_ERROR {
            // SAFETY: By the requirements of this function.
            unsafe { Self::events(cq) }.fail();
        }
    }
}

/// `log_page_size` for one buffer that is one page.
pub(super) fn log_page_size(buffer: &Coherent, len: usize) -> u32 {
    let shift = len.next_power_of_two().trailing_zeros();
    shift
        .min(buffer.dma().trailing_zeros())
        .saturating_sub(bindings::MLX5_ADAPTER_PAGE_SHIFT)
}

#[pinned_drop]
impl PinnedDrop for CompletionQueue {
    fn drop(self: Pin<&mut Self>) {
        if self.core.check_attached().is_ok() {
            // SAFETY: Created by the type invariant. Waits for callbacks.
            unsafe {
                bindings::mlx5_core_destroy_cq(self.core.mdev.as_ptr(), self.cq.get());
            }
        }
    }
}

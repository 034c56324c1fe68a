// SPDX-License-Identifier: GPL-2.0

//! Completion queues.

use super::{
    bindings::{
        self, //
        mlx5_core_cq,
        mlx5_cqe64,
        mlx5_eqe,
        mlx5_event,
        mlx5_ifc_create_cq_in_bits,
    },
    cqe::{
        self,
        Message, //
    },
    device::PfGuard,
    ifc::{
        field,
        mailbox,
        LargeMailbox, //
    },
    ownership::{
        self,
        Words, //
    },
    registry::{
        Owned,
        Resource, //
    },
    track_events::TrackEvents,
    uar::Uar, //
};
use core::mem::offset_of;
use kernel::{
    container_of,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    types::Opaque, //
};
use vfio_rust::kernel::dma::words::{
    dma_rmb,
    dma_wmb,
    CoherentWords, //
};

/// Size of the doorbell records, in bytes: the consumer index, and the index that was armed for.
const RECORDS: usize = 8;

// `cqe` uses no kernel types, and so none of the headers' names.
const _: () = {
    assert!(size_of::<mlx5_cqe64>() == cqe::BYTES);
    assert!(offset_of!(mlx5_cqe64, wqe_counter) == cqe::OWNER);
    assert!(offset_of!(mlx5_cqe64, op_own) == cqe::OWNER + 3);
    assert!(offset_of!(mlx5_cqe64, byte_cnt) == cqe::BYTE_COUNT);
    // `immediate` is in an unnamed union, after `srqn`.
    assert!(offset_of!(mlx5_cqe64, srqn) + size_of::<u32>() == cqe::IMMEDIATE);
    assert!(bindings::MLX5_CQE_INVALID == cqe::INVALID);
    assert!(bindings::MLX5_CQE_RESP_SEND_IMM == cqe::RESP_SEND_IMM);
    assert!(bindings::MLX5_PAGE_TRACK_STATE_TRACKING == cqe::STATE_TRACKING);
    assert!(bindings::MLX5_PAGE_TRACK_STATE_REPORTING == cqe::STATE_REPORTING);
};

impl Words for CoherentWords {
    fn read(&self, offset: usize) -> u32 {
        self.read_be32(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.write_be32(offset, value);
    }

    fn read_barrier() {
        dma_rmb();
    }

    fn write_barrier() {
        dma_wmb();
    }
}

/// Memory that a queue shares with the device.
struct Memory {
    ring: CoherentWords,
    records: CoherentWords,
    /// The queue exists: its doorbell may be rung.
    created: bool,
}

/// # Invariants
///
/// - `cq` is created until `destroy`, and its doorbell records are in `memory`.
/// - As long as `memory` is there and `created`, the UAR page is held.
#[pin_data]
struct Queue {
    #[pin]
    cq: Opaque<mlx5_core_cq>,
    events: Arc<TrackEvents>,
    #[pin]
    memory: Mutex<Option<Memory>>,
}

// SAFETY: A queue may be armed and destroyed on any thread.
unsafe impl Send for Queue {}
// SAFETY: The queue is armed with `memory` locked; callbacks use only `events`.
unsafe impl Sync for Queue {}

impl Resource for Queue {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        self.events.end();
        if let Some(memory) = &mut *self.memory.lock() {
            memory.created = false;
        }
        // SAFETY: `mdev` is valid: `pf` is a guard of it. The queue was created there, and was not
        // destroyed yet (requirements of `destroy`). The function waits for callbacks. If it fails,
        // only the command has to be repeated.
        to_result(unsafe { bindings::mlx5_core_destroy_cq(pf.mdev(), self.cq.get()) })
    }

    fn release(&self) {
        let memory = self.memory.lock().take();
        drop(memory);
    }
}

/// A completion queue.
pub(super) struct CompletionQueue {
    // Dropped before the page, whose doorbell the queue rings.
    queue: Owned<Queue>,
    uar: Uar,
    log_size: u32,
}

impl PfGuard<'_> {
    /// Returns the completion vector for this VF. VFs are spread over the vectors by their numbers.
    fn completion_vector(&self) -> u16 {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        let vectors = unsafe { bindings::mlx5_comp_vectors_max(self.mdev()) };
        let vf = self.vf().unsigned_abs();
        // CAST: A PF has fewer than 2^16 VFs.
        vf.checked_rem(vectors).unwrap_or(0) as u16
    }
}

impl CompletionQueue {
    /// Creates a queue of `1 << log_size` entries, which notifies `events`.
    pub(super) fn new(pf: &PfGuard<'_>, events: Arc<TrackEvents>, log_size: u32) -> Result<Self> {
        // SAFETY: `ring` and `records` belong to the queue, whose `release` drops them; or they are
        // dropped before this returns.
        let dma = unsafe { pf.dma_device() }?;
        let ring = CoherentWords::new(&dma, cqe::BYTES << log_size)?;
        ownership::mark_unwritten(&ring, log_size);
        let records = CoherentWords::new(&dma, RECORDS)?;
        let uar = Uar::new(pf)?;
        let mut input = Self::input(pf, &uar, &ring, &records, log_size)?;
        let (consumer, armed) = (
            records.word_ptr(0).ok_or(EINVAL)?,
            records.word_ptr(4).ok_or(EINVAL)?,
        );
        let memory = Memory {
            ring,
            records,
            created: true,
        };
        let mdev = pf.mdev();
        let queue = Owned::pinned(
            pf,
            try_pin_init!(Queue {
                events,
                memory <- new_mutex!(Some(memory), "mlx5_vfio_rust_cq"),
                // Initialised last: callbacks may come as soon as the queue is created.
                cq <- Opaque::try_ffi_init(move |slot: *mut mlx5_core_cq| {
                    // SAFETY: `slot` is valid for writes; all zeroes are a
                    // mlx5_core_cq that is not created yet.
                    unsafe { slot.write(pin_init::zeroed()) };
                    // SAFETY: `slot` was initialised just now, and nobody else has
                    // it.
                    let cq = unsafe { &mut *slot };
                    cq.cqe_sz = cqe::BYTES as c_int;
                    cq.set_ci_db = consumer.as_ptr();
                    cq.arm_db = armed.as_ptr();
                    cq.comp = Some(Queue::completed);
                    cq.event = Some(Queue::failed);
                    let mut output = mailbox!(mlx5_ifc_create_cq_out_bits);
                    // SAFETY: `mdev` is valid: `pf` is a guard of it. Input and output are as long
                    // as the arguments say, and aligned. `slot` is pinned, and stays until
                    // `destroy` has destroyed the queue.
                    to_result(unsafe {
                        bindings::mlx5_core_create_cq(
                            mdev,
                            slot,
                            input.bytes.as_mut_ptr().cast(),
                            input.bytes.len().try_into()?,
                            output.bytes.as_mut_ptr().cast(),
                            output.bytes.len().try_into()?,
                        )
                    })
                }),
            }),
        )?;
        Ok(Self {
            queue,
            uar,
            log_size,
        })
    }

    fn input(
        pf: &PfGuard<'_>,
        uar: &Uar,
        ring: &CoherentWords,
        records: &CoherentWords,
        log_size: u32,
    ) -> Result<LargeMailbox<mlx5_ifc_create_cq_in_bits>> {
        let mut input = LargeMailbox::new(size_of::<u64>())?;
        let mut eqn = 0;
        let vector = pf.completion_vector();
        // SAFETY: `mdev` is valid: `pf` is a guard of it. `eqn` is a local variable.
        to_result(unsafe { bindings::mlx5_comp_eqn_get(pf.mdev(), vector, &mut eqn) })?;
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
            uar.index(pf)?,
        )?;
        input.try_set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.log_page_size),
            log_page_size(ring, cqe::BYTES << log_size),
        )?;
        input.set(
            field!(mlx5_ifc_create_cq_in_bits, cq_context.dbr_addr),
            records.dma(),
        );
        input.set_addresses([ring.dma()]);
        Ok(input)
    }

    /// Returns the number of the queue, for a command to the PF of `pf`, or `ENODEV` if the queue
    /// is not there.
    pub(super) fn number(&self, pf: &PfGuard<'_>) -> Result<u32> {
        let queue = self.queue.on(pf)?;
        // SAFETY: The queue was created, and nothing writes this field afterwards.
        Ok(unsafe { (*queue.cq.get()).cqn })
    }

    /// Reads entry `index`, if the device has written it. Returns `EIO` if the entry is not about a
    /// message of at most `room` bytes in the slot of `slots` that is next, or `ENODEV` if the
    /// queue is gone.
    pub(super) fn entry(&self, index: u32, slots: u32, room: usize) -> Result<Option<Message>> {
        let memory = self.queue.memory.lock();
        let ring = &memory.as_ref().ok_or(ENODEV)?.ring;
        let Some(entry) = ownership::read_entry(ring, index, self.log_size) else {
            return Ok(None);
        };
        cqe::parse(entry, index, slots, room).map(Some).ok_or(EIO)
    }

    /// Gives all entries before `index` back to the device.
    pub(super) fn release(&self, index: u32) {
        if let Some(memory) = &*self.queue.memory.lock() {
            ownership::release(&memory.records, index);
        }
    }

    /// Asks for an interrupt for entry `index`, and those after it.
    pub(super) fn arm(&self, index: u32) {
        let memory = self.queue.memory.lock();
        if memory.as_ref().is_some_and(|memory| memory.created) {
            // SAFETY: The queue is created, and its records and the UAR page are there (type
            // invariants of `Queue`), as long as `memory` is locked: `destroy` takes that lock
            // first.
            unsafe {
                bindings::mlx5_rust_cq_arm(self.queue.cq.get(), self.uar.as_ptr(), index);
            }
        }
    }
}

impl Queue {
    /// # Safety
    ///
    /// `cq` must be that of a `Queue` that exists during `'a`.
    unsafe fn events<'a>(cq: *mut mlx5_core_cq) -> &'a TrackEvents {
        // SAFETY: `cq` is a field of a `Queue` (requirements of this function).
        unsafe { &(*container_of!(Opaque::cast_from(cq), Self, cq)).events }
    }

    /// # Safety
    ///
    /// Must only be called by mlx5_core, with the `cq` of a `Queue` that is created.
    unsafe extern "C" fn completed(cq: *mut mlx5_core_cq, _eqe: *mut mlx5_eqe) {
        // SAFETY: The queue exists until destroying it has waited for this function
        // (requirements of this function).
        unsafe { Self::events(cq) }.message();
    }

    /// # Safety
    ///
    /// Must only be called by mlx5_core, with the `cq` of a `Queue` that is created.
    unsafe extern "C" fn failed(cq: *mut mlx5_core_cq, event: mlx5_event) {
        if event == mlx5_event::MLX5_EVENT_TYPE_CQ_ERROR {
            // SAFETY: The queue exists until destroying it has waited for this
            // function (requirements of this function).
            unsafe { Self::events(cq) }.fail();
        }
    }
}

/// Returns `log_page_size` for a buffer that is a single page to the device.
pub(super) fn log_page_size(buffer: &CoherentWords, len: usize) -> u32 {
    let shift = len.next_power_of_two().trailing_zeros();
    shift
        .min(buffer.dma().trailing_zeros())
        .saturating_sub(bindings::MLX5_ADAPTER_PAGE_SHIFT)
}

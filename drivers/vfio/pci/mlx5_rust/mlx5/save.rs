// SPDX-License-Identifier: GPL-2.0

//! SAVE_VHCA_STATE, the one command that is not waited for.
//!
//! mlx5_core calls back in interrupt context. All that happens there is that
//! the result is noted and a work item queued: buffers, locks and user space
//! wakeups belong to process context.

use super::{
    bindings::{
        self, mlx5_async_ctx, mlx5_async_work, mlx5_cmd_cleanup_async_ctx, mlx5_cmd_init_async_ctx,
        mlx5_cmd_out_err, mlx5_ifc_save_vhca_state_in_bits, mlx5_ifc_save_vhca_state_out_bits,
        MLX5_CMD_OP_SAVE_VHCA_STATE,
    },
    core_dev::CoreDev,
    dma_buffer::DmaBuffer,
    ifc::{constant, field, mailbox, Mailbox},
    vhca::Extent,
};
use crate::vfio::{pages::Pages, workqueue::OrderedQueue};
use core::{cell::UnsafeCell, ops::Deref, sync::atomic};
use kernel::{
    container_of,
    error::to_result,
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    types::Opaque,
    workqueue::{Work, WorkItem},
};

/// `MLX5_CMD_STAT_BAD_RES_STATE_ERR`.
const BAD_RES_STATE: u64 = bindings::MLX5_CMD_STAT_BAD_RES_STATE_ERR as u64;

const OUT_BYTES: usize = size_of::<mlx5_ifc_save_vhca_state_out_bits>() / 8;

type Output = Mailbox<mlx5_ifc_save_vhca_state_out_bits, OUT_BYTES>;

type Input = Mailbox<
    mlx5_ifc_save_vhca_state_in_bits,
    { size_of::<mlx5_ifc_save_vhca_state_in_bits>() / 8 },
>;

/// What a SAVE is to do.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// How much to save.
    pub(crate) extent: Extent,
    /// Whether to track, from then on, what changes (`set_track`).
    pub(crate) track: bool,
}

/// What a SAVE has done.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// Bytes that it wrote (`actual_image_size`).
    pub(crate) len: usize,
    /// Bytes of memory that the next piece needs (`next_required_umem_size`);
    /// 0 after the last.
    pub(crate) next: usize,
}

/// Why a SAVE has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveError {
    /// `BAD_RES_STATE`: the device has changed too much since it was asked for
    /// the size, or is not tracked any more.
    BadState,
    /// Anything else.
    Other,
}

/// How a SAVE ended.
pub(crate) type Saved = Result<Image, SaveError>;

/// Gets the end of a SAVE, in process context.
pub(crate) trait SaveDone: Send + Sync + 'static {
    /// The command has ended.
    fn save_done(&self, saved: Saved);
}

/// The means to send SAVEs about one VHCA, one at a time.
///
/// # Invariants
///
/// - `context` is initialised, and cleaned up by [`Self::quiesce`] before the
///   object is dropped.
/// - `busy` is set exactly while a command is under way: from before it is sent
///   to after its result was taken. Only who set it touches `output`, `command`
///   and `status`, and mlx5_core on its behalf, which ends with the callback.
#[pin_data]
pub(crate) struct SaveCommand<T: SaveDone> {
    core: Arc<CoreDev>,
    queue: Arc<OrderedQueue>,
    done: Arc<T>,
    busy: atomic::AtomicBool,
    status: atomic::AtomicI32,
    output: UnsafeCell<Output>,
    #[pin]
    context: Opaque<mlx5_async_ctx>,
    #[pin]
    command: Opaque<mlx5_async_work>,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl{T: SaveDone} HasWork<Self> for SaveCommand<T> { self.work }
}

// SAFETY: By the type invariants, `busy` orders the use of everything that is
// not Sync by itself.
unsafe impl<T: SaveDone> Send for SaveCommand<T> {}
// SAFETY: As above.
unsafe impl<T: SaveDone> Sync for SaveCommand<T> {}

impl<T: SaveDone> SaveCommand<T> {
    /// Prepares for commands whose end `done` gets, on `queue`.
    ///
    /// The caller must call [`Self::quiesce`] at the end, and flush the queue
    /// before its own reference to that is the last one.
    pub(crate) fn new(
        core: &Arc<CoreDev>,
        queue: &Arc<OrderedQueue>,
        done: Arc<T>,
    ) -> Result<Arc<Self>> {
        core.check_attached()?;
        let mdev = core.mdev;
        Arc::pin_init(
            pin_init!(Self {
                core: core.clone(),
                queue: queue.clone(),
                done,
                busy: atomic::AtomicBool::new(false),
                status: atomic::AtomicI32::new(0),
                output: UnsafeCell::new(Output::new()),
                context <- Opaque::ffi_init(|slot| {
                    // SAFETY: `mdev` is valid, and so is `slot` for writes.
                    unsafe { mlx5_cmd_init_async_ctx(mdev.as_ptr(), slot) }
                }),
                command <- Opaque::ffi_init(|slot: *mut mlx5_async_work| {
                    // SAFETY: `slot` is valid for writes.
                    unsafe { slot.write(pin_init::zeroed()) }
                }),
                work <- new_work!("mlx5_vfio_rust_save"),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts saving into `buffer`, which must stay until `done` got the result
    /// or [`Self::quiesce`] has returned.
    ///
    /// `EBUSY` while a command is under way.
    pub(crate) fn start<P: Deref<Target = Pages>>(
        self: &Arc<Self>,
        buffer: &DmaBuffer<P>,
        request: Request,
    ) -> Result {
        self.core.check_attached()?;
        let mut input = self.core.save_input(buffer, request);
        if self.busy.swap(true, atomic::Ordering::Acquire) {
            return Err(EBUSY);
        }
        // The callback takes this reference over.
        let this = Arc::into_raw(self.clone());
        // SAFETY: The context is initialised; input is copied before the call
        // returns; output (as long as it says, and aligned, with the bytes at
        // its beginning) and command are ours by `busy`, and stay until the
        // callback drops the reference that `this` is.
        let sent = to_result(unsafe {
            bindings::mlx5_cmd_exec_cb(
                self.context.get(),
                input.bytes.as_mut_ptr().cast(),
                input.bytes.len() as c_int,
                self.output.get().cast(),
                OUT_BYTES as c_int,
                Some(Self::callback),
                self.command.get(),
            )
        });
        if sent.is_err() {
            // SAFETY: From `into_raw` above; there will be no callback.
            drop(unsafe { Arc::from_raw(this) });
            self.busy.store(false, atomic::Ordering::Release);
        }
        sent
    }

    /// Waits until firmware is done with everything that was started. Nothing
    /// can be started afterwards. `done` may still get a result later.
    pub(crate) fn quiesce(&self) {
        // SAFETY: Initialised by the type invariant. mlx5_core ends commands
        // that time out, and all of them when the PF fails.
        unsafe { mlx5_cmd_cleanup_async_ctx(self.context.get()) };
    }

    /// # Safety
    ///
    /// Only called by mlx5_core, once for a command that `start` has sent.
    unsafe extern "C" fn callback(status: c_int, command: *mut mlx5_async_work) {
        // SAFETY: `command` is the field of an object whose reference `start`
        // gave to this callback.
        let this =
            unsafe { Arc::from_raw(container_of!(Opaque::cast_from(command), Self, command)) };
        this.status.store(status, atomic::Ordering::Relaxed);
        if status == -(kernel::bindings::EREMOTEIO as c_int) {
            // Firmware has refused; the output says why, and mlx5_core says it,
            // rate-limited.
            //
            // SAFETY: `mdev` is valid: `quiesce` waits for this callback. The
            // output is complete.
            unsafe {
                mlx5_cmd_out_err(
                    this.core.mdev.as_ptr(),
                    MLX5_CMD_OP_SAVE_VHCA_STATE as u16,
                    0,
                    this.output.get().cast(),
                )
            };
        }
        // `busy` means that the work is not queued, so this cannot fail.
        let queue = this.queue.clone();
        let _ = queue.enqueue(this);
    }

    /// The result of the command, once.
    fn take_result(&self) -> Saved {
        let status = self.status.load(atomic::Ordering::Relaxed);
        // SAFETY: The callback has run, and `busy` is still set: by the type
        // invariants nobody else uses it.
        let output = unsafe { &*self.output.get() };
        // CAST: Both fields have 32 bits.
        let saved = match status {
            0 => Ok(Image {
                len: output.get(field!(mlx5_ifc_save_vhca_state_out_bits, actual_image_size))
                    as usize,
                // Reserved where firmware does not save in pieces.
                next: match self.core.in_chunks {
                    true => output.get(field!(
                        mlx5_ifc_save_vhca_state_out_bits,
                        next_required_umem_size
                    )) as usize,
                    false => 0,
                },
            }),
            // There is a reply, and it says what is wrong.
            status if status == -(kernel::bindings::EREMOTEIO as c_int) => {
                match output.get(field!(mlx5_ifc_save_vhca_state_out_bits, status)) {
                    BAD_RES_STATE => Err(SaveError::BadState),
                    _ => Err(SaveError::Other),
                }
            }
            _ => Err(SaveError::Other),
        };
        self.busy.store(false, atomic::Ordering::Release);
        saved
    }
}

impl CoreDev {
    fn save_input<P: Deref<Target = Pages>>(
        &self,
        buffer: &DmaBuffer<P>,
        request: Request,
    ) -> Input {
        // A buffer is longer than the field holds only if the state nearly is.
        let size = buffer.pages().len().min(u32::MAX as usize) as u32;
        mailbox!(mlx5_ifc_save_vhca_state_in_bits)
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, opcode),
                constant!(MLX5_CMD_OP_SAVE_VHCA_STATE),
            )
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, incremental),
                request.extent == Extent::Changes,
            )
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, set_track),
                request.track,
            )
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, vhca_id),
                self.vhca_id,
            )
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, mkey),
                buffer.mkey(),
            )
            .set(field!(mlx5_ifc_save_vhca_state_in_bits, size), size)
    }

    /// SAVE_VHCA_STATE that ends tracking; what it saves is of no use.
    ///
    /// Waits for its end. No other SAVE may be under way.
    pub(crate) fn end_tracking<P: Deref<Target = Pages>>(&self, buffer: &DmaBuffer<P>) -> Result {
        let request = Request {
            extent: Extent::Whole,
            track: false,
        };
        let mut input = self.save_input(buffer, request);
        let mut output = Output::new();
        self.execute(&mut input.bytes, &mut output.bytes)
    }
}

impl<T: SaveDone> WorkItem for SaveCommand<T> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.done.save_done(this.take_result());
    }
}

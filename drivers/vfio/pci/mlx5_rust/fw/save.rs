// SPDX-License-Identifier: GPL-2.0

//! SAVE_VHCA_STATE.

use super::{
    async_command::AsyncCommand,
    bindings::{
        self,
        mlx5_ifc_save_vhca_state_in_bits,
        mlx5_ifc_save_vhca_state_out_bits,
        MLX5_CMD_OP_SAVE_VHCA_STATE, //
    },
    device::VfGuard,
    ifc::{
        constant,
        field,
        mailbox,
        Mailbox, //
    },
    mkey::DmaBuffer,
    registry::Owned,
    vhca::Extent, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use vfio_rust::{
    kernel::sync::changes::Changes,
    trace::{
        Event,
        Stopwatch, //
    }, //
};

/// `MLX5_CMD_STAT_BAD_RES_STATE_ERR`.
const BAD_RES_STATE: u64 = bindings::MLX5_CMD_STAT_BAD_RES_STATE_ERR as u64;

const OUT_BYTES: usize = size_of::<mlx5_ifc_save_vhca_state_out_bits>() / 8;

type Input = Mailbox<
    mlx5_ifc_save_vhca_state_in_bits,
    { size_of::<mlx5_ifc_save_vhca_state_in_bits>() / 8 },
>;

/// A SAVE to be sent.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// How much to save.
    pub(crate) extent: Extent,
    /// Whether firmware is to track changes from then on (`set_track`).
    pub(crate) track: bool,
}

/// An image that a SAVE has written.
#[derive(Clone, Copy)]
pub(crate) struct SavedImage {
    /// Bytes that it wrote (`actual_image_size`).
    pub(crate) len: usize,
    /// Bytes of memory that the next chunk needs (`next_required_umem_size`);
    /// 0 after the last.
    pub(crate) next: usize,
}

/// Why a SAVE has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveError {
    /// `BAD_RES_STATE`: the device has changed too much since its size was queried, or is not
    /// tracked any more.
    BadState,
    /// mlx5_core has stopped waiting for the SAVE. Firmware may still carry it out.
    Unknown,
    /// Any other error.
    Other,
}

/// How a SAVE ended.
pub(crate) type Saved = Result<SavedImage, SaveError>;

/// Sends SAVEs about one VF, one at a time.
pub(crate) struct SaveCommand(Owned<AsyncCommand<mlx5_ifc_save_vhca_state_out_bits, OUT_BYTES>>);

impl SaveCommand {
    /// Prepares to send SAVEs. `waiters` are notified when a SAVE ends.
    pub(crate) fn new(guard: &VfGuard<'_>, waiters: Arc<Changes>) -> Result<Self> {
        AsyncCommand::new(guard, waiters).map(Self)
    }

    /// Starts to save into `buffer`. If `buffer` is dropped before the SAVE has ended, firmware
    /// fails the SAVE.
    pub(crate) fn start(
        &self,
        guard: &VfGuard<'_>,
        buffer: &DmaBuffer,
        request: Request,
    ) -> Result {
        let mut input = guard.save_input(buffer, request)?;
        let time = Stopwatch::start(Event::SaveEnd);
        self.0.send(guard, &mut input, time)
    }

    /// Returns whether no SAVE can be sent any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Waits until no SAVE is under way. Returns `ERESTARTSYS` if a signal comes first.
    pub(crate) fn wait(&self) -> Result {
        self.0.wait()
    }

    /// Takes the result of the last SAVE, if it has ended, and the nanoseconds that
    /// it took.
    pub(crate) fn take(&self) -> Option<(Saved, i64)> {
        let ended = self.0.take(constant!(MLX5_CMD_OP_SAVE_VHCA_STATE))?;
        let output = &ended.output;
        let saved = match ended.result {
            // CAST: Both fields have 32 bits.
            Ok(()) => Ok(SavedImage {
                len: output.get(field!(mlx5_ifc_save_vhca_state_out_bits, actual_image_size))
                    as usize,
                // The field is reserved if firmware does not save in chunks.
                next: if self.0.device().in_chunks() {
                    output.get(field!(
                        mlx5_ifc_save_vhca_state_out_bits,
                        next_required_umem_size
                    )) as usize
                } else {
                    0
                },
            }),
            Err(err) if err == ETIMEDOUT => Err(SaveError::Unknown),
            Err(_) => match output.get(field!(mlx5_ifc_save_vhca_state_out_bits, status)) {
                BAD_RES_STATE => Err(SaveError::BadState),
                _ => Err(SaveError::Other),
            },
        };
        Some((saved, ended.took))
    }

    /// Waits for the SAVE that firmware is executing, if any, and sends no other.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

impl VfGuard<'_> {
    fn save_input(&self, buffer: &DmaBuffer, request: Request) -> Result<Input> {
        // Round down to whole pages. A buffer is too long for the field only if the state nearly
        // is.
        let size = buffer.pages().len().min(u32::MAX as usize) & !(PAGE_SIZE - 1);
        // CAST: `size` is at most `u32::MAX`.
        let size = size as u32;
        let input = mailbox!(mlx5_ifc_save_vhca_state_in_bits)
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
                self.device().vhca_id,
            )
            .set(
                field!(mlx5_ifc_save_vhca_state_in_bits, mkey),
                buffer.mkey(self)?,
            )
            .set(field!(mlx5_ifc_save_vhca_state_in_bits, size), size);
        Ok(input)
    }

    /// Ends tracking by a SAVE_VHCA_STATE. The image is not used.
    ///
    /// Waits for the end of the SAVE. No other SAVE may be under way.
    pub(crate) fn end_tracking(&self, buffer: &DmaBuffer) -> Result {
        let request = Request {
            extent: Extent::Whole,
            track: false,
        };
        let mut input = self.save_input(buffer, request)?;
        let mut output = mailbox!(mlx5_ifc_save_vhca_state_out_bits);
        self.execute(&mut input.bytes, &mut output.bytes)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! LOAD_VHCA_STATE.

use super::{
    async_command::AsyncCommand,
    bindings::{
        mlx5_ifc_load_vhca_state_out_bits,
        MLX5_CMD_OP_LOAD_VHCA_STATE, //
    },
    device::VfGuard,
    ifc::{
        constant,
        field,
        mailbox, //
    },
    image::{
        Image,
        ImageBuffer, //
    },
    registry::Owned, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use vfio_rust::{
    kernel::sync::changes::Changes,
    trace::{
        Event,
        Stopwatch, //
    }, //
};

const OUT_BYTES: usize = size_of::<mlx5_ifc_load_vhca_state_out_bits>() / 8;

/// A LOAD that has ended.
pub(crate) struct Loaded {
    /// The memory that the image was loaded from, or the error.
    pub(crate) result: Result<ImageBuffer>,
    /// Length of the image, in bytes.
    pub(crate) len: usize,
    /// Nanoseconds that the LOAD took.
    pub(crate) took: i64,
}

/// Sends LOADs about one VF, one at a time.
#[pin_data]
pub(crate) struct LoadCommand {
    command: Owned<AsyncCommand<mlx5_ifc_load_vhca_state_out_bits, OUT_BYTES>>,
    /// The image that firmware loads, or has failed to load. Firmware may still read it if
    /// mlx5_core has given up the command.
    #[pin]
    image: Mutex<Option<Image>>,
}

impl LoadCommand {
    /// Prepares to send LOADs. `waiters` are notified when a LOAD ends.
    pub(crate) fn new(guard: &VfGuard<'_>, waiters: Arc<Changes>) -> Result<impl PinInit<Self>> {
        let command = AsyncCommand::new(guard, waiters)?;
        Ok(pin_init!(Self {
            command,
            image <- new_mutex!(None, "mlx5_vfio_rust_image"),
        }))
    }

    /// Starts to load `image`. Returns `EBUSY` if another one is under way, or has failed.
    pub(crate) fn start(&self, guard: &VfGuard<'_>, image: Image) -> Result {
        let len: u32 = image.len.try_into()?;
        let mut input = mailbox!(mlx5_ifc_load_vhca_state_in_bits)
            .set(
                field!(mlx5_ifc_load_vhca_state_in_bits, opcode),
                constant!(MLX5_CMD_OP_LOAD_VHCA_STATE),
            )
            .set(
                field!(mlx5_ifc_load_vhca_state_in_bits, vhca_id),
                guard.device().vhca_id,
            )
            .set(
                field!(mlx5_ifc_load_vhca_state_in_bits, mkey),
                image.buffer.mkey(guard)?,
            )
            .set(field!(mlx5_ifc_load_vhca_state_in_bits, size), len);
        {
            let mut slot = self.image.lock();
            if slot.is_some() {
                return Err(EBUSY);
            }
            *slot = Some(image);
        }
        let time = Stopwatch::start(Event::LoadEnd);
        self.command
            .send(guard, &mut input, time)
            .inspect_err(|_| self.forget())
    }

    /// Waits until no LOAD is under way. Returns `ERESTARTSYS` if a signal comes first.
    pub(crate) fn wait(&self) -> Result {
        self.command.wait()
    }

    /// Takes the result of the last LOAD, if it has ended.
    pub(crate) fn take(&self) -> Option<Loaded> {
        // Lock this before the result is taken: after that, `end` may take the image.
        let mut slot = self.image.lock();
        let ended = self.command.take(constant!(MLX5_CMD_OP_LOAD_VHCA_STATE))?;
        let len = slot.as_ref().map_or(0, |image| image.len);
        let result = match ended.result {
            Ok(()) => slot.take().map(ImageBuffer::of_loaded).ok_or(ENODEV),
            Err(err) => Err(err),
        };
        Some(Loaded {
            result,
            len,
            took: ended.took,
        })
    }

    /// Waits for the LOAD that firmware is executing, if any, and sends no other.
    pub(crate) fn end(&self) {
        self.command.end();
        self.forget();
    }

    /// Drops an image that firmware does not load.
    fn forget(&self) {
        let image = self.image.lock().take();
        // Drop the image without the lock, since that sends DESTROY_MKEY.
        drop(image);
    }
}

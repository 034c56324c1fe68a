// SPDX-License-Identifier: GPL-2.0

//! LOAD_VHCA_STATE.

use super::{
    async_command::AsyncCommand,
    bindings::{mlx5_ifc_load_vhca_state_out_bits, MLX5_CMD_OP_LOAD_VHCA_STATE},
    device::VfGuard,
    ifc::{constant, field, mailbox},
    mkey::DmaBuffer,
    registry::Owned,
};
use crate::vfio::changes::Changes;
use kernel::{prelude::*, sync::Arc};

const OUT_BYTES: usize = size_of::<mlx5_ifc_load_vhca_state_out_bits>() / 8;

/// The means to send LOADs about one VF, one at a time.
pub(crate) struct LoadCommand(Owned<AsyncCommand<mlx5_ifc_load_vhca_state_out_bits, OUT_BYTES>>);

impl LoadCommand {
    /// Prepares for LOADs. Their ends notify `waiters`.
    pub(crate) fn new(guard: &VfGuard<'_>, waiters: Arc<Changes>) -> Result<Self> {
        AsyncCommand::new(guard, waiters).map(Self)
    }

    /// Starts to load the first `len` bytes of `image`. If that is dropped before
    /// the end, firmware fails.
    pub(crate) fn start(&self, guard: &VfGuard<'_>, image: &DmaBuffer, len: usize) -> Result {
        let len: u32 = len.try_into()?;
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
                image.mkey(guard)?,
            )
            .set(field!(mlx5_ifc_load_vhca_state_in_bits, size), len);
        self.0.send(guard, &mut input)
    }

    /// Waits until no LOAD is under way. `ERESTARTSYS` if a signal comes first.
    pub(crate) fn wait(&self) -> Result {
        self.0.wait()
    }

    /// Takes the result of the last LOAD, if it has ended, and the nanoseconds that
    /// it took.
    pub(crate) fn take(&self) -> Option<(Result, i64)> {
        let ended = self.0.take(constant!(MLX5_CMD_OP_LOAD_VHCA_STATE))?;
        Some((ended.result, ended.took))
    }

    /// Waits for the LOAD that firmware is executing, if any, and sends no other.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Commands about the VHCA that a VF is: suspend, resume, query.

use super::{
    bindings::{
        MLX5_CMD_OP_QUERY_VHCA_MIGRATION_STATE,
        MLX5_CMD_OP_RESUME_VHCA,
        MLX5_CMD_OP_SUSPEND_VHCA,
        MLX5_QUERY_VHCA_MIG_STATE_OPER_MIGRATION_INIT,
        MLX5_RESUME_VHCA_IN_OP_MOD_RESUME_INITIATOR,
        MLX5_RESUME_VHCA_IN_OP_MOD_RESUME_RESPONDER,
        MLX5_SUSPEND_VHCA_IN_OP_MOD_SUSPEND_INITIATOR,
        MLX5_SUSPEND_VHCA_IN_OP_MOD_SUSPEND_RESPONDER, //
    },
    device::VfGuard,
    ifc::{
        constant,
        field,
        mailbox, //
    },
};
use kernel::prelude::*;

/// Side of a VHCA that can be suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// What the VHCA begins by itself: DMA, interrupts. Suspended first, for P2P.
    Initiator,
    /// What the VHCA does when it is accessed.
    Responder,
}

/// Extent of a state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The whole state.
    Whole,
    /// The changes since the last image.
    Changes,
}

/// Firmware's answer to a query of a state.
#[derive(Clone, Copy)]
pub(crate) struct StateInfo {
    /// Bytes of memory that the next SAVE needs.
    pub(crate) required: usize,
    /// Bytes of memory that all SAVEs to come need.
    pub(crate) total: u64,
    /// There is a new initial state.
    pub(crate) new_initial: bool,
}

impl VfGuard<'_> {
    /// SUSPEND_VHCA.
    pub(crate) fn suspend(&self, side: Side) -> Result {
        let op_mod = match side {
            Side::Initiator => MLX5_SUSPEND_VHCA_IN_OP_MOD_SUSPEND_INITIATOR,
            Side::Responder => MLX5_SUSPEND_VHCA_IN_OP_MOD_SUSPEND_RESPONDER,
        };
        let mut input = mailbox!(mlx5_ifc_suspend_vhca_in_bits)
            .set(
                field!(mlx5_ifc_suspend_vhca_in_bits, opcode),
                constant!(MLX5_CMD_OP_SUSPEND_VHCA),
            )
            .try_set(field!(mlx5_ifc_suspend_vhca_in_bits, op_mod), op_mod)?
            .set(
                field!(mlx5_ifc_suspend_vhca_in_bits, vhca_id),
                self.device().vhca_id,
            );
        let mut output = mailbox!(mlx5_ifc_suspend_vhca_out_bits);
        self.execute(&mut input.bytes, &mut output.bytes)
    }

    /// RESUME_VHCA.
    pub(crate) fn resume(&self, side: Side) -> Result {
        let op_mod = match side {
            Side::Initiator => MLX5_RESUME_VHCA_IN_OP_MOD_RESUME_INITIATOR,
            Side::Responder => MLX5_RESUME_VHCA_IN_OP_MOD_RESUME_RESPONDER,
        };
        let mut input = mailbox!(mlx5_ifc_resume_vhca_in_bits)
            .set(
                field!(mlx5_ifc_resume_vhca_in_bits, opcode),
                constant!(MLX5_CMD_OP_RESUME_VHCA),
            )
            .try_set(field!(mlx5_ifc_resume_vhca_in_bits, op_mod), op_mod)?
            .set(
                field!(mlx5_ifc_resume_vhca_in_bits, vhca_id),
                self.device().vhca_id,
            );
        let mut output = mailbox!(mlx5_ifc_resume_vhca_out_bits);
        self.execute(&mut input.bytes, &mut output.bytes)
    }

    /// QUERY_VHCA_MIGRATION_STATE.
    pub(crate) fn query_state(&self, extent: Extent) -> Result<StateInfo> {
        let mut input = mailbox!(mlx5_ifc_query_vhca_migration_state_in_bits)
            .set(
                field!(mlx5_ifc_query_vhca_migration_state_in_bits, opcode),
                constant!(MLX5_CMD_OP_QUERY_VHCA_MIGRATION_STATE),
            )
            .set(
                field!(mlx5_ifc_query_vhca_migration_state_in_bits, incremental),
                extent == Extent::Changes,
            )
            .set(
                field!(mlx5_ifc_query_vhca_migration_state_in_bits, chunk),
                self.device().in_chunks(),
            )
            .set(
                field!(mlx5_ifc_query_vhca_migration_state_in_bits, vhca_id),
                self.device().vhca_id,
            );
        let mut output = mailbox!(mlx5_ifc_query_vhca_migration_state_out_bits);
        self.execute(&mut input.bytes, &mut output.bytes)?;
        let required = output.get(field!(
            mlx5_ifc_query_vhca_migration_state_out_bits,
            required_umem_size
        ));
        let remaining = output.get(field!(
            mlx5_ifc_query_vhca_migration_state_out_bits,
            remaining_total_size
        ));
        let state = output.get(field!(
            mlx5_ifc_query_vhca_migration_state_out_bits,
            migration_state
        ));
        let init = MLX5_QUERY_VHCA_MIG_STATE_OPER_MIGRATION_INIT.into();
        Ok(StateInfo {
            required: required.try_into()?,
            total: if self.device().in_chunks() {
                remaining
            } else {
                required
            },
            new_initial: self.device().tells_state && state == init,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: a reliable connection within the device, from the tracker's
//! reports to the driver.

use super::{
    bindings::{
        ib_mtu_IB_MTU_4096, MLX5_CMD_OP_CREATE_QP, MLX5_CMD_OP_DESTROY_QP, MLX5_CMD_OP_INIT2RTR_QP,
        MLX5_CMD_OP_RST2INIT_QP, MLX5_CMD_OP_RTR2RTS_QP, MLX5_NON_ZERO_RQ,
        MLX5_QPC_PM_STATE_MIGRATED, MLX5_QP_ST_RC, MLX5_ZERO_LEN_RQ,
    },
    core_dev::CoreDev,
    cq::{log_page_size, CompletionQueue},
    ifc::{constant, field, mailbox, LargeMailbox},
    pd::Pd,
    uar::Uar,
};
use crate::vfio::coherent::{dma_wmb, Coherent};
use kernel::{prelude::*, sync::Arc};

/// Bytes of a receive entry: one data segment.
const ENTRY: usize = 16;
/// Retries: this many, and for a receiver that is not ready for ever.
const RETRIES: u32 = 7;
/// `ack_timeout`: about a millisecond.
const ACK_TIMEOUT: u32 = 8;

/// A QP; destroyed on drop.
pub(super) struct QueuePair {
    core: Arc<CoreDev>,
    number: u32,
}

/// The receive queue of a QP: entries that never change, and how many of them
/// were posted.
pub(super) struct ReceiveQueue {
    ring: Coherent,
    record: Coherent,
    log_size: u32,
}

impl ReceiveQueue {
    /// A queue of `1 << log_size` entries. Each is for `room` bytes at
    /// `room` times its number in `lkey`.
    pub(super) fn new(core: &CoreDev, log_size: u32, lkey: u32, room: u32) -> Result<Self> {
        let dev = core.dma_device()?;
        let queue = Self {
            ring: Coherent::new(&dev, ENTRY << log_size)?,
            record: Coherent::new(&dev, 8)?,
            log_size,
        };
        for entry in 0..1u32 << log_size {
            // CAST: To a type that is not smaller.
            let at = entry as usize * ENTRY;
            let addr = u64::from(entry) * u64::from(room);
            queue.ring.write_be32(at, room);
            queue.ring.write_be32(at + 4, lkey);
            // CAST: The two halves.
            queue.ring.write_be32(at + 8, (addr >> 32) as u32);
            queue.ring.write_be32(at + 12, addr as u32);
        }
        Ok(queue)
    }

    /// So many were posted in all.
    pub(super) fn post(&self, count: u32) {
        dma_wmb();
        self.record.write_be32(0, count & 0xffff);
    }
}

impl QueuePair {
    /// A QP that receives into `receive`, with completions on `cq`; or one that
    /// does not receive.
    pub(super) fn new(
        core: &Arc<CoreDev>,
        pd: &Pd,
        uar: &Uar,
        receive: Option<(&ReceiveQueue, &CompletionQueue)>,
    ) -> Result<Self> {
        let mut input = LargeMailbox::new(size_of::<u64>())?;
        input.set(
            field!(mlx5_ifc_create_qp_in_bits, opcode),
            constant!(MLX5_CMD_OP_CREATE_QP),
        );
        input.set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.st),
            constant!(MLX5_QP_ST_RC),
        );
        input.set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.pm_state),
            constant!(MLX5_QPC_PM_STATE_MIGRATED),
        );
        input.try_set(field!(mlx5_ifc_create_qp_in_bits, qpc.pd), pd.number)?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.uar_page),
            uar.index(),
        )?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.ts_format),
            core.timestamp_format(),
        )?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.user_index),
            core.user_index(),
        )?;
        input.set(field!(mlx5_ifc_create_qp_in_bits, qpc.no_sq), true);
        match receive {
            None => input.set(
                field!(mlx5_ifc_create_qp_in_bits, qpc.rq_type),
                constant!(MLX5_ZERO_LEN_RQ),
            ),
            Some((queue, cq)) => {
                let len = ENTRY << queue.log_size;
                // Entries of 16 bytes: the stride is 0.
                input.set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.rq_type),
                    constant!(MLX5_NON_ZERO_RQ),
                );
                input.try_set(field!(mlx5_ifc_create_qp_in_bits, qpc.cqn_rcv), cq.number())?;
                input.try_set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.log_rq_size),
                    queue.log_size,
                )?;
                input.try_set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.log_page_size),
                    log_page_size(&queue.ring, len),
                )?;
                input.set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.dbr_addr),
                    queue.record.dma(),
                );
                input.set_addresses([queue.ring.dma()]);
            }
        }
        let mut output = mailbox!(mlx5_ifc_create_qp_out_bits);
        core.execute(&mut input.bytes, &mut output.bytes)?;
        Ok(Self {
            core: core.clone(),
            number: output
                .get(field!(mlx5_ifc_create_qp_out_bits, qpn))
                .try_into()?,
        })
    }

    /// What firmware calls it.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// RST2INIT_QP: receives can be posted.
    pub(super) fn init(&self) -> Result {
        let mut input = mailbox!(mlx5_ifc_rst2init_qp_in_bits)
            .set(
                field!(mlx5_ifc_rst2init_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_RST2INIT_QP),
            )
            .try_set(field!(mlx5_ifc_rst2init_qp_in_bits, qpn), self.number)?
            .set(
                field!(
                    mlx5_ifc_rst2init_qp_in_bits,
                    qpc.primary_address_path.vhca_port_num
                ),
                constant!(1),
            )
            .set(
                field!(mlx5_ifc_rst2init_qp_in_bits, qpc.pm_state),
                constant!(MLX5_QPC_PM_STATE_MIGRATED),
            )
            .set(field!(mlx5_ifc_rst2init_qp_in_bits, qpc.rre), true)
            .set(field!(mlx5_ifc_rst2init_qp_in_bits, qpc.rwe), true);
        let mut output = mailbox!(mlx5_ifc_rst2init_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }

    /// INIT2RTR_QP: it can receive from `remote`.
    pub(super) fn connect(&self, remote: u32) -> Result {
        let mut input = mailbox!(mlx5_ifc_init2rtr_qp_in_bits)
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_INIT2RTR_QP),
            )
            .try_set(field!(mlx5_ifc_init2rtr_qp_in_bits, qpn), self.number)?
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.mtu),
                constant!(ib_mtu_IB_MTU_4096),
            )
            .try_set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.log_msg_max),
                self.core.log_max_msg(),
            )?
            .try_set(field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.remote_qpn), remote)?
            .set(
                field!(
                    mlx5_ifc_init2rtr_qp_in_bits,
                    qpc.primary_address_path.vhca_port_num
                ),
                constant!(1),
            )
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.primary_address_path.fl),
                true,
            )
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.min_rnr_nak),
                constant!(1),
            );
        let mut output = mailbox!(mlx5_ifc_init2rtr_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }

    /// RTR2RTS_QP: it can send.
    pub(super) fn start(&self) -> Result {
        let mut input = mailbox!(mlx5_ifc_rtr2rts_qp_in_bits)
            .set(
                field!(mlx5_ifc_rtr2rts_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_RTR2RTS_QP),
            )
            .try_set(field!(mlx5_ifc_rtr2rts_qp_in_bits, qpn), self.number)?
            .set(
                field!(mlx5_ifc_rtr2rts_qp_in_bits, qpc.retry_count),
                constant!(RETRIES),
            )
            .set(
                field!(mlx5_ifc_rtr2rts_qp_in_bits, qpc.rnr_retry),
                constant!(RETRIES),
            )
            .set(
                field!(
                    mlx5_ifc_rtr2rts_qp_in_bits,
                    qpc.primary_address_path.ack_timeout
                ),
                constant!(ACK_TIMEOUT),
            );
        let mut output = mailbox!(mlx5_ifc_rtr2rts_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let input = mailbox!(mlx5_ifc_destroy_qp_in_bits)
            .set(
                field!(mlx5_ifc_destroy_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_DESTROY_QP),
            )
            .try_set(field!(mlx5_ifc_destroy_qp_in_bits, qpn), self.number);
        let mut output = mailbox!(mlx5_ifc_destroy_qp_out_bits);
        // Refused while the PF is detached: then it is gone anyway.
        let _ = input.and_then(|mut input| self.core.execute(&mut input.bytes, &mut output.bytes));
    }
}

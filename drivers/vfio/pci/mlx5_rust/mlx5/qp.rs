// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: a reliable connection within the device, from the tracker's
//! reports to the driver.

use super::{
    bindings::{
        mlx5_ifc_create_qp_in_bits, MLX5_CMD_OP_CREATE_QP, MLX5_CMD_OP_DESTROY_QP,
        MLX5_CMD_OP_INIT2RTR_QP, MLX5_CMD_OP_RST2INIT_QP, MLX5_CMD_OP_RTR2RTS_QP,
    },
    core_dev::CoreDev,
    cq::{log_page_size, CompletionQueue},
    ifc::{field, mailbox, LargeMailbox},
    pd::Pd,
    uar::Uar,
};
use crate::vfio::coherent::{dma_wmb, Coherent};
use kernel::{prelude::*, sync::Arc};

/// `MLX5_QP_PM_MIGRATED`, and `MLX5_QPC_PM_STATE_MIGRATED`.
const MIGRATED: u64 = 3;
/// `MLX5_ZERO_LEN_RQ`
const ZERO_LEN_RQ: u64 = 3;
/// `IB_MTU_4096`
const MTU_4096: u64 = 5;
/// Bytes of a receive entry: one data segment.
const ENTRY: usize = 16;
/// Retries: this many, and for a receiver that is not ready for ever.
const RETRIES: u64 = 7;
/// `ack_timeout`: about a millisecond.
const ACK_TIMEOUT: u64 = 8;

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
        let header = size_of::<mlx5_ifc_create_qp_in_bits>() / 8;
        let mut input = LargeMailbox::new(header + 8)?;
        input.set(
            field!(mlx5_ifc_create_qp_in_bits, opcode),
            MLX5_CMD_OP_CREATE_QP,
        );
        let context = core::mem::offset_of!(mlx5_ifc_create_qp_in_bits, qpc);
        let mut set = |field: super::bits::Field, value: u64| {
            input.set(field.shifted(context), value);
        };
        set(field!(mlx5_ifc_qpc_bits, pm_state), MIGRATED);
        set(field!(mlx5_ifc_qpc_bits, pd), pd.number.into());
        set(field!(mlx5_ifc_qpc_bits, uar_page), uar.index().into());
        set(
            field!(mlx5_ifc_qpc_bits, ts_format),
            core.timestamp_format(),
        );
        set(field!(mlx5_ifc_qpc_bits, user_index), core.user_index());
        set(field!(mlx5_ifc_qpc_bits, no_sq), 1);
        match receive {
            None => set(field!(mlx5_ifc_qpc_bits, rq_type), ZERO_LEN_RQ),
            Some((queue, cq)) => {
                let len = ENTRY << queue.log_size;
                set(field!(mlx5_ifc_qpc_bits, cqn_rcv), cq.number().into());
                // Entries of 16 bytes: the stride is 0.
                set(
                    field!(mlx5_ifc_qpc_bits, log_rq_size),
                    queue.log_size.into(),
                );
                set(
                    field!(mlx5_ifc_qpc_bits, log_page_size),
                    log_page_size(&queue.ring, len),
                );
                set(field!(mlx5_ifc_qpc_bits, dbr_addr), queue.record.dma());
                input.bytes[header..].copy_from_slice(&queue.ring.dma().to_be_bytes());
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
        let context = core::mem::offset_of!(super::bindings::mlx5_ifc_rst2init_qp_in_bits, qpc);
        let mut input = mailbox!(mlx5_ifc_rst2init_qp_in_bits)
            .set(
                field!(mlx5_ifc_rst2init_qp_in_bits, opcode),
                MLX5_CMD_OP_RST2INIT_QP,
            )
            .set(field!(mlx5_ifc_rst2init_qp_in_bits, qpn), self.number);
        for (field, value) in [
            (
                field!(mlx5_ifc_qpc_bits, primary_address_path.vhca_port_num),
                1u64,
            ),
            (field!(mlx5_ifc_qpc_bits, pm_state), MIGRATED),
            (field!(mlx5_ifc_qpc_bits, rre), 1),
            (field!(mlx5_ifc_qpc_bits, rwe), 1),
        ] {
            input = input.set(field.shifted(context), value);
        }
        let mut output = mailbox!(mlx5_ifc_rst2init_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }

    /// INIT2RTR_QP: it can receive from `remote`.
    pub(super) fn connect(&self, remote: u32) -> Result {
        let context = core::mem::offset_of!(super::bindings::mlx5_ifc_init2rtr_qp_in_bits, qpc);
        let mut input = mailbox!(mlx5_ifc_init2rtr_qp_in_bits)
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, opcode),
                MLX5_CMD_OP_INIT2RTR_QP,
            )
            .set(field!(mlx5_ifc_init2rtr_qp_in_bits, qpn), self.number);
        for (field, value) in [
            (field!(mlx5_ifc_qpc_bits, mtu), MTU_4096),
            (
                field!(mlx5_ifc_qpc_bits, log_msg_max),
                self.core.log_max_msg(),
            ),
            (field!(mlx5_ifc_qpc_bits, remote_qpn), remote.into()),
            (
                field!(mlx5_ifc_qpc_bits, primary_address_path.vhca_port_num),
                1,
            ),
            (field!(mlx5_ifc_qpc_bits, primary_address_path.fl), 1),
            (field!(mlx5_ifc_qpc_bits, min_rnr_nak), 1),
        ] {
            input = input.set(field.shifted(context), value);
        }
        let mut output = mailbox!(mlx5_ifc_init2rtr_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }

    /// RTR2RTS_QP: it can send.
    pub(super) fn start(&self) -> Result {
        let context = core::mem::offset_of!(super::bindings::mlx5_ifc_rtr2rts_qp_in_bits, qpc);
        let mut input = mailbox!(mlx5_ifc_rtr2rts_qp_in_bits)
            .set(
                field!(mlx5_ifc_rtr2rts_qp_in_bits, opcode),
                MLX5_CMD_OP_RTR2RTS_QP,
            )
            .set(field!(mlx5_ifc_rtr2rts_qp_in_bits, qpn), self.number);
        for (field, value) in [
            (field!(mlx5_ifc_qpc_bits, retry_count), RETRIES),
            (field!(mlx5_ifc_qpc_bits, rnr_retry), RETRIES),
            (
                field!(mlx5_ifc_qpc_bits, primary_address_path.ack_timeout),
                ACK_TIMEOUT,
            ),
        ] {
            input = input.set(field.shifted(context), value);
        }
        let mut output = mailbox!(mlx5_ifc_rtr2rts_qp_out_bits);
        self.core.execute(&mut input.bytes, &mut output.bytes)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let mut input = mailbox!(mlx5_ifc_destroy_qp_in_bits)
            .set(
                field!(mlx5_ifc_destroy_qp_in_bits, opcode),
                MLX5_CMD_OP_DESTROY_QP,
            )
            .set(field!(mlx5_ifc_destroy_qp_in_bits, qpn), self.number);
        let mut output = mailbox!(mlx5_ifc_destroy_qp_out_bits);
        // Refused while the PF is detached: then it is gone anyway.
        let _ = self.core.execute(&mut input.bytes, &mut output.bytes);
    }
}

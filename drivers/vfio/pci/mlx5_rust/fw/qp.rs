// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: a reliable connection within the device, from the tracker's
//! reports to the driver.

use super::{
    bindings::{
        ib_mtu_IB_MTU_4096,
        MLX5_CMD_OP_CREATE_QP,
        MLX5_CMD_OP_DESTROY_QP,
        MLX5_CMD_OP_INIT2RTR_QP,
        MLX5_CMD_OP_RST2INIT_QP,
        MLX5_CMD_OP_RTR2RTS_QP,
        MLX5_NON_ZERO_RQ,
        MLX5_QPC_PM_STATE_MIGRATED,
        MLX5_QP_ST_RC,
        MLX5_ZERO_LEN_RQ, //
    },
    cq::{
        log_page_size,
        CompletionQueue, //
    },
    device::PfGuard,
    ifc::{
        constant,
        field,
        mailbox,
        LargeMailbox, //
    },
    ownership,
    pd::Pd,
    registry::{
        Key,
        Owned,
        Resource, //
    },
    uar::Uar, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use vfio_rust::kernel::dma::words::CoherentWords;

/// Size of a receive entry, in bytes: one data segment.
const ENTRY: usize = 16;
/// Number of retries. If the receiver is not ready, this value stands for retries without end.
const RETRIES: u32 = 7;
/// `ack_timeout`: about a millisecond.
const ACK_TIMEOUT: u32 = 8;

/// A QP, and the memory of its receive queue.
#[pin_data]
struct Pair {
    number: u32,
    pd: Key,
    #[pin]
    queue: Mutex<Option<ReceiveQueue>>,
}

/// A queue pair on the PF.
pub(super) struct QueuePair(Owned<Pair>);

/// Destination of the messages that a QP receives.
pub(super) struct Receive<'a> {
    /// The queue for completions.
    pub(super) cq: &'a CompletionQueue,
    /// Number of entries, as a shift.
    pub(super) log_size: u32,
    /// Key of the memory for messages.
    pub(super) lkey: u32,
    /// Largest size of a message, in bytes.
    pub(super) room: u32,
}

/// The receive queue of a QP: entries that never change, and the number of them
/// that were posted.
struct ReceiveQueue {
    ring: CoherentWords,
    record: CoherentWords,
    log_size: u32,
}

impl ReceiveQueue {
    /// Makes a queue of `1 << log_size` entries. Entry number `n` is for `room` bytes at address
    /// `n` times `room` of `lkey`.
    ///
    /// # Safety
    ///
    /// The queue must be freed by the `release` of a [`Resource`], or before `pf` is
    /// dropped.
    unsafe fn new(pf: &PfGuard<'_>, log_size: u32, lkey: u32, room: u32) -> Result<Self> {
        // SAFETY: By the requirements of this function.
        let dev = unsafe { pf.dma_device() }?;
        let queue = Self {
            ring: CoherentWords::new(&dev, ENTRY << log_size)?,
            record: CoherentWords::new(&dev, 8)?,
            log_size,
        };
        for entry in 0..1u32 << log_size {
            // CAST: The new type is not smaller.
            let at = entry as usize * ENTRY;
            let addr = u64::from(entry) * u64::from(room);
            queue.ring.write_be32(at, room);
            queue.ring.write_be32(at + 4, lkey);
            // CAST: The two halves of the address.
            queue.ring.write_be32(at + 8, (addr >> 32) as u32);
            queue.ring.write_be32(at + 12, addr as u32);
        }
        Ok(queue)
    }
}

impl QueuePair {
    /// CREATE_QP. The QP receives messages if there is a `receive`.
    pub(super) fn new(
        pf: &PfGuard<'_>,
        pd: &Pd,
        uar: &Uar,
        receive: Option<Receive<'_>>,
    ) -> Result<Self> {
        let queue = match &receive {
            // SAFETY: The queue belongs to the QP, whose `release` drops it; or it is
            // dropped before this returns.
            Some(to) => Some(unsafe { ReceiveQueue::new(pf, to.log_size, to.lkey, to.room) }?),
            None => None,
        };
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
        input.try_set(field!(mlx5_ifc_create_qp_in_bits, qpc.pd), pd.number(pf)?)?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.uar_page),
            uar.index(pf)?,
        )?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.ts_format),
            pf.timestamp_format(),
        )?;
        input.try_set(
            field!(mlx5_ifc_create_qp_in_bits, qpc.user_index),
            pf.user_index(),
        )?;
        input.set(field!(mlx5_ifc_create_qp_in_bits, qpc.no_sq), true);
        match receive.zip(queue.as_ref()) {
            None => input.set(
                field!(mlx5_ifc_create_qp_in_bits, qpc.rq_type),
                constant!(MLX5_ZERO_LEN_RQ),
            ),
            Some((Receive { cq, .. }, queue)) => {
                let len = ENTRY << queue.log_size;
                // The stride stays 0, which stands for entries of 16 bytes.
                input.set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.rq_type),
                    constant!(MLX5_NON_ZERO_RQ),
                );
                input.try_set(
                    field!(mlx5_ifc_create_qp_in_bits, qpc.cqn_rcv),
                    cq.number(pf)?,
                )?;
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
        let mut create = move |pf: &PfGuard<'_>| {
            pf.execute(&mut input.bytes, &mut output.bytes)?;
            let number = output.get(field!(mlx5_ifc_create_qp_out_bits, qpn));
            // CAST: The field has 24 bits.
            Ok::<u32, Error>(number as u32)
        };
        Owned::pinned(
            pf,
            try_pin_init!(Pair {
                number: create(pf)?,
                pd: pd.key(),
                queue <- new_mutex!(queue, "mlx5_vfio_rust_qp"),
            }),
        )
        .map(Self)
    }

    /// Tells the device that `count` receive entries were posted in all.
    pub(super) fn post(&self, count: u32) {
        if let Some(queue) = &*self.0.queue.lock() {
            ownership::post(&queue.record, count);
        }
    }

    /// Returns the number that firmware has given the QP.
    pub(super) fn number(&self) -> u32 {
        self.0.number
    }

    /// Returns the key of the QP in the registry.
    pub(super) fn key(&self) -> Key {
        self.0.key()
    }

    /// Returns the number of the QP, for a command to the PF of `pf`, or `ENODEV` if the QP is not
    /// there.
    fn on(&self, pf: &PfGuard<'_>) -> Result<u32> {
        Ok(self.0.on(pf)?.number)
    }

    /// RST2INIT_QP: receives can be posted.
    pub(super) fn init(&self, pf: &PfGuard<'_>) -> Result {
        let mut input = mailbox!(mlx5_ifc_rst2init_qp_in_bits)
            .set(
                field!(mlx5_ifc_rst2init_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_RST2INIT_QP),
            )
            .try_set(field!(mlx5_ifc_rst2init_qp_in_bits, qpn), self.on(pf)?)?
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
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    /// INIT2RTR_QP: the QP can receive from `remote`.
    pub(super) fn connect(&self, pf: &PfGuard<'_>, remote: u32) -> Result {
        let mut input = mailbox!(mlx5_ifc_init2rtr_qp_in_bits)
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_INIT2RTR_QP),
            )
            .try_set(field!(mlx5_ifc_init2rtr_qp_in_bits, qpn), self.on(pf)?)?
            .set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.mtu),
                constant!(ib_mtu_IB_MTU_4096),
            )
            .try_set(
                field!(mlx5_ifc_init2rtr_qp_in_bits, qpc.log_msg_max),
                pf.log_max_msg(),
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
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    /// RTR2RTS_QP: the QP can send.
    pub(super) fn start(&self, pf: &PfGuard<'_>) -> Result {
        let mut input = mailbox!(mlx5_ifc_rtr2rts_qp_in_bits)
            .set(
                field!(mlx5_ifc_rtr2rts_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_RTR2RTS_QP),
            )
            .try_set(field!(mlx5_ifc_rtr2rts_qp_in_bits, qpn), self.on(pf)?)?
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
        pf.execute(&mut input.bytes, &mut output.bytes)
    }
}

impl Resource for Pair {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        let mut input = mailbox!(mlx5_ifc_destroy_qp_in_bits)
            .set(
                field!(mlx5_ifc_destroy_qp_in_bits, opcode),
                constant!(MLX5_CMD_OP_DESTROY_QP),
            )
            .try_set(field!(mlx5_ifc_destroy_qp_in_bits, qpn), self.number)?;
        let mut output = mailbox!(mlx5_ifc_destroy_qp_out_bits);
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    fn release(&self) {
        let queue = self.queue.lock().take();
        drop(queue);
    }

    fn uses(&self) -> Option<Key> {
        Some(self.pd)
    }
}

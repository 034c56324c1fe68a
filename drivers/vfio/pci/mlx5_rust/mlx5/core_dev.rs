// SPDX-License-Identifier: GPL-2.0

//! The PF's core device, as far as one VF may use it.

use super::{
    bindings,
    ifc::{constant, field, mailbox, variant, LargeMailbox},
};
use crate::vfio::{dma::DmaDevice, errno, pci::BoundDevice};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// Number of a VF on its PF, from 0.
#[derive(Clone, Copy)]
pub(super) struct VfId(pub(super) i32);

impl VfId {
    /// What firmware calls this function: the PF is 0.
    fn function(self) -> u16 {
        // CAST: A PF has at most 2^16 - 1 VFs, and the id is not negative.
        (self.0 + 1) as u16
    }
}

/// The PF's core device.
///
/// # Invariants
///
/// `mdev` is valid as long as a driver is bound to the VF that this was made for
/// (see the invariants of [`super`]). `attached` is cleared before that ends, and
/// nothing uses `mdev` without it afterwards.
pub(crate) struct CoreDev {
    pub(super) mdev: NonNull<bindings::mlx5_core_dev>,
    pub(super) vf: VfId,
    pub(super) vhca_id: u16,
    /// Firmware saves in pieces (`migration_in_chunks`).
    pub(super) in_chunks: bool,
    /// Firmware tells of a new initial state (`migration_state`).
    pub(super) tells_state: bool,
    /// Firmware can track pages (`adv_virtualization`).
    pub(super) tracks_pages: bool,
    /// Whether commands may be sent. Written under the device's state lock,
    /// which everyone holds who sends one.
    attached: Atomic<bool>,
}

// SAFETY: mlx5_core's command interface may be used from any thread.
unsafe impl Send for CoreDev {}
// SAFETY: As above.
unsafe impl Sync for CoreDev {}

/// Holds the PF's interface up while its VF is looked at.
struct InterfaceUp(NonNull<bindings::mlx5_core_dev>);

impl InterfaceUp {
    fn of_vf(dev: &BoundDevice<'_>) -> Option<Self> {
        // SAFETY: The device is valid, and a VF by the check in
        // `CoreDev::new`. Null where its PF is not up, or not of mlx5_core.
        NonNull::new(unsafe { bindings::mlx5_vf_get_core_dev(dev.as_raw()) }).map(Self)
    }
}

impl Drop for InterfaceUp {
    fn drop(&mut self) {
        // SAFETY: Undoes mlx5_vf_get_core_dev().
        unsafe { bindings::mlx5_vf_put_core_dev(self.0.as_ptr()) };
    }
}

impl CoreDev {
    /// The core device behind a VF, if that VF can be migrated.
    ///
    /// `then` runs while the PF cannot go away.
    pub(crate) fn with_migratable_vf<R>(
        dev: &BoundDevice<'_>,
        then: impl FnOnce(Arc<Self>) -> Result<R>,
    ) -> Result<Option<R>> {
        if !dev.is_virtfn() {
            return Ok(None);
        }
        let Some(up) = InterfaceUp::of_vf(dev) else {
            return Ok(None);
        };
        // SAFETY: `up` keeps it valid.
        if !unsafe { bindings::mlx5_rust_can_migrate(up.0.as_ptr()) } {
            return Ok(None);
        }
        // SAFETY: The device is valid.
        let vf = VfId(unsafe { kernel::bindings::pci_iov_vf_id(dev.as_raw()) });
        if vf.0 < 0 {
            return Ok(None);
        }
        // INVARIANT: mlx5_core keeps the PF's core device until the drivers of
        // all VFs are unbound.
        let mut core = Self {
            mdev: up.0,
            vf,
            vhca_id: 0,
            // SAFETY: `up` keeps it valid.
            in_chunks: unsafe { bindings::mlx5_rust_migrates_in_chunks(up.0.as_ptr()) },
            // SAFETY: As above.
            tells_state: unsafe { bindings::mlx5_rust_tells_migration_state(up.0.as_ptr()) },
            // SAFETY: As above.
            tracks_pages: unsafe { bindings::mlx5_rust_tracks_pages(up.0.as_ptr()) },
            attached: Atomic::new(true),
        };
        if !core.is_migratable()? {
            return Ok(None);
        }
        core.vhca_id = core.query_vhca_id()?;
        then(Arc::new(core, GFP_KERNEL)?).map(Some)
    }

    /// Allows commands, or forbids them.
    pub(crate) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Relaxed);
    }

    /// `ENOTCONN` while the PF takes no commands.
    pub(super) fn check_attached(&self) -> Result {
        if self.attached.load(Relaxed) {
            Ok(())
        } else {
            Err(errno::enotconn())
        }
    }

    /// `ts_format` of a QP.
    pub(super) fn timestamp_format(&self) -> u64 {
        // SAFETY: By the type invariant. What it reads does not change.
        u64::from(unsafe { bindings::mlx5_rust_qp_timestamp_format(self.mdev.as_ptr()) })
    }

    /// `user_index` of a QP that has none.
    pub(super) fn user_index(&self) -> u64 {
        // SAFETY: As above.
        u64::from(unsafe { bindings::mlx5_rust_qp_user_index(self.mdev.as_ptr()) })
    }

    /// Largest message, as a shift.
    pub(super) fn log_max_msg(&self) -> u64 {
        // SAFETY: As above.
        u64::from(unsafe { bindings::mlx5_rust_log_max_msg(self.mdev.as_ptr()) })
    }

    /// The device that does DMA for commands.
    pub(super) fn dma_device(&self) -> Result<DmaDevice> {
        self.check_attached()?;
        // SAFETY: By the type invariant; the PF is bound to mlx5_core.
        let dev = unsafe { bindings::mlx5_rust_dma_device(self.mdev.as_ptr()) };
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        // SAFETY: The PF stays bound while it is attached, and sessions end,
        // with every mapping, before it is detached.
        Ok(unsafe { DmaDevice::from_raw(dev) })
    }

    /// Sends a command and waits for its end.
    ///
    /// Errors are what mlx5_core makes of the command's status; it has logged
    /// status and syndrome.
    pub(super) fn execute(&self, input: &mut [u8], output: &mut [u8]) -> Result {
        self.check_attached()?;
        // SAFETY: By the type invariant, and both buffers are valid for their
        // length. They are the bytes of a `Mailbox` or a `LargeMailbox`, and so
        // aligned for words.
        to_result(unsafe {
            bindings::mlx5_cmd_exec(
                self.mdev.as_ptr(),
                input.as_mut_ptr().cast(),
                input.len().try_into()?,
                output.as_mut_ptr().cast(),
                output.len().try_into()?,
            )
        })
    }

    /// QUERY_HCA_CAP about the VF.
    fn query_cap(
        &self,
        cap: bindings::mlx5_cap_type,
        mode: bindings::mlx5_cap_mode,
    ) -> Result<LargeMailbox<bindings::mlx5_ifc_query_hca_cap_out_bits>> {
        use bindings::*;
        let mut input = mailbox!(mlx5_ifc_query_hca_cap_in_bits)
            .set(
                field!(mlx5_ifc_query_hca_cap_in_bits, opcode),
                constant!(MLX5_CMD_OP_QUERY_HCA_CAP),
            )
            .try_set(
                field!(mlx5_ifc_query_hca_cap_in_bits, op_mod),
                cap << 1 | mode,
            )?
            .set(field!(mlx5_ifc_query_hca_cap_in_bits, other_function), true)
            .set(
                field!(mlx5_ifc_query_hca_cap_in_bits, function_id),
                self.vf.function(),
            );
        let mut output = LargeMailbox::new(0)?;
        self.execute(&mut input.bytes, &mut output.bytes)?;
        Ok(output)
    }

    /// Whether firmware lets this VF be migrated.
    fn is_migratable(&self) -> Result<bool> {
        use bindings::*;
        let cap = self.query_cap(
            mlx5_cap_type_MLX5_CAP_GENERAL_2,
            mlx5_cap_mode_HCA_CAP_OPMOD_GET_MAX,
        )?;
        let part = variant!(mlx5_ifc_query_hca_cap_out_bits, capability.cmd_hca_cap_2);
        Ok(cap.get(part.field(field!(mlx5_ifc_cmd_hca_cap_2_bits, migratable))) == 1)
    }

    /// The VHCA that is the VF.
    fn query_vhca_id(&self) -> Result<u16> {
        use bindings::*;
        let cap = self.query_cap(
            mlx5_cap_type_MLX5_CAP_GENERAL,
            mlx5_cap_mode_HCA_CAP_OPMOD_GET_CUR,
        )?;
        let part = variant!(mlx5_ifc_query_hca_cap_out_bits, capability.cmd_hca_cap);
        Ok(cap
            .get(part.field(field!(mlx5_ifc_cmd_hca_cap_bits, vhca_id)))
            .try_into()?)
    }
}

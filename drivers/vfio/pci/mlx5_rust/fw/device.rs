// SPDX-License-Identifier: GPL-2.0

//! A VF as firmware knows it, the guards that commands need, and its PF.

use super::{
    binding::Binding,
    bindings,
    gate::{
        Closed,
        Epoch,
        Gate, //
    },
    ifc::{
        constant,
        field,
        mailbox,
        variant,
        LargeMailbox, //
    },
    registry::Registry, //
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    error::to_result,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use vfio_rust::kernel::{
    dma::streaming::DmaDevice,
    error,
    pci::PciDeviceExt, //
};

/// Number of a VF on its PF, from 0.
#[derive(Clone, Copy)]
pub(super) struct VfId(pub(super) i32);

impl VfId {
    /// Returns firmware's number of this function: the PF is 0.
    fn function(self) -> u16 {
        // CAST: A PF has at most 2^16 - 1 VFs, and the id is not negative.
        (self.0 + 1) as u16
    }
}

/// One VF as firmware knows it, and the PF that commands about it go through.
///
/// # Invariants
///
/// `mdev` is valid while the gate is open for the PF or a guard of the PF is out.
/// [`Binding`](super::binding::Binding) closes the gate, and waits for the guards,
/// when the PF goes and when the driver of the VF is unbound; before that,
/// mlx5_core keeps `mdev` (see the invariants of [`super`]).
#[pin_data]
pub(crate) struct Device {
    mdev: NonNull<bindings::mlx5_core_dev>,
    vf: VfId,
    pub(super) vhca_id: u16,
    /// Firmware saves in chunks (`migration_in_chunks`).
    in_chunks: bool,
    /// Firmware tells of a new initial state (`migration_state`).
    pub(super) tells_state: bool,
    /// Firmware can track pages (`adv_virtualization`).
    tracks_pages: bool,
    /// The VF, for messages.
    pub(super) dev: ARef<kernel::device::Device>,
    #[pin]
    gate: Gate,
    #[pin]
    pub(super) registry: Registry,
}

// SAFETY: mlx5_core's command interface may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: mlx5_core's command interface may be used from several threads at once;
// the gate and the registry are Sync by themselves.
unsafe impl Sync for Device {}

/// Keeps the PF's interface up while firmware is asked about the VF.
struct InterfaceUp(NonNull<bindings::mlx5_core_dev>);

impl InterfaceUp {
    fn of_vf(dev: &pci::Device<Bound>) -> Option<Self> {
        // SAFETY: `dev` is borrowed until this function returns, and is a VF: the caller has
        // checked that. The result is null if its PF is not up, or not of mlx5_core.
        NonNull::new(unsafe { bindings::mlx5_vf_get_core_dev(dev.as_raw()) }).map(Self)
    }
}

impl Drop for InterfaceUp {
    fn drop(&mut self) {
        // SAFETY: The core device is from mlx5_vf_get_core_dev(), and put once.
        unsafe { bindings::mlx5_vf_put_core_dev(self.0.as_ptr()) };
    }
}

/// Proof that the PF takes commands, for as long as it is held.
///
/// # Invariants
///
/// The gate of `device` counts this guard.
pub(crate) struct PfGuard<'a> {
    device: &'a Arc<Device>,
}

/// Proof that the PF takes commands, and that the VF was not reset since an epoch,
/// for as long as it is held.
///
/// # Invariants
///
/// The gate of the device counts this guard as one of the VF, and of the PF.
pub(crate) struct VfGuard<'a> {
    // The gate counts the two guards together, and takes them back together.
    pf: ManuallyDrop<PfGuard<'a>>,
}

impl Drop for PfGuard<'_> {
    fn drop(&mut self) {
        self.device.gate.leave_pf();
    }
}

impl Drop for VfGuard<'_> {
    fn drop(&mut self) {
        self.pf.device.gate.leave_vf();
    }
}

impl<'a> Deref for VfGuard<'a> {
    type Target = PfGuard<'a>;

    fn deref(&self) -> &PfGuard<'a> {
        &self.pf
    }
}

/// Why a VF cannot be migrated.
pub(crate) enum NoMigration {
    /// It is not set up for that, which may be what its owner wants.
    NotSetUp(&'static CStr),
    /// Whether it could be, is not known.
    Failed(Error),
}

impl NoMigration {
    const NOT_A_VF: Self = Self::NotSetUp(c"not migratable: it is no VF");
    const NO_PF: Self = Self::NotSetUp(c"not migratable: its PF is not ready, or not of mlx5_core");
    const NO_FIRMWARE: Self =
        Self::NotSetUp(c"not migratable: the firmware of its PF does not offer that");
    const NOT_ENABLED: Self = Self::NotSetUp(c"not migratable: that is not enabled for this VF");
}

impl From<Error> for NoMigration {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

impl Device {
    /// Makes the device of a VF, if the VF can be migrated. Commands can be sent to it until the
    /// driver of `dev` is unbound.
    pub(crate) fn of_migratable_vf(dev: &pci::Device<Bound>) -> Result<Arc<Self>, NoMigration> {
        if !dev.is_virtfn() {
            return Err(NoMigration::NOT_A_VF);
        }
        let up = InterfaceUp::of_vf(dev).ok_or(NoMigration::NO_PF)?;
        let mdev = up.0.as_ptr();
        // SAFETY: `up` keeps `mdev` valid.
        if !unsafe { bindings::mlx5_rust_can_migrate(mdev) } {
            return Err(NoMigration::NO_FIRMWARE);
        }
        // SAFETY: `dev` is borrowed until this function returns.
        let vf = VfId(unsafe { kernel::bindings::pci_iov_vf_id(dev.as_raw()) });
        if vf.0 < 0 {
            return Err(NoMigration::NOT_A_VF);
        }
        // SAFETY: `up` keeps `mdev` valid.
        let in_chunks = unsafe { bindings::mlx5_rust_migrates_in_chunks(mdev) };
        // SAFETY: `up` keeps `mdev` valid.
        let tells_state = unsafe { bindings::mlx5_rust_tells_migration_state(mdev) };
        // SAFETY: `up` keeps `mdev` valid.
        let tracks_pages = unsafe { bindings::mlx5_rust_tracks_pages(mdev) };
        let info = up.vf_info(vf)?;
        if !info.migratable {
            return Err(NoMigration::NOT_ENABLED);
        }
        // INVARIANT: `up` keeps `mdev` valid until `Binding` is there, which closes
        // the gate before `mdev` goes. If there is an error, the device is dropped
        // before `up` is.
        let device = Arc::pin_init(
            pin_init!(Self {
                mdev: up.0,
                vf,
                vhca_id: info.vhca_id,
                in_chunks,
                tells_state,
                tracks_pages,
                dev: dev.as_ref().into(),
                gate <- Gate::new(),
                registry <- Registry::new(),
            }),
            GFP_KERNEL,
        )?;
        Binding::register(dev.as_ref(), up.0, vf, &device)?;
        Ok(device)
    }

    /// Returns a guard to create or destroy something on the PF. Returns `ENOTCONN` if the PF takes
    /// no commands.
    pub(super) fn enter(device: &Arc<Self>) -> Result<PfGuard<'_>> {
        device.gate.enter_pf().map_err(Error::from)?;
        // INVARIANT: The gate has counted the guard.
        let pf = PfGuard { device };
        pf.check_enabled()?;
        Ok(pf)
    }

    /// Returns a guard to send commands to the VF. Returns `ENOTCONN` if the PF takes no commands,
    /// `ECANCELED` if the VF was reset since `epoch`.
    pub(crate) fn enter_vf(device: &Arc<Self>, epoch: Epoch) -> Result<VfGuard<'_>> {
        device.gate.enter_vf(epoch).map_err(Error::from)?;
        // INVARIANT: The gate has counted the guard.
        let guard = VfGuard {
            pf: ManuallyDrop::new(PfGuard { device }),
        };
        guard.check_enabled()?;
        Ok(guard)
    }

    /// Returns the current epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.gate.epoch()
    }

    /// Returns whether the VF was not reset, and its PF was not away, since `epoch`.
    pub(crate) fn is_current(&self, epoch: Epoch) -> bool {
        self.gate.epoch() == epoch
    }

    /// The VF is about to be reset: no command reaches it once this has returned. Waits for the
    /// commands that firmware is executing.
    pub(crate) fn reset_prepare(&self) {
        self.gate.close_vf();
        self.registry.quiesce();
    }

    /// The VF has been reset.
    pub(crate) fn reset_done(&self) {
        self.gate.open_vf();
    }

    /// Destroys all objects on the PF, which goes.
    pub(super) fn detach(device: &Arc<Self>) {
        // After this, no other guard is out, and none is admitted. If the PF is away, there is
        // nothing on it, and objects that could not be destroyed must not be looked for on the PF
        // that comes next.
        if !device.gate.close_pf() {
            return;
        }
        // INVARIANT: The gate has counted the guard.
        let pf = PfGuard { device };
        // Wait for commands first: some use resources that are younger than the `AsyncCommand` that
        // sends them.
        device.registry.quiesce();
        device.registry.destroy_all(&pf);
    }

    /// Detaches the device as [`Self::detach`] does, for good: the PF is not used any more,
    /// even if it comes back.
    pub(super) fn end(device: &Arc<Self>) {
        device.gate.end();
        Self::detach(device);
    }

    /// The PF is back.
    ///
    /// # Safety
    ///
    /// `mdev` must be valid, and stay so until [`Self::detach`] is called.
    pub(super) unsafe fn attach(&self) {
        // The HCA was torn down, so the device cannot access any memory of before.
        self.registry.hca_torn_down();
        self.gate.open_pf();
    }

    /// Returns whether firmware can track pages.
    pub(crate) fn can_track(&self) -> bool {
        self.tracks_pages
    }

    /// Returns whether firmware saves a state in chunks.
    pub(crate) fn in_chunks(&self) -> bool {
        self.in_chunks
    }
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Pf => error::enotconn(),
            Closed::Reset => error::ecanceled(),
        }
    }
}

impl PfGuard<'_> {
    /// Returns the device that the guard is for.
    pub(super) fn device(&self) -> &Arc<Device> {
        self.device
    }

    /// Returns `ENOTCONN` for a VF that the PF failed to enable: no notification tells that
    /// the PF of such a VF goes, so nothing may be created for it.
    fn check_enabled(&self) -> Result {
        // SAFETY: `mdev` is valid: `self` is a guard of it. `mdev` has a context for each VF that
        // the PF can have.
        if unsafe { bindings::mlx5_rust_vf_is_enabled(self.mdev(), self.vf()) } {
            Ok(())
        } else {
            Err(error::enotconn())
        }
    }

    /// Returns the PF's core device. Valid as long as the guard is held.
    pub(super) fn mdev(&self) -> *mut bindings::mlx5_core_dev {
        self.device.mdev.as_ptr()
    }

    /// Returns the number of the VF on its PF, from 0.
    pub(super) fn vf(&self) -> i32 {
        self.device.vf.0
    }

    /// Returns the device that does DMA for commands.
    ///
    /// # Safety
    ///
    /// All that is made with it must belong to a [`Resource`], and must be freed by
    /// [`Resource::release`], or before the guard is dropped.
    ///
    /// [`Resource`]: super::registry::Resource
    /// [`Resource::release`]: super::registry::Resource::release
    pub(super) unsafe fn dma_device(&self) -> Result<DmaDevice> {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        let dev = unsafe { bindings::mlx5_rust_dma_device(self.mdev()) };
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        // SAFETY: The PF is bound to mlx5_core until the last guard is dropped, and
        // by the requirements of this function everything is freed by then.
        Ok(unsafe { DmaDevice::from_raw(dev) })
    }

    /// Returns `ts_format` of a QP.
    pub(super) fn timestamp_format(&self) -> u64 {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        u64::from(unsafe { bindings::mlx5_rust_qp_timestamp_format(self.mdev()) })
    }

    /// Returns `user_index` of a QP that has none.
    pub(super) fn user_index(&self) -> u64 {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        u64::from(unsafe { bindings::mlx5_rust_qp_user_index(self.mdev()) })
    }

    /// Returns the length of the largest message, as a shift.
    pub(super) fn log_max_msg(&self) -> u64 {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        u64::from(unsafe { bindings::mlx5_rust_log_max_msg(self.mdev()) })
    }

    /// Sends a command and waits for its end.
    ///
    /// Returns the error that mlx5_core derives from the command's status. mlx5_core has then
    /// logged status and syndrome.
    pub(super) fn execute(&self, input: &mut [u8], output: &mut [u8]) -> Result {
        // SAFETY: `mdev` is valid: `self` is a guard of it.
        unsafe { execute(self.device.mdev, input, output) }
    }
}

/// Sends a command and waits for its end.
///
/// # Safety
///
/// `mdev` must be valid until this returns.
unsafe fn execute(
    mdev: NonNull<bindings::mlx5_core_dev>,
    input: &mut [u8],
    output: &mut [u8],
) -> Result {
    // SAFETY: `mdev` is valid (requirements of this function), and both buffers are
    // borrowed, and valid for the lengths that are given. They are the bytes of a
    // `Mailbox` or a `LargeMailbox`, and so aligned for words.
    to_result(unsafe {
        bindings::mlx5_cmd_exec(
            mdev.as_ptr(),
            input.as_mut_ptr().cast(),
            input.len().try_into()?,
            output.as_mut_ptr().cast(),
            output.len().try_into()?,
        )
    })
}

/// Firmware's answers about a VF when the driver is bound.
struct VfInfo {
    migratable: bool,
    vhca_id: u16,
}

impl InterfaceUp {
    /// Asks firmware whether the VF can be migrated, and for its VHCA.
    fn vf_info(&self, vf: VfId) -> Result<VfInfo> {
        use bindings::*;
        let cap = self.query_cap(
            vf,
            mlx5_cap_type_MLX5_CAP_GENERAL_2,
            mlx5_cap_mode_HCA_CAP_OPMOD_GET_MAX,
        )?;
        let part = variant!(mlx5_ifc_query_hca_cap_out_bits, capability.cmd_hca_cap_2);
        let migratable = cap.get(part.field(field!(mlx5_ifc_cmd_hca_cap_2_bits, migratable))) == 1;
        let cap = self.query_cap(
            vf,
            mlx5_cap_type_MLX5_CAP_GENERAL,
            mlx5_cap_mode_HCA_CAP_OPMOD_GET_CUR,
        )?;
        let part = variant!(mlx5_ifc_query_hca_cap_out_bits, capability.cmd_hca_cap);
        let vhca_id = cap.get(part.field(field!(mlx5_ifc_cmd_hca_cap_bits, vhca_id)));
        Ok(VfInfo {
            migratable,
            vhca_id: vhca_id.try_into()?,
        })
    }

    /// QUERY_HCA_CAP about the VF.
    fn query_cap(
        &self,
        vf: VfId,
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
                vf.function(),
            );
        let mut output = LargeMailbox::new(0)?;
        // SAFETY: `self` keeps the core device valid.
        unsafe { execute(self.0, &mut input.bytes, &mut output.bytes) }?;
        Ok(output)
    }
}

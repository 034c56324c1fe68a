// SPDX-License-Identifier: GPL-2.0

//! The time for which a PF may be used: from the binding of the driver to the VF until it is
//! unbound, except while the PF's driver is away.

use super::{
    bindings,
    device::{
        Device,
        VfId, //
    },
};
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    device::Bound,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// The PF's notifications about a VF, registered while the driver is bound.
///
/// The VF's struct device owns this object, so that it is dropped when the driver is unbound,
/// whatever the driver does.
///
/// # Invariants
///
/// `block` is registered with `mdev` for `vf`, unless the object is being made.
/// `mdev` is valid as long as the object exists.
#[pin_data(PinnedDrop)]
pub(super) struct Binding {
    #[pin]
    block: Opaque<kernel::bindings::notifier_block>,
    mdev: NonNull<bindings::mlx5_core_dev>,
    vf: VfId,
    device: Arc<Device>,
}

// SAFETY: The block is only used by the notifier chain, under its lock, and may be
// unregistered on any thread.
unsafe impl Send for Binding {}

impl Binding {
    /// Has `device` notified of the PF's coming and going, until the driver of `dev` is unbound.
    pub(super) fn register(
        dev: &kernel::device::Device<Bound>,
        mdev: NonNull<bindings::mlx5_core_dev>,
        vf: VfId,
        device: &Arc<Device>,
    ) -> Result {
        let device = device.clone();
        // INVARIANT: mlx5_core keeps the PF's core device until the drivers of all
        // its VFs are unbound. Unbinding drops this object.
        kernel::devres::register(
            dev,
            try_pin_init!(Self {
                mdev,
                vf,
                device,
                // Initialised last: the block may be called as soon as it is registered.
                block <- Opaque::try_ffi_init(
                    move |slot: *mut kernel::bindings::notifier_block| {
                        // SAFETY: `slot` is valid for writes of a notifier block.
                        unsafe {
                            slot.write(kernel::bindings::notifier_block {
                                notifier_call: Some(Self::call),
                                ..pin_init::zeroed()
                            })
                        };
                        // SAFETY: `mdev` is valid by the type invariant. `slot` was
                        // initialised just now, and is pinned until `drop`, which
                        // unregisters it.
                        to_result(unsafe {
                            bindings::mlx5_sriov_blocking_notifier_register(
                                mdev.as_ptr(),
                                vf.0,
                                slot,
                            )
                        })
                    }
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// # Safety
    ///
    /// Must only be called by the notifier chain, with the `block` of a `Binding`.
    unsafe extern "C" fn call(
        block: *mut kernel::bindings::notifier_block,
        event: c_ulong,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: `block` is that of a `Binding` (requirements of this function),
        // which exists until unregistering has waited for this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };
        match event as u32 {
            // SAFETY: `mdev` is valid by the type invariant. `drop` has the device detached.
            bindings::MLX5_PF_NOTIFY_ENABLE_VF => unsafe { this.device.attach() },
            bindings::MLX5_PF_NOTIFY_DISABLE_VF => Device::detach(&this.device),
            _ => (),
        }
        0
    }
}

#[pinned_drop]
impl PinnedDrop for Binding {
    fn drop(self: Pin<&mut Self>) {
        // Do this before the block is unregistered: commands are sent, and the PF must not go
        // unnoticed.
        Device::end(&self.device);
        // SAFETY: The block is registered, or the object would not exist, and `mdev` is valid (type
        // invariant). The function waits for a call of the block that is under way.
        unsafe {
            bindings::mlx5_sriov_blocking_notifier_unregister(
                self.mdev.as_ptr(),
                self.vf.0,
                self.block.get(),
            );
        }
    }
}

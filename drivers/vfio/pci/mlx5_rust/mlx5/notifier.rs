// SPDX-License-Identifier: GPL-2.0

//! What the PF's driver tells about a VF.

use super::{bindings, core_dev::CoreDev};
use core::ffi::c_void;
use kernel::{container_of, error::to_result, prelude::*, sync::Arc, types::Opaque};

/// Receives the notifications.
pub(crate) trait VfEvents: Send + Sync + 'static {
    /// The PF takes commands about the VF from now on.
    fn enabled(&self);

    /// The PF takes no commands about the VF once this returns.
    fn disabled(&self);
}

/// A registered receiver; unregistered on drop.
///
/// # Invariants
///
/// `block` is registered for `core`, unless the object is being made.
#[pin_data(PinnedDrop)]
pub(crate) struct VfNotifier<T: VfEvents> {
    #[pin]
    block: Opaque<kernel::bindings::notifier_block>,
    core: Arc<CoreDev>,
    events: Arc<T>,
}

// SAFETY: The block is only used by the notifier chain, under its lock.
unsafe impl<T: VfEvents> Send for VfNotifier<T> {}
// SAFETY: As above.
unsafe impl<T: VfEvents> Sync for VfNotifier<T> {}

impl<T: VfEvents> VfNotifier<T> {
    /// Registers `events`.
    pub(crate) fn new(core: Arc<CoreDev>, events: Arc<T>) -> Result<Pin<KBox<Self>>> {
        let registered = core.clone();
        KBox::try_pin_init(
            try_pin_init!(Self {
                core,
                events,
                // Last: the block may be called as soon as it is registered.
                block <- Opaque::try_ffi_init(
                    move |slot: *mut kernel::bindings::notifier_block| {
                        // SAFETY: `slot` is valid for writes.
                        unsafe {
                            slot.write(kernel::bindings::notifier_block {
                                notifier_call: Some(Self::call),
                                ..pin_init::zeroed()
                            })
                        };
                        // SAFETY: `mdev` is valid by the invariant of
                        // `CoreDev`; `slot` is pinned until `drop`.
                        to_result(unsafe {
                            bindings::mlx5_sriov_blocking_notifier_register(
                                registered.mdev.as_ptr(),
                                registered.vf.0,
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
    /// Only called by the notifier chain.
    unsafe extern "C" fn call(
        block: *mut kernel::bindings::notifier_block,
        event: c_ulong,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: The chain only has blocks that are part of a `VfNotifier`.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };
        match event as u32 {
            bindings::MLX5_PF_NOTIFY_ENABLE_VF => this.events.enabled(),
            bindings::MLX5_PF_NOTIFY_DISABLE_VF => this.events.disabled(),
            _ => (),
        }
        0
    }
}

#[pinned_drop]
impl<T: VfEvents> PinnedDrop for VfNotifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariant, or the object would not
        // exist. Waits for a call that is under way.
        unsafe {
            bindings::mlx5_sriov_blocking_notifier_unregister(
                self.core.mdev.as_ptr(),
                self.core.vf.0,
                self.block.get(),
            );
        }
    }
}

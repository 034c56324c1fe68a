// SPDX-License-Identifier: GPL-2.0

//! The receiver of events about a page tracker.

use super::{
    bindings::{
        self,
        mlx5_event,
        mlx5_nb, //
    },
    device::PfGuard,
    registry::{
        Owned,
        Resource, //
    },
    track_events::TrackEvents, //
};
use core::ffi::c_void;
use kernel::{
    container_of,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// The objects whose events are handled.
#[derive(Clone, Copy)]
pub(super) struct Subjects {
    /// QPs.
    pub(super) qpns: [u32; 2],
    /// The general object.
    pub(super) object: u32,
}

/// A registered receiver of events.
///
/// # Invariants
///
/// `block` is registered until `destroy`.
#[pin_data]
pub(super) struct TrackNotifier {
    #[pin]
    block: Opaque<mlx5_nb>,
    events: Arc<TrackEvents>,
    subjects: Subjects,
}

// SAFETY: The block is only used by the notifier chain, which writes it under its lock and reads it
// under RCU. It may be unregistered on any thread.
unsafe impl Send for TrackNotifier {}
// SAFETY: `&TrackNotifier` gives access to nothing but the other fields, which are
// Sync.
unsafe impl Sync for TrackNotifier {}

impl TrackNotifier {
    pub(super) fn new(
        pf: &PfGuard<'_>,
        events: Arc<TrackEvents>,
        subjects: Subjects,
    ) -> Result<Owned<Self>> {
        let mdev = pf.mdev();
        Owned::pinned(
            pf,
            try_pin_init!(Self {
                events,
                subjects,
                // Initialised last: the block may be called as soon as it is registered.
                block <- Opaque::ffi_init(move |slot: *mut mlx5_nb| {
                    // SAFETY: `slot` is valid for writes of a `mlx5_nb`. An event type of 0 stands
                    // for all events.
                    unsafe { slot.write(pin_init::zeroed()) };
                    // SAFETY: `slot` was initialised just now, and nobody else has
                    // it.
                    unsafe { (*slot).nb.notifier_call = Some(Self::call) };
                    // INVARIANT: Registering never fails.
                    //
                    // SAFETY: `mdev` is valid: `pf` is a guard of it. `slot` is
                    // pinned until `destroy` has unregistered it.
                    unsafe { bindings::mlx5_eq_notifier_register(mdev, slot) };
                }),
            }),
        )
    }

    /// # Safety
    ///
    /// Must only be called by the notifier chain, with the `block` of a `TrackNotifier` and the EQE
    /// of an event of type `event`.
    unsafe extern "C" fn call(
        block: *mut kernel::bindings::notifier_block,
        event: c_ulong,
        eqe: *mut c_void,
    ) -> c_int {
        const { assert!(core::mem::offset_of!(mlx5_nb, nb) == 0) };
        let block: *mut mlx5_nb = block.cast();
        // SAFETY: `block` is that of a `TrackNotifier` (requirements of this
        // function), which exists until unregistering has waited for this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };
        match mlx5_event(event as u32) {
            mlx5_event::MLX5_EVENT_TYPE_WQ_CATAS_ERROR
            | mlx5_event::MLX5_EVENT_TYPE_WQ_ACCESS_ERROR
            | mlx5_event::MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR => {
                // SAFETY: `eqe` is that of such an event, and valid until this
                // returns (requirements of this function).
                let qpn = unsafe { bindings::mlx5_rust_eqe_qpn(eqe.cast()) };
                if this.subjects.qpns.contains(&qpn) {
                    this.events.fail();
                }
            }
            mlx5_event::MLX5_EVENT_TYPE_OBJECT_CHANGE => {
                // SAFETY: `eqe` is that of such an event, and valid until this
                // returns (requirements of this function).
                let object = unsafe { bindings::mlx5_rust_eqe_object(eqe.cast()) };
                if object == this.subjects.object {
                    this.events.change();
                }
            }
            _ => (),
        }
        kernel::bindings::NOTIFY_OK as c_int
    }
}

impl Resource for TrackNotifier {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        // SAFETY: `mdev` is valid: `pf` is a guard of it. The block is registered by the type
        // invariant. The function waits for a call of the block that is under way.
        unsafe { bindings::mlx5_eq_notifier_unregister(pf.mdev(), self.block.get()) };
        Ok(())
    }
}

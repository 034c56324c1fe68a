// SPDX-License-Identifier: GPL-2.0

//! Events about a page tracker.

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
};
use core::ffi::c_void;
use kernel::{
    container_of,
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};
use vfio_rust::kernel::{
    sync::completion::Completion,
    task, //
};

/// Report timeout, in milliseconds.
const SILENCE_MS: u32 = 10_000;

/// The events of one tracker so far.
#[pin_data]
pub(crate) struct TrackEvents {
    /// Completed for each event: a message, a failure, or a change of the object.
    #[pin]
    any: Completion,
    failed: AtomicFlag,
    gone: AtomicFlag,
    changed: AtomicFlag,
}

impl TrackEvents {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                any <- Completion::new(),
                failed: AtomicFlag::new(false),
                gone: AtomicFlag::new(false),
                changed: AtomicFlag::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Notes that a message has come. May be called from an interrupt.
    pub(super) fn message(&self) {
        self.any.complete();
    }

    /// Notes that the tracker has failed. May be called from an interrupt.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.any.complete();
    }

    /// Notes that the tracker was destroyed.
    pub(super) fn end(&self) {
        self.gone.store(true, Relaxed);
        self.fail();
    }

    /// Returns whether the tracker was destroyed.
    pub(crate) fn has_ended(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Returns whether the tracker has failed, or was destroyed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Notes that the object has changed. May be called from an interrupt.
    pub(super) fn change(&self) {
        self.changed.store(true, Relaxed);
        self.any.complete();
    }

    /// Returns whether the object has changed since the last call. A caller that cannot query the
    /// object must call [`Self::change`], so that the change is not lost.
    pub(super) fn take_changed(&self) -> bool {
        // Read and clear in one step, or an event in between would be lost.
        self.changed.xchg(false, Relaxed)
    }

    /// Waits, without a lock, for an event. Returns `ETIMEDOUT` if the report timeout has passed
    /// since `silent`, `EINTR` if the process is killed first.
    ///
    /// A device may raise events without end that tell of nothing. They must neither prolong the
    /// timeout, nor keep the process from being killed: an event that has come lets the wait return
    /// at once, without a look at signals.
    pub(super) fn wait(&self, silent: Instant<Monotonic>) -> Result {
        task::check_killed()?;
        let passed = u32::try_from(silent.elapsed().as_millis()).unwrap_or(u32::MAX);
        match SILENCE_MS.saturating_sub(passed) {
            0 => Err(ETIMEDOUT),
            left => self.any.wait_killable_timeout(left),
        }
    }
}

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

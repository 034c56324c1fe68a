// SPDX-License-Identifier: GPL-2.0

//! What a page tracker tells by events.

use super::{
    bindings::{self, mlx5_nb},
    core_dev::CoreDev,
};
use crate::vfio::signal::Signal;
use core::ffi::c_void;
use kernel::{
    container_of,
    prelude::*,
    sync::{
        atomic::{AtomicFlag, Relaxed},
        Arc,
    },
    types::Opaque,
};

/// Report timeout, in milliseconds.
const SILENCE_MS: u32 = 10_000;

/// What was told so far.
#[pin_data]
pub(crate) struct TrackEvents {
    #[pin]
    pub(super) signal: Signal,
    failed: AtomicFlag,
    changed: AtomicFlag,
}

impl TrackEvents {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                signal <- Signal::new(),
                failed: AtomicFlag::new(false),
                changed: AtomicFlag::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Nothing more will come. Who waits goes on.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.signal.raise();
    }

    /// Waits, without a lock, until there may be something new.
    ///
    /// `ETIMEDOUT` if that takes longer than the tracker may be silent, `EINTR` if
    /// the process is killed.
    pub(super) fn wait(&self) -> Result {
        self.signal.wait(SILENCE_MS)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Whether the object has changed since this was asked last.
    pub(super) fn take_changed(&self) -> bool {
        // In one step: an event between two would be lost.
        self.changed.xchg(false, Relaxed)
    }
}

/// What events are about.
#[derive(Clone, Copy)]
pub(super) struct Subjects {
    /// QPs.
    pub(super) qpns: [u32; 2],
    /// The general object.
    pub(super) object: u32,
}

/// A registered receiver of events; unregistered on drop.
///
/// # Invariants
///
/// `block` is registered.
#[pin_data(PinnedDrop)]
pub(super) struct TrackNotifier {
    #[pin]
    block: Opaque<mlx5_nb>,
    core: Arc<CoreDev>,
    events: Arc<TrackEvents>,
    subjects: Subjects,
}

// SAFETY: The block is only used by the notifier chain, under its lock.
unsafe impl Send for TrackNotifier {}
// SAFETY: As above.
unsafe impl Sync for TrackNotifier {}

impl TrackNotifier {
    pub(super) fn new(
        core: &Arc<CoreDev>,
        events: Arc<TrackEvents>,
        subjects: Subjects,
    ) -> Result<Pin<KBox<Self>>> {
        core.check_attached()?;
        let mdev = core.mdev;
        KBox::pin_init(
            pin_init!(Self {
                core: core.clone(),
                events,
                subjects,
                // Last: the block may be called as soon as it is registered.
                block <- Opaque::ffi_init(move |slot: *mut mlx5_nb| {
                    // SAFETY: `slot` is valid for writes. An event type of 0 is
                    // for all of them.
                    unsafe { slot.write(pin_init::zeroed()) };
                    // SAFETY: Initialised above.
                    unsafe { (*slot).nb.notifier_call = Some(Self::call) };
                    // SAFETY: `mdev` is valid by the invariant of `CoreDev`;
                    // `slot` is pinned until `drop`. Never fails.
                    unsafe { bindings::mlx5_eq_notifier_register(mdev.as_ptr(), slot) };
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// # Safety
    ///
    /// Only called by the notifier chain, with an EQE.
    unsafe extern "C" fn call(
        block: *mut kernel::bindings::notifier_block,
        event: c_ulong,
        eqe: *mut c_void,
    ) -> c_int {
        const { assert!(core::mem::offset_of!(mlx5_nb, nb) == 0) };
        let block: *mut mlx5_nb = block.cast();
        // SAFETY: The chain only has blocks that are part of a `TrackNotifier`.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };
        match event as u32 {
            bindings::mlx5_event_MLX5_EVENT_TYPE_WQ_CATAS_ERROR
            | bindings::mlx5_event_MLX5_EVENT_TYPE_WQ_ACCESS_ERROR
            | bindings::mlx5_event_MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR => {
                // SAFETY: The EQE of such an event.
                let qpn = unsafe { bindings::mlx5_rust_eqe_qpn(eqe.cast()) };
                if this.subjects.qpns.contains(&qpn) {
                    this.events.fail();
                }
            }
            bindings::mlx5_event_MLX5_EVENT_TYPE_OBJECT_CHANGE => {
                // SAFETY: The EQE of such an event.
                let object = unsafe { bindings::mlx5_rust_eqe_object(eqe.cast()) };
                if object == this.subjects.object {
                    this.events.changed.store(true, Relaxed);
                    this.events.signal.raise();
                }
            }
            _ => (),
        }
        kernel::bindings::NOTIFY_OK as c_int
    }
}

#[pinned_drop]
impl PinnedDrop for TrackNotifier {
    fn drop(self: Pin<&mut Self>) {
        if self.core.check_attached().is_ok() {
            // SAFETY: Registered by the type invariant. Waits for a call that is
            // under way.
            unsafe {
                bindings::mlx5_eq_notifier_unregister(self.core.mdev.as_ptr(), self.block.get());
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: arcs of the state machine, and what is moved.

use super::{
    bindings,
    file::PrecopyInfo,
    migration::{StateArc, StepError, VfioDevice},
    pci::{BoundDevice, DeviceName},
};
use kernel::{
    prelude::*,
    time::{Instant, Monotonic},
};

/// Since when something is going on.
#[derive(Clone, Copy)]
pub(crate) struct Since(Instant<Monotonic>);

impl Since {
    /// Since now.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    fn ns(self) -> i64 {
        self.0.elapsed().as_nanos()
    }
}

fn errno<T>(result: &Result<T>) -> i32 {
    result.as_ref().map_or_else(|err| err.to_errno(), |_| 0)
}

/// Traces a step of the driver.
pub(super) fn arc<T>(
    vdev: &VfioDevice<'_>,
    arc: StateArc,
    result: &Result<T, StepError>,
    since: Since,
) {
    let (from, to) = (arc.from as u32, arc.to as u32);
    let err = match result {
        Ok(_) => 0,
        Err(StepError::Unchanged(err) | StepError::Lost(err)) => err.to_errno(),
    };
    // SAFETY: The VFIO device is valid as long as `vdev` lives, and keeps its
    // parent for as long.
    unsafe {
        bindings::vfio_rust_trace_arc(vdev.parent(), from, to, err, since.ns());
    }
}

/// Traces in the name of a device.
pub(crate) struct Tracer(DeviceName);

impl Tracer {
    /// About `dev`.
    pub(crate) fn about(dev: &BoundDevice<'_>) -> Result<Self> {
        Ok(Self(DeviceName::of(dev)?))
    }

    /// The device begins to save: into so many bytes.
    pub(crate) fn save_begins(&self, room: u64) {
        // SAFETY: A valid device.
        unsafe { bindings::vfio_rust_trace_save_begin(self.0.as_raw(), room) };
    }

    /// It has saved so many bytes, or failed.
    pub(crate) fn save_ends(&self, bytes: &Result<u64>, since: Since) {
        let (bytes, err) = (*bytes.as_ref().unwrap_or(&0), errno(bytes));
        // SAFETY: A valid device.
        unsafe { bindings::vfio_rust_trace_save_end(self.0.as_raw(), bytes, err, since.ns()) };
    }

    /// The device begins to load so many bytes.
    pub(crate) fn load_begins(&self, bytes: u64) {
        // SAFETY: A valid device.
        unsafe { bindings::vfio_rust_trace_load_begin(self.0.as_raw(), bytes) };
    }

    /// It has loaded them, or failed.
    pub(crate) fn load_ends(&self, bytes: u64, result: &Result, since: Since) {
        let err = errno(result);
        // SAFETY: A valid device.
        unsafe { bindings::vfio_rust_trace_load_end(self.0.as_raw(), bytes, err, since.ns()) };
    }

    /// It has reported so many bytes that it had written, or failed.
    pub(crate) fn dirty_report(&self, bytes: u64, result: &Result, since: Since) {
        let err = errno(result);
        // SAFETY: A valid device.
        unsafe { bindings::vfio_rust_trace_dirty_report(self.0.as_raw(), bytes, err, since.ns()) };
    }

    /// What VFIO_MIG_GET_PRECOPY_INFO answers.
    pub(crate) fn precopy_info(&self, info: &PrecopyInfo) {
        let (initial, dirty) = (info.initial_bytes, info.dirty_bytes);
        // SAFETY: A valid device.
        unsafe {
            bindings::vfio_rust_trace_precopy_info(self.0.as_raw(), initial, dirty, info.reinit);
        }
    }
}

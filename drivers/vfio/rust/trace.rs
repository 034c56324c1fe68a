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

/// Measures how long something takes, if somebody wants to know: reading the clock takes
/// longer than what it is for.
#[derive(Clone, Copy)]
pub struct Stopwatch(Option<Instant<Monotonic>>);

impl Stopwatch {
    /// Starts to measure.
    #[inline]
    pub fn start() -> Self {
        // SAFETY: Looks at static keys.
        let wanted = unsafe { bindings::vfio_rust_trace_times() };
        Self(wanted.then(Instant::now))
    }

    /// Returns the time since the start, in nanoseconds; 0 if a tracepoint was turned on
    /// after that.
    #[inline]
    pub fn ns(self) -> i64 {
        self.0.map_or(0, |start| start.elapsed().as_nanos())
    }
}

#[inline]
fn errno<T>(result: &Result<T>) -> i32 {
    result.as_ref().map_or_else(|err| err.to_errno(), |_| 0)
}

/// Traces a step of the driver.
#[inline]
pub(super) fn arc<T>(
    vdev: &VfioDevice<'_>,
    arc: StateArc,
    result: &Result<T, StepError>,
    time: Stopwatch,
) {
    let (from, to) = (arc.from as u32, arc.to as u32);
    let err = match result {
        Ok(_) => 0,
        Err(StepError::Unchanged(err) | StepError::Lost(err)) => err.to_errno(),
    };
    // SAFETY: The VFIO device is valid as long as `vdev` lives, and keeps its
    // parent for as long.
    unsafe {
        bindings::vfio_rust_trace_arc(vdev.parent(), from, to, err, time.ns());
    }
}

/// Traces in the name of one device.
pub struct Tracer(DeviceName);

impl Tracer {
    /// Makes traces about `dev` possible.
    pub fn about(dev: &BoundDevice<'_>) -> Result<Self> {
        Ok(Self(DeviceName::of(dev)?))
    }

    /// The device begins to save into a buffer of `room` bytes.
    #[inline]
    pub fn save_begins(&self, room: u64) {
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe { bindings::vfio_rust_trace_save_begin(self.0.as_raw(), room) };
    }

    /// The device has saved a number of bytes, or failed to.
    #[inline]
    pub fn save_ends(&self, bytes: &Result<u64>, ns: i64) {
        let (bytes, err) = (*bytes.as_ref().unwrap_or(&0), errno(bytes));
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe { bindings::vfio_rust_trace_save_end(self.0.as_raw(), bytes, err, ns) };
    }

    /// The device begins to load `bytes` bytes.
    #[inline]
    pub fn load_begins(&self, bytes: u64) {
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe { bindings::vfio_rust_trace_load_begin(self.0.as_raw(), bytes) };
    }

    /// The device has loaded `bytes` bytes, or failed to.
    pub fn load_ends<T>(&self, bytes: u64, result: &Result<T>, ns: i64) {
        let err = errno(result);
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe { bindings::vfio_rust_trace_load_end(self.0.as_raw(), bytes, err, ns) };
    }

    /// The device has reported `bytes` bytes as dirty, or failed to.
    #[inline]
    pub fn dirty_report(&self, bytes: u64, result: &Result, time: Stopwatch) {
        let err = errno(result);
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe { bindings::vfio_rust_trace_dirty_report(self.0.as_raw(), bytes, err, time.ns()) };
    }

    /// VFIO_MIG_GET_PRECOPY_INFO answers `info`.
    #[inline]
    pub fn precopy_info(&self, info: &PrecopyInfo) {
        let (initial, dirty) = (info.initial_bytes, info.dirty_bytes);
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it.
        unsafe {
            bindings::vfio_rust_trace_precopy_info(self.0.as_raw(), initial, dirty, info.reinit);
        }
    }
}

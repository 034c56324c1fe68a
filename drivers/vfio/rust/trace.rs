// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: arcs of the state machine, images saved and loaded, and dirty pages.
//!
//! A tracepoint that is off is a branch that is never taken: no function is called, and no clock is
//! read. `kernel::tracepoint::declare_trace!` does the same for tracepoints in the kernel crate's
//! bindings; these are in the bindings of this crate.
//!
//! C header: `include/trace/events/vfio_migration.h`.

use crate::{
    bindings,
    file::PrecopyInfo,
    kernel::device::DeviceExt,
    migration::{
        StateArc,
        StepError,
        VfioDevice, //
    },
};
use kernel::{
    device::Device,
    prelude::*,
    sync::aref::ARef,
    time::{
        Instant,
        Monotonic, //
    },
};

/// A tracepoint.
#[derive(Clone, Copy)]
pub enum Event {
    /// The driver carried out an arc, or failed to.
    Arc,
    /// The device begins to save.
    SaveBegin,
    /// The device has saved, or failed to.
    SaveEnd,
    /// The device begins to load.
    LoadBegin,
    /// The device has loaded, or failed to.
    LoadEnd,
    /// The device has reported dirty pages, or failed to.
    DirtyReport,
    /// VFIO_MIG_GET_PRECOPY_INFO answers.
    PrecopyInfo,
}

impl Event {
    /// Returns whether the tracepoint is on.
    // Inlined, since callers pass a constant: one branch is left of the `match`.
    #[cfg(CONFIG_TRACEPOINTS)]
    #[inline(always)]
    fn is_on(self) -> bool {
        macro_rules! is_on {
            ($tracepoint:ident) => {
                kernel::jump_label::static_branch_unlikely!(
                    bindings::$tracepoint,
                    bindings::tracepoint,
                    key
                )
            };
        }
        // SAFETY: Each key is that of a tracepoint that C defines. Those are static
        // variables of this module, which stays as long as it has users.
        unsafe {
            match self {
                Self::Arc => is_on!(__tracepoint_vfio_migration_arc),
                Self::SaveBegin => is_on!(__tracepoint_vfio_migration_save_begin),
                Self::SaveEnd => is_on!(__tracepoint_vfio_migration_save_end),
                Self::LoadBegin => is_on!(__tracepoint_vfio_migration_load_begin),
                Self::LoadEnd => is_on!(__tracepoint_vfio_migration_load_end),
                Self::DirtyReport => is_on!(__tracepoint_vfio_migration_dirty_report),
                Self::PrecopyInfo => is_on!(__tracepoint_vfio_migration_precopy_info),
            }
        }
    }

    /// Returns `false`: the kernel has no tracepoints.
    #[cfg(not(CONFIG_TRACEPOINTS))]
    #[inline(always)]
    fn is_on(self) -> bool {
        false
    }
}

/// Measures a time for a tracepoint, if that is on.
#[derive(Clone, Copy)]
pub struct Stopwatch(Option<Instant<Monotonic>>);

impl Stopwatch {
    /// Starts to measure for `event`.
    #[inline(always)]
    pub fn start(event: Event) -> Self {
        Self(event.is_on().then(Instant::now))
    }

    /// Returns a stopwatch that measures nothing.
    #[inline]
    pub fn unused() -> Self {
        Self(None)
    }

    /// Returns the time since the start, in nanoseconds; 0 if the tracepoint was turned
    /// on after that.
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
    if !Event::Arc.is_on() {
        return;
    }
    let (from, to) = (arc.from as u32, arc.to as u32);
    let err = match result {
        Ok(_) => 0,
        Err(StepError::Unchanged(err) | StepError::Lost(err)) => err.to_errno(),
    };
    // SAFETY: The device is valid as long as `vdev` is borrowed.
    unsafe {
        bindings::vfio_rust_trace_arc(vdev.parent().as_raw(), from, to, err, time.ns());
    }
}

/// Calls tracepoints for one device.
pub struct Tracer(ARef<Device>);

impl Tracer {
    /// Makes a tracer for `dev`.
    pub fn about(dev: &Device) -> Self {
        Self(dev.into())
    }

    /// The device begins to save into a buffer of `room` bytes.
    #[inline]
    pub fn save_begins(&self, room: u64) {
        if Event::SaveBegin.is_on() {
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_save_begin(self.0.as_raw(), room) };
        }
    }

    /// The device has saved a number of bytes, or failed to.
    #[inline]
    pub fn save_ends(&self, bytes: &Result<u64>, ns: i64) {
        if Event::SaveEnd.is_on() {
            let (bytes, err) = (*bytes.as_ref().unwrap_or(&0), errno(bytes));
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_save_end(self.0.as_raw(), bytes, err, ns) };
        }
    }

    /// The device begins to load `bytes` bytes.
    #[inline]
    pub fn load_begins(&self, bytes: u64) {
        if Event::LoadBegin.is_on() {
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_load_begin(self.0.as_raw(), bytes) };
        }
    }

    /// The device has loaded `bytes` bytes, or failed to.
    #[inline]
    pub fn load_ends<T>(&self, bytes: u64, result: &Result<T>, ns: i64) {
        if Event::LoadEnd.is_on() {
            let err = errno(result);
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_load_end(self.0.as_raw(), bytes, err, ns) };
        }
    }

    /// The device has reported `bytes` bytes as dirty, or failed to.
    #[inline]
    pub fn dirty_report(&self, bytes: u64, result: &Result, time: Stopwatch) {
        if Event::DirtyReport.is_on() {
            let (err, ns) = (errno(result), time.ns());
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_dirty_report(self.0.as_raw(), bytes, err, ns) };
        }
    }

    /// VFIO_MIG_GET_PRECOPY_INFO answers `info`.
    #[inline]
    pub fn precopy_info(&self, info: &PrecopyInfo) {
        if Event::PrecopyInfo.is_on() {
            let (initial, dirty) = (info.initial_bytes, info.dirty_bytes);
            let (dev, reinit) = (self.0.as_raw(), info.reinit);
            // SAFETY: The device is valid as long as `self.0`, which owns a reference
            // to it.
            unsafe { bindings::vfio_rust_trace_precopy_info(dev, initial, dirty, reinit) };
        }
    }
}

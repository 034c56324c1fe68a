// SPDX-License-Identifier: GPL-2.0

//! Messages that user space can provoke, and so must be rate-limited.

use super::{bindings, pci::BoundDevice};
use core::ptr::NonNull;
use kernel::prelude::*;

/// Complains in the name of a device.
///
/// # Invariants
///
/// The pointer is valid; one reference to the device is owned.
pub(crate) struct Complaints(NonNull<kernel::bindings::device>);

// SAFETY: References to devices may be used, and dropped, on any thread.
unsafe impl Send for Complaints {}
// SAFETY: As above.
unsafe impl Sync for Complaints {}

impl Complaints {
    /// About `dev`.
    pub(crate) fn about(dev: &BoundDevice<'_>) -> Result<Self> {
        // SAFETY: A bound device is valid.
        let dev = unsafe { kernel::bindings::get_device(&raw mut (*dev.as_raw()).dev) };
        // INVARIANT: get_device() returns its argument, with a reference.
        Ok(Self(NonNull::new(dev).ok_or(ENODEV)?))
    }

    /// Logs `what` as a warning, unless there were many just now.
    pub(crate) fn warn(&self, what: &CStr) {
        // SAFETY: By the type invariant; `what` is a C string.
        unsafe { bindings::vfio_rust_warn_ratelimited(self.0.as_ptr(), what.as_char_ptr()) }
    }
}

impl Drop for Complaints {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { kernel::bindings::put_device(self.0.as_ptr()) }
    }
}

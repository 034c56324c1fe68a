// SPDX-License-Identifier: GPL-2.0

//! Messages that user space can provoke, and so must be rate-limited.

use super::{
    bindings,
    pci::{BoundDevice, DeviceName},
};
use kernel::prelude::*;

/// Complains in the name of a device.
pub(crate) struct Complaints(DeviceName);

impl Complaints {
    /// About `dev`.
    pub(crate) fn about(dev: &BoundDevice<'_>) -> Result<Self> {
        Ok(Self(DeviceName::of(dev)?))
    }

    /// Logs `what` as a warning, unless there were many just now.
    pub(crate) fn warn(&self, what: &CStr) {
        // SAFETY: A valid device, and a C string.
        unsafe { bindings::vfio_rust_warn_ratelimited(self.0.as_raw(), what.as_char_ptr()) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Messages that user space can provoke, and that are rate-limited for that.
//!
//! The kernel crate's `dev_warn!` has no limit.

use crate::{
    bindings,
    pci::{
        BoundDevice,
        DeviceName, //
    },
};
use kernel::prelude::*;

/// Complains in the name of one device.
pub struct Complaints(DeviceName);

impl Complaints {
    /// Makes complaints about `dev` possible.
    pub fn about(dev: &BoundDevice<'_>) -> Result<Self> {
        Ok(Self(DeviceName::of(dev)?))
    }

    /// Logs `what` as a warning, unless there were many just now.
    #[inline]
    pub fn warn(&self, what: &CStr) {
        // SAFETY: The device is valid as long as `self.0`, which owns a reference
        // to it. `what` ends with a NUL.
        unsafe { bindings::vfio_rust_warn_ratelimited(self.0.as_raw(), what.as_char_ptr()) }
    }
}

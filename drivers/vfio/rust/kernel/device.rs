// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate's `Device` lacks: a raw pointer for other crates, and rate-limited
//! messages, for events that user space can provoke.

use crate::bindings;
use kernel::{
    device::{
        Device,
        DeviceContext, //
    },
    prelude::*,
    types::Opaque, //
};

/// Methods that [`Device`] lacks.
pub trait DeviceExt {
    /// Returns the device for calls into C. Valid as long as `self`.
    fn as_raw(&self) -> *mut kernel::bindings::device;

    /// Logs `what` as a warning about the device, unless the rate limit is exceeded.
    fn warn_ratelimited(&self, what: &CStr);
}

impl<Ctx: DeviceContext> DeviceExt for Device<Ctx> {
    #[inline]
    fn as_raw(&self) -> *mut kernel::bindings::device {
        // CAST: `Device` is a transparent wrapper of an `Opaque<struct device>`.
        Opaque::cast_into(core::ptr::from_ref(self).cast())
    }

    fn warn_ratelimited(&self, what: &CStr) {
        // SAFETY: The device is valid as long as `self` is borrowed. `what` ends with a NUL.
        unsafe { bindings::vfio_rust_warn_ratelimited(self.as_raw(), what.as_char_ptr()) }
    }
}

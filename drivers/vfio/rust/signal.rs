// SPDX-License-Identifier: GPL-2.0

//! Waiting for something that a device tells in interrupt context.

use super::bindings;
use kernel::{prelude::*, types::Opaque};

/// A completion that is waited for with a bound, and until the process is
/// killed.
#[pin_data]
pub(crate) struct Signal {
    #[pin]
    completion: Opaque<kernel::bindings::completion>,
}

// SAFETY: Completions may be used from any context.
unsafe impl Send for Signal {}
// SAFETY: As above.
unsafe impl Sync for Signal {}

impl Signal {
    /// Not raised.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            completion <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes, and pinned.
                unsafe { bindings::vfio_rust_init_completion(slot) }
            }),
        })
    }

    /// Raises it: one waiter goes on. From any context.
    pub(crate) fn raise(&self) {
        // SAFETY: Initialised in `new`.
        unsafe { bindings::complete(self.completion.get()) }
    }

    /// Waits until it is raised. `ETIMEDOUT` where that takes longer than `ms`
    /// milliseconds, `EINTR` where the process is killed.
    pub(crate) fn wait(&self, ms: u32) -> Result {
        // SAFETY: Initialised in `new`.
        match unsafe { bindings::vfio_rust_wait_killable(self.completion.get(), ms) } {
            0 => Err(ETIMEDOUT),
            left if left > 0 => Ok(()),
            _ => Err(EINTR),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Protection domains.

use super::{bindings, core_dev::CoreDev};
use kernel::{error::to_result, prelude::*, sync::Arc};

/// A protection domain on the PF; deallocated on drop.
pub(crate) struct Pd {
    core: Arc<CoreDev>,
    pub(super) number: u32,
}

impl Pd {
    /// ALLOC_PD.
    pub(crate) fn new(core: &Arc<CoreDev>) -> Result<Self> {
        core.check_attached()?;
        let mut number = 0;
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`.
        to_result(unsafe { bindings::mlx5_core_alloc_pd(core.mdev.as_ptr(), &mut number) })?;
        Ok(Self {
            core: core.clone(),
            number,
        })
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        if self.core.check_attached().is_ok() {
            // SAFETY: As in `new`; it was allocated there.
            unsafe { bindings::mlx5_core_dealloc_pd(self.core.mdev.as_ptr(), self.number) };
        }
    }
}

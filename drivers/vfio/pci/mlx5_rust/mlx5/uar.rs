// SPDX-License-Identifier: GPL-2.0

//! Pages of doorbells.

use super::{bindings, core_dev::CoreDev};
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, prelude::*, sync::Arc};

/// A UAR page, shared with others; given back on drop.
pub(super) struct Uar {
    core: Arc<CoreDev>,
    page: NonNull<bindings::mlx5_uars_page>,
}

// SAFETY: mlx5_core counts references to its pages under a lock.
unsafe impl Send for Uar {}
// SAFETY: As above; `&Uar` allows ringing doorbells, which are single stores.
unsafe impl Sync for Uar {}

impl Uar {
    pub(super) fn new(core: &Arc<CoreDev>) -> Result<Self> {
        core.check_attached()?;
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`.
        let page = from_err_ptr(unsafe { bindings::mlx5_get_uars_page(core.mdev.as_ptr()) })?;
        Ok(Self {
            core: core.clone(),
            page: NonNull::new(page).ok_or(ENOMEM)?,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::mlx5_uars_page {
        self.page.as_ptr()
    }

    /// What firmware calls it.
    pub(super) fn index(&self) -> u32 {
        // SAFETY: Valid while the reference is held.
        unsafe { (*self.page.as_ptr()).index }
    }
}

impl Drop for Uar {
    fn drop(&mut self) {
        if self.core.check_attached().is_ok() {
            // SAFETY: From mlx5_get_uars_page().
            unsafe {
                bindings::mlx5_put_uars_page(self.core.mdev.as_ptr(), self.page.as_ptr());
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Pages of doorbells.

use super::{
    bindings,
    device::PfGuard,
    registry::{
        Owned,
        Resource, //
    },
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

/// A page of doorbells, shared with mlx5_core.
///
/// # Invariants
///
/// `page` is from mlx5_get_uars_page(), and valid until `destroy`.
struct Page {
    page: NonNull<bindings::mlx5_uars_page>,
    index: u32,
}

// SAFETY: mlx5_core counts references to its pages under a lock.
unsafe impl Send for Page {}
// SAFETY: `&Page` only gives out the pointer, for doorbells, which are single
// stores, and the index.
unsafe impl Sync for Page {}

impl Resource for Page {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        // SAFETY: `mdev` is valid: `pf` is a guard of it. The page is valid by the type invariant,
        // and given back once: `destroy` is not called again after success.
        unsafe { bindings::mlx5_put_uars_page(pf.mdev(), self.page.as_ptr()) };
        Ok(())
    }
}

/// A UAR page of the PF, shared with others.
pub(super) struct Uar(Owned<Page>);

impl Uar {
    /// Takes a reference to a page.
    pub(super) fn new(pf: &PfGuard<'_>) -> Result<Self> {
        Owned::new(pf, |pf| {
            // SAFETY: `mdev` is valid: `pf` is a guard of it.
            let page = from_err_ptr(unsafe { bindings::mlx5_get_uars_page(pf.mdev()) })?;
            let page = NonNull::new(page).ok_or(ENOMEM)?;
            // SAFETY: The reference was taken just now. The index does not change.
            let index = unsafe { (*page.as_ptr()).index };
            // INVARIANT: `page` is from mlx5_get_uars_page().
            Ok(Page { page, index })
        })
        .map(Self)
    }

    /// Returns the page. Valid until it is destroyed.
    pub(super) fn as_ptr(&self) -> *mut bindings::mlx5_uars_page {
        self.0.page.as_ptr()
    }

    /// Returns the number of the page, for a command to the PF of `pf`, or `ENODEV` if the page is
    /// not there.
    pub(super) fn index(&self, pf: &PfGuard<'_>) -> Result<u32> {
        Ok(self.0.on(pf)?.index)
    }
}

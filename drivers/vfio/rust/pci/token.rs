// SPDX-License-Identifier: GPL-2.0

//! VF tokens.

use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The VF token that a user has given, if any.
///
/// # Invariants
///
/// During `'a`, `vdev` begins a registered `vfio_pci_core_device`.
pub struct Token<'a> {
    pub(super) vdev: *mut bindings::vfio_device,
    pub(super) uuid: Option<&'a bindings::uuid_t>,
}

impl Token<'_> {
    /// Returns the token, if there is one.
    pub fn uuid(&self) -> Option<&[u8; 16]> {
        self.uuid.map(|uuid| &uuid.b)
    }

    /// Has `vfio_pci_core` check the token: it must be that of the PF, if the PF is bound to a VFIO
    /// driver, too.
    pub fn forward(&self) -> Result {
        let uuid = self.uuid.map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `vdev` begins a registered `vfio_pci_core_device` (type invariant).
        // `uuid` is null, or borrowed.
        to_result(unsafe { bindings::vfio_pci_core_match_token_uuid(self.vdev, uuid) })
    }
}

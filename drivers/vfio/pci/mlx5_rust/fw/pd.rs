// SPDX-License-Identifier: GPL-2.0

//! Protection domains.

use super::{
    bindings,
    device::PfGuard,
    registry::{
        Key,
        Owned,
        Resource, //
    },
};
use kernel::{
    error::to_result,
    prelude::*, //
};

struct Domain {
    number: u32,
}

impl Resource for Domain {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        // SAFETY: `mdev` is valid: `pf` is a guard of it. The domain was allocated
        // there, and was not given back yet (requirements of `destroy`).
        to_result(unsafe { bindings::mlx5_core_dealloc_pd(pf.mdev(), self.number) })
    }
}

/// A protection domain on the PF.
pub(crate) struct Pd(Owned<Domain>);

impl Pd {
    /// ALLOC_PD.
    pub(crate) fn new(pf: &PfGuard<'_>) -> Result<Self> {
        Owned::new(pf, |pf| {
            let mut number = 0;
            // SAFETY: `mdev` is valid: `pf` is a guard of it. `number` is a local
            // variable.
            to_result(unsafe { bindings::mlx5_core_alloc_pd(pf.mdev(), &mut number) })?;
            Ok(Domain { number })
        })
        .map(Self)
    }

    /// Returns the number of the PD, for a command to the PF of `pf`, or `ENODEV` if the PD is not
    /// there.
    pub(super) fn number(&self, pf: &PfGuard<'_>) -> Result<u32> {
        Ok(self.0.on(pf)?.number)
    }

    /// Returns the key of the PD in the registry.
    pub(super) fn key(&self) -> Key {
        self.0.key()
    }

    /// DEALLOC_PD, if the PD still exists.
    pub(crate) fn end(&self) {
        self.0.end();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A probe that runs out of memory.

use crate::{
    hca::{
        self,
        Driver, //
    },
    injection,
    scenarios::compare::Site, //
};
use anyhow::{
    bail,
    ensure,
    Result, //
};

/// More allocations than a probe has.
const MANY: u32 = 10_000;

/// Each allocation of a probe fails once. It may fail then, or do without; the kernel does not
/// warn.
pub(super) fn without_memory(site: &Site) -> Result<()> {
    injection::set_up()?;
    for n in 1..MANY {
        hca::unbind(site.vf)?;
        let (bound, has_failed) = injection::with_failure(n, || hca::bind(site.vf, Driver::C))?;
        if !has_failed {
            ensure!(n > 1, "a probe allocates nothing");
            return bound;
        }
        hca::bind(site.vf, Driver::C)?;
    }
    bail!("a probe has allocations without an end");
}

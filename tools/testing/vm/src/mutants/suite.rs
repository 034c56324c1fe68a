// SPDX-License-Identifier: GPL-2.0

//! What should notice a mutant: a machine of `make check`, or the tests of a crate.

use anyhow::{
    bail,
    ensure,
    Context,
    Error,
    Result, //
};
use std::{
    fmt,
    hash::{
        Hash,
        Hasher, //
    },
    str::FromStr, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::{
        self,
        Scenario, //
    },
};

/// The kernels that a mutant's modules are built for.
pub const KERNELS: [Kernel; 3] = [Kernel::Stock, Kernel::Intree, Kernel::Debug];
/// The crates that compile files of the kernel side for the host.
pub const CRATES: [&str; 2] = ["mlx5-rust-logic", "mlx5-rust-loom"];
/// Before the name of a crate.
const CARGO: &str = "cargo:";

/// A group of tests.
#[derive(Clone, Copy, Debug)]
pub enum Suite {
    /// The tests of a crate.
    Crate(&'static str),
    /// A machine.
    Machine(Kernel, &'static Scenario),
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crate(name) => write!(f, "{CARGO}{name}"),
            Self::Machine(kernel, scenario) => f.write_str(&scenario.group(*kernel)),
        }
    }
}

impl PartialEq for Suite {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Suite {}

impl Hash for Suite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

impl FromStr for Suite {
    type Err = Error;

    /// Takes "cargo:CRATE" or "KERNEL-SCENARIO" apart.
    fn from_str(name: &str) -> Result<Self> {
        if let Some(name) = name.strip_prefix(CARGO) {
            let known = CRATES.into_iter().find(|one| *one == name);
            return known
                .map(Self::Crate)
                .with_context(|| format!("no crate {name:?}"));
        }
        let known = KERNELS.into_iter().find_map(|kernel| {
            let name = name.strip_prefix(kernel.name())?.strip_prefix('-')?;
            Some((kernel, scenarios::find(name)?))
        });
        let Some((kernel, scenario)) = known else {
            bail!("no machine {name:?}");
        };
        ensure!(scenario.runs_with(kernel), "{name} does not run");
        // Those would take the place of the mutant's.
        let own = scenario.machine.kunit || scenario.machine.bitmaps && kernel == Kernel::Stock;
        ensure!(!own, "{name} has modules of its own");
        Ok(Self::Machine(kernel, scenario))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_the_name_of_its_group() {
        for name in ["cargo:mlx5-rust-loom", "intree-waits", "debug-dirty"] {
            assert_eq!(name.parse::<Suite>().unwrap().to_string(), name);
        }
        for wrong in [
            "cargo:vm-test",
            "waits",
            "intree-small-pages",
            "bare-migrate",
            "intree-kunit",
            "stock-paths",
        ] {
            assert!(wrong.parse::<Suite>().is_err(), "{wrong}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The kernels that test machines boot.

use std::str::FromStr;

/// A kernel that test machines boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kernel {
    /// The distribution's, unmodified.
    Stock,
    /// Built with our files in its tree, and with checkers.
    Intree,
    /// As [`Self::Intree`], without checkers: for measurements, and `make check-all`.
    Bare,
    /// As [`Self::Bare`], with our driver and its KUnit tests in the image: for `make
    /// check-all`.
    Builtin,
}

impl Kernel {
    /// All.
    pub const ALL: [Self; 4] = [Self::Stock, Self::Intree, Self::Bare, Self::Builtin];
    /// Those of `make check`.
    pub const BOTH: [Self; 2] = [Self::Stock, Self::Intree];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Intree => "intree",
            Self::Bare => "bare",
            Self::Builtin => "builtin",
        }
    }

    /// Whether it has checkers, which take their time.
    pub const fn has_checkers(self) -> bool {
        matches!(self, Self::Intree)
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| {
                format!("there is no kernel {name:?}, but stock, intree, bare and builtin")
            })
    }
}

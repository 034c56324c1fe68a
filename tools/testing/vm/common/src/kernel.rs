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
    /// As [`Self::Intree`], with all checkers that C and Rust have: for `make check-all`.
    Debug,
    /// As [`Self::Intree`], with the fixes for the C driver: for the scenarios that show its
    /// faults.
    Fixed,
}

impl Kernel {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Stock,
        Self::Intree,
        Self::Bare,
        Self::Builtin,
        Self::Debug,
        Self::Fixed,
    ];
    /// Those of `make check`.
    pub const BOTH: [Self; 2] = [Self::Stock, Self::Intree];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Intree => "intree",
            Self::Bare => "bare",
            Self::Builtin => "builtin",
            Self::Debug => "debug",
            Self::Fixed => "fixed",
        }
    }

    /// Whether it has checkers, which take their time.
    pub const fn has_checkers(self) -> bool {
        matches!(self, Self::Intree | Self::Debug | Self::Fixed)
    }

    /// How many times as long as with other kernels a machine may run, and be silent.
    pub const fn slowness(self) -> u32 {
        match self {
            Self::Debug => 4,
            _ => 1,
        }
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                format!("there is no kernel {name:?}, but {names}")
            })
    }
}

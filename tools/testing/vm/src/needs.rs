// SPDX-License-Identifier: GPL-2.0

//! What has to be made for a command: prepare.sh asks for it.

use std::collections::BTreeSet;
use vm_common::{
    kernel::Kernel,
    scenarios::{
        Extra,
        Scenario, //
    },
};

/// A target of prepare.sh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Need {
    /// The sources of both kernels.
    Sources,
    /// Machines with the stock kernel.
    Stock,
    /// Machines with the in-tree kernel, and its selftests.
    Intree,
    /// Our modules with their KUnit tests, for the in-tree kernel.
    Kunit,
    /// Machines with the in-tree kernel without checkers.
    Bare,
    /// Machines with our driver in the image of the in-tree kernel.
    Builtin,
    /// Machines with the in-tree kernel with all checkers.
    Debug,
    /// Our modules with their KUnit tests, for that kernel.
    KunitDebug,
    /// Machines with the in-tree kernel and fixes for the C driver.
    Fixed,
    /// The QEMU that uses VFs in a machine.
    Consumer,
    /// What is fuzzed.
    Fuzz,
    /// A test of rdma-core's driver.
    Rdma,
    /// What applies faults to what compiles on the host.
    CargoMutants,
    /// What cuts the tree into series of patches.
    Series,
    /// Packages, and a Debian to install them in.
    Packages,
    /// The disk of hosts in which the packages are installed.
    Operator,
}

impl Need {
    /// Its name, as prepare.sh knows it.
    const fn name(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Stock => "stock",
            Self::Intree => "intree",
            Self::Kunit => "kunit",
            Self::Bare => "bare",
            Self::Builtin => "builtin",
            Self::Debug => "debug",
            Self::KunitDebug => "kunit-debug",
            Self::Fixed => "fixed",
            Self::Consumer => "consumer",
            Self::Fuzz => "fuzz",
            Self::Rdma => "rdma",
            Self::CargoMutants => "cargo-mutants",
            Self::Series => "series",
            Self::Packages => "packages",
            Self::Operator => "operator",
        }
    }
}

impl From<Kernel> for Need {
    fn from(kernel: Kernel) -> Self {
        match kernel {
            Kernel::Stock => Self::Stock,
            Kernel::Intree => Self::Intree,
            Kernel::Bare => Self::Bare,
            Kernel::Builtin => Self::Builtin,
            Kernel::Debug => Self::Debug,
            Kernel::Fixed => Self::Fixed,
        }
    }
}

/// What a machine with this kernel needs for a scenario.
pub fn of_machine(kernel: Kernel, scenario: &Scenario) -> impl Iterator<Item = Need> {
    let kunit = match (scenario.machine.kunit, kernel) {
        // In an image, the tests are a part of it.
        (false, _) | (true, Kernel::Builtin) => None,
        (true, Kernel::Debug) => Some(Need::KunitDebug),
        (true, _) => Some(Need::Kunit),
    };
    let consumer = scenario.has(Extra::Guest).then_some(Need::Consumer);
    let rdma = scenario.has(Extra::Rdma).then_some(Need::Rdma);
    let extras = consumer.into_iter().chain(rdma);
    [kernel.into()].into_iter().chain(kunit).chain(extras)
}

/// Names in a line.
pub fn line(needs: &BTreeSet<Need>) -> String {
    let names: Vec<&str> = needs.iter().map(|need| need.name()).collect();
    names.join(" ")
}

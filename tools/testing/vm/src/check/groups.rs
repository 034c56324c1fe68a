// SPDX-License-Identifier: GPL-2.0

//! The groups of tests, and what each needs.

use crate::{
    needs::{
        self,
        Need, //
    },
    report::quoted, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::collections::BTreeSet;
use vm_common::{
    kernel::Kernel,
    names,
    scenarios::{
        self,
        Scenario,
        Suite, //
    },
};

/// The group of the tests of all Rust programs and libraries.
pub(super) const CARGO: &str = "cargo";
/// The group of what is fuzzed.
pub(super) const FUZZ: &str = "fuzz";

/// A group with one test, which is a command.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// For a shell, in the checkout.
    pub(super) command: &'static str,
    needs: &'static [Need],
}

/// Such groups of `make check`.
const COMMANDS: &[Command] = &[
    Command {
        name: "shell scripts",
        command: "shellcheck -x $(find . -name '*.sh' -not -path './out/*') .ci/run",
        needs: &[],
    },
    Command {
        name: "scripts on other hosts",
        command: "tools/testing/vm/check-hosts.sh",
        needs: &[],
    },
    Command {
        name: "format of user space",
        command: "cd tools && cargo fmt --all --check -- --color never",
        needs: &[],
    },
    Command {
        name: "format of the kernel side",
        command: "rustfmt --check --color never --edition 2021 $(find drivers samples -name '*_main.rs' -o -name lib.rs)",
        needs: &[],
    },
    Command {
        name: "clippy of user space",
        command: "cd tools && cargo clippy --workspace --all-targets --release -- -D warnings",
        needs: &[],
    },
    Command {
        name: "clippy of the kernel side",
        command: "tools/testing/vm/check-clippy.sh",
        needs: &[Need::Stock],
    },
    Command {
        name: "checkpatch of the kernel side",
        command: "tools/testing/vm/check-style.sh",
        needs: &[Need::Sources],
    },
    Command {
        name: "documentation",
        command: "tools/testing/vm/check-docs.sh",
        needs: &[Need::Sources],
    },
    Command {
        name: "unsafe only where it may be",
        command: "tools/testing/vm/check-unsafe.sh",
        needs: &[],
    },
    Command {
        name: "series of patches",
        command: "tools/testing/vm/check-patches.sh",
        needs: &[Need::Series],
    },
    Command {
        name: "builds without warnings",
        command: "tools/testing/vm/check-warnings.sh emu fuzz guest runner module module-bitmaps intree kunit",
        needs: &[Need::Stock, Need::Intree, Need::Kunit, Need::Fuzz],
    },
    Command {
        name: "SPDX line in every file",
        command: "tools/testing/vm/check-spdx.sh",
        needs: &[],
    },
    Command {
        name: "kernels for packages",
        command: "tools/packaging/check-kernels.sh",
        needs: &[],
    },
    Command {
        name: "quotes of the uAPI",
        command: "\"$VM_BUILD/vfio-mig\" test --check-quotes \"$VM_INTREE/../source/include/uapi/linux/vfio.h\"",
        needs: &[Need::Intree],
    },
];

/// Those that only `make check-all` has: they compile kernels.
const LONG_COMMANDS: &[Command] = &[
    Command {
        name: "architectures",
        command: "tools/testing/vm/check-architectures.sh",
        needs: &[Need::Intree],
    },
    Command {
        name: "built in",
        command: "tools/testing/vm/check-builtin.sh",
        needs: &[Need::Builtin],
    },
    Command {
        name: "packages",
        command: "tools/packaging/check.sh",
        needs: &[Need::Stock, Need::Packages],
    },
    Command {
        name: "all checkers",
        command: "tools/testing/vm/check-debug.sh",
        needs: &[Need::Debug, Need::KunitDebug],
    },
];

/// How much is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// `make check`.
    Usual,
    /// `make check-all`: the long suites and the other kernels as well, and as much of what
    /// is random as there is.
    All,
}

impl Extent {
    /// The make target.
    const fn target(self) -> &'static str {
        match self {
            Self::Usual => "check",
            Self::All => "check-all",
        }
    }

    /// Seconds that each target is fuzzed.
    pub(super) const fn fuzz_seconds(self) -> u32 {
        match self {
            Self::Usual => 12,
            Self::All => 120,
        }
    }

    /// Its groups that are commands.
    pub(super) fn commands(self) -> impl Iterator<Item = &'static Command> {
        let long = match self {
            Self::Usual => &[],
            Self::All => LONG_COMMANDS,
        };
        COMMANDS.iter().chain(long)
    }

    /// Its kernels.
    const fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::Usual => &Kernel::BOTH,
            Self::All => &Kernel::ALL,
        }
    }

    /// Whether it has the scenarios of a suite.
    fn has(self, suite: Suite) -> bool {
        match suite {
            Suite::Check => true,
            Suite::CheckQemu | Suite::CheckQemuFaults | Suite::CheckNet | Suite::Campaign => {
                self == Self::All
            }
            // What it needs is made by the group of packages, which has no place before it.
            Suite::Bench | Suite::CheckDeb | Suite::Run | Suite::RunNet | Suite::Scenario => false,
        }
    }

    /// The command that runs just one group, with another one's random choices.
    pub(super) fn again(self, group: &str, seed: u64) -> String {
        format!("make {} TEST={} SEED={seed}", self.target(), quoted(group))
    }
}

/// The machines of all tests.
pub(super) fn machines(extent: Extent) -> Vec<(Kernel, &'static Scenario)> {
    let with = |kernel: Kernel| {
        scenarios::ALL
            .iter()
            .filter(move |one| extent.has(one.suite) && one.is_tested_with(kernel))
            .map(move |one| (kernel, one))
    };
    extent.kernels().iter().copied().flat_map(with).collect()
}

/// The names of all groups of tests.
pub fn groups(extent: Extent) -> Vec<String> {
    let commands = extent.commands().map(|one| one.name.to_string());
    let machines = machines(extent)
        .into_iter()
        .map(|(kernel, scenario)| scenario.group(kernel));
    commands
        .chain([CARGO, FUZZ].map(str::to_string))
        .chain(machines)
        .collect()
}

/// The names of the groups that `only` chooses.
pub(super) fn wanted(extent: Extent, only: Option<&str>) -> Result<Vec<String>> {
    let wanted = names::chosen(groups(extent), only);
    ensure!(
        !wanted.is_empty(),
        "no group of tests has {:?} in its name; there are\n    {}",
        only.unwrap_or_default(),
        groups(extent).join("\n    ")
    );
    Ok(wanted)
}

/// What the groups need that `only` chooses.
pub fn needs(extent: Extent, only: Option<&str>) -> Result<BTreeSet<Need>> {
    let wanted = wanted(extent, only)?;
    let commands = extent
        .commands()
        .filter(|one| wanted.iter().any(|name| name == one.name))
        .flat_map(|one| one.needs)
        .copied();
    let machines = machines(extent)
        .into_iter()
        .filter(|(kernel, scenario)| wanted.contains(&scenario.group(*kernel)))
        .flat_map(|(kernel, scenario)| needs::of_machine(kernel, scenario));
    let fuzz = wanted.iter().any(|one| one == FUZZ).then_some(Need::Fuzz);
    Ok(commands.chain(machines).chain(fuzz).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_can_be_had_alone() {
        for extent in [Extent::Usual, Extent::All] {
            for group in groups(extent) {
                assert_eq!(wanted(extent, Some(&group)).unwrap(), [group]);
            }
            assert_eq!(wanted(extent, None).unwrap(), groups(extent));
        }
    }

    #[test]
    fn all_is_more_than_usual() {
        let all = groups(Extent::All);
        assert!(groups(Extent::Usual)
            .iter()
            .all(|group| all.contains(group)));
        for group in [
            "intree-qemu-suite",
            "intree-qemu-faults",
            "bare-random",
            "bare-migrate",
            "builtin-kunit",
            "builtin-migrate",
            "debug-migrate",
            "debug-nomem",
            "architectures",
            "built in",
        ] {
            assert!(all.contains(&group.to_string()), "{group}");
            assert!(wanted(Extent::Usual, Some(group)).is_err(), "{group}");
        }
        assert!(!all.iter().any(|group| group.contains("bench")));
        // It could run, but takes long.
        assert!(!all.contains(&"debug-qemu".to_string()));
    }

    #[test]
    fn a_group_needs_what_it_runs() {
        let line = |only| needs::line(&needs(Extent::Usual, only).unwrap());
        assert_eq!(
            line(None),
            "sources stock intree kunit consumer fuzz rdma series"
        );
        assert_eq!(line(Some("stock-migrate")), "stock");
        assert_eq!(line(Some("intree-migrate")), "intree");
        assert_eq!(line(Some("-migrate")), "stock intree");
        assert_eq!(line(Some("intree-kunit")), "intree kunit");
        assert_eq!(line(Some("SPDX line in every file")), "");
        assert_eq!(line(Some(CARGO)), "");
        assert_eq!(line(Some(FUZZ)), "fuzz");
        let all = needs::line(&needs(Extent::All, None).unwrap());
        assert_eq!(
            all,
            "sources stock intree kunit bare builtin debug kunit-debug consumer fuzz rdma series \
             packages"
        );
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let err = wanted(Extent::Usual, Some("nosuch"))
            .unwrap_err()
            .to_string();
        assert!(err.contains("stock-migrate"), "{err}");
    }

    #[test]
    fn a_group_that_fails_can_be_had_again() {
        let again = Extent::All.again("clippy of user space", 7);
        assert_eq!(again, "make check-all TEST='clippy of user space' SEED=7");
        let again = Extent::Usual.again("stock-migrate", 7);
        assert_eq!(again, "make check TEST='stock-migrate' SEED=7");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a scenario is, and its machine.

use crate::kernel::Kernel::{
    self,
    Bare,
    Debug,
    Intree, //
};
use std::time::Duration;

/// Which command runs a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// `make check`.
    Check,
    /// `make check-qemu`.
    CheckQemu,
    /// `make check-qemu-faults`.
    CheckQemuFaults,
    /// `make check-net`.
    CheckNet,
    /// `make check-deb`.
    CheckDeb,
    /// `make campaign`.
    Campaign,
    /// `make bench`.
    Bench,
    /// `make run`.
    Run,
    /// `make run-net`.
    RunNet,
    /// `make scenario`, and no other.
    Scenario,
}

impl Suite {
    /// Its name in lists: the make target.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::CheckQemu => "check-qemu",
            Self::CheckQemuFaults => "check-qemu-faults",
            Self::CheckNet => "check-net",
            Self::CheckDeb => "check-deb",
            Self::Campaign => "campaign",
            Self::Bench => "bench",
            Self::Run => "run",
            Self::RunNet => "run-net",
            Self::Scenario => "scenario",
        }
    }
}

/// Something in a machine beside the emulated HCA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// The host's files, read-only by 9p.
    HostFiles,
    /// Two ivshmem-plain, which have no driver of their own.
    SharedMemory,
    /// A second HCA, with the properties of the first and on one network with it.
    Network,
    /// A network for the first HCA, and two more that are no NICs. The VFs of one have fewer
    /// vectors.
    Unlike,
    /// Three more HCAs like the first one, which is no NIC.
    Four,
    /// The network of the user for the first HCA, and two more that are connected by datagrams.
    Wires,
    /// A machine in the machine: what it boots, beside the host's files.
    Guest,
    /// A test of rdma-core's user-space driver.
    Rdma,
    /// What a package has installed, and modprobe, in place of modules that init loads; and a
    /// firmware (UEFI) with the key of their signatures.
    Packages,
    /// A slot that the first HCA can be taken out of, by native hot plug of PCI Express, and
    /// QEMU's monitor on the third serial port, for the machine to do so.
    Slot,
}

/// Where kmemleak looks for memory that the drivers have lost, if the kernel has it. It
/// unwinds the stack at each allocation, and scans all memory twice: a machine with it keeps
/// a core busy for eight seconds more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaks {
    /// Wherever the scenario is run.
    Always,
    /// In `make check-all`: other scenarios allocate in the same places.
    All,
    /// Nowhere.
    Never,
}

impl Leaks {
    /// Whether it does in a run: of `make check-all`, or not.
    pub const fn are_looked_for(self, all: bool) -> bool {
        match self {
            Self::Always => true,
            Self::All => all,
            Self::Never => false,
        }
    }
}

/// The machine that a scenario needs.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Properties of the emulated HCA, each with a comma before it. Its network is not one of
    /// them.
    pub properties: &'static str,
    /// Processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory: u32,
    /// The machine is stopped if it runs for longer.
    pub limit: Duration,
    /// What it has beside the HCA.
    pub extras: &'static [Extra],
    /// More of the kernel's command line.
    pub parameters: &'static str,
    /// Where leaks are looked for.
    pub leaks: Leaks,
    /// Whether instructions are counted. The machine is emulated then.
    pub counted: bool,
    /// Whether the stock kernel has dirty bitmaps, which its distribution leaves out.
    pub bitmaps: bool,
    /// Whether our modules have their KUnit tests in them.
    pub kunit: bool,
}

/// What properties of the emulated HCA give time to, in microseconds.
const TIMES: [(&str, &str); 7] = [
    ("cmd-us", "for each command"),
    ("suspend-us", "to suspend"),
    ("resume-us", "to resume"),
    ("save-us-per-mib", "to save a MiB"),
    ("load-us-per-mib", "to load a MiB"),
    ("report-us", "before a report of dirty pages"),
    ("message-us", "before each message of a report"),
];

impl Machine {
    /// What firmware takes its time for.
    pub fn firmware_times(&self) -> String {
        let properties = || self.properties.split(',');
        let recorded = properties().any(|property| property == "recorded-times=on");
        let recorded = recorded.then(|| "what an adapter took".to_string());
        let times = properties().filter_map(|property| {
            let (name, us) = property.split_once('=')?;
            let (_, what) = TIMES.iter().find(|(time, _)| *time == name)?;
            Some(match us.strip_suffix("000") {
                Some(ms) => format!("{ms} ms {what}"),
                None => format!("{us} us {what}"),
            })
        });
        let all: Vec<String> = recorded.into_iter().chain(times).collect();
        match all.is_empty() {
            true => "no time".to_string(),
            false => all.join(", "),
        }
    }
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it tests or measures.
    pub about: &'static str,
    /// The command that runs it.
    pub suite: Suite,
    /// The kernels that it can run with. With [`Debug`] in it, `make check-all` runs it with that
    /// as well.
    pub kernels: &'static [Kernel],
    /// Expected time in seconds, emulated, on an idle host with two cores.
    pub seconds: u32,
    /// Its machine.
    pub machine: Machine,
}

impl Scenario {
    /// Whether it can run with a kernel.
    pub fn runs_with(&self, kernel: Kernel) -> bool {
        // What is of neither of the two kernels alone needs no more than the third has.
        let both = Kernel::BOTH.iter().all(|one| self.kernels.contains(one));
        let third = kernel == Bare && self.suite == Suite::Check && both;
        // That kernel can do what the in-tree kernel can.
        let debug = kernel == Debug && self.kernels.contains(&Intree);
        third || debug || self.kernels.contains(&kernel)
    }

    /// Whether tests run it with a kernel, if they run it.
    pub fn is_tested_with(&self, kernel: Kernel) -> bool {
        match kernel {
            Debug => self.kernels.contains(&Debug),
            _ => self.runs_with(kernel),
        }
    }

    /// Whether its machine has something.
    pub fn has(&self, extra: Extra) -> bool {
        self.machine.extras.contains(&extra)
    }

    /// The name of its tests with a kernel, and of their folder.
    pub fn group(&self, kernel: Kernel) -> String {
        format!("{}-{}", kernel.name(), self.name)
    }
}

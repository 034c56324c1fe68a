// SPDX-License-Identifier: GPL-2.0

//! The table of scenarios: what a test machine can be started for.
//!
//! Init has a function for each entry, and the host a machine. The documentation shows the
//! table, and names.sh reads it from here.

use crate::kernel::Kernel::{
    self,
    Bare,
    Builtin,
    Debug,
    Fixed,
    Intree,
    Stock, //
};
pub use crate::scenario::{
    Extra,
    Leaks,
    Machine,
    Scenario,
    Suite, //
};
use std::time::Duration;

/// Those of tests.
const BOTH: &[Kernel] = &Kernel::BOTH;
/// With all checkers as well.
const ALSO_DEBUG: &[Kernel] = &[Stock, Intree, Debug];
/// With our driver in the image as well.
const ALSO_BUILTIN: &[Kernel] = &[Stock, Intree, Builtin];
/// With both.
const ALSO_BOTH: &[Kernel] = &[Stock, Intree, Builtin, Debug];
/// Those that instructions are counted with.
const MEASURED: &[Kernel] = &[Stock, Bare];

const USUAL: Machine = Machine {
    properties: "",
    cpus: 2,
    memory: 2048,
    limit: Duration::from_secs(900),
    extras: &[],
    parameters: "",
    leaks: Leaks::Always,
    counted: false,
    bitmaps: false,
    kunit: false,
};

/// For what allocates in the same places as other scenarios.
const WELL: Machine = Machine {
    leaks: Leaks::All,
    ..USUAL
};

const CHUNKS: Machine = Machine {
    // Most changes fit into a chunk: else the C driver, which gives firmware no more memory
    // than that, makes two images of what is one of ours.
    properties: ",chunk-size=512K",
    ..USUAL
};

/// Half a second for a MiB.
const SLOW: Machine = Machine {
    properties: ",save-us-per-mib=500000,load-us-per-mib=500000",
    ..USUAL
};

/// Firmware that refuses mkeys with larger pages.
const SMALL_PAGES: Machine = Machine {
    properties: ",log-max-mkey-page=12",
    parameters: "mlx5_vfio_pci_rust.mkey_page_shift=12",
    ..WELL
};

/// Two HCAs that are NICs.
const NETWORK: Machine = Machine {
    properties: ",num-vfs=2",
    extras: &[Extra::Network],
    leaks: Leaks::Never,
    ..USUAL
};

/// Faults of the C driver: they leave things behind, and the machine is not used further.
const C_FAULTS: Machine = Machine {
    properties: ",cmd-timeout-ms=1000",
    leaks: Leaks::Never,
    ..USUAL
};

/// The kernel's selftests.
const SELFTESTS: Machine = Machine {
    // Huge pages, of which a test wants one of each size.
    memory: 4096,
    extras: &[Extra::HostFiles, Extra::SharedMemory],
    parameters: "hugepagesz=2M hugepages=8 hugepagesz=1G hugepages=1",
    ..WELL
};

const SHARED_MEMORY: Machine = Machine {
    extras: &[Extra::SharedMemory],
    ..USUAL
};

const QEMU: Machine = Machine {
    // If this is emulated, two take turns on one host thread: a machine in it was
    // seen to stand still in its firmware, or while it boots.
    cpus: 1,
    memory: 3072,
    extras: &[Extra::HostFiles, Extra::Guest],
    // The memory of two machines in it.
    parameters: "hugepages=200",
    // The other scenarios look for leaks.
    leaks: Leaks::Never,
    ..USUAL
};

/// A guest that is a host on the network of two HCAs.
const NET: Machine = Machine {
    extras: &[Extra::Network, Extra::HostFiles, Extra::Guest],
    parameters: "hugepages=264",
    // The stock kernel's VFIO reports no dirty pages otherwise.
    bitmaps: true,
    properties: NETWORK.properties,
    ..QEMU
};

const HOUR: Duration = Duration::from_secs(3600);

const COUNTED: Machine = Machine {
    properties: ",state-size=16M",
    // With two, code that the kernel patches while it boots was executed half patched by
    // QEMU 10.0 with a plugin.
    cpus: 1,
    // Clearing pages is a function then. That it is cleared when it is allocated is what a
    // distribution's kernel does unless it is told.
    parameters: "clearcpuid=rep_good init_on_alloc=1",
    limit: HOUR,
    counted: true,
    bitmaps: true,
    ..USUAL
};

/// A MiB takes as long to load as to arrive.
const OVERLAP: Machine = Machine {
    properties: ",state-size=16320K,chunk-size=1M,load-us-per-mib=20000",
    parameters: "",
    ..COUNTED
};

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "core",
        about: "mlx5_core on the emulated HCA: VFs, health, unbinding",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: Machine {
            properties: ",num-vfs=64",
            ..WELL
        },
    },
    Scenario {
        name: "nic",
        about: "mlx5e on the emulated HCA: two of them on one network, traffic, and changes of \
                all that ``ethtool`` and ``ip`` change",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 120,
        machine: Machine {
            // As many channels.
            cpus: 4,
            ..NETWORK
        },
    },
    Scenario {
        name: "nic-wires",
        about: "mlx5e on QEMU's other networks: that of the user, and one of datagrams",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 30,
        machine: Machine {
            properties: NETWORK.properties,
            extras: &[Extra::Wires],
            ..WELL
        },
    },
    Scenario {
        name: "eswitch",
        about: "the e-switch of the emulated HCA: what a PF sets for its VFs, and where frames go",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 40,
        machine: NETWORK,
    },
    Scenario {
        name: "unlike",
        about: "what must not be loaded: a NIC's state where there is none, the reverse, that of \
                a VF with another number of vectors, and an image of another version",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 40,
        machine: Machine {
            properties: ",num-vfs=4",
            extras: &[Extra::Unlike],
            ..WELL
        },
    },
    Scenario {
        name: "rdma-core",
        about: "rdma-core's user-space driver on a VF, through vfio-pci and our driver",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 40,
        machine: Machine {
            extras: &[Extra::Network, Extra::Rdma],
            ..NETWORK
        },
    },
    Scenario {
        name: "migrate",
        about: "one migration with each driver, with firmware as slow as an adapter's",
        suite: Suite::Check,
        kernels: ALSO_BOTH,
        seconds: 20,
        machine: Machine {
            properties: ",state-size=16M,recorded-times=on",
            ..USUAL
        },
    },
    Scenario {
        name: "run",
        about: "some migrations with each driver in turn, for the report of ``make run``",
        suite: Suite::Run,
        kernels: &[Stock],
        seconds: 30,
        machine: COUNTED,
    },
    Scenario {
        name: "streams",
        about: "each driver loads what either has saved",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        machine: WELL,
    },
    Scenario {
        name: "chunks",
        about: "``streams``, with firmware that saves in chunks, and loads many images",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 40,
        machine: Machine {
            properties: ",state-size=16M,chunk-size=64K",
            ..WELL
        },
    },
    Scenario {
        name: "chunks-grow",
        about: "``chunks``, where each chunk needs more room than the one before",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        // Beyond the room that the Rust driver gives every chunk at first.
        machine: Machine {
            properties: ",state-size=64M,chunk-size=3M,chunks-grow=on",
            ..WELL
        },
    },
    Scenario {
        name: "unwritten",
        about: "``streams``, with firmware that leaves the end of an image unwritten",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        machine: Machine {
            properties: ",save-unwritten=1048576",
            parameters: "init_on_alloc=0",
            ..WELL
        },
    },
    Scenario {
        name: "small-pages",
        about: "firmware that takes only mkeys with pages of 4 KiB, and the module parameter \
                for it",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 30,
        machine: SMALL_PAGES,
    },
    Scenario {
        name: "precopy",
        about: "saving a running device, sentence by sentence of the uAPI",
        suite: Suite::Check,
        kernels: ALSO_DEBUG,
        seconds: 60,
        machine: USUAL,
    },
    Scenario {
        name: "precopy-chunks",
        about: "``precopy``, with firmware that saves in chunks",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: Machine {
            properties: ",chunk-size=64K,chunks-grow=on",
            ..WELL
        },
    },
    Scenario {
        name: "pipeline",
        about: "slow firmware: which requests wait for it, and which do not",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: SLOW,
    },
    Scenario {
        name: "waits",
        about: "signals, resets and other callers while a call on a data file waits",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 90,
        machine: SLOW,
    },
    Scenario {
        name: "resets",
        about: "resets of a VF with slow firmware: queued work is dropped, and a VF that says \
                RUNNING runs",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 90,
        machine: Machine {
            properties: ",save-us-per-mib=60000,load-us-per-mib=60000",
            ..USUAL
        },
    },
    Scenario {
        name: "resets-chunks",
        about: "the end of a session waits for one chunk of slow firmware, and for no other",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 40,
        machine: Machine {
            properties: ",state-size=16M,chunk-size=64K,save-us-per-mib=500000",
            ..USUAL
        },
    },
    Scenario {
        name: "races",
        about: "all calls at the same time, a thread for each, with resets and PF reloads",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 90,
        machine: USUAL,
    },
    Scenario {
        name: "life",
        about: "PFs that are reset, reloaded, unbound or unplugged, hosts that sleep, processes \
                that end: in each state, in the middle of each call",
        suite: Suite::Check,
        kernels: ALSO_DEBUG,
        seconds: 60,
        machine: Machine {
            properties: ",num-vfs=4",
            limit: HOUR,
            extras: &[Extra::Slot],
            bitmaps: true,
            ..USUAL
        },
    },
    Scenario {
        name: "soak",
        about: "migrations back and forth with faults, resets and DMA logging; nothing is lost \
                in the end",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 90,
        machine: Machine {
            limit: HOUR,
            ..USUAL
        },
    },
    Scenario {
        name: "soak-chunks",
        about: "the same with a state in chunks",
        suite: Suite::Campaign,
        kernels: &[Intree, Debug],
        seconds: 90,
        machine: Machine {
            limit: HOUR,
            ..CHUNKS
        },
    },
    Scenario {
        name: "timeout",
        about: "firmware that answers after mlx5_core has given up waiting",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",cmd-timeout-ms=1000",
            ..USUAL
        },
    },
    Scenario {
        name: "firmware-fails",
        about: "every firmware command of every request fails once, with any status that there is",
        suite: Suite::Campaign,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree, Debug],
        seconds: 120,
        machine: Machine {
            properties: ",report-us=5000",
            limit: HOUR,
            ..USUAL
        },
    },
    Scenario {
        name: "firmware-late",
        about: "commands of each request that mlx5_core gives up: they are answered, or told of, \
                too late",
        suite: Suite::Campaign,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree, Debug],
        seconds: 120,
        machine: Machine {
            properties: ",report-us=5000,cmd-timeout-ms=1000",
            limit: HOUR,
            // mlx5_core leaks each command whose event is lost.
            leaks: Leaks::Never,
            ..USUAL
        },
    },
    Scenario {
        name: "c-driver",
        about: "a fault of the C driver, chosen by ``FAULT=``: fails, or ends the machine, as \
                long as the driver has it; all of them, with the fixes",
        suite: Suite::Scenario,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree, Debug, Fixed],
        seconds: 30,
        machine: Machine {
            // Memory that is used after it was freed has lost what was in it.
            parameters: "init_on_free=1",
            ..C_FAULTS
        },
    },
    Scenario {
        name: "c-driver-bounced",
        about: "``c-driver``, with bounce buffers for all DMA",
        suite: Suite::Scenario,
        kernels: &[Intree, Debug, Fixed],
        seconds: 30,
        machine: Machine {
            parameters: "iommu=pt swiotlb=force",
            ..C_FAULTS
        },
    },
    Scenario {
        name: "c-driver-flood",
        about: "``c-driver``, with reports that have more messages than a queue holds, and use \
                each receive entry at once",
        suite: Suite::Scenario,
        kernels: &[Intree, Debug, Fixed],
        seconds: 30,
        machine: Machine {
            properties: ",log-max-message=9,page-repeats=60000,rnr-retries=2000",
            ..C_FAULTS
        },
    },
    Scenario {
        name: "random",
        about: "random sequences of requests, reads, writes, work and faults of firmware; \
                both drivers must show the same",
        suite: Suite::Check,
        kernels: ALSO_DEBUG,
        seconds: 120,
        machine: USUAL,
    },
    Scenario {
        name: "random-chunks",
        about: "``random``, with firmware that saves in chunks",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 120,
        machine: CHUNKS,
    },
    Scenario {
        name: "dirty",
        about: "DMA logging, both drivers compared",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree, Debug],
        seconds: 60,
        machine: USUAL,
    },
    Scenario {
        name: "dirty-slow",
        about: "``dirty``, with slow firmware, and firmware that does not answer",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",report-us=20000,message-us=100",
            ..USUAL
        },
    },
    Scenario {
        name: "dirty-limits",
        about: "``dirty``, with firmware that has one tracker, messages of 4 MiB and mkeys of \
                4 KiB pages, and reports each page three times",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",trackers=1,log-max-message=22,page-repeats=3,log-max-mkey-page=12",
            ..SMALL_PAGES
        },
    },
    Scenario {
        name: "dirty-flood",
        about: "reports with more messages than the driver has room for",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",log-max-message=9,page-repeats=60000",
            ..WELL
        },
    },
    Scenario {
        name: "dmabuf",
        about: "BARs as dma-bufs, as vfio-pci exports them; a peer's DMA gets there until \
                they are revoked",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        machine: USUAL,
    },
    Scenario {
        name: "matrix",
        about: "every state request from every state, both drivers compared",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: WELL,
    },
    Scenario {
        name: "files",
        about: "every call on a data file, both drivers compared",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        machine: WELL,
    },
    Scenario {
        name: "many",
        about: "64 VFs that migrate at the same time",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",num-vfs=64",
            ..USUAL
        },
    },
    Scenario {
        name: "many-pfs",
        about: "``many``, with 16 VFs of each of four PFs: from PF to PF, also while others are \
                reloaded",
        suite: Suite::Campaign,
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",num-vfs=16",
            extras: &[Extra::Four],
            ..WELL
        },
    },
    Scenario {
        name: "compat",
        about: "ioctls as programs of 32 bit make them",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 20,
        machine: WELL,
    },
    Scenario {
        name: "memory",
        about: "memory of sessions comes back, and is charged to the process that has them",
        suite: Suite::Check,
        // The in-tree kernel's checkers take three minutes, and change no count.
        kernels: &[Stock],
        seconds: 120,
        machine: Machine {
            properties: ",state-size=16M",
            ..USUAL
        },
    },
    Scenario {
        name: "nomem",
        about: "allocations of each request fail, one at a time, with drivers and a sample",
        suite: Suite::Check,
        // The stock kernel injects no faults.
        kernels: &[Intree, Debug],
        seconds: 120,
        machine: Machine {
            limit: HOUR,
            ..SHARED_MEMORY
        },
    },
    Scenario {
        name: "nomem-random",
        about: "allocations fail by chance, in all calls at the same time and in workers",
        suite: Suite::Campaign,
        // As for nomem.
        kernels: &[Intree, Debug],
        seconds: 60,
        machine: USUAL,
    },
    Scenario {
        name: "swiotlb",
        about: "our driver with few bounce buffers for DMA: states survive",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: Machine {
            // Each page of the HCA's takes bounce buffers, which are for our driver here.
            properties: ",state-size=16M,init-pages=32",
            // An IOMMU that translates would make them superfluous.
            parameters: "iommu=pt swiotlb=force",
            bitmaps: true,
            ..WELL
        },
    },
    Scenario {
        name: "badinput",
        about: "hostile streams; devices, PFs and processes that go away",
        suite: Suite::Check,
        kernels: ALSO_DEBUG,
        seconds: 60,
        machine: USUAL,
    },
    Scenario {
        name: "tool",
        about: "the vfio-mig command",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 90,
        machine: WELL,
    },
    Scenario {
        name: "setup",
        about: "``vfio-mig doctor``, ``setup``, ``bind``, ``unbind`` and ``hwtest``: VFs that are \
                made and given away, and what must not be touched; why a VF cannot migrate",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 40,
        machine: NETWORK,
    },
    Scenario {
        name: "hwtest",
        about: "``vfio-mig hwtest`` with firmware that fails, a PF that is unbound, and signals",
        suite: Suite::Check,
        // The stock kernel has no dirty bitmaps.
        kernels: &[Intree],
        seconds: 60,
        machine: Machine {
            properties: ",state-size=256K,cmd-timeout-ms=1000",
            limit: HOUR,
            ..WELL
        },
    },
    Scenario {
        name: "trace",
        about: "the driver's tracepoints during a migration",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 30,
        machine: WELL,
    },
    Scenario {
        name: "selftests",
        about: "the kernel's own VFIO selftests on VFs that are bound to our driver, by \
                ``make run_tests``, and ours among them; those of migration also with the C \
                driver, our sample and mtty",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 170,
        machine: SELFTESTS,
    },
    Scenario {
        name: "selftests-each",
        about: "those of migration with each driver that the kernel has, for ``make \
                check-series``",
        suite: Suite::Scenario,
        kernels: &[Intree],
        seconds: 120,
        machine: SELFTESTS,
    },
    Scenario {
        name: "kunit",
        about: "tests of our modules that need no device, and the examples in their \
                documentation, by KUnit",
        suite: Suite::Check,
        // The stock kernel has no KUnit.
        kernels: &[Intree, Builtin, Debug],
        seconds: 30,
        machine: Machine {
            kunit: true,
            ..USUAL
        },
    },
    Scenario {
        name: "abuse",
        about: "``vfio-mig stress`` on our driver and on the sample",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 60,
        machine: SHARED_MEMORY,
    },
    Scenario {
        name: "hostile-device",
        about: "firmware, queues and events that say what no honest device says",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 60,
        machine: Machine {
            // With few pages, the PF is set up fast.
            properties: ",state-size=256K,chunk-size=64K,init-pages=32",
            limit: HOUR,
            ..USUAL
        },
    },
    Scenario {
        name: "hostile-users",
        about: "requests of all kinds, right and wrong, from threads and processes at once",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 90,
        machine: Machine {
            properties: ",state-size=64K",
            limit: HOUR,
            ..SHARED_MEMORY
        },
    },
    Scenario {
        name: "hostile-streams",
        about: "streams made from real ones that are no states, and what they can pin",
        suite: Suite::Check,
        kernels: &[Intree, Debug],
        seconds: 100,
        machine: Machine {
            properties: ",num-vfs=16,state-size=64K",
            limit: HOUR,
            ..SHARED_MEMORY
        },
    },
    Scenario {
        name: "conformance",
        about: "``vfio-mig test`` judges our driver",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 60,
        machine: USUAL,
    },
    Scenario {
        name: "conformance-c",
        about: "``conformance`` for the C driver; what it fails is in \
                ``vfio-mig/expectations``, each with its reason",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 60,
        machine: WELL,
    },
    Scenario {
        name: "conformance-mtty",
        about: "``conformance`` for the kernel's sample of a mediated device",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 60,
        machine: WELL,
    },
    Scenario {
        name: "sample",
        about: "``conformance`` for ``samples/vfio-rust``, on two ivshmem-plain",
        suite: Suite::Check,
        kernels: ALSO_BUILTIN,
        seconds: 60,
        machine: Machine {
            leaks: Leaks::All,
            ..SHARED_MEMORY
        },
    },
    Scenario {
        name: "hooks",
        about: "what a driver may hook: regions, ioctls, opening",
        suite: Suite::Check,
        kernels: BOTH,
        seconds: 20,
        machine: SHARED_MEMORY,
    },
    Scenario {
        name: "qemu",
        about: "QEMU live-migrates a running guest from VF to VF",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 120,
        machine: QEMU,
    },
    Scenario {
        name: "net",
        about: "QEMU live-migrates a guest whose own mlx5e streams both ways with a peer",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 120,
        machine: NET,
    },
    Scenario {
        name: "net-suite",
        about: "``net`` with migrations that fail and with several queues",
        suite: Suite::CheckNet,
        kernels: &[Stock],
        seconds: 400,
        machine: Machine { limit: HOUR, ..NET },
    },
    Scenario {
        name: "net-often",
        about: "``net`` back and forth ten times",
        suite: Suite::CheckNet,
        kernels: &[Stock],
        seconds: 400,
        machine: Machine { limit: HOUR, ..NET },
    },
    Scenario {
        name: "net-changes",
        about: "a guest that changes its interface in pre-copy, with each driver",
        suite: Suite::CheckNet,
        kernels: &[Stock],
        seconds: 500,
        machine: Machine { limit: HOUR, ..NET },
    },
    Scenario {
        name: "net-faults",
        about: "``net`` with a device that fails while QEMU migrates the guest, with each driver",
        suite: Suite::CheckNet,
        kernels: &[Stock],
        seconds: 700,
        machine: Machine {
            limit: HOUR,
            // More than the LOAD takes that is merely slow, and which is not given up.
            properties: ",num-vfs=2,cmd-timeout-ms=10000",
            ..NET
        },
    },
    Scenario {
        name: "packages",
        about: "the driver as DKMS has built and signed it: modprobe, a migration, and a kernel \
                that enforces signatures",
        suite: Suite::CheckDeb,
        kernels: &[Stock],
        seconds: 30,
        machine: Machine {
            extras: &[Extra::Packages],
            ..WELL
        },
    },
    Scenario {
        name: "run-net",
        about: "``net`` with each driver, for the report of ``make run-net``",
        suite: Suite::RunNet,
        kernels: &[Stock],
        seconds: 200,
        machine: NET,
    },
    Scenario {
        name: "qemu-suite",
        about: "``qemu`` in all ways: several VFs and channels, cancelled and repeated \
                migrations",
        suite: Suite::CheckQemu,
        kernels: &[Intree],
        seconds: 1200,
        machine: Machine {
            limit: HOUR,
            ..QEMU
        },
    },
    Scenario {
        name: "qemu-fault",
        about: "``qemu`` with a device that fails: one fault of each side",
        suite: Suite::Check,
        kernels: &[Intree],
        seconds: 90,
        machine: QEMU,
    },
    Scenario {
        name: "qemu-faults",
        about: "``qemu-fault`` with all faults and both drivers, through iommufd and a \
                container",
        suite: Suite::CheckQemuFaults,
        kernels: &[Intree],
        seconds: 2200,
        machine: Machine {
            limit: HOUR.saturating_mul(2),
            // More than the LOAD takes that is merely slow, and which is not given up.
            properties: ",cmd-timeout-ms=10000",
            ..QEMU
        },
    },
    Scenario {
        name: "paths",
        about: "``bench-paths`` with three counted runs: no goal that was reached is missed",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 60,
        machine: Machine {
            parameters: "clearcpuid=rep_good init_on_alloc=1 vmtest.runs=4",
            ..COUNTED
        },
    },
    Scenario {
        name: "overlap",
        about: "``bench-overlap``, once: no goal that was reached is missed",
        suite: Suite::Check,
        kernels: &[Stock],
        seconds: 30,
        machine: Machine {
            parameters: "vmtest.runs=1",
            ..OVERLAP
        },
    },
    Scenario {
        name: "bench-paths",
        about: "instructions on the way of each call, and memory; state of 16 MiB",
        suite: Suite::Bench,
        kernels: MEASURED,
        seconds: 300,
        machine: COUNTED,
    },
    Scenario {
        name: "bench-paths-0",
        about: "``bench-paths`` with init_on_alloc=0: the driver clears the pages that must be \
                clear",
        suite: Suite::Bench,
        kernels: MEASURED,
        seconds: 60,
        machine: Machine {
            parameters: "clearcpuid=rep_good init_on_alloc=0",
            ..COUNTED
        },
    },
    Scenario {
        name: "bench-paths-274",
        about: "firmware commands to load a state that was saved in chunks",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 60,
        machine: Machine {
            properties: ",state-size=16M,chunk-size=64K",
            ..COUNTED
        },
    },
    Scenario {
        name: "bench-paths-1g",
        about: "beginning to save a state of 1 GiB",
        suite: Suite::Bench,
        kernels: MEASURED,
        seconds: 120,
        machine: Machine {
            properties: ",state-size=1G",
            memory: 6144,
            ..COUNTED
        },
    },
    Scenario {
        name: "bench-paths-vfs",
        about: "1 to 16 VFs that migrate at once, with slow firmware",
        suite: Suite::Bench,
        kernels: MEASURED,
        seconds: 300,
        machine: Machine {
            properties: ",num-vfs=64,state-size=4M,save-us-per-mib=5000,load-us-per-mib=5000",
            memory: 4096,
            ..COUNTED
        },
    },
    Scenario {
        name: "bench-profile",
        about: "the functions of the kernel that ``bench-paths`` counts in",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 300,
        machine: COUNTED,
    },
    Scenario {
        name: "bench-overlap",
        about: "records that arrive as fast as firmware loads them",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 60,
        machine: OVERLAP,
    },
    Scenario {
        name: "bench-reinit",
        about: "migrating VFs with a state of 1 GiB",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 600,
        machine: Machine {
            properties: ",state-size=1G,save-us-per-mib=250,load-us-per-mib=500",
            memory: 8192,
            limit: HOUR,
            ..USUAL
        },
    },
    Scenario {
        name: "bench-dirty",
        about: "reporting dirty pages of 1 GiB",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 300,
        machine: Machine {
            limit: HOUR,
            bitmaps: true,
            ..USUAL
        },
    },
    Scenario {
        name: "bench-qemu",
        about: "live-migrating a guest with four VFs by QEMU",
        suite: Suite::Bench,
        kernels: &[Intree],
        seconds: 900,
        machine: Machine {
            properties: ",state-size=32M,save-us-per-mib=250,load-us-per-mib=500",
            memory: 4096,
            limit: HOUR,
            ..QEMU
        },
    },
    Scenario {
        name: "bench-net",
        about: "live-migrating a guest whose mlx5e makes queues anew all the time",
        suite: Suite::Bench,
        kernels: &[Stock],
        seconds: 1200,
        machine: Machine {
            // All of the state is what the guest's driver has made: some 40 KiB.
            properties: ",num-vfs=2,state-size=4K,save-us-per-mib=2000000,\
                         load-us-per-mib=4000000",
            limit: HOUR,
            ..NET
        },
    },
];

/// The scenario with a name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (i, scenario) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != scenario.name));
            assert!(!scenario.kernels.is_empty(), "{}", scenario.name);
            assert_eq!(find(scenario.name).unwrap().name, scenario.name);
        }
        assert!(find("migrte").is_none());
    }

    #[test]
    fn what_firmware_takes_its_time_for() {
        let of = |name| find(name).unwrap().machine.firmware_times();
        assert_eq!(of("bench-paths"), "no time");
        assert_eq!(
            of("bench-paths-vfs"),
            "5 ms to save a MiB, 5 ms to load a MiB"
        );
        assert_eq!(of("migrate"), "what an adapter took");
        assert_eq!(
            of("dirty-slow"),
            "20 ms before a report of dirty pages, 100 us before each message of a report"
        );
    }

    #[test]
    fn the_page_says_which_times_a_benchmark_has() {
        let page = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../../Documentation/dev-tools/vfio-rust/testing.rst"
        ));
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for one in ALL.iter().filter(|one| one.suite == Suite::Bench) {
            let row = format!("``{}`` {}", one.name, one.machine.firmware_times());
            assert!(words(page).contains(&row), "{row}");
        }
    }

    #[test]
    fn what_is_tested_with_all_checkers_runs_with_them() {
        for scenario in ALL {
            let intree = scenario.kernels.contains(&Intree);
            assert_eq!(scenario.runs_with(Debug), intree, "{}", scenario.name);
            assert!(
                intree || !scenario.is_tested_with(Debug),
                "{}",
                scenario.name
            );
        }
        let tested = ALL.iter().filter(|one| one.is_tested_with(Debug));
        assert!(tested.count() >= 6);
    }

    #[test]
    fn a_guest_needs_the_hosts_files_and_one_kernel() {
        for scenario in ALL.iter().filter(|scenario| scenario.has(Extra::Guest)) {
            assert!(scenario.has(Extra::HostFiles), "{}", scenario.name);
            // The stock kernel's VFIO only lets programs use a VF that has an IOMMU.
            let kernel = match scenario.has(Extra::Network) {
                true => Stock,
                false => Intree,
            };
            assert_eq!(scenario.kernels, [kernel], "{}", scenario.name);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The table of drivers that test machines have.

/// A driver.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    /// Its module.
    pub module: &'static str,
    /// Whether it is ours. Machines load it, and unload it in the end.
    pub ours: bool,
    /// What its devices lack, so that some tests are inapplicable: in the words with which
    /// `vfio-mig test` skips them.
    pub lacks: &'static [&'static str],
}

/// All drivers.
pub const ALL: &[Tested] = &[
    Tested {
        module: "mlx5_vfio_pci_rust",
        ours: true,
        lacks: &["the device supports all states"],
    },
    Tested {
        module: "vfio_ivshmem_rust",
        ours: true,
        lacks: &[
            "the device does not support RUNNING_P2P",
            "the device does not support PRE_COPY",
            "the device does not support PRE_COPY_P2P",
            "the device has no DMA logging",
            "the device has no MSI-X",
            "the device does nothing by itself (only an emulated ConnectX VF can be told to)",
        ],
    },
    Tested {
        module: "mlx5_vfio_pci",
        ours: false,
        lacks: &[
            "the device supports all states",
            "an invalid state leaves the device in STOP, and no other way to ERROR is known",
        ],
    },
    Tested {
        module: "mtty",
        ours: false,
        lacks: &[
            "the device supports all states",
            "an invalid state leaves the device in RESUMING, and no other way to ERROR is known",
            "not a PCI function",
            "the device has no MSI-X",
            "the device does nothing by itself (only an emulated ConnectX VF can be told to)",
        ],
    },
];

/// What our drivers stand on.
pub const ABSTRACTIONS: &str = "vfio_rust";
/// A driver for tests of the abstractions, which one scenario loads.
pub const HOOKS: &str = "vfio_skeleton_hooks";
/// The examples in their documentation, as KUnit tests.
pub const EXAMPLES: &str = "vfio_rust_examples";

/// Returns the modules of our drivers.
pub fn ours() -> impl Iterator<Item = &'static str> {
    ALL.iter()
        .filter(|driver| driver.ours)
        .map(|driver| driver.module)
}

/// Returns what the devices of a driver lack.
pub fn lacks(module: &str) -> &'static [&'static str] {
    let driver = ALL.iter().find(|driver| driver.module == module);
    driver.map_or(&[], |driver| driver.lacks)
}

// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/qat`: VFs of Intel's accelerators. All states; opening the
//! device may fail.

#![deny(unsafe_code)]

mod firmware;
mod image;
mod vf;

use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use vf::Vf;
use vfio_rust::{
    kernel::pci::PciDeviceExt,
    migratable::Migratable,
    migration::{
        Features,
        Migration,
        VfioDevice, //
    },
    pci::{
        Driver,
        Id,
        IdTable,
        Ids, //
    },
};

/// Bytes at the beginning of the state that tell which devices can load the rest.
const SETUP: usize = 4096;

static ID_TABLE: IdTable<2> = IdTable::new([Id::new(0x8086, 0x4941), Id::new(0x8086, 0x4943)]);

struct Qat {
    migration: Pin<KBox<Migratable<Vf>>>,
}

#[vtable]
impl Driver for Qat {
    const NAME: &'static CStr = c"vfio_skeleton_qat";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_p2p().with_pre_copy();
    type Migration = Vf;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        if !dev.is_virtfn() {
            return Err(ENODEV);
        }
        let migration = Migratable::new(Vf::new(0, 0, SETUP), None);
        Ok(Self {
            migration: KBox::pin_init(migration, GFP_KERNEL)?,
        })
    }

    fn migration(&self) -> Option<&Migratable<Vf>> {
        Some(&self.migration)
    }

    fn open(&self, vdev: &VfioDevice<'_>) -> Result {
        self.migration.data_size(vdev).map(|_| ())
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Qat,
    name: "vfio_skeleton_qat",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of qat",
    license: "GPL",
}

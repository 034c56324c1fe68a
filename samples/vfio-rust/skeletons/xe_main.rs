// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/xe`: VFs of Intel GPUs. Peer-to-peer without pre-copy.

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
    migration::Features,
    pci::{
        Driver,
        Id,
        IdTable,
        Ids, //
    },
};

static ID_TABLE: IdTable<2> = IdTable::new([Id::new(0x8086, 0xb080), Id::new(0x8086, 0xe211)]);

struct Xe {
    /// `None` for a GPU that is no VF: the driver takes it, but cannot migrate it.
    migration: Option<Pin<KBox<Migratable<Vf>>>>,
}

#[vtable]
impl Driver for Xe {
    const NAME: &'static CStr = c"vfio_skeleton_xe";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_p2p();
    type Migration = Vf;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        if !dev.is_virtfn() {
            return Ok(Self { migration: None });
        }
        let migration = Migratable::new(Vf::new(0, 0, 0), None);
        Ok(Self {
            migration: Some(KBox::pin_init(migration, GFP_KERNEL)?),
        })
    }

    fn migration(&self) -> Option<&Migratable<Vf>> {
        self.migration.as_deref()
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Xe,
    name: "vfio_skeleton_xe",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of xe",
    license: "GPL",
}

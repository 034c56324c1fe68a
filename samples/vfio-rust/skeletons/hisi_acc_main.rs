// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/hisilicon`: VFs of HiSilicon's accelerators. Pre-copy without
//! peer-to-peer; the half of a BAR that has the mailbox is hidden from user space.

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
    ioctl::{
        Ioctl,
        IOEVENTFD, //
    },
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
    region::{
        Mapping,
        Region,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};

/// The BAR whose second half has the mailbox.
const BAR: u32 = 2;
/// Bytes at the beginning of the state that tell which devices can load the rest.
const MATCH: usize = 64;

static ID_TABLE: IdTable<3> = IdTable::new([
    Id::new(0x19e5, 0xa251),
    Id::new(0x19e5, 0xa256),
    Id::new(0x19e5, 0xa259),
]);

struct HisiAcc {
    migration: Pin<KBox<Migratable<Vf>>>,
    /// Bytes of the BAR that user space can access.
    visible: u64,
}

#[vtable]
impl Driver for HisiAcc {
    const NAME: &'static CStr = c"vfio_skeleton_hisi_acc";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_pre_copy();
    type Migration = Vf;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        let visible = dev.resource_len(BAR)? / 2;
        if !dev.is_virtfn() || visible == 0 {
            return Err(ENODEV);
        }
        let migration = Migratable::new(Vf::new(BAR, visible.try_into()?, MATCH), None);
        Ok(Self {
            migration: KBox::pin_init(migration, GFP_KERNEL)?,
            visible,
        })
    }

    fn migration(&self) -> Option<&Migratable<Vf>> {
        Some(&self.migration)
    }

    fn open(&self, vdev: &VfioDevice<'_>) -> Result {
        self.migration.data_size(vdev).map(|_| ())
    }

    /// Refuses eventfds, which could write to the hidden half.
    fn ioctl(&self, _vdev: &VfioDevice<'_>, request: &Ioctl<'_>) -> Result<isize> {
        match request.command() {
            IOEVENTFD => Err(ENOTTY),
            _ => request.forward(),
        }
    }

    fn read(&self, _vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        if read.region() == Region::Bar(BAR) {
            read.clip(self.visible)?;
        }
        read.forward()
    }

    fn write(&self, _vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        if write.region() == Region::Bar(BAR) {
            write.clip(self.visible)?;
        }
        write.forward()
    }

    /// Limits mappings and dma-bufs to the visible half.
    fn mmap(&self, _vdev: &VfioDevice<'_>, mapping: &Mapping) -> Result {
        match mapping.region() {
            Region::Bar(BAR) => mapping.check_end(self.visible),
            _ => Ok(()),
        }
    }

    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        info.forward()?;
        if info.region() == Region::Bar(BAR) {
            info.set_size(self.visible);
        }
        Ok(())
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: HisiAcc,
    name: "vfio_skeleton_hisi_acc",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of hisi_acc",
    license: "GPL",
}

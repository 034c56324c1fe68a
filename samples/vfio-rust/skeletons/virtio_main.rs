// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/virtio`: VFs of virtio devices, with a BAR 0 that the VF itself
//! does not have, for drivers that are older than virtio 1.0.

#![deny(unsafe_code)]

mod firmware;
mod image;
mod vf;

use kernel::{
    device::Bound,
    new_mutex,
    pci,
    prelude::*,
    sync::Mutex, //
};
use vf::Vf;
use vfio_rust::{
    bar::Bar,
    kernel::pci::PciDeviceExt,
    migratable::Migratable,
    migration::{
        Features,
        VfioDevice, //
    },
    pci::{
        Driver,
        Id,
        IdTable,
        Ids, //
    },
    region::{
        Access,
        Region,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};

/// The BAR where the device is told of new buffers, and the offset in it.
const NOTIFY: (u32, usize) = (4, 0x3000);

/// The legacy registers, in BAR 0: their length, and the one that tells of new buffers.
const LEGACY: Region = Region::Bar(0);
const LEGACY_LEN: usize = 32;
const QUEUE_NOTIFY: u64 = 16;

/// Bytes at the beginning of the state that tell which devices can load the rest.
const SETUP: usize = 64;

/// Registers of configuration space, and the bit of the last one that stands for I/O ports.
const REVISION_ID: u64 = 0x08;
const BASE_ADDRESS_0: u64 = 0x10;
const IO: u32 = 1;

static ID_TABLE: IdTable<2> = IdTable::new([Id::new(0x1af4, 0x1041), Id::new(0x1af4, 0x1042)]);

/// What a legacy driver has written.
struct Legacy {
    registers: [u8; LEGACY_LEN],
    base_address: [u8; 4],
}

struct Virtio {
    migration: Pin<KBox<Migratable<Vf>>>,
    legacy: Pin<KBox<Mutex<Legacy>>>,
}

#[vtable]
impl Driver for Virtio {
    const NAME: &'static CStr = c"vfio_skeleton_virtio";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_p2p().with_pre_copy();
    type Migration = Vf;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        if !dev.is_virtfn() || dev.resource_len(0)? != 0 {
            return Err(ENODEV);
        }
        let legacy = Legacy {
            registers: [0; LEGACY_LEN],
            base_address: [0; 4],
        };
        let legacy = new_mutex!(legacy, "vfio_skeleton_legacy");
        let migration = Migratable::new(Vf::new(2, 0, SETUP), None);
        Ok(Self {
            migration: KBox::pin_init(migration, GFP_KERNEL)?,
            legacy: KBox::pin_init(legacy, GFP_KERNEL)?,
        })
    }

    fn migration(&self) -> Option<&Migratable<Vf>> {
        Some(&self.migration)
    }

    fn open(&self, vdev: &VfioDevice<'_>) -> Result {
        let (bar, at) = NOTIFY;
        Bar::of(vdev, bar)?.read16(at).map(|_| ())
    }

    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        if info.region() != LEGACY {
            return info.forward();
        }
        info.describe(LEGACY_LEN as u64, Access::READ | Access::WRITE);
        Ok(())
    }

    fn read(&self, _vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        if read.region() == LEGACY {
            read.clip(LEGACY_LEN as u64)?;
            let registers = self.legacy.lock().registers;
            read.put(0, &registers)?;
            return Ok(read.len());
        }
        let n = read.forward()?;
        if read.region() == Region::Config {
            let address = u32::from_le_bytes(self.legacy.lock().base_address);
            let address = address & !(LEGACY_LEN as u32 - 1) | IO;
            read.put(BASE_ADDRESS_0, &address.to_le_bytes())?;
            read.put(REVISION_ID, &[0])?;
        }
        Ok(n)
    }

    fn write(&self, vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        match write.region() {
            Region::Config => {
                let mut address = self.legacy.lock().base_address;
                if write.get(BASE_ADDRESS_0, &mut address)? {
                    self.legacy.lock().base_address = address;
                }
                write.forward()
            }
            LEGACY => {
                write.clip(LEGACY_LEN as u64)?;
                let mut registers = self.legacy.lock().registers;
                write.get(0, &mut registers)?;
                self.legacy.lock().registers = registers;
                let mut queue = [0; 2];
                if write.get(QUEUE_NOTIFY, &mut queue)? {
                    let (bar, at) = NOTIFY;
                    Bar::of(vdev, bar)?.write16(at, u16::from_le_bytes(queue))?;
                }
                Ok(write.len())
            }
            _ => write.forward(),
        }
    }

    fn reset_done(&self) {
        self.legacy.lock().base_address = [0; 4];
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Virtio,
    name: "vfio_skeleton_virtio",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of virtio",
    license: "GPL",
}

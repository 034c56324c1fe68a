// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/pds`: VFs of AMD's DSC. Peer-to-peer without pre-copy, and
//! DMA logging by the device.

#![deny(unsafe_code)]

mod firmware;
mod image;
mod vf;

use firmware::Command;
use kernel::{
    device::Bound,
    new_mutex,
    page::PAGE_SHIFT,
    pci,
    prelude::*,
    sync::Mutex, //
};
use vf::Vf;
use vfio_rust::{
    dirty_log::{
        DirtyBitmap,
        DirtyLog,
        IovaRange,
        IovaRanges, //
    },
    kernel::{
        pci::PciDeviceExt,
        task, //
    },
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

/// Ranges that the device can log at once.
const MAX_RANGES: u32 = 8;

/// Logs writes to `data` pages from number `argument` on.
const TRACK: Command = Command(6);
/// Stops logging.
const UNTRACK: Command = Command(7);
/// Returns which of 32 pages from number `argument` on were written.
const WRITTEN: Command = Command(8);

static ID_TABLE: IdTable<1> = IdTable::new([Id::new(0x1dd8, 0x1003)]);

struct Pds {
    migration: Pin<KBox<Migratable<Vf>>>,
    /// The epoch in which logging was started: a reset ends logging in the device.
    logging: Pin<KBox<Mutex<Option<u32>>>>,
}

#[vtable]
impl Driver for Pds {
    const NAME: &'static CStr = c"vfio_skeleton_pds";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_p2p();
    type Migration = Vf;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        if !dev.is_virtfn() {
            return Err(ENODEV);
        }
        let migration = Migratable::new(Vf::new(0, 0, 0), None);
        Ok(Self {
            migration: KBox::pin_init(migration, GFP_KERNEL)?,
            logging: KBox::pin_init(new_mutex!(None, "vfio_skeleton_logging"), GFP_KERNEL)?,
        })
    }

    fn migration(&self) -> Option<&Migratable<Vf>> {
        Some(&self.migration)
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        Some(self)
    }

    /// Notes that logging has ended. VFIO does not stop it when a device is closed, but a reset
    /// ends it in the device, at the latest when the device is next opened, and the next user
    /// starts it anew.
    fn closing(&self) {
        *self.logging.lock() = None;
    }
}

impl DirtyLog for Pds {
    /// Has the device log its writes to all pages of the ranges.
    fn start(
        &self,
        vdev: &VfioDevice<'_>,
        mut ranges: IovaRanges<'_>,
        _page_size: u64,
    ) -> Result<u64> {
        ranges.combine(MAX_RANGES);
        let mut logging = self.logging.lock();
        let epoch = self.migration.epoch();
        if *logging == Some(epoch) {
            return Err(EINVAL);
        }
        let firmware = self.migration.firmware.enter(vdev, epoch)?;
        let track = |range: IovaRange| {
            let pages = range.len().ok_or(EOVERFLOW)? >> PAGE_SHIFT;
            let first = (range.start >> PAGE_SHIFT).try_into()?;
            firmware.call(TRACK, first, pages.try_into()?).map(|_| ())
        };
        ranges.iter().try_for_each(track).inspect_err(|_| {
            // Stop logging of the ranges before. If that fails, the user still gets the first
            // error.
            let _ = firmware.call(UNTRACK, 0, 0);
        })?;
        *logging = Some(epoch);
        Ok(1 << PAGE_SHIFT)
    }

    fn stop(&self, vdev: &VfioDevice<'_>) {
        let mut logging = self.logging.lock();
        let Some(epoch) = logging.take() else {
            return;
        };
        // Ignore errors: stop() returns none.
        let firmware = self.migration.firmware.enter(vdev, epoch);
        let _ = firmware.and_then(|firmware| firmware.call(UNTRACK, 0, 0));
    }

    fn report(&self, vdev: &VfioDevice<'_>, dirty: &mut DirtyBitmap<'_>) -> Result {
        let logging = *self.logging.lock();
        let epoch = logging.ok_or(EINVAL)?;
        let range = dirty.range();
        let firmware = self.migration.firmware.enter(vdev, epoch)?;
        let mut page = range.start >> PAGE_SHIFT;
        while page <= range.last >> PAGE_SHIFT {
            // Check here, since the range may have any length.
            task::check_killed()?;
            let written = firmware.call(WRITTEN, page.try_into()?, 0)?;
            // Report without a lock, since that accesses user memory.
            for bit in (0..32).filter(|bit| written >> bit & 1 == 1) {
                dirty.set((page + bit) << PAGE_SHIFT, 1 << PAGE_SHIFT);
            }
            page += 32;
        }
        Ok(())
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Pds,
    name: "vfio_skeleton_pds",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of pds",
    license: "GPL",
}

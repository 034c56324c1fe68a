// SPDX-License-Identifier: GPL-2.0

//! VFIO PCI variant driver for the virtual functions of ConnectX devices.
//!
//! The driver adds live migration to what `vfio_pci_core` does:
//!
//! - [`vf`]: a VF, and the arcs between its migration states,
//! - [`saving`], [`resuming`]: the two kinds of session and their data files,
//! - [`stream`]: the format of the data that go through a data file,
//! - [`fw`]: firmware commands, and the objects they create,
//! - [`vfio_rust`]: abstractions of VFIO, shared with other drivers.
//!
//! Locks nest in this order: the state lock of a VF, the commands of a session, the stream of a
//! session. No lock is held while user memory is accessed.

#![deny(unsafe_code)]

mod fw;
mod resuming;
mod saving;
mod stream;
mod vf;

use fw::device::{
    Device,
    NoMigration, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use vf::VfMigration;
use vfio_rust::{
    dirty_log::DirtyLog,
    migratable::Migratable,
    migration::Features,
    pci::{
        Driver,
        Id,
        Ids, //
    },
};

vfio_rust::vfio_pci_id_table!(
    ID_TABLE,
    1,
    [
        // ConnectX Family mlx5Gen Virtual Function.
        Id::new(0x15b3, 0x101e),
    ]
);

/// A VF that the driver is bound to.
struct Mlx5Vf {
    migration: Option<Pin<KBox<Migratable<VfMigration>>>>,
}

impl Mlx5Vf {
    fn migration_of(
        dev: &pci::Device<Bound>,
    ) -> Result<Pin<KBox<Migratable<VfMigration>>>, NoMigration> {
        let device = Device::of_migratable_vf(dev)?;
        let driver = VfMigration::new(dev.as_ref(), device)?;
        let migration = Migratable::new(driver, vf::VfSession::Idle);
        Ok(KBox::pin_init(migration, GFP_KERNEL)?)
    }
}

#[vtable]
impl Driver for Mlx5Vf {
    const NAME: &'static CStr = c"mlx5_vfio_pci_rust";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY.with_p2p().with_pre_copy();
    type Migration = VfMigration;

    /// Takes any function that the table names. One that cannot be migrated
    /// still works as a VFIO device.
    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        let migration = match Self::migration_of(dev) {
            Ok(migration) => Some(migration),
            Err(NoMigration::NotSetUp(why)) => {
                dev_info!(dev, "{why}\n");
                None
            }
            Err(NoMigration::Failed(err)) => {
                dev_warn!(dev, "no migration support: {err:?}\n");
                None
            }
        };
        Ok(Self { migration })
    }

    fn migration(&self) -> Option<&Migratable<VfMigration>> {
        self.migration.as_deref()
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        let migration: &VfMigration = self.migration.as_deref()?;
        migration.can_track().then_some(migration)
    }

    fn closing(&self) {
        if let Some(migration) = &self.migration {
            migration.end_tracking();
        }
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Mlx5Vf,
    name: "mlx5_vfio_pci_rust",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "VFIO PCI variant driver for mlx5 virtual functions, in Rust",
    license: "GPL",
    params: {
        mkey_page_shift: u8 {
            default: 21,
            description: "Largest page of an mkey, as a power of two: 12 (4 KiB) to 21 (2 MiB)",
        },
    },
}

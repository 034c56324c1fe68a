// SPDX-License-Identifier: GPL-2.0

//! VFIO PCI variant driver for the virtual functions of ConnectX devices.
//!
//! It adds live migration to what `vfio_pci_core` does:
//!
//! - [`vf`]: a VF, its migration state and the arcs between states,
//! - [`save`], [`resume`]: the two kinds of data file and their sessions,
//! - [`stream`]: the format of what goes through them,
//! - [`precopy`], [`chunks`], [`buffers`]: what is left to be read, when the next
//!   piece is saved, and where to,
//! - [`mlx5`]: firmware commands, and the objects they create,
//! - [`vfio`]: abstractions of VFIO, shared with other drivers.
//!
//! Locks nest in this order: the state lock of a VF, then the mutex of a data
//! file. None is held over an access to user memory.

#![deny(unsafe_code)]

mod buffers;
mod chunks;
mod mlx5;
mod precopy;
mod resume;
mod save;
mod stream;
mod vf;
// Compiled into each driver, and no driver uses all of it.
#[allow(dead_code)]
#[path = "../../rust/lib.rs"]
mod vfio;

use kernel::{prelude::*, sync::Arc, ThisModule};
use mlx5::core_dev::CoreDev;
use vf::VfMigration;
use vfio::{
    dirty_log::DirtyLog,
    migration::Features,
    pci::{BoundDevice, Driver, Id, Ids, Registration},
};

vfio_pci_id_table!(
    ID_TABLE,
    MODULE_ID_TABLE,
    1,
    [
        // ConnectX Family mlx5Gen Virtual Function.
        Id {
            vendor: 0x15b3,
            device: 0x101e,
        },
    ]
);

/// A VF that the driver is bound to.
struct Mlx5Vf {
    migration: Option<Arc<VfMigration>>,
}

impl Driver for Mlx5Vf {
    const NAME: &'static CStr = c"mlx5_vfio_pci_rust";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY_P2P_PRE_COPY;
    type Migration = Arc<VfMigration>;

    /// Takes any function that the table names. One that cannot be migrated
    /// still works as a VFIO device.
    fn new(dev: &BoundDevice<'_>) -> Result<Self> {
        let migration = CoreDev::with_migratable_vf(dev, |core| VfMigration::new(dev, core))
            .unwrap_or_else(|err| {
                dev_warn!(dev.as_ref(), "no migration support: {err:?}\n");
                None
            });
        Ok(Self { migration })
    }

    fn migration(&self) -> Option<&Arc<VfMigration>> {
        self.migration.as_ref()
    }

    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        let migration = self.migration.as_ref()?;
        migration.can_track().then_some(migration)
    }

    fn opened(&self) {
        if let Some(migration) = &self.migration {
            migration.opened();
        }
    }

    fn closing(&self) {
        if let Some(migration) = &self.migration {
            migration.closing();
        }
    }

    fn reset_done(&self) {
        if let Some(migration) = &self.migration {
            migration.reset_done();
        }
    }

    fn unbind(&self) {
        if let Some(migration) = &self.migration {
            migration.unbind();
        }
    }
}

/// The module.
#[pin_data]
struct Module {
    #[pin]
    driver: Registration<Mlx5Vf>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Registration::new(module),
        })
    }
}

module! {
    type: Module,
    name: "mlx5_vfio_pci_rust",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "VFIO PCI variant driver for mlx5 virtual functions, in Rust",
    license: "GPL",
    imports_ns: ["IOMMUFD"],
}

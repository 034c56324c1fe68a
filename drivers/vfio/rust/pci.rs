// SPDX-License-Identifier: GPL-2.0

//! A VFIO PCI variant driver.

mod device;
mod id;
mod registration;
mod token;

use crate::{
    dirty_log::DirtyLog,
    ioctl::Ioctl,
    migratable::Migratable,
    migration::{
        Features,
        Migration,
        VfioDevice, //
    },
    region::{
        Mapping,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};
use kernel::{
    device::Bound,
    prelude::*, //
};

pub(crate) use device::Device;
pub use id::{
    Id,
    IdTable,
    Ids, //
};
pub use registration::{
    FirstCall,
    Registration, //
};
pub use token::Token;

/// Whether user space may attach the device to several address spaces at once, by process
/// address space ids. Needs iommufd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pasids {
    /// User space may not.
    Unsupported,
    /// User space may, as with vfio-pci.
    ///
    /// Such a device has no DMA logging: reports would have to tell the address spaces apart, and
    /// VFIO has no way to do that.
    Supported,
}

/// A variant driver. One object of the type belongs to each bound device.
///
/// The object is dropped when the driver is unbound, once nobody has the device open. A data file
/// may still be open then, and keep memory of the driver, but nothing that needs the device:
/// mappings for DMA and notifications of other drivers must have ended.
///
/// Methods with a default are optional. [`ioctl`](Self::ioctl), [`read`](Self::read),
/// [`write`](Self::write), [`mmap`](Self::mmap), [`region_info`](Self::region_info) and
/// [`match_token`](Self::match_token) cost nothing if a driver does not have them: VFIO calls the
/// function of `vfio_pci_core` directly. VFIO does not serialise these calls.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::Bound,
///     pci::Device,
///     prelude::*, //
/// };
/// use vfio_rust::{
///     migratable::Migratable,
///     migration::NoMigration,
///     pci::{
///         Driver,
///         Id,
///         IdTable,
///         Ids, //
///     },
/// };
///
/// static TABLE: IdTable<1> = IdTable::new([Id::new(0x1af4, 0x1110)]);
///
/// /// Does what vfio-pci does, for one kind of device.
/// struct Plain;
///
/// #[vtable]
/// impl Driver for Plain {
///     const NAME: &'static CStr = c"plain_vfio_pci";
///     const IDS: Ids = TABLE.as_ids();
///     type Migration = NoMigration;
///
///     fn new(_dev: &Device<Bound>) -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn migration(&self) -> Option<&Migratable<NoMigration>> {
///         None
///     }
/// }
/// ```
#[vtable]
pub trait Driver: Send + Sync + Sized + 'static {
    /// Name of the driver, in messages and sysfs.
    const NAME: &'static CStr;
    /// Devices that the driver is for. `driver_override` can bind the driver to any other device,
    /// too: [`new`](Self::new) must not rely on the id.
    const IDS: Ids;
    /// Optional parts of the migration state machine that the driver has.
    const FEATURES: Features = Features::STOP_COPY;
    /// Whether process address space ids can be used.
    const PASIDS: Pasids = Pasids::Unsupported;
    /// Steps between migration states. [`NoMigration`](crate::migration::NoMigration) if there
    /// are none.
    type Migration: Migration;

    /// Takes a device, or refuses it.
    fn new(dev: &kernel::pci::Device<Bound>) -> Result<Self>;

    /// Returns the device's migration, if it has any. The answer does not
    /// change.
    fn migration(&self) -> Option<&Migratable<Self::Migration>>;

    /// Returns the device's DMA logging, if it has any. The answer does not
    /// change.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// User space is opening the device, which decodes its BARs already. This is the last step of
    /// opening that may fail. If it succeeds, [`closing`](Self::closing) is called later.
    fn open(&self, _vdev: &VfioDevice<'_>) -> Result {
        Ok(())
    }

    /// User space is closing the device. Its sessions have ended.
    ///
    /// After this, `vfio_pci_core` either resets the function, without calling
    /// [`Migration::reset_prepare`] and [`Migration::reset_done`], or resets the bus, and calls
    /// both. If it can do neither, it resets the function when the device is next opened, and
    /// calls both. So no command may reach the device once this has returned.
    fn closing(&self) {}

    /// The device is about to be reset, for driver state outside of the migration: called
    /// after [`Migration::reset_prepare`], with the same locks held.
    fn reset_prepare(&self) {}

    /// The device has been reset, for driver state outside of the migration: called before
    /// [`Migration::reset_done`], with the same locks held.
    fn reset_done(&self) {}

    /// Carries out an ioctl that VFIO leaves to its drivers. Returns the return value of the
    /// ioctl() call, which must not be negative, and must fit into an int.
    ///
    /// [`IOEVENTFD`](crate::ioctl::IOEVENTFD) has `vfio_pci_core` write to a BAR from then on,
    /// without calling [`write`](Self::write). So a driver that hides registers must refuse it.
    fn ioctl(&self, _vdev: &VfioDevice<'_>, request: &Ioctl<'_>) -> Result<isize> {
        request.forward()
    }

    /// Reads from a region. Returns the number of bytes.
    fn read(&self, _vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        read.forward()
    }

    /// Writes to a region. Returns the number of bytes.
    fn write(&self, _vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        write.forward()
    }

    /// Returns an error to refuse that a piece of a region is mapped, or exported as a dma-buf,
    /// whose holders can access it as if it were mapped. If this succeeds, `vfio_pci_core` maps or
    /// exports the piece, if it is in a BAR that can be mapped, or in a region that `vfio_pci_core`
    /// has added and can map.
    ///
    /// May be called with the lock of the caller's memory map held, so this must not access user
    /// memory, nor wait for a thread that does.
    fn mmap(&self, _vdev: &VfioDevice<'_>, _mapping: &Mapping) -> Result {
        Ok(())
    }

    /// Answers VFIO_DEVICE_GET_REGION_INFO.
    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        info.forward()
    }

    /// Accepts or refuses the VF token of a user that opens the device.
    fn match_token(&self, token: &Token<'_>) -> Result {
        token.forward()
    }
}

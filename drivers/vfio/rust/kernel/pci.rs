// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate's PCI `Device` lacks: whether it is a virtual function, and a raw pointer
//! for other crates.

use super::device::DeviceExt;
use kernel::{
    container_of,
    device::DeviceContext,
    pci::Device, //
};

/// Methods that [`Device`] lacks.
pub trait PciDeviceExt {
    /// Returns the device for calls into C. Valid as long as `self`.
    fn as_raw(&self) -> *mut kernel::bindings::pci_dev;

    /// Returns whether the device is a virtual function.
    fn is_virtfn(&self) -> bool;
}

impl<Ctx: DeviceContext> PciDeviceExt for Device<Ctx> {
    #[inline]
    fn as_raw(&self) -> *mut kernel::bindings::pci_dev {
        let dev = AsRef::<kernel::device::Device<Ctx>>::as_ref(self);
        // SAFETY: The `struct device` is the `dev` of a `struct pci_dev`, as long as `self` is
        // borrowed.
        unsafe { container_of!(dev.as_raw(), kernel::bindings::pci_dev, dev) }
    }

    #[inline]
    fn is_virtfn(&self) -> bool {
        // SAFETY: The device is valid as long as `self` is borrowed. The bit was set before
        // the device was added.
        unsafe { kernel::bindings::pci_dev::is_virtfn_raw(self.as_raw()) != 0 }
    }
}

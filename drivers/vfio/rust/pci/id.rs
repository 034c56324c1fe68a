// SPDX-License-Identifier: GPL-2.0

//! Ids of devices that a driver is bound to by `driver_override` only.
//!
//! The kernel crate's `DeviceId` matches without `driver_override`, and has no subsystem.

use crate::bindings;

/// One match of a driver's table. A field that is not set matches any value.
#[derive(Clone, Copy)]
pub struct Id(kernel::bindings::pci_device_id);

impl Id {
    const ANY: u32 = u32::MAX;

    /// Matches this vendor and device.
    pub const fn new(vendor: u16, device: u16) -> Self {
        let mut id = Self::any();
        id.0.vendor = vendor as u32;
        id.0.device = device as u32;
        id
    }

    /// Matches all devices of this vendor: narrow the match by [`with_class`](Self::with_class).
    pub const fn of_vendor(vendor: u16) -> Self {
        let mut id = Self::any();
        id.0.vendor = vendor as u32;
        id
    }

    const fn any() -> Self {
        let mut id: kernel::bindings::pci_device_id = pin_init::zeroed();
        id.vendor = Self::ANY;
        id.device = Self::ANY;
        id.subvendor = Self::ANY;
        id.subdevice = Self::ANY;
        id.override_only = bindings::PCI_ID_F_VFIO_DRIVER_OVERRIDE;
        Self(id)
    }

    /// Matches only this subsystem.
    pub const fn with_subsystem(mut self, vendor: u16, device: u16) -> Self {
        self.0.subvendor = vendor as u32;
        self.0.subdevice = device as u32;
        self
    }

    /// Matches only this class: base class, subclass and interface, in 24 bits. Only the bits in
    /// `mask` are compared.
    pub const fn with_class(mut self, class: u32, mask: u32) -> Self {
        self.0.class = class;
        self.0.class_mask = mask;
        self
    }
}

/// A table of devices. The driver takes one of them only if `driver_override` names the driver: the
/// administrator decides which devices are for VFIO.
///
/// # Examples
///
/// ```
/// use vfio_rust::pci::{
///     Id,
///     IdTable, //
/// };
///
/// static TABLE: IdTable<2> = IdTable::new([
///     Id::new(0x15b3, 0x101e),
///     // The devices of this vendor that are of one class.
///     Id::of_vendor(0x8086).with_class(0x0b4000, 0xffffff),
/// ]);
///
/// // A driver uses `vfio_pci_id_table!` instead, which also gives the table the symbol that
/// // modpost reads.
/// let ids = TABLE.as_ids();
/// ```
#[repr(C)]
pub struct IdTable<const N: usize> {
    ids: [kernel::bindings::pci_device_id; N],
    end: kernel::bindings::pci_device_id,
}

// SAFETY: A table is never written: its fields are private, and no function takes it
// by `&mut`.
unsafe impl<const N: usize> Sync for IdTable<N> {}

impl<const N: usize> IdTable<N> {
    /// Makes a table of `ids`.
    pub const fn new(ids: [Id; N]) -> Self {
        const EMPTY: kernel::bindings::pci_device_id = pin_init::zeroed();
        let mut table = Self {
            ids: [EMPTY; N],
            end: EMPTY,
        };
        let mut i = 0;
        while i < N {
            table.ids[i] = ids[i].0;
            i += 1;
        }
        table
    }

    /// Returns the table in the form that the PCI core expects.
    pub const fn as_ids(&'static self) -> Ids {
        // INVARIANT: `self` is static. `end` is zero, and follows `ids` in memory: the layout is
        // that of C, and both consist of the same type.
        Ids(self.ids.as_ptr())
    }
}

/// A terminated table of ids.
///
/// # Invariants
///
/// The table is static, and ends with an entry of zeroes.
pub struct Ids(*const kernel::bindings::pci_device_id);

impl Ids {
    /// Returns the table for calls into C.
    pub(crate) const fn as_ptr(&self) -> *const kernel::bindings::pci_device_id {
        self.0
    }
}

/// Defines `static $name`, an [`IdTable`], under the symbol by which modpost reads it.
#[macro_export]
macro_rules! vfio_pci_id_table {
    ($name:ident, $count:literal, $ids:expr) => {
        #[allow(unsafe_code)]
        #[export_name = concat!("__mod_device_table__", line!(), "__kmod_",
                                                module_path!(), "__pci__", stringify!($name))]
        static $name: $crate::pci::IdTable<$count> = $crate::pci::IdTable::new({
            // Unsafe code is allowed for the symbol, but not in the caller's expression.
            #[deny(unsafe_code)]
            const IDS: [$crate::pci::Id; $count] = $ids;
            IDS
        });
    };
}

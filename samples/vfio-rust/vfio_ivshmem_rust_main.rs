// SPDX-License-Identifier: GPL-2.0

//! Sample: a VFIO PCI variant driver at its smallest, with live migration of
//! QEMU's ivshmem-plain.
//!
//! The device is memory behind a BAR, and does nothing by itself. Its state is the contents of that
//! memory; other users of the memory must be migrated by other means.
//!
//! `Documentation/driver-api/vfio-rust/writing.rst` walks through it.

#![deny(unsafe_code)]

mod memory;

use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use memory::{
    Memory,
    HEADER_LEN, //
};
use vfio_rust::{
    bar::Bar,
    kernel::fs::anon_inode::OpenFile,
    migratable::Migratable,
    migration::{
        Migration,
        State,
        StateArc,
        StepError,
        VfioDevice, //
    },
    pci::{
        Driver,
        Id,
        Ids, //
    },
    session::Session, //
};

/// The BAR of the MSI-X table. Only ivshmem-doorbell has it; the id is the same.
const MSIX_BAR: u32 = 1;
/// The BAR of the shared memory.
const MEMORY_BAR: u32 = 2;

vfio_rust::vfio_pci_id_table!(ID_TABLE, 1, [Id::new(0x1af4, 0x1110)]);

/// A device that the driver is bound to.
struct Ivshmem {
    migration: Pin<KBox<Migratable<SharedMemory>>>,
}

#[vtable]
impl Driver for Ivshmem {
    const NAME: &'static CStr = c"vfio_ivshmem_rust";
    const IDS: Ids = ID_TABLE.as_ids();
    type Migration = SharedMemory;

    /// Refuses ivshmem-doorbell: its interrupts and peers are state, too.
    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        let len = dev.resource_len(MEMORY_BAR)?.try_into()?;
        if len == 0 || dev.resource_len(MSIX_BAR)? != 0 {
            return Err(ENODEV);
        }
        let migration = Migratable::new(SharedMemory { len }, None);
        Ok(Self {
            migration: KBox::pin_init(migration, GFP_KERNEL)?,
        })
    }

    fn migration(&self) -> Option<&Migratable<SharedMemory>> {
        Some(&self.migration)
    }
}

/// The memory of a device, and its arcs.
struct SharedMemory {
    /// Length in bytes.
    len: usize,
}

impl Migration for SharedMemory {
    type Sessions = Option<Session<Memory>>;
    /// No step sends a command: a BAR is memory, before and after a reset.
    type Epoch = ();

    fn epoch(&self) {}

    fn step(
        &self,
        vdev: &VfioDevice<'_>,
        session: &mut Option<Session<Memory>>,
        arc: StateArc,
        _epoch: (),
    ) -> Result<Option<OpenFile>, StepError> {
        use State::{
            Resuming,
            Running,
            Stop,
            StopCopy, //
        };
        let memory = Bar::of(vdev, MEMORY_BAR)?;
        let begun = match (arc.from, arc.to) {
            // A device that does nothing by itself need not be stopped.
            (Running, Stop) | (Stop, Running) | (StopCopy, Stop) => None,
            (Stop, StopCopy) => Some(Session::saving(vdev, Memory::copy_of(&memory)?)?),
            (Stop, Resuming) => Some(Session::resuming(vdev, Memory::empty(&memory))?),
            (Resuming, Stop) => {
                let written = session.as_ref().ok_or(EINVAL)?;
                // If this fails, the memory holds what it held before, or a part of the new
                // contents: the device must not run with either.
                written.finish(|all| all.load(&memory))?;
                None
            }
            // Arcs of features that the driver does not have.
            _ => return Err(EINVAL.into()),
        };
        let (begun, file) = begun.unzip();
        // A session belongs to one state: the old one ends here.
        *session = begun;
        Ok(file)
    }

    fn end_sessions(&self, session: &mut Option<Session<Memory>>) {
        *session = None;
    }

    fn data_size(&self, _vdev: &VfioDevice<'_>) -> Result<u64> {
        let size = self.len.checked_add(HEADER_LEN).ok_or(EOVERFLOW)?;
        Ok(size as u64)
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Ivshmem,
    name: "vfio_ivshmem_rust",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Sample VFIO PCI variant driver for ivshmem-plain, in Rust",
    license: "GPL",
}

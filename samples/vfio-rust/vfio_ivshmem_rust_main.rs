// SPDX-License-Identifier: GPL-2.0

//! Sample: a VFIO PCI variant driver at its smallest, with live migration of
//! QEMU's ivshmem-plain.
//!
//! The device is memory behind a BAR, and does nothing by itself. What is in
//! that memory is its state; who else shares it has to be moved by other means.
//!
//! `Documentation/driver-api/vfio-rust.rst` walks through it.

#![deny(unsafe_code)]

mod memory;
// Compiled into each driver, and no driver uses all of it.
#[allow(dead_code)]
#[path = "../../drivers/vfio/rust/lib.rs"]
mod vfio;

use kernel::{prelude::*, ThisModule};
use memory::{Memory, HEADER_LEN};
use vfio::{
    bar::Bar,
    file::OpenFile,
    migration::{Features, Machine, Migration, State, StateArc, TargetState, VfioDevice},
    pci::{BoundDevice, Driver, Id, Ids, Registration},
    session::Session,
    state_lock::{Reset, StateGuard, StateLock},
};

/// The BAR of the MSI-X table. Only ivshmem-doorbell has it, under the same id.
const MSIX_BAR: u32 = 1;
/// The BAR of the shared memory.
const MEMORY_BAR: u32 = 2;

vfio_pci_id_table!(
    ID_TABLE,
    MODULE_ID_TABLE,
    1,
    [Id {
        vendor: 0x1af4,
        device: 0x1110,
    }]
);

/// What the state lock guards.
struct MigrationState {
    state: State,
    session: Option<Session<Memory>>,
}

impl Reset for MigrationState {
    fn reset(&mut self) {
        self.session = None;
        self.state = State::Running;
    }
}

/// A device that the driver is bound to.
struct Ivshmem {
    memory_len: usize,
    state: Pin<KBox<StateLock<MigrationState>>>,
}

impl Driver for Ivshmem {
    const NAME: &'static CStr = c"vfio_ivshmem_rust";
    const IDS: Ids = ID_TABLE.as_ids();
    const FEATURES: Features = Features::STOP_COPY;
    type Migration = Self;

    /// Refuses ivshmem-doorbell: its interrupts and peers are state, too.
    fn new(dev: &BoundDevice<'_>) -> Result<Self> {
        let memory_len = dev.bar_len(MEMORY_BAR)?;
        if memory_len == 0 || dev.bar_len(MSIX_BAR)? != 0 {
            return Err(ENODEV);
        }
        let state = StateLock::new(MigrationState {
            state: State::Running,
            session: None,
        });
        Ok(Self {
            memory_len,
            state: KBox::pin_init(state, GFP_KERNEL)?,
        })
    }

    fn migration(&self) -> Option<&Self> {
        Some(self)
    }

    /// The state that the last user left does not matter to the next one.
    fn opened(&self) {
        self.state.lock().state = State::Running;
    }

    fn closing(&self) {
        self.state.lock().session = None;
    }

    /// Never waits for the lock, as the PCI core's callback must not.
    fn reset_done(&self) {
        self.state.reset();
    }

    /// Nothing to do: no [`Bar`] is left when the last user has gone.
    fn unbind(&self) {}
}

impl Migration for Ivshmem {
    fn set_state(&self, vdev: &VfioDevice<'_>, target: TargetState) -> Result<Option<OpenFile>> {
        let mut machine = IvshmemMachine {
            memory: Bar::of(vdev, MEMORY_BAR)?,
            inner: self.state.lock(),
        };
        vdev.walk(&mut machine, target)
    }

    fn state(&self) -> State {
        self.state.lock().state
    }

    fn data_size(&self) -> Result<u64> {
        let size = self.memory_len.checked_add(HEADER_LEN).ok_or(EOVERFLOW)?;
        Ok(size as u64)
    }
}

/// The state machine, while the lock is held.
struct IvshmemMachine<'a> {
    memory: Bar<'a>,
    inner: StateGuard<'a, MigrationState>,
}

impl Machine for IvshmemMachine<'_> {
    fn state(&self) -> State {
        self.inner.state
    }

    fn step(&mut self, arc: StateArc) -> Result<Option<OpenFile>> {
        use State::{Resuming, Running, Stop, StopCopy};
        let begun = match (arc.from, arc.to) {
            // A device that does nothing by itself need not be stopped.
            (Running, Stop) | (Stop, Running) | (StopCopy, Stop) => None,
            (Stop, StopCopy) => Some(Session::saving(Memory::copy_of(&self.memory)?)?),
            (Stop, Resuming) => Some(Session::resuming(Memory::empty(&self.memory))?),
            (Resuming, Stop) => {
                let session = self.inner.session.take().ok_or(EINVAL);
                let loaded = session.and_then(|s| s.with(|all| all.load(&self.memory)));
                // The memory is what it was before, or half of what it should
                // be: a user who does not look must not run with either.
                loaded.inspect_err(|_| self.inner.state = State::Error)?;
                None
            }
            // Arcs of features that the driver does not have.
            _ => return Err(EINVAL),
        };
        let (session, file) = begun.unzip();
        // A session belongs to one state: the old one ends here.
        self.inner.session = session;
        self.inner.state = arc.to;
        Ok(file)
    }
}

type Module = Registration<Ivshmem>;

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        Registration::new(module)
    }
}

module! {
    type: Module,
    name: "vfio_ivshmem_rust",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Sample VFIO PCI variant driver for ivshmem-plain, in Rust",
    license: "GPL",
    // Of iova_bitmap_set(), which the abstractions call.
    imports_ns: ["IOMMUFD"],
}

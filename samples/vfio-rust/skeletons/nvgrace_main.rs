// SPDX-License-Identifier: GPL-2.0

//! Skeleton of `drivers/vfio/pci/nvgrace-gpu`: GPUs whose memory is not a power of two in size, as
//! a BAR must be, and takes a while to be ready. The driver has no migration.
//!
//! The memory of the C driver's devices is in no BAR: the platform's tables say where it is. Here
//! it is in BAR 4, since safe code can only map BARs.
//!
//! The C driver excludes resets from its check of the registers to the end of the access. Here a
//! reset can come in between: then read() and write() access memory that is not ready.

#![deny(unsafe_code)]

use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};
use vfio_rust::{
    bar::Bar,
    ioctl::{
        Ioctl,
        IOEVENTFD, //
    },
    kernel::task,
    migratable::Migratable,
    migration::{
        NoMigration,
        VfioDevice, //
    },
    pci::{
        Driver,
        Id,
        IdTable,
        Ids, //
    },
    region::{
        Area,
        Mapping,
        Region,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};

/// The BAR of the memory.
const MEMORY: u32 = 4;
/// Registers in BAR 0: whether the memory can be used, and how long it is, in MiB.
const STATUS: usize = 0x00;
const SIZE: usize = 0x04;
/// `STATUS` of memory that can be used.
const READY: u32 = 0xff;
/// Longest time from a reset until the memory can be used, in seconds.
const TIMEOUT: usize = 30;

/// All 3D controllers of one vendor.
static ID_TABLE: IdTable<1> = IdTable::new([Id::of_vendor(0x10de).with_class(0x030200, 0xffff00)]);

struct NvGrace {
    bar_len: u64,
    /// Bytes of the BAR that have memory behind them. Known once the device is open; a reset
    /// does not change it.
    usable: Atomic<u64>,
    /// Counts resets.
    resets: Atomic<u32>,
    /// The value of `resets` at the beginning of the last wait after which the memory could be
    /// used.
    ready: Atomic<u32>,
}

impl NvGrace {
    /// Waits until the memory can be used.
    fn wait(&self, vdev: &VfioDevice<'_>) -> Result {
        let registers = Bar::of(vdev, 0)?;
        // Load this before the registers are read: after a later reset, the next access waits
        // again.
        let seen = self.resets.load(Acquire);
        for _ in 0..TIMEOUT {
            if registers.read32(STATUS)? == READY {
                let len = u64::from(registers.read32(SIZE)?) << 20;
                self.usable.store(len.min(self.bar_len), Relaxed);
                self.ready.store(seen, Release);
                return Ok(());
            }
            task::check_killed()?;
            fsleep(Delta::from_secs(1));
        }
        Err(ETIMEDOUT)
    }

    /// Returns the length of the memory. The first access after a reset waits until the memory can
    /// be used.
    fn usable(&self, vdev: &VfioDevice<'_>) -> Result<u64> {
        while self.ready.load(Acquire) != self.resets.load(Acquire) {
            self.wait(vdev)?;
        }
        Ok(self.usable.load(Relaxed))
    }
}

#[vtable]
impl Driver for NvGrace {
    const NAME: &'static CStr = c"vfio_skeleton_nvgrace";
    const IDS: Ids = ID_TABLE.as_ids();
    type Migration = NoMigration;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        Ok(Self {
            bar_len: dev.resource_len(MEMORY)?,
            usable: Atomic::new(0),
            resets: Atomic::new(0),
            ready: Atomic::new(0),
        })
    }

    fn migration(&self) -> Option<&Migratable<NoMigration>> {
        None
    }

    fn open(&self, vdev: &VfioDevice<'_>) -> Result {
        self.wait(vdev)
    }

    fn reset_done(&self) {
        self.resets.fetch_add(1, Full);
    }

    /// Refuses eventfds, which would write to the memory without waiting until it can be used.
    fn ioctl(&self, _vdev: &VfioDevice<'_>, request: &Ioctl<'_>) -> Result<isize> {
        match request.command() {
            IOEVENTFD => Err(ENOTTY),
            _ => request.forward(),
        }
    }

    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        info.forward()?;
        match info.region() {
            Region::Bar(MEMORY) => info.only_mappable(&[Area {
                offset: 0,
                len: self.usable.load(Relaxed),
            }]),
            _ => Ok(()),
        }
    }

    /// Does not wait for the memory: the lock of the memory map may be held here, so all threads of
    /// the user would wait. An access through the mapping does not wait, either.
    fn mmap(&self, _vdev: &VfioDevice<'_>, mapping: &Mapping) -> Result {
        match mapping.region() {
            Region::Bar(MEMORY) => mapping.check_end(self.usable.load(Relaxed)),
            _ => Ok(()),
        }
    }

    /// Bytes of the BAR without memory behind them read as ones.
    fn read(&self, vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        if read.region() != Region::Bar(MEMORY) {
            return read.forward();
        }
        let usable = self.usable(vdev)?;
        read.clip(self.bar_len)?;
        let (begin, n) = (read.offset(), read.len());
        let mut hole = usable.max(begin);
        while hole < begin + n as u64 {
            read.put(hole, &[0xff; 64])?;
            hole += 64;
        }
        if begin < usable {
            read.clip(usable)?;
            read.forward()?;
        }
        Ok(n)
    }

    /// Bytes of the BAR without memory behind them keep nothing.
    fn write(&self, vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        if write.region() != Region::Bar(MEMORY) {
            return write.forward();
        }
        let usable = self.usable(vdev)?;
        write.clip(self.bar_len)?;
        let n = write.len();
        if write.offset() < usable {
            write.clip(usable)?;
            write.forward()?;
        }
        Ok(n)
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: NvGrace,
    name: "vfio_skeleton_nvgrace",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Skeleton of a VFIO PCI variant driver in Rust, of the shape of nvgrace",
    license: "GPL",
}

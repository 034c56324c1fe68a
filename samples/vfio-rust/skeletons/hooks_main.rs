// SPDX-License-Identifier: GPL-2.0

//! A driver with every hook that a device without migration can have. It is bound to QEMU's
//! ivshmem-plain: memory in BAR 2.

#![deny(unsafe_code)]

use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        AtomicFlag,
        Full,
        Relaxed, //
    },
};
use vfio_rust::{
    bar::Bar,
    ioctl::{
        Ioctl,
        IOEVENTFD,
        RESET, //
    },
    migratable::Migratable,
    migration::{
        NoMigration,
        VfioDevice, //
    },
    pci::{
        Driver,
        Id,
        IdTable,
        Ids,
        Pasids,
        Token, //
    },
    region::{
        Access,
        Area,
        Mapping,
        Region,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};

/// The BAR of the memory. User space can access half of it, and map a page.
const MEMORY: u32 = 2;
const PAGE: u64 = 4096;

/// A region of the driver's own, in place of BAR 0: words that count calls, and one that keeps what
/// the user writes.
const OWN: Region = Region::Bar(0);
const OPENS: usize = 0;
const RESETS: usize = 1;
const IOCTLS: usize = 2;
const KEPT: usize = 3;
const WORDS: usize = 4;
const LEN: usize = WORDS * 4;

/// The value of the kept word that makes the next open fail.
const REFUSE: u32 = 0xdead;
/// The value of the kept word with which the driver does not write to the device's memory.
const UNWRITTEN: u32 = 0xbad;

/// The revision that configuration space shows.
const REVISION_ID: u64 = 0x08;
const REVISION: u8 = 0x5a;

/// An ioctl of the driver's own: returns its argument.
const ECHO: u32 = 0x3bff;

static ID_TABLE: IdTable<1> = IdTable::new([Id::new(0x1af4, 0x1110)
    .with_subsystem(0x1af4, 0x1100)
    .with_class(0x050000, 0xffff00)]);

struct Hooks {
    words: [Atomic<u32>; WORDS],
    half: u64,
    /// User space has the device open.
    open: AtomicFlag,
    /// The device is about to be reset.
    resetting: AtomicFlag,
}

impl Hooks {
    fn bytes(&self) -> [u8; LEN] {
        let words = self.words.each_ref().map(|word| word.load(Relaxed));
        core::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
    }
}

#[vtable]
impl Driver for Hooks {
    const NAME: &'static CStr = c"vfio_skeleton_hooks";
    const IDS: Ids = ID_TABLE.as_ids();
    const PASIDS: Pasids = Pasids::Supported;
    type Migration = NoMigration;

    fn new(dev: &pci::Device<Bound>) -> Result<Self> {
        Ok(Self {
            words: core::array::from_fn(|_| Atomic::new(0)),
            half: dev.resource_len(MEMORY)? / 2,
            open: AtomicFlag::new(false),
            resetting: AtomicFlag::new(false),
        })
    }

    fn migration(&self) -> Option<&Migratable<NoMigration>> {
        None
    }

    fn open(&self, vdev: &VfioDevice<'_>) -> Result {
        if self.words[KEPT].load(Relaxed) == REFUSE {
            self.words[KEPT].store(0, Relaxed);
            return Err(EDOM);
        }
        // The BAR can be read already.
        Bar::of(vdev, MEMORY)?.read32(0)?;
        if self.open.xchg(true, Full) {
            return Err(EBUSY);
        }
        self.words[OPENS].fetch_add(1, Full);
        Ok(())
    }

    /// Lets the device be opened again.
    fn closing(&self) {
        self.open.store(false, Relaxed);
    }

    fn reset_prepare(&self) {
        self.resetting.store(true, Relaxed);
    }

    /// Counts resets that were announced.
    fn reset_done(&self) {
        if self.resetting.xchg(false, Full) {
            self.words[RESETS].fetch_add(1, Full);
        }
    }

    fn ioctl(&self, _vdev: &VfioDevice<'_>, request: &Ioctl<'_>) -> Result<isize> {
        self.words[IOCTLS].fetch_add(1, Full);
        match request.command() {
            IOEVENTFD => Err(ENOTTY),
            // CAST: The abstractions refuse a value that does not fit an int.
            ECHO => Ok(request.argument() as isize),
            // Forwarded as any other, with a mark that the test looks at.
            RESET => request
                .forward()
                .inspect(|_| self.words[KEPT].store(1, Relaxed)),
            _ => request.forward(),
        }
    }

    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        match info.region() {
            OWN => info.describe(LEN as u64, Access::READ | Access::WRITE),
            Region::Bar(MEMORY) => {
                info.forward()?;
                info.set_size(self.half);
                info.only_mappable(&[Area {
                    offset: 0,
                    len: PAGE,
                }])?;
            }
            _ => info.forward()?,
        }
        Ok(())
    }

    fn read(&self, _vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        match read.region() {
            OWN => {
                read.clip(LEN as u64)?;
                read.put(0, &self.bytes())?;
                Ok(read.len())
            }
            Region::Bar(MEMORY) => {
                read.clip(self.half)?;
                read.forward()
            }
            Region::Config => {
                let n = read.forward()?;
                read.put(REVISION_ID, &[REVISION])?;
                Ok(n)
            }
            _ => read.forward(),
        }
    }

    fn write(&self, vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        match write.region() {
            OWN => {
                write.clip(LEN as u64)?;
                let mut word = self.words[KEPT].load(Relaxed).to_le_bytes();
                if write.get(KEPT as u64 * 4, &mut word)? {
                    self.words[KEPT].store(u32::from_le_bytes(word), Relaxed);
                }
                Ok(write.len())
            }
            Region::Bar(MEMORY) => {
                // The driver writes the first word to the second one, too, unless it is told not
                // to.
                let mut word = [0; 4];
                if write.get(0, &mut word)? {
                    let memory = Bar::of(vdev, MEMORY)?;
                    memory.write32_if(4, u32::from_le_bytes(word), || {
                        match self.words[KEPT].load(Relaxed) {
                            UNWRITTEN => Err(EPERM),
                            _ => Ok(()),
                        }
                    })?;
                }
                write.clip(self.half)?;
                write.forward()
            }
            _ => write.forward(),
        }
    }

    fn mmap(&self, _vdev: &VfioDevice<'_>, mapping: &Mapping) -> Result {
        match mapping.region() {
            Region::Bar(MEMORY) => mapping.check_end(PAGE),
            _ => Err(EPERM),
        }
    }

    /// Refuses a user that names a token.
    fn match_token(&self, token: &Token<'_>) -> Result {
        match token.uuid() {
            Some(_) => Err(EPERM),
            None => token.forward(),
        }
    }
}

vfio_rust::module_vfio_pci_driver! {
    type: Hooks,
    name: "vfio_skeleton_hooks",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "Test of the hooks of VFIO PCI variant drivers in Rust",
    license: "GPL",
}

// SPDX-License-Identifier: GPL-2.0

//! A VF that was opened through VFIO, and works when told to.

use crate::kmsg;
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    os::fd::OwnedFd, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    iommu::AddressSpace,
    memory::DeviceMemory,
    uapi, //
};

/// Where its memory is, for the VF.
pub const IOVA: u64 = 0x1_0000_0000;

/// An open VF.
pub struct Vf {
    device: Device,
    block: u64,
    memory: DeviceMemory,
    /// Where the memory is, for the VF.
    base: u64,
    irqs: Vec<OwnedFd>,
}

/// `IOMMU_IOAS_NOIOMMU_GET_PA`: linux/iommufd.h.
const GET_PHYSICAL: libc::c_ulong = 0x3b95;

/// `struct iommu_ioas_noiommu_get_pa`.
#[repr(C)]
struct GetPhysical {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    iova: u64,
    length: u64,
    out_phys: u64,
}

/// Where `len` bytes at an IOVA are, which must be in one piece.
fn physical(space: &AddressSpace, iova: u64, len: u64) -> Result<u64> {
    let AddressSpace::Ioas { iommufd, id } = space else {
        bail!("only iommufd tells physical addresses");
    };
    let mut get = GetPhysical {
        size: size_of::<GetPhysical>() as u32,
        flags: 0,
        ioas_id: *id,
        reserved: 0,
        iova,
        length: len,
        out_phys: 0,
    };
    uapi::with_struct(iommufd.as_fd(), GET_PHYSICAL, &mut get).context("physical address")?;
    ensure!(
        get.length == len,
        "{} of {len} bytes are in one piece",
        get.length
    );
    Ok(get.out_phys)
}

impl Vf {
    /// Opens it, and gives it `pages` pages of memory and its interrupts.
    pub fn open(bdf: Bdf, pages: u64) -> Result<Self> {
        let memory = DeviceMemory::new((pages * regs::PAGE) as usize)?;
        Self::with_memory(bdf, memory, |_, _| Ok(IOVA))
    }

    /// As [`Self::open`], where no IOMMU stands between the VF and memory.
    /// `pages` is a multiple of those of a huge page.
    pub fn open_without_iommu(bdf: Bdf, pages: u64) -> Result<Self> {
        let memory = DeviceMemory::new_huge((pages * regs::PAGE) as usize)?;
        Self::with_memory(bdf, memory, |space, len| physical(space, IOVA, len))
    }

    fn with_memory(
        bdf: Bdf,
        memory: DeviceMemory,
        base: impl FnOnce(&AddressSpace, u64) -> Result<u64>,
    ) -> Result<Self> {
        let device = Device::open(bdf)?;
        device.enable_bus_master()?;
        device.space().map(&memory, IOVA)?;
        let base = base(device.space(), memory.len() as u64)?;
        let irqs = vec![uapi::eventfd()?, uapi::eventfd()?];
        device.set_msix(&irqs)?;
        let block = device.region(0)?.offset + regs::BLOCK;
        let vf = Self {
            device,
            block,
            memory,
            base,
            irqs,
        };
        ensure!(
            vf.read32(regs::MAGIC)? == regs::MAGIC_VALUE,
            "no workload registers"
        );
        ensure!(
            vf.read32(regs::VERSION)? == regs::VERSION_VALUE,
            "another version of them"
        );
        Ok(vf)
    }

    /// The VFIO device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn read32(&self, register: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.device.read_at(self.block + register, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a register.
    pub fn read(&self, register: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.device.read_at(self.block + register, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a register.
    pub fn write(&self, register: u64, value: u64) -> Result<()> {
        Ok(self
            .device
            .write_at(self.block + register, &value.to_le_bytes())?)
    }

    /// Carries a command out, and returns its status.
    pub fn try_command(&self, command: u32, args: &[u64]) -> Result<u32> {
        match (command, args) {
            // mlx5_core's message about a command that this makes fail.
            (regs::CMD_FAULT, [opcode, ..]) => kmsg::expect(&format!("({opcode:#x})")),
            (regs::CMD_LOSE_TRACKING, _) => kmsg::expect("SAVE_VHCA_STATE"),
            _ => (),
        }
        for (i, arg) in (0..).zip(args) {
            self.write(regs::ARGS + i * 8, *arg)?;
        }
        self.device
            .write_at(self.block + regs::CMD, &command.to_le_bytes())?;
        self.read32(regs::STATUS)
    }

    /// Carries a command out.
    pub fn command(&self, command: u32, args: &[u64]) -> Result<()> {
        match self.try_command(command, args)? {
            regs::STATUS_OK => Ok(()),
            status => bail!("workload command {command} {args:x?}: status {status}"),
        }
    }

    /// A digest of all that migrates.
    pub fn digest(&self) -> Result<u64> {
        self.command(regs::CMD_DIGEST, &[])?;
        self.read(regs::DIGEST)
    }

    /// Violations of the firmware interface since power-on.
    pub fn violations(&self) -> Result<u64> {
        self.read(regs::VIOLATIONS)
    }

    /// Maps its memory at another address, too.
    pub fn map_again(&self, iova: u64) -> Result<()> {
        Ok(self.device.space().map(&self.memory, iova)?)
    }

    /// The word at an offset of its memory, a multiple of 8.
    pub fn word(&self, offset: u64) -> u64 {
        self.memory.word(offset as usize)
    }

    /// Its sequence number.
    pub fn seq(&self) -> Result<u64> {
        self.read(regs::SEQ)
    }

    /// Works a bit: changes state, writes memory, raises an interrupt.
    /// `pages` is how much memory it has.
    pub fn work(&self, rounds: u64, pages: u64) -> Result<()> {
        for round in 0..rounds {
            self.command(regs::CMD_CHANGE_STATE, &[3, round * 7])?;
            self.scatter(pages, 5)?;
            self.write(regs::SCRATCH + round % 8 * 8, round ^ 0x5a5a)?;
            self.interrupt(round % 2)?;
        }
        Ok(())
    }

    /// Has it write to `count` pages somewhere in the first `pages` of its memory.
    pub fn scatter(&self, pages: u64, count: u64) -> Result<()> {
        let args = [self.base, pages * regs::PAGE, count];
        self.command(regs::CMD_DMA_SCATTER, &args)
    }

    /// Raises an interrupt and waits for it to arrive. Returns how many have
    /// arrived.
    pub fn interrupt(&self, vector: u64) -> Result<u64> {
        self.command(regs::CMD_RAISE_IRQ, &[vector])?;
        let fd = &self.irqs[vector as usize];
        let ready = uapi::poll(fd.as_fd(), libc::POLLIN, 5000)?;
        ensure!(
            ready & libc::POLLIN != 0,
            "interrupt {vector} did not arrive"
        );
        let mut count = [0; 8];
        File::from(fd.try_clone()?)
            .read_exact(&mut count)
            .context("eventfd")?;
        Ok(u64::from_ne_bytes(count))
    }

    /// Forgets interrupts that have arrived and were not waited for.
    pub fn forget_interrupts(&self) -> Result<()> {
        for fd in &self.irqs {
            if uapi::poll(fd.as_fd(), libc::POLLIN, 0)? & libc::POLLIN != 0 {
                File::from(fd.try_clone()?).read_exact(&mut [0; 8])?;
            }
        }
        Ok(())
    }

    /// Whether a page of its memory is as command `seq` wrote it, or all zeroes.
    pub fn page_is(&self, page: u64, seq: Option<u64>) -> bool {
        (page * regs::PAGE..(page + 1) * regs::PAGE)
            .step_by(8)
            .all(|offset| {
                let want = seq.map_or(0, |seq| regs::pattern(seq, self.base + offset));
                self.memory.word(offset as usize) == want
            })
    }

    /// How many pages of its memory are not as the scatter commands with
    /// these sequence numbers left them, of all its pages.
    pub fn wrong_pages(&self, seqs: impl IntoIterator<Item = u64>) -> u64 {
        let pages = self.memory.len() as u64 / regs::PAGE;
        let mut stamps = vec![None; pages as usize];
        for seq in seqs {
            for i in 0..5 {
                stamps[regs::scatter_page(seq, i, pages) as usize] = Some(seq);
            }
        }
        let wrong = |page: &u64| !self.page_is(*page, stamps[*page as usize]);
        (0..pages).filter(wrong).count() as u64
    }
}

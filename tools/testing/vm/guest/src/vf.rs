// SPDX-License-Identifier: GPL-2.0

//! A VF that was opened through VFIO, and works when told to.

use anyhow::{bail, ensure, Context, Result};
use mlx5_emu_regs as regs;
use std::{fs::File, io::Read, os::fd::AsFd, os::fd::OwnedFd};
use vfio_mig::{bdf::Bdf, device::Device, memory::DeviceMemory, uapi};

/// Where its memory is, for the VF.
pub const IOVA: u64 = 0x1_0000_0000;

/// An open VF.
pub struct Vf {
    device: Device,
    block: u64,
    memory: DeviceMemory,
    irqs: Vec<OwnedFd>,
}

impl Vf {
    /// Opens it, and gives it `pages` pages of memory and its interrupts.
    pub fn open(bdf: Bdf, pages: u64) -> Result<Self> {
        let device = Device::open(bdf)?;
        device.enable_bus_master()?;
        let memory = DeviceMemory::new((pages * regs::PAGE) as usize)?;
        device.space().map(&memory, IOVA)?;
        let irqs = vec![uapi::eventfd()?, uapi::eventfd()?];
        device.set_msix(&irqs)?;
        let block = device.region(0)?.offset + regs::BLOCK;
        let vf = Self {
            device,
            block,
            memory,
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
            self.command(regs::CMD_DMA_SCATTER, &[IOVA, pages * regs::PAGE, 5])?;
            self.write(regs::SCRATCH + round % 8 * 8, round ^ 0x5a5a)?;
            self.interrupt(round % 2)?;
        }
        Ok(())
    }

    /// Raises an interrupt and waits for it to arrive.
    pub fn interrupt(&self, vector: u64) -> Result<()> {
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
        Ok(())
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
        let wrong = |page: &u64| {
            (0..regs::PAGE).step_by(8).any(|at| {
                let offset = page * regs::PAGE + at;
                let want = match stamps[*page as usize] {
                    Some(seq) => regs::pattern(seq, IOVA + offset),
                    None => 0,
                };
                self.memory.word(offset as usize) != want
            })
        };
        (0..pages).filter(wrong).count() as u64
    }
}

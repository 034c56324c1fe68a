// SPDX-License-Identifier: GPL-2.0

//! Init of a machine in the machine, which QEMU gives a VF and migrates.
//!
//! It has its first VF work for ever: change its state, write to memory, raise
//! interrupts. It knows what must come of that, and that the others stay as they
//! are. So it notices by itself when a migration, of which it knows nothing, loses
//! or repeats something.
//!
//! It says so on the second serial port: every [`STEP`] rounds [`report`]'s line,
//! or once a line that begins with [`ERROR`]. On the third one it takes orders:
//! [`CREATE`] has the VF create new objects, and [`CREATED`] says that it has.

use crate::{hca, kmsg::KernelLog, vf::Vf};
use anyhow::{ensure, Result};
use mlx5_emu_regs as regs;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};
use vfio_mig::bdf::Bdf;

/// Rounds of a report.
pub const STEP: u64 = 4;
/// Pages of a huge page.
const PAGES: u64 = 512;
/// Pages that a round writes to.
const SCATTERED: u64 = 5;
/// Commands of a round that count.
const COMMANDS: u64 = 3;
/// Between two rounds: what is of a round is there for so long, and where all is
/// emulated on one processor, others want to use it.
const PAUSE: Duration = Duration::from_millis(50);

/// How a line begins that tells of something wrong.
pub const ERROR: &str = "error";
/// The order.
pub const CREATE: &str = "create";
/// What is said when it was carried out.
pub const CREATED: &str = "created";
/// Of the state, how much that is.
const NEW: (u64, u64) = (3, 4);

/// What is said after `round` rounds.
pub fn report(round: u64) -> String {
    format!("round {round}")
}

/// A VF that does nothing.
struct Idle {
    vf: Vf,
    digest: u64,
}

impl Idle {
    fn new(bdf: Bdf) -> Result<Self> {
        let vf = open(bdf)?;
        let digest = vf.digest()?;
        Ok(Self { vf, digest })
    }

    fn check(&self) -> Result<()> {
        let digest = self.vf.digest()?;
        ensure!(
            digest == self.digest,
            "an idle VF: digest {digest:#x} and not {:#x}",
            self.digest
        );
        let seq = self.vf.seq()?;
        ensure!(seq == 0, "an idle VF: sequence number {seq}");
        Ok(())
    }
}

fn open(bdf: Bdf) -> Result<Vf> {
    hca::bind_to(bdf, "vfio-pci")?;
    Vf::open_without_iommu(bdf, PAGES)
}

struct Work {
    vf: Vf,
    others: Vec<Idle>,
    /// Rounds so far.
    round: u64,
    /// Commands that created objects.
    created: u64,
    /// Of its state, after the last round.
    digest: u64,
    scratch: [u64; regs::SCRATCH_COUNT],
    /// The command that wrote a page last.
    stamps: [Option<u64>; PAGES as usize],
}

impl Work {
    fn new() -> Result<Self> {
        let vfs = hca::lone_vfs()?;
        fs::write(
            "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "1",
        )?;
        let vf = open(vfs[0])?;
        let others: Result<Vec<Idle>> = vfs[1..].iter().map(|bdf| Idle::new(*bdf)).collect();
        let digest = vf.digest()?;
        Ok(Self {
            vf,
            others: others?,
            round: 0,
            created: 0,
            digest,
            scratch: [0; regs::SCRATCH_COUNT],
            stamps: [None; PAGES as usize],
        })
    }

    fn check_registers(&self) -> Result<()> {
        let seq = self.vf.seq()?;
        let expected = self.round * COMMANDS + self.created;
        ensure!(seq == expected, "sequence number {seq} and not {expected}");
        let irqs = self.vf.read(regs::IRQS)?;
        ensure!(
            irqs == self.round,
            "{irqs} interrupts and not {}",
            self.round
        );
        let written = self.vf.read(regs::DMA_BYTES)?;
        let expected = self.round * SCATTERED * regs::PAGE;
        ensure!(
            written == expected,
            "{written} bytes written and not {expected}"
        );
        for (at, expected) in (regs::SCRATCH..).step_by(8).zip(self.scratch) {
            let value = self.vf.read(at)?;
            ensure!(
                value == expected,
                "register {at:#x}: {value:#x} and not {expected:#x}"
            );
        }
        let digest = self.vf.digest()?;
        ensure!(
            digest == self.digest,
            "digest {digest:#x} and not {:#x}",
            self.digest
        );
        Ok(())
    }

    fn check_memory(&self) -> Result<()> {
        for (page, seq) in (0..).zip(self.stamps) {
            ensure!(
                self.vf.page_is(page, seq),
                "page {page} is not that of command {seq:?}"
            );
        }
        Ok(())
    }

    /// A round, which begins by checking what the last one has left.
    fn round(&mut self) -> Result<()> {
        self.check_registers()?;
        self.check_memory()?;
        let first = self.round * 7;
        self.vf.command(regs::CMD_CHANGE_STATE, &[3, first])?;
        self.vf.scatter(PAGES, SCATTERED)?;
        let seq = self.vf.seq()?;
        for i in 0..SCATTERED {
            self.stamps[regs::scatter_page(seq, i, PAGES) as usize] = Some(seq);
        }
        let count = self.vf.interrupt(self.round % 2)?;
        ensure!(count == 1, "{count} interrupts where one was raised");
        let index = self.round as usize % regs::SCRATCH_COUNT;
        self.scratch[index] = self.round ^ 0x5a5a_0000_0000_5a5a;
        self.vf
            .write(regs::SCRATCH + index as u64 * 8, self.scratch[index])?;
        self.digest = self.vf.digest()?;
        self.round += 1;
        Ok(())
    }

    /// Has new objects made.
    fn create(&mut self) -> Result<()> {
        let pages = self.vf.read(regs::STATE_SIZE)? / regs::PAGE;
        let args = [pages / NEW.1 * NEW.0, 0];
        self.vf.command(regs::CMD_CREATE_STATE, &args)?;
        self.digest = self.vf.digest()?;
        self.created += 1;
        Ok(())
    }
}

/// Listens for orders.
fn listen() -> Result<Receiver<()>> {
    let port = BufReader::new(File::open("/dev/ttyS2")?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = port.lines().map_while(|line| line.ok());
        for _ in lines.filter(|line| line == CREATE) {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

fn work_for_ever(port: &mut File) -> Result<()> {
    let mut log = KernelLog::new()?;
    crate::load_modules()?;
    let mut work = Work::new()?;
    let orders = listen()?;
    loop {
        if work.round % STEP == 0 {
            writeln!(port, "{}", report(work.round))?;
            work.others.iter().try_for_each(Idle::check)?;
        }
        if orders.try_recv().is_ok() {
            work.create()?;
            writeln!(port, "{CREATED}")?;
        }
        work.round()?;
        let faults = log.faults();
        ensure!(faults.is_empty(), "kernel log: {}", faults.join("; "));
        thread::sleep(PAUSE);
    }
}

/// Works; does not return unless it cannot even report.
pub fn run() -> Result<()> {
    let mut port = OpenOptions::new().write(true).open("/dev/ttyS1")?;
    if let Err(err) = work_for_ever(&mut port) {
        writeln!(port, "{ERROR} {err:#}")?;
    }
    loop {
        thread::park();
    }
}

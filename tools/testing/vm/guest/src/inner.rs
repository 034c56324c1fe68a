// SPDX-License-Identifier: GPL-2.0

//! Init of a machine in the machine, which QEMU gives a VF and migrates. It makes its first
//! VF work for ever: change its state, write to memory, raise interrupts. It knows the
//! result that each of these must have, and that the other VFs must stay as they are. So it
//! notices by itself if a migration, of which it knows nothing, loses or repeats something.
//! It reports on the second serial port: every [`STEP`] rounds [`report`]'s line, or once a
//! line that begins with [`ERROR`]. On the third serial port it takes orders: [`CREATE`] has
//! the VF create new objects, and [`CREATED`] says that it has; [`RESET`] has the VF reset.
//! It also notices if the VF was reset: a register of the VF has [`MARK`] until then. The
//! guest then says [`WAS_RESET`], checks that nothing but the VF's own state is lost, and
//! goes on. A VF that is unplugged is given back: the guest says [`WAS_REMOVED`], and goes
//! on without it.

use crate::{
    hca,
    kmsg::KernelLog,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::{
        self,
        File,
        OpenOptions, //
    },
    io::{
        BufRead,
        BufReader,
        Write, //
    },
    os::fd::{
        AsFd,
        OwnedFd, //
    },
    sync::mpsc::{
        self,
        Receiver, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    bdf::Bdf,
    uapi, //
};

/// Rounds between two reports.
pub const STEP: u64 = 4;
/// 4 KiB pages in a huge page.
const PAGES: u64 = 512;
/// Pages that a round writes to.
const SCATTERED: u64 = 5;
/// Commands of a round that count.
const COMMANDS: u64 = 3;
/// The one of them that writes to memory.
const SCATTER: u64 = 2;
/// Number of registers that rounds write to; the register after them has [`MARK`].
const SCRATCH: usize = regs::SCRATCH_COUNT - 1;
/// What a register has in a VF that was not reset.
const MARK: u64 = 0x6d61_726b_6d61_726b;
/// Time between two rounds. The results of a round stay for this long, so that a migration
/// can meet them, and other programs get the processor if all is emulated on one.
pub const PAUSE: Duration = Duration::from_millis(50);
/// Where it reports.
pub const PORT: &str = "/dev/ttyS1";

/// How a line begins that tells of something wrong.
pub const ERROR: &str = "error";
/// How a line begins that is for a person, or an answer.
pub const NOTE: &str = "note: ";
/// The order.
pub const CREATE: &str = "create";
/// What is said when it was carried out.
pub const CREATED: &str = "created";
/// The order to reset the VF.
pub const RESET: &str = "reset";
/// What is said when a VF was found to be reset.
pub const WAS_RESET: &str = "the VF was reset";
/// What is said when the VF was given back, because it is unplugged.
pub const WAS_REMOVED: &str = "the VF was removed";
/// Of the state, how much [`CREATE`] creates.
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

/// Registers that count.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counters {
    /// Commands that change something.
    seq: u64,
    /// Interrupts.
    irqs: u64,
    /// Bytes written to memory.
    written: u64,
}

impl Counters {
    fn read(vf: &Vf) -> Result<Self> {
        Ok(Self {
            seq: vf.seq()?,
            irqs: vf.read(regs::IRQS)?,
            written: vf.read(regs::DMA_BYTES)?,
        })
    }

    /// After one more round.
    fn after_round(self) -> Self {
        Self {
            seq: self.seq + COMMANDS,
            irqs: self.irqs + 1,
            written: self.written + SCATTERED * regs::PAGE,
        }
    }
}

struct Work {
    vf: Vf,
    /// Signalled when the kernel wants the VF back.
    request: OwnedFd,
    others: Vec<Idle>,
    /// Rounds so far.
    round: u64,
    /// What its registers had after the last round.
    counters: Counters,
    /// Of its state, after the last round.
    digest: u64,
    scratch: [u64; SCRATCH],
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
        let request = uapi::eventfd()?;
        vf.device().set_request(&request)?;
        let mut work = Self {
            vf,
            request,
            others: others?,
            round: 0,
            counters: Counters::default(),
            digest: 0,
            scratch: [0; SCRATCH],
            stamps: [None; PAGES as usize],
        };
        work.mark()?;
        Ok(work)
    }

    /// Whether the kernel wants the VF back.
    fn is_requested(&self) -> Result<bool> {
        Ok(uapi::poll(self.request.as_fd(), libc::POLLIN, 0)? & libc::POLLIN != 0)
    }

    fn register(index: usize) -> u64 {
        regs::SCRATCH + index as u64 * 8
    }

    /// Makes the VF one that was not reset.
    fn mark(&mut self) -> Result<()> {
        self.vf.write(Self::register(SCRATCH), MARK)?;
        self.digest = self.vf.digest()?;
        Ok(())
    }

    fn check_registers(&self) -> Result<()> {
        let counters = Counters::read(&self.vf)?;
        ensure!(
            counters == self.counters,
            "{counters:?} and not {:?}",
            self.counters
        );
        let scratch = (0..).zip(self.scratch.into_iter().chain([MARK]));
        for (index, expected) in scratch {
            let value = self.vf.read(Self::register(index))?;
            ensure!(
                value == expected,
                "register {index}: {value:#x} and not {expected:#x}"
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

    /// Notes which pages the command with this number has written to.
    fn stamp(&mut self, seq: u64) {
        for i in 0..SCATTERED {
            self.stamps[regs::scatter_page(seq, i, PAGES) as usize] = Some(seq);
        }
    }

    /// Does a round, which begins by checking the results of the last one.
    fn round(&mut self) -> Result<()> {
        self.check_registers()?;
        self.check_memory()?;
        let first = self.round * 7;
        self.vf.command(regs::CMD_CHANGE_STATE, &[3, first])?;
        self.vf.scatter(PAGES, SCATTERED)?;
        let seq = self.vf.seq()?;
        let expected = self.counters.seq + SCATTER;
        ensure!(seq == expected, "sequence number {seq} and not {expected}");
        self.stamp(seq);
        let count = self.vf.interrupt(self.round % 2)?;
        ensure!(count == 1, "{count} interrupts where one was raised");
        let index = self.round as usize % SCRATCH;
        self.scratch[index] = self.round ^ 0x5a5a_0000_0000_5a5a;
        self.vf.write(Self::register(index), self.scratch[index])?;
        self.digest = self.vf.digest()?;
        self.counters = self.counters.after_round();
        self.round += 1;
        Ok(())
    }

    /// Does a round. Returns false if the VF was reset during the round.
    fn round_or_reset(&mut self) -> Result<bool> {
        let Err(err) = self.round() else {
            return Ok(true);
        };
        // A round that was under way may have written other registers, but not this one.
        match self.vf.read(Self::register(SCRATCH))? {
            0 => self.begin_again().with_context(|| format!("{err:#}"))?,
            _ => return Err(err),
        }
        Ok(false)
    }

    /// Goes on with a VF that was reset during a round, or before it: its state must be that
    /// of a new VF, but for what the rest of the round has changed. Memory must have what
    /// the VF wrote before.
    fn begin_again(&mut self) -> Result<()> {
        let counters = Counters::read(&self.vf)?;
        let most = Counters::default().after_round();
        ensure!(
            counters.seq <= most.seq
                && counters.irqs <= most.irqs
                && counters.written <= most.written,
            "{counters:?} after a reset"
        );
        // What this round may have written: before the reset, or after it.
        for seq in [self.counters.seq + SCATTER, SCATTER - 1, SCATTER] {
            let pages = (0..SCATTERED).map(|i| regs::scatter_page(seq, i, PAGES));
            if pages
                .into_iter()
                .all(|page| self.vf.page_is(page, Some(seq)))
            {
                self.stamp(seq);
            }
        }
        self.check_memory().context("memory after a reset")?;
        self.vf.forget_interrupts()?;
        self.counters = counters;
        for (index, value) in self.scratch.iter().enumerate() {
            self.vf.write(Self::register(index), *value)?;
        }
        self.mark()
    }

    /// Has new objects made.
    fn create(&mut self) -> Result<()> {
        let pages = self.vf.read(regs::STATE_SIZE)? / regs::PAGE;
        let args = [pages / NEW.1 * NEW.0, 0];
        self.vf.command(regs::CMD_CREATE_STATE, &args)?;
        self.digest = self.vf.digest()?;
        self.counters.seq += 1;
        Ok(())
    }
}

/// Listens for orders.
pub fn listen() -> Result<Receiver<String>> {
    let port = BufReader::new(File::open("/dev/ttyS2")?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in port.lines().map_while(|line| line.ok()) {
            if sender.send(line).is_err() {
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
    while !work.is_requested()? {
        if work.round % STEP == 0 {
            writeln!(port, "{}", report(work.round))?;
            work.others.iter().try_for_each(Idle::check)?;
        }
        match orders.try_recv().as_deref() {
            Ok(CREATE) => {
                work.create()?;
                writeln!(port, "{CREATED}")?;
            }
            Ok(RESET) => work.vf.device().reset()?,
            _ => (),
        }
        while !work.round_or_reset()? {
            writeln!(port, "{WAS_RESET}")?;
        }
        judge(&mut log)?;
        thread::sleep(PAUSE);
    }
    let round = work.round;
    drop(work);
    writeln!(port, "{WAS_REMOVED}")?;
    for round in round.. {
        if round % STEP == 0 {
            writeln!(port, "{}", report(round))?;
        }
        judge(&mut log)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Fails if the kernel complains.
fn judge(log: &mut KernelLog) -> Result<()> {
    let faults = log.end_span();
    ensure!(faults.is_empty(), "kernel log: {}", faults.join("; "));
    Ok(())
}

/// Works; does not return unless it cannot even report.
pub fn run() -> Result<()> {
    let mut port = OpenOptions::new().write(true).open(PORT)?;
    if let Err(err) = work_for_ever(&mut port) {
        writeln!(port, "{ERROR} {err:#}")?;
    }
    loop {
        thread::park();
    }
}

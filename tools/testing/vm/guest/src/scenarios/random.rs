// SPDX-License-Identifier: GPL-2.0

//! Random sequences of requests, reads, writes, work and firmware faults, with both drivers:
//! user space must see the same. If what user space sees depends on whether a SAVE has
//! ended, the sequences wait for that. Our driver also gets sequences that wait for nothing:
//! after these a VF must work, and firmware must not have refused anything.
//!
//! The sequences come from the run's seed, and what fails is made as short as possible
//! before it is reported.

use super::{
    compare::{
        errno_name,
        outcome,
        words, //
    },
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    kmsg::{
        self,
        Refused, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{
        Config,
        RngAlgorithm,
        TestCaseError,
        TestRng,
        TestRunner, //
    },
};
use std::{
    cell::{
        Cell,
        RefCell, //
    },
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd, //
};
use vfio_mig::{
    bdf::Bdf,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("random", run), ("random-chunks", run)];

/// Sequences for each kind of test, in `make check` and in `make check-all`.
const SEQUENCES: [u32; 2] = [24, 120];
/// Sequences between two lines of progress.
const SAID: u32 = 10;
/// Most steps of one.
const STEPS: usize = 40;
/// `MLX5_CMD_OP_SUSPEND_VHCA`, `RESUME_VHCA`, `QUERY_VHCA_MIGRATION_STATE`.
const COMMANDS: [u64; 3] = [0x115, 0x116, 0x117];
/// `MLX5_CMD_OP_SAVE_VHCA_STATE`.
const SAVE: u64 = 0x118;
/// `MLX5_CMD_STAT_BAD_PARAM_ERR`, `MLX5_CMD_STAT_LIM_ERR`.
const STATUSES: [u64; 2] = [0x3, 0x8];

/// One step.
#[derive(Clone, Debug)]
enum Step {
    Set(State),
    /// Reads this many bytes, in as many calls as that takes.
    Read(usize),
    /// Writes this many bytes of a good stream.
    Write(usize),
    Info,
    OptIn,
    DataSize,
    Change(u64),
    Create(u64),
    LoseTracking,
    Digest,
    Reset,
    /// The command with this opcode fails with this status, in that step.
    Fault(u64, u64, Box<Step>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let set = || select(State::ALL.to_vec()).prop_map(Step::Set);
    let plain = prop_oneof![
        8 => set(),
        4 => select(vec![1, 24, 777, 5000, 70_000, usize::MAX]).prop_map(Step::Read),
        3 => select(vec![1, 20, 5000, 300_000, 2 << 20]).prop_map(Step::Write),
        4 => Just(Step::Info),
        1 => Just(Step::OptIn),
        1 => Just(Step::DataSize),
        3 => (0u64..200).prop_map(Step::Change),
        2 => (1u64..50).prop_map(Step::Create),
        1 => Just(Step::LoseTracking),
        1 => Just(Step::Digest),
        1 => Just(Step::Reset),
    ];
    let faulty = (
        prop_oneof![3 => select(COMMANDS.to_vec()), 1 => Just(SAVE)],
        select(STATUSES.to_vec()),
        prop_oneof![3 => set(), 1 => Just(Step::Info)],
    )
        .prop_map(|(opcode, status, step)| Step::Fault(opcode, status, Box::new(step)));
    // Rather through pre-copy than around it.
    let begin = select(vec![State::PRE_COPY, State::RUNNING]).prop_map(Step::Set);
    (begin, vec(prop_oneof![9 => plain, 1 => faulty], 1..STEPS)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// Steps without faults: firmware refuses no command that a correct driver sends.
fn harmless_steps() -> impl Strategy<Value = Vec<Step>> {
    let harmless = |step: &Step| !matches!(step, Step::Fault(..) | Step::LoseTracking);
    steps().prop_map(move |steps| steps.into_iter().filter(harmless).collect())
}

/// A device, and what was opened with it.
struct Player<'a> {
    vf: Vf,
    file: Option<File>,
    stream: &'a [u8],
    written: usize,
    /// Whether it waits for what decides on what can be seen.
    waits: bool,
    /// Tracking was lost: the last SAVE may fail.
    lost: bool,
}

impl<'a> Player<'a> {
    fn new(vf: Bdf, stream: &'a [u8], waits: bool) -> Result<Self> {
        Ok(Self {
            vf: Vf::open(vf, 16)?,
            file: None,
            stream,
            written: 0,
            waits,
            lost: false,
        })
    }

    fn state(&self) -> Result<State> {
        Ok(self.vf.device().state()?)
    }

    fn info(&self) -> String {
        let Some(file) = &self.file else {
            return "no file".to_string();
        };
        let info = uapi::precopy_info(file.as_fd(), uapi::PrecopyInfo::default());
        words(info.map(|info| format!("{info:?}")))
    }

    /// Waits for a SAVE that is under way. A change during a SAVE is in that image or in the
    /// next one. A request may have started one, for which the next
    /// waits, and starts none where there is something to read, and no new
    /// initial state left.
    fn settle(&self) -> Result<()> {
        if self.waits && self.state()? == State::PRE_COPY {
            let reinit = format!("flags: {}", uapi::PRECOPY_INFO_REINIT);
            let saving = |_: &u32| self.info().contains(&reinit);
            (0..20).find(|i| !saving(i));
            self.info();
        }
        Ok(())
    }

    fn read(&mut self, len: usize) -> String {
        let Some(file) = &mut self.file else {
            return "no file".to_string();
        };
        let mut buf = vec![0; len.min(1 << 20)];
        let (mut done, mut sum) = (0, 0u64);
        while done < len {
            let want = buf.len().min(len - done);
            match file.read(&mut buf[..want]) {
                Ok(0) => return format!("{done} bytes {sum:x}, then the end"),
                Ok(n) => {
                    for byte in &buf[..n] {
                        sum = sum.rotate_left(5) ^ u64::from(*byte);
                    }
                    done += n;
                }
                Err(err) => {
                    let errno = errno_name(err.raw_os_error().unwrap_or(0));
                    return format!("{done} bytes {sum:x}, then {errno}");
                }
            }
        }
        format!("{done} bytes {sum:x}")
    }

    /// Reads to the end. How much comes before a SAVE fails is a matter of time.
    fn read_all(&mut self) -> String {
        let seen = self.read(usize::MAX);
        match seen.split_once("then ENODEV") {
            Some(_) => "ENODEV".to_string(),
            None => seen,
        }
    }

    fn write(&mut self, len: usize) -> Result<String> {
        let resuming = self.state()? == State::RESUMING;
        let Some(file) = &mut self.file else {
            return Ok("no file".to_string());
        };
        if !resuming {
            return Ok(words(file.write(&[0; 10])));
        }
        let end = self.stream.len().min(self.written + len);
        let result = words(file.write(&self.stream[self.written..end]));
        self.written = end;
        Ok(result)
    }

    fn set(&mut self, to: State) -> Result<String> {
        // What is incomplete is a difference of its own.
        if self.written > 0 && self.written < self.stream.len() {
            self.write(self.stream.len())?;
        }
        let result = match uapi::set_state(self.vf.device().fd(), to.0) {
            Ok(None) => "ok".to_string(),
            Ok(Some(file)) => {
                self.file = Some(file.into());
                // There the C driver does not wait for the first SAVE before it
                // answers PRECOPY_INFO. A read does, behind the size record.
                let waited = match to {
                    State::PRE_COPY_P2P if self.waits => self.read(25),
                    _ => String::new(),
                };
                format!("ok, and a file {waited}")
            }
            Err(err) => errno_name(err.raw_os_error().unwrap_or(0)),
        };
        let now = self.state()?;
        if now != State::RESUMING || result.contains("file") {
            self.written = 0;
        }
        let all = match now {
            State::STOP_COPY if self.waits && self.lost => self.read_all(),
            _ => String::new(),
        };
        Ok(format!("{result}, now {now} {all}"))
    }

    fn work(&self, command: u32, args: &[u64]) -> Result<String> {
        // A stopped device does not change. If it did, the drivers would save different
        // things: the C driver saves the next chunk as soon as there is a buffer, the
        // Rust driver when the file is read or polled.
        if self.state()? == State::STOP_COPY {
            return Ok("not now".to_string());
        }
        self.settle()?;
        Ok(format!("status {}", self.vf.try_command(command, args)?))
    }

    /// The digest, where nothing is being saved or loaded: asking for it changes registers
    /// that migrate.
    fn digest(&self) -> Result<String> {
        if matches!(self.state()?, State::STOP_COPY | State::RESUMING) {
            return Ok("not now".to_string());
        }
        self.settle()?;
        Ok(format!("{:x}", self.vf.digest()?))
    }

    fn reset(&mut self) -> Result<String> {
        self.settle()?;
        self.vf.device().reset()?;
        self.written = 0;
        self.lost = false;
        Ok(self.state()?.to_string())
    }

    /// Where a fault of a SAVE shows at once.
    fn may_fail_to_save(&self, step: &Step) -> Result<bool> {
        Ok(match (self.state()?, step) {
            (State::RUNNING | State::RUNNING_P2P, Step::Set(to)) => *to == State::PRE_COPY,
            (State::PRE_COPY, Step::Info) => true,
            _ => false,
        })
    }

    fn play(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::Set(to) => self.set(*to),
            Step::Read(len) => Ok(self.read(*len)),
            Step::Write(len) => self.write(*len),
            Step::Info => Ok(self.info()),
            Step::OptIn => Ok(outcome(self.vf.device().opt_in_precopy_info_v2())),
            Step::DataSize => Ok(self.vf.device().data_size()?.to_string()),
            Step::Change(pages) => self.work(regs::CMD_CHANGE_STATE, &[*pages, 3]),
            Step::Create(pages) => self.work(regs::CMD_CREATE_STATE, &[*pages, 90]),
            // Once the device is stopped, the last SAVE is under way.
            Step::LoseTracking if self.state()? != State::PRE_COPY => Ok("not now".to_string()),
            Step::LoseTracking => {
                self.lost = true;
                self.work(regs::CMD_LOSE_TRACKING, &[])
            }
            Step::Digest => self.digest(),
            Step::Reset => self.reset(),
            Step::Fault(opcode, status, step) => {
                self.settle()?;
                if *opcode == SAVE && !self.may_fail_to_save(step)? {
                    return Ok("not now".to_string());
                }
                self.vf.command(regs::CMD_FAULT, &[*opcode, *status])?;
                let seen = [
                    self.play(step)?,
                    self.info(),
                    self.read(1),
                    self.state()?.to_string(),
                ];
                // A fault that is left over goes, and so does what it has done.
                self.reset()?;
                Ok(seen.join("; "))
            }
        }
    }
}

/// Plays a sequence with both drivers.
fn play(pair: [Bdf; 2], stream: &[u8], steps: &[Step]) -> Result<()> {
    let mut players = [
        Player::new(pair[0], stream, true)?,
        Player::new(pair[1], stream, true)?,
    ];
    for (i, step) in steps.iter().enumerate() {
        let mut seen = Vec::new();
        for player in &mut players {
            seen.push(player.play(step)?);
        }
        if seen[0] != seen[1] {
            bail!(
                "step {i}, {step:?}\nC:    {}\nRust: {}\nof {steps:?}",
                seen[0],
                seen[1]
            );
        }
    }
    for player in &mut players {
        player.reset()?;
    }
    Ok(())
}

/// Plays a sequence with our driver, without any wait.
fn play_on(vf: Bdf, stream: &[u8], steps: &[Step]) -> Result<()> {
    let mut refused = Refused::from_now_on()?;
    let mut player = Player::new(vf, stream, false)?;
    for step in steps {
        player.play(step)?;
    }
    player.reset()?;
    let flags = player.vf.read(regs::FLAGS)?;
    ensure!(
        player.state()? == State::RUNNING && flags as u32 == 0,
        "{} with flags {flags:#x} in the end of {steps:?}",
        player.state()?
    );
    player.vf.work(1, 16)?;
    refused.none().with_context(|| format!("{steps:?}"))
}

/// Plays all sequences of a seed. Prints progress: the host ends a machine that prints
/// nothing for long.
fn play_all(
    results: &mut Results,
    seed: u64,
    sequences: u32,
    steps: impl Strategy<Value = Vec<Step>>,
    play: impl Fn(&[Step]) -> Result<()>,
) -> Result<()> {
    let (results, begun) = (RefCell::new(results), Cell::new(0));
    let played = runner(seed, sequences).run(&steps, |steps| {
        begun.set(begun.get() + 1);
        if begun.get() % SAID == 0 {
            let text = format!("{} sequences", begun.get());
            results.borrow_mut().progress(&text);
        }
        play(&steps).map_err(|err| TestCaseError::fail(format!("{err:#}")))
    });
    match played {
        Ok(()) => Ok(()),
        Err(err) => bail!("seed {seed}: {err}"),
    }
}

fn runner(seed: u64, sequences: u32) -> TestRunner {
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng)
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let seed = sys::seed()?;
    let sequences = sys::rounds(SEQUENCES)?;
    let name = format!("{sequences} random sequences");
    results.test(&name, |results| {
        // A reset of the C driver's VF does not wait for the SAVE that it ends. (That of
        // ours does: see the scenario `resets`.)
        kmsg::expect("SAVE_VHCA_STATE");
        let pair = Driver::BOTH.map(|driver| vfs.of(driver).0);
        let (stream, _) = streams::save(vfs.of(Driver::C).1, 3)?;
        play_all(results, seed, sequences, steps(), |steps| {
            play(pair, &stream, steps)
        })
    });
    let name = format!("{sequences} random sequences that wait for nothing, rust driver");
    results.test(&name, |results| {
        let (vf, other) = vfs.of(Driver::Rust);
        let (stream, _) = streams::save(other, 3)?;
        play_all(results, seed, sequences, harmless_steps(), |steps| {
            play_on(vf, &stream, steps)
        })
    });
    Ok(())
}

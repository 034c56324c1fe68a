// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig hwtest` on an adapter that fails, or whose PF goes away, and when it is ended.
//! Whatever happens, its report says which experiment has failed, and why, and the VFs stay as they
//! were.

use super::{
    tool::command::{
        objects,
        vfio_mig,
        PATH, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    fault::{
        event,
        opcode,
        Event,
        Fault,
        Faults, //
    },
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    process::{
        Child,
        Command,
        Output,
        Stdio, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    hwtest::EXPERIMENTS,
    state::State,
    sysfs, //
};
use vm_common::judge::UNDESTROYED;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("hwtest", run)];

/// Where reports go.
const FOLDER: &str = "/tmp/hwtest";
/// Names of the report, without what they end with.
const OUTPUT: &str = "/tmp/hwtest/report";
/// The last experiment.
const LAST: &str = "afterwards";
/// Long enough for a command to have met a fault.
const SHORT: Duration = Duration::from_millis(1);
/// Time for the kernel to begin to unbind the PF.
const BEGUN: Duration = Duration::from_millis(500);
/// As many commands as no experiment sends.
const MANY: u32 = 1_000_000;
/// Experiments that send no commands.
const WITHOUT_COMMANDS: [&str; 2] = ["capabilities", LAST];

/// Commands that may fail without an experiment that fails.
fn may_fail(experiment: &str, command: u16) -> bool {
    match experiment {
        // The reset ends it, and its file is not read.
        "reset-save" if command == opcode::SAVE_VHCA_STATE => true,
        // The reset ends it; the report has what the write ends with.
        "reset-load" if command == opcode::LOAD_VHCA_STATE => true,
        _ => opcode::is_destroy(command),
    }
}

/// How the tool has ended.
struct Ran {
    status: Option<i32>,
    report: Value,
    said: String,
}

impl Ran {
    fn of(output: &Output) -> Result<Self> {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut printed = objects(&output.stdout)?;
        ensure!(printed.len() == 1, "{printed:?}: {said}");
        let report = printed[0]["result"].take();
        ensure!(report.is_object(), "{printed:?}: {said}");
        Ok(Self {
            status: output.status.code(),
            report,
            said,
        })
    }

    /// The outcome of an experiment.
    fn outcome(&self, name: &str) -> Result<&Value> {
        let outcomes = self.report["outcomes"].as_array().context("no outcomes")?;
        let found = outcomes.iter().find(|outcome| outcome["name"] == name);
        found.with_context(|| format!("no {name}: {:#}", self.report))
    }

    /// Why an experiment has failed, if it has. The text of the report must have that.
    fn error(&self, name: &str) -> Result<Option<String>> {
        let outcome = self.outcome(name)?;
        let words = fs::read_to_string(format!("{OUTPUT}.txt"))?;
        let Some(error) = outcome["error"].as_str() else {
            let figures = outcome["figures"].as_object();
            ensure!(figures.is_some_and(|all| !all.is_empty()), "{outcome:#}");
            ensure!(words.contains(&format!("\n{name}: done")), "{words}");
            return Ok(None);
        };
        let is_told = words.contains(&format!("\n{name}: FAILED")) && words.contains(error);
        ensure!(is_told && !error.is_empty(), "{words}");
        Ok(Some(error.to_string()))
    }
}

/// Two VFs of our driver.
struct Site {
    vfs: [Bdf; 2],
    faults: Faults,
}

impl Site {
    fn args(&self, only: &[&str]) -> Vec<String> {
        let vfs = self.vfs.iter().map(Bdf::to_string);
        let fixed = ["--json", "hwtest", "--yes", "--output", OUTPUT];
        let only = only.iter().flat_map(|name| ["--only", *name]);
        let words = fixed.into_iter().chain(only).map(str::to_string);
        words.chain(vfs).collect()
    }

    fn start(&self, only: &[&str]) -> Result<Child> {
        let mut command = Command::new(PATH);
        command.args(self.args(only));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Does an experiment.
    fn run(&self, name: &str) -> Result<Ran> {
        Ran::of(&vfio_mig(&self.args(&[name]))?)
    }

    /// The VFs have their driver, and run when they are opened.
    fn is_as_before(&self) -> Result<()> {
        for vf in self.vfs {
            let driver = sysfs::driver(vf)?;
            ensure!(driver == Driver::Rust.sysfs_name(), "{vf} has {driver}");
            let state = Device::open(vf)?.state()?;
            ensure!(state == State::RUNNING, "{vf}: {state}");
        }
        Ok(())
    }

    /// Commands that an experiment sends, each of which firmware is slow with. The experiment must
    /// be done nevertheless.
    fn commands(&self, name: &str) -> Result<u32> {
        let before = self.faults.fired()?;
        self.faults
            .arm(Fault::late(opcode::ANY, SHORT).times(MANY))?;
        let ran = self.run(name)?;
        let count = self.faults.fired()? - before;
        self.faults.disarm()?;
        let error = ran.error(name)?;
        ensure!(error.is_none() && ran.status == Some(0), "{error:?}");
        Ok(count)
    }

    /// What an experiment has ended with that may have met `fault`, which is not armed any more:
    /// exit status and VFs must fit.
    fn judged(
        &self,
        name: &str,
        ran: &Ran,
        fault: &str,
        results: &mut Results,
    ) -> Result<Option<String>> {
        self.faults.disarm()?;
        self.is_as_before()?;
        let error = ran.error(name)?;
        results.progress(&format!("{name}: {fault}: {error:?}"));
        let expected = i32::from(error.is_some());
        ensure!(ran.status == Some(expected), "{:?}: {error:?}", ran.status);
        Ok(error)
    }

    /// Does an experiment of which a command meets a fault.
    fn with_fault(&self, name: &str, fault: Fault, results: &mut Results) -> Result<()> {
        let before = self.faults.fired()?;
        self.faults.arm(fault)?;
        let ran = self.run(name)?;
        let met = self.faults.fired()? != before;
        let command = self.faults.last()?;
        let error = self.judged(name, &ran, &format!("command {command:#x}"), results)?;
        ensure!(
            // How many commands meet a reset depends on when it comes.
            error.is_some() || !met || may_fail(name, command),
            "{name} is done, although command {command:#x} has failed: {:#}",
            ran.report
        );
        Ok(())
    }

    /// An event does not come. The experiment is done, or it says why not.
    fn untold(&self, name: &str, event: u8, results: &mut Results) -> Result<()> {
        let before = self.faults.fired()?;
        self.faults.arm_event(event, 1, Event::Lost)?;
        let ran = self.run(name)?;
        ensure!(self.faults.fired()? != before, "no event was lost");
        self.judged(name, &ran, &format!("without event {event:#x}"), results)?;
        Ok(())
    }

    /// A signal comes while firmware has a command of an experiment.
    fn signalled(&self, name: &str, nth: u32, (number, signal): (i32, &str)) -> Result<()> {
        self.faults.arm(Fault::held(opcode::ANY).nth(nth))?;
        let tool = self.start(&[name, LAST])?;
        self.faults.wait_for_held(1)?;
        sys::kill(tool.id(), number)?;
        self.faults.disarm()?;
        let output = tool.wait_with_output()?;
        self.is_as_before()?;
        if number == libc::SIGKILL {
            ensure!(!fs::exists(format!("{OUTPUT}.json"))?, "there is a report");
            return Ok(());
        }
        let ran = Ran::of(&output)?;
        ensure!(ran.status == Some(128 + number), "{:?}", ran.status);
        ensure!(ran.report["interrupted"] == signal, "{:#}", ran.report);
        let not_done = ran.report["not_done"].as_array().context("a list")?;
        ensure!(not_done[..] == [LAST], "{:#}", ran.report);
        ran.error(name)?;
        let words = fs::read_to_string(format!("{OUTPUT}.txt"))?;
        ensure!(
            words.contains(&format!("\nINTERRUPTED by {signal}\n")),
            "{words}"
        );
        ensure!(fs::read_dir(FOLDER)?.count() == 2, "it has left a file");
        Ok(())
    }
}

/// Begins with a folder without reports.
fn empty_folder() -> Result<()> {
    if fs::exists(FOLDER)? {
        fs::remove_dir_all(FOLDER)?;
    }
    Ok(fs::create_dir(FOLDER)?)
}

/// The PF is unbound while firmware has a command. The kernel waits until the VFs are closed, and
/// later experiments find none.
fn without_pf(site: &Site) -> Result<()> {
    empty_folder()?;
    let pf = Pf::find()?;
    kmsg::expect(kmsg::PF_UNBIND);
    site.faults.arm(Fault::held(opcode::SAVE_VHCA_STATE))?;
    let tool = site.start(&[])?;
    site.faults.wait_for_held(1)?;
    let unbinding = thread::spawn(move || pf.set_bound(false).map(|()| pf));
    thread::sleep(BEGUN);
    site.faults.disarm()?;
    let ran = Ran::of(&tool.wait_with_output()?)?;
    let pf = unbinding.join().ok().context("a thread panicked")??;
    pf.set_bound(true)?;
    ensure!(ran.status == Some(1), "{:?}: {}", ran.status, ran.said);
    for experiment in EXPERIMENTS {
        ran.outcome(experiment.name)?;
    }
    let error = ran.error(LAST)?.unwrap_or_default();
    ensure!(error.contains("no such device"), "{error}");
    Ok(())
}

/// A report that cannot be written is printed, as the only object.
fn without_a_place(site: &Site) -> Result<()> {
    empty_folder()?;
    symlink("/dev/full", format!("{OUTPUT}.json"))?;
    let ran = site.run("capabilities")?;
    ensure!(ran.status == Some(1), "{:?}", ran.status);
    ensure!(ran.error("capabilities")?.is_none(), "{:#}", ran.report);
    ensure!(
        ran.said.contains("report.json: No space left on device"),
        "{}",
        ran.said
    );
    Ok(())
}

/// Has commands of an experiment fail, and ends the tool while it does the experiment.
fn experiment(site: &Site, number: usize, rng: &mut Rng, results: &mut Results) -> Result<()> {
    let signals = [
        (libc::SIGINT, "SIGINT"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGKILL, "SIGKILL"),
    ];
    let name = EXPERIMENTS[number].name;
    kmsg::expect("failed, status");
    kmsg::expect(UNDESTROYED);
    empty_folder()?;
    let count = site.commands(name)?;
    results.progress(&format!("{name}: {count} commands"));
    let expected = !WITHOUT_COMMANDS.contains(&name);
    ensure!((count > 0) == expected, "{name} sends {count} commands");
    let mut all: Vec<u32> = (1..=count).collect();
    rng.shuffle(&mut all);
    let wrong: Vec<String> = all
        .iter()
        .take(sys::cases(2)?)
        .filter_map(|nth| {
            let fault = Fault::fail(opcode::ANY).nth(*nth);
            let refused = site.with_fault(name, fault, results);
            refused.err().map(|err| format!("command {nth}: {err:#}"))
        })
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let signals = signals
        .iter()
        .cycle()
        .skip(number)
        .take(sys::cases(1)?.min(3));
    for (signal, nth) in signals.zip(&all) {
        empty_folder()?;
        // Not the last ones, which may not come where a reset comes earlier.
        let nth = nth.div_ceil(2);
        site.signalled(name, nth, *signal)
            .with_context(|| format!("{}, command {nth}", signal.1))?;
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let (vf, other) = Vfs::new()?.of(Driver::Rust);
    let site = Site {
        vfs: [vf, other],
        faults: Faults::open()?,
    };
    let seed = sys::seed()?;
    let mut rng = Rng::with_seed(seed);
    let mut numbers: Vec<usize> = (0..EXPERIMENTS.len()).collect();
    rng.shuffle(&mut numbers);
    for number in numbers.into_iter().take(sys::cases(3)?) {
        results.test(EXPERIMENTS[number].name, |results| {
            let tried = experiment(&site, number, &mut rng, results);
            tried.with_context(|| format!("seed {seed}"))
        });
    }
    results.test("events that do not come", |results| {
        let events = [("page-sizes", event::COMP), ("stop-copy", event::CMD)];
        let mut events = events.iter().take(sys::cases(1)?);
        events.try_for_each(|(name, event)| site.untold(name, *event, results))
    });
    results.test("commands that are given up", |results| {
        kmsg::expect("failed, status");
        kmsg::expect(UNDESTROYED);
        let commands = [
            ("stop-copy", opcode::SAVE_VHCA_STATE),
            ("page-sizes", opcode::CREATE_GENERAL_OBJECT),
        ];
        let mut commands = commands.iter().take(sys::cases(1)?);
        commands.try_for_each(|(name, opcode)| site.with_fault(name, Fault::held(*opcode), results))
    });
    results.test("a report that cannot be written", |_| {
        without_a_place(&site)
    });
    results.test("the PF is unbound", |_| without_pf(&site));
    // Those that the PF had are gone.
    Pf::find()?.set_vfs(0)
}

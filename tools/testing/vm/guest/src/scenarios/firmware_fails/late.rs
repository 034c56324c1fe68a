// SPDX-License-Identifier: GPL-2.0

//! Commands that mlx5_core gives up: firmware carries them out later, or has carried them out,
//! but the event that tells of it comes when nobody waits for it any more.

use super::{
    again,
    log::Log,
    paths::{
        self,
        Path, //
    },
    session::Session,
    words, //
};
use crate::{
    campaign::Counts,
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
    scenarios::{
        compare::Site,
        streams,
        Vfs, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::{
    sync::Arc,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::names;

/// Seconds for all commands of a driver, each of which takes several.
const DURATION: [u32; 2] = [20, 1500];
/// Commands of each request in a short run. Each is given up in two ways.
const OF_PATH: usize = 1;
/// Commands after which the PF is reloaded: mlx5_core has 31 slots, and one is taken until the
/// event of its command has come.
const SLOTS: u32 = 12;
/// When the event of a command comes: mlx5_core has given the command up by then, which takes it
/// less than seven seconds. It must come: an mlx5_core that is unloaded waits for all of its slots
/// (mlx5_cmd_use_polling()), without an end, and cannot be killed.
const UNTOLD: Duration = Duration::from_secs(15);
/// Long enough to have each command of a request be one that has met a fault.
const SHORT: Duration = Duration::from_millis(1);

/// How mlx5_core comes to give a command up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    /// Firmware carries it out when it was given up.
    Held,
    /// Firmware has carried it out, and does not tell so in time.
    Untold,
}

/// A command of a request.
#[derive(Clone, Copy)]
struct Case {
    path: &'static Path,
    nth: u32,
    opcode: u16,
    late: Late,
}

/// What the C driver does not survive, and why.
const C_DOES_NOT_SURVIVE: &[(u16, Late, &str)] = &[
    (
        opcode::SAVE_VHCA_STATE,
        Late::Held,
        "it frees the memory, to which firmware writes later",
    ),
    (
        opcode::LOAD_VHCA_STATE,
        Late::Held,
        "it frees the memory, from which firmware reads later",
    ),
];

/// Commands whose answer is too long for a slot of the command queue. Firmware writes it to
/// mailboxes, which mlx5_core frees when it gives the command up: the answer then goes to memory
/// that may be used for something else. That is nothing that a driver above it could mend.
const ANSWERED_IN_MAILBOXES: &[u16] = &[
    opcode::QUERY_HCA_CAP,
    opcode::QUERY_VHCA_MIGRATION_STATE,
    opcode::QUERY_GENERAL_OBJECT,
];

impl Case {
    /// The name by which it can be had alone.
    fn title(&self, driver: Driver) -> String {
        let how = match self.late {
            Late::Held => "is answered too late",
            Late::Untold => "is told of too late",
        };
        format!(
            "{} driver, {}, command {} {how}",
            driver.name(),
            self.path.name,
            self.nth
        )
    }

    /// Why a driver does not survive it, if it does not.
    fn not_survived(&self, driver: Driver) -> Option<&'static str> {
        if self.opcode == opcode::SAVE_VHCA_STATE {
            if let Some(reason) = self.path.reason(driver) {
                return Some(reason);
            }
        }
        if self.late == Late::Held && ANSWERED_IN_MAILBOXES.contains(&self.opcode) {
            return Some("mlx5_core frees the mailboxes, to which firmware writes later");
        }
        let mut of_c = C_DOES_NOT_SURVIVE.iter();
        let this = (self.opcode, self.late);
        let found = of_c.find(|(opcode, late, _)| (*opcode, *late) == this);
        found.filter(|_| driver == Driver::C).map(|(.., why)| *why)
    }
}

/// What the commands are sent for.
struct Bench {
    driver: Driver,
    site: Site,
    stream: Arc<[u8]>,
    digest: u64,
    faults: Faults,
    log: Log,
    /// When the last event of a command that was given up has come.
    told: Instant,
}

impl Bench {
    /// Reloads the PF, whose driver must have all events for that.
    fn reload(&self) -> Result<()> {
        thread::sleep(self.told.saturating_duration_since(Instant::now()));
        Pf::find()?.reload()
    }

    /// A VF that is ready for a request, and the violations before that.
    fn ready(&self, path: &Path) -> Result<(Session, u64)> {
        let mut session = Session::open(self.driver, self.site.vf, self.stream.clone())?;
        let violations = session.violations()?;
        path.get_ready(&mut session).context("getting ready")?;
        Ok((session, violations))
    }

    /// The commands that a request sends.
    fn commands(&self, path: &Path) -> Result<Vec<u16>> {
        let mut commands = Vec::new();
        loop {
            let (mut session, _) = self.ready(path)?;
            let before = self.faults.fired()?;
            let nth = commands.len() as u32 + 1;
            self.faults.arm(Fault::late(opcode::ANY, SHORT).nth(nth))?;
            (path.work)(&mut session)?;
            session.settle()?;
            let met = self.faults.fired()? != before;
            self.faults.disarm()?;
            session.recover()?;
            if !met {
                return Ok(commands);
            }
            commands.push(self.faults.last()?);
        }
    }

    /// All commands of a request, in an order that the seed chooses.
    fn cases(&self, path: &'static Path, rng: &mut Rng) -> Result<Vec<Case>> {
        let both = |(nth, opcode)| {
            [Late::Held, Late::Untold].map(|late| Case {
                path,
                nth,
                opcode,
                late,
            })
        };
        let mut cases: Vec<Case> = (1..).zip(self.commands(path)?).flat_map(both).collect();
        rng.shuffle(&mut cases);
        Ok(cases)
    }

    /// Makes a request, a command of which is given up.
    fn give_up(&mut self, case: Case, results: &mut Results) -> Result<()> {
        let (mut session, before) = self.ready(case.path)?;
        self.log.skip();
        let fired = self.faults.fired()?;
        match case.late {
            Late::Held => self.faults.arm(Fault::held(opcode::ANY).nth(case.nth))?,
            Late::Untold => {
                let untold = Event::Late(UNTOLD);
                self.faults.arm_event(event::CMD, case.nth, untold)?;
            }
        }
        let result = words(&(case.path.work)(&mut session));
        let read = words(&session.settle());
        let state = session.state()?;
        if case.late == Late::Untold {
            self.told = Instant::now() + UNTOLD;
        }
        ensure!(self.faults.fired()? != fired, "no command was late");
        let read_ended = read == "ok" || read == paths::OF_READ;
        let ended = case.path.may_end(self.driver, &result, libc::ETIMEDOUT) && read_ended;
        results.progress(&format!(
            "{}: {:#x}, {result}, {read}, {state}",
            case.title(self.driver),
            case.opcode
        ));
        if case.late == Late::Held {
            self.faults.release()?;
            self.faults.wait_for_held(0)?;
        }
        self.faults.disarm()?;
        let violations = session.recover().context("afterwards")?;
        ensure!(ended, "{result}, then {read} in {state}");
        // What is created too late uses other objects, as what is not destroyed does.
        self.log.check(Some(opcode::DESTROY_MKEY), 0)?;
        let violations = violations - before;
        ensure!(violations == 0, "{violations} violations");
        let loaded = streams::load(self.site.vf, &self.stream)?;
        ensure!(
            loaded == self.digest,
            "afterwards, a migration loads another state"
        );
        Ok(())
    }
}

/// Has commands of a driver given up until the time is over, or one that has been chosen.
fn run_driver(results: &mut Results, vfs: &Vfs, driver: Driver) -> Result<()> {
    let seed = sys::seed()?;
    let only = sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    let (vf, other) = vfs.of(driver);
    let site = Site { vf, other };
    let (stream, digest) = streams::save(site.other, 2)?;
    let mut bench = Bench {
        driver,
        site,
        stream: stream.into(),
        digest,
        faults: Faults::open()?,
        log: Log::new()?,
        told: Instant::now(),
    };
    let mut counts = Counts::new(driver.name());
    let mut rng = Rng::with_seed(seed);
    // mlx5_core's own commands fail if the PF goes, and then there is no PF.
    let of_driver = |path: &&Path| path.is_of_driver() && path.may_be_chosen(driver, &only);
    let mut paths: Vec<&Path> = paths::ALL.iter().filter(of_driver).collect();
    rng.shuffle(&mut paths);
    let (begin, time) = (Instant::now(), sys::duration(DURATION)?);
    let is_over = || begin.elapsed() > time && only.is_empty();
    let mut tried = 0;
    for path in paths {
        // A long run goes on, to count the cases that it has no time for.
        if is_over() && !sys::is_long()? {
            break;
        }
        let mut cases = Vec::new();
        let name = format!("{} driver, the commands of {}", driver.name(), path.name);
        results.test(&name, |_| {
            cases = bench.cases(path, &mut rng)?;
            ensure!(!cases.is_empty(), "there are none");
            Ok(())
        });
        cases.retain(|case| names::parameter(&case.title(driver)).contains(&only));
        for case in cases.into_iter().take(sys::cases(OF_PATH)?) {
            let title = case.title(driver);
            if is_over() {
                counts.cases_left += 1;
                continue;
            }
            if let Some(reason) = case.not_survived(driver) {
                results.skip(&title, reason);
                continue;
            }
            results.test(&title, |results| {
                Log::expect();
                let done = bench.give_up(case, results);
                counts.requests += 1;
                counts.faults_injected += 1;
                counts.wrong_results += u64::from(done.is_err());
                tried += 1;
                if tried % SLOTS == 0 {
                    bench.reload()?;
                }
                done.with_context(|| format!("seed {seed}; {}", again("firmware-late", &title)))
            });
        }
    }
    results.test(
        &format!("{} driver, reloading the PF", driver.name()),
        |_| bench.reload(),
    );
    counts.report(results);
    Ok(())
}

/// Both drivers.
pub(super) fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    for driver in [Driver::Rust, Driver::C] {
        run_driver(results, &vfs, driver)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Every firmware command of every request fails once, with every status that the interface
//! has.

use super::{
    again,
    events,
    log::Log,
    paths::{
        self,
        Path, //
    },
    session::Session,
    statuses::{
        self,
        Status, //
    },
    words, //
};
use crate::{
    campaign::Counts,
    fault::{
        opcode,
        Fault,
        Faults, //
    },
    hca::Driver,
    scenarios::{
        compare::Site,
        streams,
        Vfs, //
    },
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
use std::{
    sync::Arc,
    time::Instant, //
};
use vm_common::names;

/// The syndrome of all faults.
const SYNDROME: u32 = 0xfa17;
/// Failures after which a good migration is tried.
const EACH: u64 = 12;
/// Seconds for the statuses after the first of each command, of both drivers.
const DURATION: [u32; 2] = [10, 3000];
/// Wrong results after which a request is not tried any more.
const ENOUGH: usize = 3;

/// One failure.
#[derive(Clone, Copy)]
struct Case {
    driver: Driver,
    path: &'static Path,
    opcode: u16,
    nth: u32,
    status: Status,
}

impl Case {
    /// The name by which it can be had alone.
    fn title(&self) -> String {
        let of = match self.opcode {
            opcode::ANY => String::new(),
            opcode => format!("{opcode:#x} "),
        };
        format!(
            "{} driver, {}, command {of}{}, status {:#x}",
            self.driver.name(),
            self.path.name,
            self.nth,
            self.status.number
        )
    }
}

/// What is seen of one.
struct Seen {
    /// The command that has failed, if there was one.
    failed: Option<u16>,
    result: String,
    /// What reading the rest of the stream has given.
    read: String,
    state: String,
    violations: u64,
}

/// What commands are sent for.
struct Bench {
    driver: Driver,
    site: Site,
    stream: Arc<[u8]>,
    digest: u64,
    faults: Faults,
    log: Log,
    seed: u64,
    /// Only the cases with this in their names.
    only: String,
    counts: Counts,
}

impl Bench {
    /// A good migration.
    fn migrates(&self) -> Result<()> {
        streams::migrate(self.site.vf, self.site.other, 2).context("afterwards")?;
        let loaded = streams::load(self.site.vf, &self.stream)?;
        ensure!(loaded == self.digest, "another state is loaded afterwards");
        Ok(())
    }

    /// Makes a request, a command of which fails.
    fn fail(&mut self, case: Case) -> Result<Seen> {
        let mut session = Session::open(self.driver, self.site.vf, self.stream.clone())?;
        let violations = session.violations()?;
        case.path.get_ready(&mut session).context("getting ready")?;
        self.log.skip();
        let before = self.faults.fired()?;
        let fault = Fault::fail(case.opcode).nth(case.nth);
        self.faults
            .arm(fault.status(case.status.number, SYNDROME))?;
        let result = (case.path.work)(&mut session);
        let read = session.settle();
        let met = self.faults.fired()? != before;
        self.faults.disarm()?;
        let seen = Seen {
            failed: met.then(|| self.faults.last()).transpose()?,
            result: words(&result),
            read: words(&read),
            state: session.state()?,
            violations: session.recover().context("afterwards")? - violations,
        };
        self.counts.requests += 1;
        self.counts.succeeded += u64::from(result.is_ok());
        self.counts.faults_injected += u64::from(met);
        Ok(seen)
    }

    /// Judges what is seen of a failure.
    fn judge(&mut self, case: Case, seen: &Seen) -> Result<()> {
        let Seen { result, read, .. } = seen;
        self.log.check(seen.failed, SYNDROME)?;
        let violations = seen.violations;
        ensure!(violations == 0, "{violations} violations");
        if seen.failed.is_none() {
            ensure!(
                result == "ok" && read == "ok",
                "without a failure: {result}, then {read}"
            );
            return Ok(());
        }
        let read_ended = read == "ok" || read == paths::OF_READ;
        ensure!(
            case.path.may_end(self.driver, result, case.status.errno) && read_ended,
            "{result}, then {read} in {}",
            seen.state
        );
        match self.counts.faults_injected % EACH {
            0 => self.migrates(),
            _ => Ok(()),
        }
    }

    /// Has a command of a request fail, and judges what is seen. Returns the command.
    fn try_case(&mut self, results: &mut Results, case: Case) -> Result<Option<u16>> {
        let seen = self.fail(case)?;
        let failed = match seen.failed {
            Some(opcode) => format!("command {opcode:#x} has failed"),
            None => "no command has failed".to_string(),
        };
        results.progress(&format!(
            "{}: {failed}: {}, then {} in {}",
            case.title(),
            seen.result,
            seen.read,
            seen.state
        ));
        self.judge(case, &seen).context(failed)?;
        Ok(seen.failed)
    }

    /// Makes a request, all commands of which succeed.
    fn succeed(&self, path: &Path) -> Result<()> {
        let mut session = Session::open(self.driver, self.site.vf, self.stream.clone())?;
        path.get_ready(&mut session)?;
        (path.work)(&mut session)?;
        session.settle()?;
        session.recover().map(drop)
    }

    /// The status with which a command fails in a round.
    fn status(&self, path: &Path, nth: u32, round: usize) -> Status {
        let mix = |sum: u64, byte: u8| sum.rotate_left(9) ^ u64::from(byte);
        let of_path = path.name.bytes().fold(0, mix) << 8;
        let mut order = statuses::ALL.to_vec();
        Rng::with_seed(self.seed ^ of_path ^ u64::from(nth)).shuffle(&mut order);
        order[round]
    }

    /// Has each command of a request with one opcode, or any, fail once. Returns their number.
    fn round(
        &mut self,
        results: &mut Results,
        (path, opcode): (&'static Path, u16),
        round: usize,
        wrong: &mut Vec<String>,
    ) -> u32 {
        let mut nth = 1;
        while nth <= path.most && wrong.len() < ENOUGH {
            let case = Case {
                driver: self.driver,
                path,
                opcode,
                nth,
                status: self.status(path, nth, round),
            };
            let title = case.title();
            if !names::parameter(&title).contains(&self.only) {
                nth += 1;
                continue;
            }
            let tried = self.try_case(results, case).and_then(|failed| {
                // mlx5_core makes an EQ for a completion vector once, and keeps it: the commands
                // after that one are the next ones from then on.
                let once = failed == Some(opcode::CREATE_EQ);
                once.then(|| self.succeed(path)).transpose()?;
                Ok(failed.map(|_| u32::from(!once)))
            });
            match tried {
                Ok(Some(step)) => nth += step,
                Ok(None) => return nth - 1,
                Err(err) => {
                    self.counts.wrong_results += 1;
                    let again = again("firmware-fails", &title);
                    wrong.push(format!("{title}: {err:#}; {again}"));
                    nth += 1;
                }
            }
        }
        nth - 1
    }

    /// Has each command of a request fail, once or, until `end`, with each status.
    fn run(&mut self, results: &mut Results, path: &'static Path, end: Instant) -> Result<()> {
        let (mut commands, mut wrong) = (0, Vec::new());
        for round in 0..statuses::ALL.len() {
            if round > 0 && Instant::now() > end && self.only.is_empty() {
                let left = u64::from(commands) * (statuses::ALL.len() - round) as u64;
                results.progress(&format!("{}: {left} cases are left", path.name));
                self.counts.cases_left += left;
                break;
            }
            for opcode in path.opcodes(self.driver) {
                let count = self.round(results, (path, *opcode), round, &mut wrong);
                if round == 0 {
                    commands += count;
                }
            }
            if !wrong.is_empty() {
                bail!("seed {}: {}", self.seed, wrong.join("\n"));
            }
        }
        results.progress(&format!("{}: {commands} commands", path.name));
        if let Some(reason) = path.reason(self.driver) {
            results.progress(&format!("{}: not all of them: {reason}", path.name));
        }
        self.migrates()
    }
}

/// Each command, and events, of both drivers.
pub(super) fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let seed = sys::seed()?;
    let time = sys::duration(DURATION)? / (Driver::BOTH.len() * paths::ALL.len()) as u32;
    // What a path does not need is for those after it.
    let mut end = Instant::now();
    let only = sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    for driver in [Driver::Rust, Driver::C] {
        let (vf, other) = vfs.of(driver);
        let (stream, digest) = streams::save(other, 2)?;
        let mut bench = Bench {
            driver,
            site: Site { vf, other },
            stream: stream.into(),
            digest,
            faults: Faults::open()?,
            log: Log::new()?,
            seed,
            only: only.clone(),
            counts: Counts::new(driver.name()),
        };
        for path in paths::ALL
            .iter()
            .filter(|path| path.may_be_chosen(driver, &only))
        {
            let name = format!("{} driver, {}", driver.name(), path.name);
            end += time;
            results.test(&name, |results| {
                Log::expect();
                bench.run(results, path, end)
            });
        }
        let Bench {
            site,
            stream,
            mut counts,
            ..
        } = bench;
        events::run(results, (driver, &only), &site, &stream, &mut counts);
        counts.report(results);
    }
    Ok(())
}

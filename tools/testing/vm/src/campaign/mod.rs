// SPDX-License-Identifier: GPL-2.0

//! `make campaign`: machines of each part in turn, with other seeds each time, until a part has
//! come to its goal or time is over. What was done is kept, and the next campaign goes on.

mod estimate;
mod parts;
mod report;
mod slice;
mod splats;

pub use parts::{
    parameter,
    seconds_of_check,
    wanted,
    Part, //
};
pub use slice::Slice;

use crate::{
    accel::Accel,
    command::CONSOLE,
    journal::Journal,
    machine::{
        Machine,
        Outcome, //
    },
    needs::{
        self,
        Need, //
    },
    paths::Paths,
    report::{
        path_word,
        write, //
    },
    seed,
    tap::News, //
};
use anyhow::{
    Context,
    Result, //
};
use parts::Goal;
use serde_json::json;
use slice::Done;
use std::{
    collections::BTreeSet,
    fs,
    path::{
        Path,
        PathBuf, //
    },
    sync::{
        Mutex,
        MutexGuard,
        PoisonError, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::{
    kernel::Kernel,
    scenarios::Scenario, //
};

/// Where a campaign's files are, in the folder of results.
const FOLDER: &str = "campaign";
/// What the machines of these parts need.
pub fn needs(parts: &[&Part]) -> BTreeSet<Need> {
    let machines = parts.iter().flat_map(|part| part.machines());
    machines
        .flat_map(|(kernel, scenario)| needs::of_machine(kernel, scenario))
        .collect()
}

/// Runs the machine of a slice.
fn boot(paths: &Paths, accel: Accel, slice: &Slice) -> Result<Outcome> {
    let seconds = parts::seconds(slice.scenario.name).context("no part has this scenario")?;
    let kept = parts::kept(slice.kernel, slice.scenario);
    let kept = kept.map(|kept| paths.out().join(FOLDER).join(kept));
    if let Some(kept) = &kept {
        fs::create_dir_all(kept).with_context(|| kept.display().to_string())?;
    }
    Machine {
        paths,
        accel,
        kernel: slice.kernel,
        scenario: slice.scenario,
        // With all checkers, the usual length takes as long as the full one with others.
        all: slice.kernel != Kernel::Debug,
        properties: "",
        parameters: &format!("{} {}", seed::parameter(slice.seed), parameter(seconds)),
        kept: kept.as_deref(),
    }
    .run(|_: News<'_>| ())
    .with_context(|| slice.to_string())
}

/// Runs one slice again, and shows what fails. It does not count.
pub fn again(paths: &Paths, slice: &Slice) -> Result<bool> {
    println!("{}: {}", slice, slice.scenario.about);
    let outcome = boot(paths, Accel::probe(paths)?, slice)?;
    let ok = crate::show_failures(&outcome);
    if ok {
        println!("The logs are in {}", path_word(&outcome.dir));
    }
    Ok(ok)
}

/// Copies the files of a folder.
fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What is shared by all that run machines.
struct State {
    journal: Journal<Done>,
    /// Parts and machines that are under way.
    running: Vec<(&'static str, Kernel, &'static str)>,
    /// Machines that were begun, of which each has a seed of its own.
    begun: u64,
}

/// A campaign that is under way.
struct Campaign<'a> {
    paths: &'a Paths,
    accel: Accel,
    parts: Vec<&'static Part>,
    /// When no machine is begun any more.
    end: Option<Instant>,
    begin: Instant,
    workers: usize,
    state: Mutex<State>,
}

impl Campaign<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.paths.out().join(FOLDER)
    }

    /// Whether a machine will have ended before time is over.
    fn has_time(&self, done: &[Done], part: &Part, kernel: Kernel, scenario: &Scenario) -> bool {
        let time = Duration::from_secs_f64(estimate::machine(part, done, kernel, scenario));
        self.end.is_none_or(|end| Instant::now() + time <= end)
    }

    /// The machine of a part that was run least, does not run, and has the time to.
    fn machine(&self, state: &State, part: &Part) -> Option<(Kernel, &'static Scenario)> {
        let runs = |machine: &(Kernel, &Scenario)| {
            report::runs(part, &state.journal.done, *machine).count() as u64
        };
        let is_free = |(kernel, scenario): &(Kernel, &Scenario)| {
            let running = state.running.iter();
            !running
                .map(|(_, k, name)| (k, name))
                .any(|one| one == (kernel, &scenario.name))
        };
        let has_time = |(kernel, scenario): &(Kernel, &Scenario)| {
            self.has_time(&state.journal.done, part, *kernel, scenario)
        };
        let is_wanted = |one: &(Kernel, &Scenario)| match part.goal {
            Goal::Machines(goal) => runs(one) < goal,
            _ => true,
        };
        part.machines()
            .filter(is_free)
            .filter(is_wanted)
            .filter(has_time)
            .min_by_key(runs)
    }

    /// The next machine: of the part that has had the least of its share.
    fn next(&self) -> Option<(&'static Part, Slice)> {
        let mut state = self.lock();
        let spent = |part: &Part| {
            let done = state
                .journal
                .done
                .iter()
                .filter(|one| one.part == part.name);
            let running = state.running.iter().filter(|(name, ..)| *name == part.name);
            let seconds = done.map(|one| one.seconds).sum::<f64>()
                + f64::from(part.seconds) * running.count() as f64;
            seconds / f64::from(part.share)
        };
        let mut open: Vec<&'static Part> = self.parts.clone();
        open.retain(|part| {
            let (count, goal) = report::progress(part, &state.journal.done);
            count < goal
        });
        open.sort_by(|a, b| spent(a).total_cmp(&spent(b)));
        let (part, (kernel, scenario)) = open
            .iter()
            .find_map(|part| Some((*part, self.machine(&state, part)?)))?;
        state.begun += 1;
        let seed = state.journal.seed.wrapping_add(state.begun) % 1_000_000_000;
        state.running.push((part.name, kernel, scenario.name));
        Some((
            part,
            Slice {
                kernel,
                scenario,
                seed,
            },
        ))
    }

    /// What came of a machine. The logs are kept if something was wrong.
    fn judge(&self, part: &Part, slice: &Slice, outcome: &Outcome, seconds: f64) -> Result<Done> {
        let console = fs::read(outcome.dir.join(CONSOLE)).unwrap_or_default();
        let drivers = slice::figures(outcome, &String::from_utf8_lossy(&console));
        let failed: Vec<String> = outcome
            .tests
            .iter()
            .filter(|test| !test.ok)
            .map(|test| test.name.clone())
            .collect();
        let logs = match failed.is_empty() {
            true => None,
            false => {
                let logs = self.folder().join("logs").join(slice.to_string());
                keep(&outcome.dir, &logs)?;
                Some(logs.display().to_string())
            }
        };
        Ok(Done {
            part: part.name.to_string(),
            slice: slice.to_string(),
            kernel: slice.kernel.name().to_string(),
            commit: self.paths.commit.clone(),
            seconds,
            drivers,
            failed,
            logs,
        })
    }

    /// Says what a machine has come to, and how far its part is.
    fn tell(&self, part: &Part, done: &Done, all: &[Done]) {
        let elapsed = self.begin.elapsed().as_secs();
        let rest = estimate::rest(&self.parts, all) / self.workers as f64;
        println!(
            "{:3}:{:02} min  about {:4.0} min left  {:5.0} s  {}  {}",
            elapsed / 60,
            elapsed % 60,
            rest / 60.0,
            done.seconds,
            report::state(part, all),
            done.slice
        );
        if !done.failed.is_empty() {
            for test in &done.failed {
                println!("    FAILED: {test}");
            }
            println!("    again: {}", report::again(&done.slice));
        }
    }

    /// Runs machines until there is no next one.
    fn work(&self) -> Result<()> {
        while let Some((part, slice)) = self.next() {
            let begin = Instant::now();
            let outcome = boot(self.paths, self.accel, &slice);
            let seconds = begin.elapsed().as_secs_f64();
            let done = outcome.and_then(|outcome| self.judge(part, &slice, &outcome, seconds));
            let mut state = self.lock();
            let key = (part.name, slice.kernel, slice.scenario.name);
            state.running.retain(|one| *one != key);
            let done = done?;
            state.journal.add(done.clone())?;
            self.tell(part, &done, &state.journal.done);
            self.report(&state.journal)?;
        }
        Ok(())
    }

    /// Writes report.json.
    fn report(&self, journal: &Journal<Done>) -> Result<()> {
        let of = json!({
            "commit": self.paths.commit,
            "code": self.paths.code,
            "seed": journal.seed,
            "accel": self.accel.name(),
        });
        write(
            &report::json(&self.parts, &journal.done, &of),
            &self.folder().join("report.json"),
        )
    }
}

/// Goes on with the campaign for `hours`, or until each part has come to its goal. Returns
/// whether all was well, also before.
pub fn run(
    paths: &Paths,
    parts: Vec<&'static Part>,
    hours: Option<u32>,
    given: Option<u64>,
) -> Result<bool> {
    let begin = Instant::now();
    let folder = paths.out().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let journal = Journal::open(&folder.join("journal"), &paths.code, seed::or_new(given))?;
    match journal.done.len() {
        0 => println!("A new campaign, seed {}", journal.seed),
        count => println!("Going on after {count} machines, seed {}", journal.seed),
    }
    let accel = Accel::probe(paths)?;
    let campaign = Campaign {
        paths,
        accel,
        end: hours.map(|hours| begin + Duration::from_secs(3600) * hours),
        begin,
        workers: thread::available_parallelism().map_or(1, |n| n.get()),
        state: Mutex::new(State {
            begun: journal.done.len() as u64,
            journal,
            running: Vec::new(),
        }),
        parts,
    };
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..campaign.workers)
            .map(|_| scope.spawn(|| campaign.work()))
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Result<()>>| {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        };
        workers.into_iter().map(join).collect()
    });
    let state = campaign.lock();
    let done = &state.journal.done;
    println!("{}", report::render(&campaign.parts, done));
    campaign.report(&state.journal)?;
    results.into_iter().collect::<Result<Vec<()>>>()?;
    let clean = |one: &Done| {
        one.drivers
            .get(report::OURS)
            .is_none_or(slice::Figures::is_clean)
    };
    Ok(done.iter().all(clean))
}

// SPDX-License-Identifier: GPL-2.0

//! `make mutants`: small faults of our drivers, one at a time, and whether a test notices. What was
//! done is kept, and the next run goes on.

mod functions;
mod host;
mod list;
mod mutant;
mod report;
mod suite;
mod tree;
mod trial;

use crate::{
    accel::Accel,
    journal::Journal,
    needs::{
        self,
        Need, //
    },
    paths::Paths,
    report::write,
    seed, //
};
use anyhow::{
    anyhow,
    Result, //
};
use mutant::Mutant;
use serde::{
    Deserialize,
    Serialize, //
};
use serde_json::json;
use std::{
    collections::{
        BTreeSet,
        VecDeque, //
    },
    fs,
    hash::{
        DefaultHasher,
        Hash,
        Hasher, //
    },
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
use suite::Suite;
use tree::Tree;
use trial::Verdict;

/// Where the files are, in the folder of results.
const FOLDER: &str = "mutants";

/// A mutant that was run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Done {
    /// Its name.
    name: String,
    /// Tells its text apart.
    mutant: String,
    /// Tells the tests apart.
    tests: String,
    /// What came of it.
    verdict: Verdict,
    /// How long that took.
    seconds: f64,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            name: String::new(),
            mutant: String::new(),
            tests: String::new(),
            verdict: Verdict::Survived,
            seconds: 0.0,
        }
    }
}

impl Done {
    /// Whether it still says what comes of a mutant. A test that was added may notice what has
    /// survived, and none that was there goes.
    fn is_of(&self, mutant: &Mutant, tests: &str) -> bool {
        let known = matches!(self.verdict, Verdict::Killed(_)) || self.tests == tests;
        self.name == mutant.name && self.mutant == mutant.digest() && known
    }
}

/// The items in an order that the seed and their names determine.
fn shuffle<T>(mut items: Vec<T>, seed: u64, name: impl Fn(&T) -> String) -> Vec<T> {
    items.sort_by_cached_key(|item| {
        let mut hasher = DefaultHasher::new();
        (seed, name(item)).hash(&mut hasher);
        hasher.finish()
    });
    items
}

/// What `only` chooses: mutants of the lists, and whether cargo-mutants.
fn wanted(top: &Path, only: Option<&str>) -> Result<(Vec<Mutant>, bool)> {
    match only {
        Some(host::NAME) => Ok((Vec::new(), true)),
        _ => Ok((list::wanted(top, only)?, only.is_none())),
    }
}

/// What the mutants need that `only` chooses.
pub fn needs(top: &Path, only: Option<&str>) -> Result<BTreeSet<Need>> {
    let (mutants, host) = wanted(top, only)?;
    let suites = mutants.iter().flat_map(|mutant| &mutant.suites);
    let machines = suites.filter_map(|suite| match suite {
        Suite::Machine(kernel, scenario) => Some(needs::of_machine(*kernel, scenario)),
        Suite::Crate(_) => None,
    });
    let host = host.then_some(Need::CargoMutants);
    Ok(machines.flatten().chain(host).collect())
}

/// What can be chosen.
#[cfg(test)]
pub fn names(top: &Path) -> Result<Vec<String>> {
    let mutants = list::all(top)?.into_iter().map(|mutant| mutant.name);
    Ok(mutants.chain([host::NAME.to_string()]).collect())
}

/// Draws functions for which mutants are to be written.
pub fn draw(paths: &Paths, count: usize, seed: u64) -> Result<bool> {
    functions::show(&paths.top, &list::all(&paths.top)?, count, seed)?;
    Ok(true)
}

/// What is shared by all workers.
struct State {
    journal: Journal<Done>,
    open: VecDeque<Mutant>,
    /// Those that were run this time, and how long that took, in seconds.
    ran: (u32, f64),
}

/// A run that is under way.
struct Run<'a> {
    paths: &'a Paths,
    accel: Accel,
    seed: u64,
    /// When no mutant is begun any more.
    end: Option<Instant>,
    begin: Instant,
    workers: usize,
    state: Mutex<State>,
}

impl Run<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn folder(&self) -> PathBuf {
        self.paths.out().join(FOLDER)
    }

    /// Says what came of a mutant, and how long the rest may take.
    fn tell(&self, state: &State, mutant: &Mutant, done: &Done) {
        let elapsed = self.begin.elapsed().as_secs();
        let (count, seconds) = state.ran;
        let left = state.open.len();
        let rest = seconds / f64::from(count.max(1)) * left as f64 / self.workers as f64;
        println!(
            "{:3}:{:02} min  {left:3} left, {:3.0} min  {}",
            elapsed / 60,
            elapsed % 60,
            rest / 60.0,
            report::line(mutant, done)
        );
    }

    /// Runs mutants in a copy of its own until there is none left.
    fn work(&self, number: usize) -> Result<()> {
        let tree = Tree::new(self.paths, self.folder().join(number.to_string()))?;
        while !self.is_over() {
            let Some(mutant) = self.lock().open.pop_front() else {
                break;
            };
            let begin = Instant::now();
            let verdict = trial::run(&tree, self.accel, &mutant, self.seed)?;
            let done = Done {
                name: mutant.name.clone(),
                mutant: mutant.digest(),
                tests: self.paths.tests.clone(),
                verdict,
                seconds: begin.elapsed().as_secs_f64(),
            };
            let mut state = self.lock();
            state.ran = (state.ran.0 + 1, state.ran.1 + done.seconds);
            state.journal.add(done.clone())?;
            self.tell(&state, &mutant, &done);
        }
        Ok(())
    }

    fn workers(&self) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|number| scope.spawn(move || self.work(number)))
                .collect();
            let join = |worker: thread::ScopedJoinHandle<'_, Result<()>>| {
                let ended = worker.join();
                ended.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            };
            // All of them end before one that has failed is told of.
            let ends: Vec<Result<()>> = workers.into_iter().map(join).collect();
            ends.into_iter().collect()
        })
    }
}

/// Runs the mutants that `only` chooses, for `hours` or until there is none left. Returns whether
/// each was noticed.
pub fn run(
    paths: &Paths,
    only: Option<&str>,
    hours: Option<u32>,
    given: Option<u64>,
) -> Result<bool> {
    let begin = Instant::now();
    let (mutants, with_host) = wanted(&paths.top, only)?;
    let folder = paths.out().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let journal = Journal::open(&folder.join("journal"), &paths.code, seed::or_new(given))?;
    // What was chosen by its name is run again.
    let is_open = |mutant: &&Mutant| {
        let mut done = journal.done.iter();
        let known = only.is_none() && done.any(|one: &Done| one.is_of(mutant, &paths.tests));
        mutant.equivalent.is_none() && !known
    };
    let open = mutants.iter().filter(is_open).cloned().collect();
    let open = shuffle(open, journal.seed, |mutant| mutant.name.clone());
    println!("{} mutants to be run, seed {}", open.len(), journal.seed);
    let machines = open.iter().flat_map(|mutant| &mutant.suites);
    let accel = match machines
        .into_iter()
        .any(|one| matches!(one, Suite::Machine(..)))
    {
        true => Accel::probe(paths)?,
        false => Accel::Tcg,
    };
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let run = Run {
        paths,
        accel,
        seed: journal.seed,
        end: hours.map(|hours| begin + Duration::from_secs(3600) * hours),
        begin,
        workers: cores.min(open.len()),
        state: Mutex::new(State {
            journal,
            open: open.into(),
            ran: (0, 0.0),
        }),
    };
    let ended = run.workers();
    let host = folder.join("host");
    if with_host && !run.is_over() && ended.is_ok() {
        println!("cargo-mutants, for what compiles on the host");
        host::run(paths, &host)?;
    }
    let all = list::all(&paths.top)?;
    let host = host::results(paths, &host);
    let mut done = run.lock().journal.done.clone();
    done.retain(|one| all.iter().any(|mutant| one.is_of(mutant, &paths.tests)));
    let of = json!({
        "commit": paths.commit,
        "code": paths.code,
        "seed": run.seed,
        "accel": accel.name(),
    });
    println!("{}", report::render(&all, &done, host.as_ref()));
    let report = report::json(&all, &done, host.as_ref(), &of);
    write(&report, &folder.join("report.json"))?;
    ended?;
    let chosen = if only.is_some() { &mutants } else { &all };
    let figures = report::figures(chosen, &done, host.as_ref().filter(|_| with_host));
    Ok(figures.survived + figures.broken == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_seed() {
        let order = |seed| shuffle(vec![1, 2, 3, 4, 5, 6, 7, 8], seed, i32::to_string);
        assert_eq!(order(1), order(1));
        assert!(order(1) != order(2));
    }

    #[test]
    fn what_has_survived_is_run_again_with_other_tests() {
        let mutant = Mutant {
            name: "a".to_string(),
            ..Mutant::default()
        };
        let mut done = Done {
            name: "a".to_string(),
            mutant: mutant.digest(),
            tests: "1".to_string(),
            ..Done::default()
        };
        assert!(done.is_of(&mutant, "1") && !done.is_of(&mutant, "2"));
        done.verdict = Verdict::Killed("b".to_string());
        assert!(done.is_of(&mutant, "2"));
        done.mutant = "other".to_string();
        assert!(!done.is_of(&mutant, "1"));
    }
}

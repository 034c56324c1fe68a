// SPDX-License-Identifier: GPL-2.0

//! How many machines run at a time.
//!
//! A machine that is emulated keeps one core busy at most, and none while its test waits:
//! for slow firmware, for a reset, for what must not happen within some time. So there is
//! one for each core, and one more whenever cores were idle for a while, but no more than
//! memory lasts for.

use anyhow::{
    anyhow,
    Result, //
};
use std::{
    collections::VecDeque,
    fs,
    sync::{
        Condvar,
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

/// Most jobs at a time, for each core.
const MOST: usize = 2;
/// Memory that a job must find, in KiB: that of most machines.
const MEMORY: usize = 2 << 20;
/// How long cores must have been idle, and nothing been started.
const WHILE: Duration = Duration::from_secs(3);
/// How much of a core must have been.
const SPARE: f64 = 0.5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// The most jobs at a time: of the number of cores, and the text of /proc/meminfo.
fn most(cores: usize, meminfo: &str) -> usize {
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<usize>().ok());
    let most = MOST * cores;
    available.map_or(most, |kib| (kib / MEMORY).clamp(1, most))
}

/// What the host's processors have done since it was started, in ticks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    /// Takes /proc/stat apart.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        // Time of guests is part of the first one.
        let fields: Option<Vec<u64>> = line
            .split_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect();
        let fields = fields.filter(|fields| fields.len() == 8)?;
        Some(Self {
            all: fields.iter().sum(),
            // Idle, and idle while something waits for a disk.
            idle: fields[3] + fields[4],
        })
    }

    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// How many of the cores were idle since then.
    fn idle_since(self, before: Self, cores: usize) -> f64 {
        let [all, idle] = [(self.all, before.all), (self.idle, before.idle)]
            .map(|(now, then)| now.saturating_sub(then) as f64);
        if all > 0.0 {
            idle / all * cores as f64
        } else {
            0.0
        }
    }
}

/// What waits, and what runs.
struct State<T> {
    jobs: VecDeque<T>,
    running: usize,
    /// Since when idle cores are looked for.
    since: Instant,
    /// What processors had done then, where the kernel says it.
    ticks: Option<Ticks>,
}

impl<T> State<T> {
    fn look_from_now_on(&mut self) {
        self.since = Instant::now();
        self.ticks = Ticks::now();
    }

    /// Whether enough has been idle for a while.
    fn has_spare(&mut self, cores: usize) -> bool {
        if self.since.elapsed() < WHILE {
            return false;
        }
        let before = self.ticks;
        self.look_from_now_on();
        let (Some(before), Some(now)) = (before, self.ticks) else {
            return false;
        };
        now.idle_since(before, cores) >= SPARE
    }
}

struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    cores: usize,
    /// Most jobs at a time.
    most: usize,
}

/// A job that runs.
struct Running<'a, T>(&'a Queue<T>);

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, once there is room for it.
    fn next(&self) -> Option<(T, Running<'_, T>)> {
        let mut state = self.lock();
        loop {
            let room = state.running < self.most
                && (state.running < self.cores || state.has_spare(self.cores));
            if room || state.jobs.is_empty() {
                break;
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let job = state.jobs.pop_front()?;
        state.running += 1;
        state.look_from_now_on();
        drop(state);
        Some((job, Running(self)))
    }
}

/// Does all jobs, and begins with the first. Fails if one has, when all have ended.
pub fn run<T: Send>(jobs: Vec<T>, work: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let most = most(cores, &meminfo);
    let queue = Queue {
        state: Mutex::new(State {
            jobs: jobs.into(),
            running: 0,
            since: Instant::now(),
            ticks: None,
        }),
        changed: Condvar::new(),
        cores,
        most,
    };
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            let mut result = Ok(());
            while let Some((job, _running)) = queue.next() {
                result = result.and(work(job));
            }
            result
        };
        let threads: Vec<_> = (0..most).map(|_| scope.spawn(worker)).collect();
        let ends: Vec<Result<()>> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
            })
            .collect();
        ends.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{
        AtomicUsize,
        Ordering::SeqCst, //
    };

    const STAT: &str = "cpu  100 0 40 50 10 0 0 0 7 0\ncpu0 1 2 3 4\nintr 1\n";

    #[test]
    fn memory_lasts_for_all_jobs() {
        let meminfo = |gib: usize| format!("MemTotal: 1 kB\nMemAvailable:  {} kB\n", gib << 20);
        assert_eq!(most(4, &meminfo(64)), 8);
        assert_eq!(most(4, &meminfo(7)), 3);
        assert_eq!(most(4, &meminfo(1)), 1);
        assert_eq!(most(4, ""), 8);
    }

    #[test]
    fn idle_time_is_read() {
        let ticks = Ticks::parse(STAT).unwrap();
        assert_eq!(ticks, Ticks { all: 200, idle: 60 });
        assert_eq!(Ticks::parse("cpu 1 2\n"), None);
        assert_eq!(Ticks::parse(""), None);
    }

    #[test]
    fn idle_cores_are_counted() {
        let before = Ticks { all: 200, idle: 60 };
        let now = Ticks {
            all: 600,
            idle: 160,
        };
        assert_eq!(now.idle_since(before, 2), 0.5);
        assert_eq!(now.idle_since(now, 2), 0.0);
    }

    #[test]
    fn all_jobs_are_done_and_failures_are_not_lost() {
        let done = AtomicUsize::new(0);
        let job = |number: usize| {
            done.fetch_add(1, SeqCst);
            if number == 3 {
                return Err(anyhow!("job 3"));
            }
            Ok(())
        };
        let err = run((0..50).collect(), job).unwrap_err();
        assert_eq!(err.to_string(), "job 3");
        assert_eq!(done.load(SeqCst), 50);
        run(Vec::<usize>::new(), job).unwrap();
    }

    #[test]
    fn no_more_run_than_may() {
        let [running, most] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        run((0..20).collect(), |_: usize| {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, SeqCst);
            Ok(())
        })
        .unwrap();
        let cores = thread::available_parallelism().unwrap().get();
        // Shorter than it takes to notice that cores are idle.
        assert!((1..=cores).contains(&most.load(SeqCst)));
    }
}

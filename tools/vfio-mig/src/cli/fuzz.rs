// SPDX-License-Identifier: GPL-2.0

//! `fuzz`.

use super::{
    complete,
    out::{
        errln,
        outln, //
    },
    show,
    values, //
};
use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use std::{
    num::NonZeroU32,
    path::PathBuf,
    time::Duration, //
};
use vfio_mig::{
    address::Address,
    error::Error,
    fuzz::{
        self,
        Done,
        Guide,
        Guided,
        Plan,
        Subject, //
    },
    text, //
};

/// Most threads or processes.
const MOST: i64 = 64;

/// What all rounds are about.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    /// Requests, and calls on data files
    Requests,
    /// Streams that are loaded
    Streams,
}

/// Feed a device's driver with what no correct program would.
///
/// A round makes requests of all kinds, from several threads and processes at once, or loads
/// streams that were changed. After each round the device must come back by a reset, and from
/// time to time a good migration must work. Look at the kernel's log, too. Where the kernel
/// records which code it runs (KCOV), requests and streams that got to new code are kept, and
/// others are made from them. For a round that fails, prints the command that repeats it.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::parse_number)]
    seed: u64,
    /// Number of the first round.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::parse_number)]
    first: u64,
    /// Number of rounds, at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = values::at_least_one::<u64>)]
    rounds: u64,
    /// Seconds to go on for, at most.
    #[arg(long, value_name = "SECONDS", value_parser = values::at_least_one::<u64>)]
    seconds: Option<u64>,
    /// What all rounds are about.
    #[arg(long, value_name = "WHAT")]
    only: Option<Only>,
    /// Threads of each process that make requests.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    threads: u32,
    /// Processes that make requests.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    processes: u32,
    /// Folder of requests and streams that got to new code. Those that it has are run first.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
}

impl Args {
    /// Fails if the arguments do not fit each other.
    pub fn check(&self) -> Result<(), String> {
        match self.first.checked_add(self.rounds) {
            Some(_) => Ok(()),
            None => Err(format!(
                "--first and --rounds add up to more than {}",
                u64::MAX
            )),
        }
    }

    fn plan(&self) -> Plan {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Plan {
            first: self.first,
            count: self.rounds,
            time: self.seconds.map(Duration::from_secs),
            only: self.only.map(|only| match only {
                Only::Requests => Subject::Requests,
                Only::Streams => Subject::Streams,
            }),
            threads: at_least_one(self.threads),
            processes: at_least_one(self.processes),
            ..Plan::new(self.seed)
        }
    }

    /// The command that repeats a round.
    fn again(&self, number: u64) -> String {
        let only = self.only.and_then(|only| only.to_possible_value());
        let only = only.map_or(String::new(), |only| format!(" --only {}", only.get_name()));
        let corpus = self.corpus.as_ref().map_or(String::new(), |folder| {
            format!(" --corpus {}", text::quoted(&folder.display().to_string()))
        });
        format!(
            "vfio-mig fuzz {} --seed {} --first {number} --rounds 1{only} --threads {} \
             --processes {}{corpus}",
            self.device, self.seed, self.threads, self.processes
        )
    }
}

/// All that there is to report.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    done: Done,
    coverage: Guided,
}

fn say(Report { done, coverage }: &Report) -> Result<(), Error> {
    let text = format!(
        "{} rounds: {} requests, of which {} succeeded; {} streams, of which {} had to be taken \
         and {} were; {} good migrations; {} states compared",
        done.rounds,
        done.requests,
        done.succeeded,
        done.streams,
        done.streams_good,
        done.streams_taken,
        done.good,
        done.compared
    );
    outln!("{}", show::wrapped("", &text))?;
    let kept = format!(
        "{} sequences of requests and {} streams are kept",
        coverage.requests_kept, coverage.streams_kept
    );
    let text = match (coverage.pcs, coverage.pcs_plain) {
        (Some(pcs), Some(plain)) => {
            format!(
                "{pcs} program counters covered, of which {plain} by saving and loading; {kept}"
            )
        }
        _ => kept,
    };
    outln!("{}", show::wrapped("", &text))
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let guide = Guide::open(args.corpus.as_deref())?;
    for line in guide.skipped() {
        errln!("{line}")?;
    }
    let bar = show::steps(args.rounds, json);
    let mut last = args.first;
    let mut uncovered = guide.uncovered();
    let done = fuzz::run(args.device, &args.plan(), &guide, |number| {
        last = number;
        if let Some(why) = uncovered.take() {
            // A standard error that is closed ends nothing.
            bar.suspend(|| drop(errln!("{why}")));
        }
        bar.set_position(number - args.first);
    });
    bar.finish_and_clear();
    // Any other error comes from opening the device or saving its state, before the
    // first round.
    if matches!(done, Err(Error::Round { .. })) {
        errln!("again: {}", args.again(last))?;
        let kept = guide.report();
        if args.corpus.is_none() && kept.requests_kept + kept.streams_kept > 0 {
            errln!(
                "the round may come from inputs that are lost now: with --corpus, a folder has \
                 them for that command"
            )?;
        }
    }
    let report = Report {
        done: done?,
        coverage: guide.report(),
    };
    match json {
        true => show::json(&report),
        false => say(&report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_that_repeats_a_round_has_all_that_decides_on_it() {
        let line = ["fuzz", "01:00.2", "--seed", "7", "--only", "streams"];
        let more = ["--threads", "3", "--corpus", "kept/inputs"];
        let args = Line::parse_from(line.iter().chain(&more)).args;
        let again = args.again(12);
        let words = again.split(' ').skip(1);
        let repeated = Line::parse_from(words).args;
        let (plan, first) = (repeated.plan(), args.plan());
        assert_eq!((plan.first, plan.count, plan.seed), (12, 1, 7));
        assert_eq!(plan.only, Some(Subject::Streams));
        assert_eq!(
            (plan.threads, plan.processes),
            (first.threads, first.processes)
        );
        assert_eq!(repeated.corpus, args.corpus);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Starts test machines, judges what comes of them, and reports.

mod accel;
mod bench;
mod caller;
mod campaign;
mod check;
mod children;
mod command;
mod console;
mod fuzz;
mod initramfs;
mod journal;
#[cfg(test)]
mod judge_tests;
mod kernel;
mod kunit;
#[cfg(test)]
mod locks_tests;
mod machine;
mod monitor;
mod mutants;
#[cfg(test)]
mod names_tests;
mod needs;
mod operator;
mod paths;
mod report;
mod schedule;
mod seed;
mod tap;
mod watchdog;

use accel::Accel;
use anyhow::{
    bail,
    Result, //
};
use bench::{
    Benchmark,
    Measured, //
};
use check::Extent;
use clap::{
    Parser,
    Subcommand, //
};
use fuzz::Fuzz;
use indicatif::{
    ProgressBar,
    ProgressStyle, //
};
use machine::{
    Machine,
    Outcome, //
};
use needs::Need;
use paths::Paths;
use std::{
    collections::BTreeSet,
    path::{
        Path,
        PathBuf, //
    },
    process::ExitCode, //
};
use tap::{
    Counts,
    News,
    Test, //
};
use vm_common::{
    kernel::Kernel,
    names,
    scenarios::{
        self,
        Scenario, //
    },
};

/// Starts test machines.
#[derive(Parser, Debug)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    /// Only say what has to be made for the command.
    #[arg(long)]
    needs: bool,
    /// The process of make that this is for: end with it.
    #[arg(long, env = "VM_MAKE")]
    make: Option<i32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Migrations with each driver in turn, and a report.
    Run {
        /// Migrations with each driver that count.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        runs: Option<u32>,
    },
    /// QEMU migrates a running guest, and a report.
    RunQemu,
    /// QEMU migrates a guest that streams through a VF, with each driver, and a report.
    RunNet,
    /// QEMU migrates a guest whose device fails, and a table.
    CheckQemuFaults {
        /// Only the fault with this name, or those with this in their name.
        #[arg(long)]
        fault: Option<String>,
    },
    /// What an operator does, on two hosts with the packages.
    CheckOperator,
    /// All tests but the long ones.
    Check {
        /// Those as well, and as much of what is random as there is.
        #[arg(long)]
        all: bool,
        /// Only the group with this name, or those with this in their name.
        #[arg(long)]
        only: Option<String>,
        /// Of what is random, to have a run again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Fuzzes a target until something is found.
    Fuzz {
        /// Which one.
        #[arg(long, default_value = "")]
        target: String,
        /// Only this input, a file in checkout or cache.
        #[arg(long)]
        input: Option<PathBuf>,
    },
    /// Our driver and the C driver, measured.
    Bench {
        /// Runs of each kind, of which the median counts. Each benchmark has a number of its
        /// own.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        runs: Option<u32>,
        /// Only the one with this name, or those with this in their name.
        #[arg(long)]
        only: Option<String>,
    },
    /// Machines of each part with random seeds until figures are large enough, and a report.
    /// Goes on where the last one ended.
    Campaign {
        /// No machine is begun after so many hours.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        hours: Option<u32>,
        /// Only the part with this name, or those with this in their name.
        #[arg(long)]
        only: Option<String>,
        /// Of a new campaign.
        #[arg(long)]
        seed: Option<u64>,
        /// Only this machine, which does not count: KERNEL-SCENARIO:SEED.
        #[arg(long)]
        slice: Option<campaign::Slice>,
    },
    /// Small faults of our drivers, one at a time, and whether a test notices. Goes on where the
    /// last run ended.
    Mutants {
        /// No mutant is begun after so many hours.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        hours: Option<u32>,
        /// Only the mutant with this name, or those with this in their name.
        #[arg(long)]
        only: Option<String>,
        /// Of the order, and of what is random in tests.
        #[arg(long)]
        seed: Option<u64>,
        /// Only draw so many functions, for which mutants are to be written.
        #[arg(long)]
        draw: Option<usize>,
    },
    /// Puts the last results of `bench --only paths` into the checkout.
    BenchTable,
    /// One scenario in one machine.
    Scenario {
        /// The kernel: stock, intree, bare, builtin, debug or fixed.
        #[arg(long)]
        kernel: Kernel,
        /// Which scenario.
        name: String,
        /// More properties of the emulated HCA: ",num-vfs=4,state-size=64M".
        #[arg(long, default_value = "")]
        properties: String,
        /// Of what is random, to have a run again.
        #[arg(long)]
        seed: Option<u64>,
        /// Only the test with this title, or those with this in their title, in scenarios
        /// that can do that.
        #[arg(long, default_value = "")]
        only: String,
    },
}

/// The scenario with a name. It must run with the kernel.
fn find(name: &str, kernel: Kernel) -> Result<&'static Scenario> {
    let Some(scenario) = scenarios::find(name) else {
        let all = scenarios::ALL.iter().filter(|one| one.runs_with(kernel));
        bail!(
            "there is no scenario {name:?}; with the {} kernel there are\n{}",
            kernel.name(),
            names::lines(all.map(|one| one.name))
        );
    };
    if !scenario.runs_with(kernel) {
        let kernels: Vec<&str> = scenario.kernels.iter().map(|one| one.name()).collect();
        bail!(
            "{name} needs the kernel {}, and not {}",
            kernels.join(" or "),
            kernel.name()
        );
    }
    Ok(scenario)
}

/// Has something run that calls what it is given with what it says, and shows that.
fn follow(run: impl FnOnce(&mut dyn FnMut(News<'_>)) -> Result<Outcome>) -> Result<Outcome> {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let outcome = run(&mut |news| match news {
        News::Progress(what) => bar.set_message(what.to_string()),
        News::Say(what) => {
            let seconds = bar.elapsed().as_secs_f64();
            // The bar's own println() is silent where there is no terminal.
            bar.suspend(|| println!("{seconds:7.1} s  {what}"));
        }
    });
    bar.finish_and_clear();
    outcome
}

/// Runs a machine, and shows what it says.
fn boot(machine: &Machine<'_>) -> Result<Outcome> {
    follow(|hear| machine.run(hear))
}

/// Shows all tests, and how many there are of each kind.
fn show_tests(outcome: &Outcome) -> bool {
    for test in outcome.tests.iter().filter(|test| test.ok) {
        match &test.skipped {
            Some(reason) => println!("skipped: {}: {reason}", test.name),
            None => println!("ok: {}", test.name),
        }
    }
    show_failed(&outcome.tests);
    let counts = Counts::of(&outcome.tests);
    println!(
        "{counts}; the logs are in {}",
        report::path_word(&outcome.dir)
    );
    counts.is_good()
}

fn show_failed(tests: &[Test]) {
    for test in tests.iter().filter(|test| !test.ok) {
        println!("not ok: {}", test.name);
        for line in &test.diagnostics {
            println!("    {line}");
        }
    }
}

fn show_failures(outcome: &Outcome) -> bool {
    show_failed(&outcome.tests);
    let ok = outcome.tests.iter().all(|test| test.ok);
    if !ok {
        println!("The logs are in {}", report::path_word(&outcome.dir));
    }
    ok
}

/// Runs a scenario for a person to see, and reports to a file what came of it.
fn show(
    paths: &Paths,
    title: &str,
    (kernel, name): (Kernel, &str),
    parameters: &str,
    (file, publish): (&str, impl Fn(&Outcome, &Path) -> Result<()>),
) -> Result<bool> {
    let scenario = find(name, kernel)?;
    let file = paths.out().join(file);
    report::remove(&file)?;
    let accel = match scenario.machine.counted {
        true => Accel::Tcg,
        false => Accel::probe(paths)?,
    };
    println!("{title}, in a machine {}", accel.about());
    let outcome = boot(&Machine {
        paths,
        accel,
        kernel,
        scenario,
        all: false,
        properties: "",
        parameters,
        kept: None,
    })?;
    let ok = show_failures(&outcome);
    // Where all is well there is something to publish.
    if ok || !outcome.data.is_empty() {
        publish(&outcome, &file)?;
    }
    Ok(ok)
}

/// A sentence's first letter is a capital one.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Runs the machines of a benchmark. Returns nothing if a test in one of them fails.
fn measure_one<'a>(
    paths: &'a Paths,
    accel: Accel,
    benchmark: &Benchmark,
    runs: u32,
) -> Result<Option<Measured<'a>>> {
    let mut measured = Measured {
        paths,
        machines: Vec::new(),
    };
    for (kernel, scenario) in benchmark.machines() {
        let counted = scenario.machine.counted;
        let on = if counted { Accel::Tcg } else { accel };
        println!(
            "{}, kernel {}, on {}\n  firmware takes {}",
            capital(scenario.about),
            kernel.name(),
            on.name(),
            scenario.machine.firmware_times()
        );
        // The first run of what is counted is discarded.
        let runs = runs + u32::from(counted);
        let outcome = boot(&Machine {
            paths,
            accel: on,
            kernel,
            scenario,
            all: false,
            properties: "",
            parameters: &format!("vmtest.runs={runs}"),
            kept: None,
        })?;
        if !show_failures(&outcome) {
            return Ok(None);
        }
        measured.machines.push((kernel, outcome));
    }
    Ok(Some(measured))
}

/// Measures, with each benchmark that `only` chooses.
fn measure(paths: &Paths, runs: Option<u32>, only: Option<&str>) -> Result<bool> {
    let wanted = bench::wanted(only)?;
    for benchmark in &wanted {
        report::remove(&paths.out().join(benchmark.file))?;
    }
    let accel = Accel::probe(paths)?;
    for benchmark in wanted {
        let runs = runs.unwrap_or(benchmark.runs);
        let Some(measured) = measure_one(paths, accel, benchmark, runs)? else {
            return Ok(false);
        };
        (benchmark.publish)(&measured, &paths.out().join(benchmark.file))?;
    }
    Ok(true)
}

fn extent(all: bool) -> Extent {
    match all {
        true => Extent::All,
        false => Extent::Usual,
    }
}

/// What a command needs. The names that it is given must be right.
fn needed(top: &Path, command: &Command) -> Result<BTreeSet<Need>> {
    Ok(match command {
        Command::BenchTable => BTreeSet::new(),
        Command::Run { .. } => [Kernel::Stock.into()].into(),
        Command::RunQemu => [Kernel::Intree.into()].into(),
        Command::RunNet => {
            needs::of_machine(Kernel::Stock, find("run-net", Kernel::Stock)?).collect()
        }
        Command::CheckQemuFaults { fault } => {
            report::faults::wanted(fault.as_deref())?;
            [Kernel::Intree.into()].into()
        }
        Command::Bench { only, .. } => bench::wanted(only.as_deref())?
            .iter()
            .flat_map(|benchmark| benchmark.machines())
            .flat_map(|(kernel, scenario)| needs::of_machine(kernel, scenario))
            .collect(),
        Command::Campaign {
            slice: Some(slice), ..
        } => needs::of_machine(slice.kernel, slice.scenario).collect(),
        Command::Campaign { only, .. } => campaign::needs(&campaign::wanted(only.as_deref())?),
        Command::Mutants { draw: Some(_), .. } => BTreeSet::new(),
        Command::Mutants { only, .. } => mutants::needs(top, only.as_deref())?,
        Command::Fuzz { target, .. } => {
            fuzz::named(target)?;
            [Need::Fuzz].into()
        }
        Command::CheckOperator => [Need::Stock, Need::Operator].into(),
        Command::Check { all, only, .. } => check::needs(extent(*all), only.as_deref())?,
        Command::Scenario { kernel, name, .. } => {
            needs::of_machine(*kernel, find(name, *kernel)?).collect()
        }
    })
}

fn run(cli: &Cli) -> Result<bool> {
    let paths = &cli.paths;
    if cli.needs {
        println!("{}", needs::line(&needed(&paths.top, &cli.command)?));
        return Ok(true);
    }
    if let Some(make) = cli.make {
        caller::follow(make)?;
    }
    match &cli.command {
        Command::Run { runs } => show(
            paths,
            "Migrating a VF of an emulated ConnectX",
            (Kernel::Stock, "run"),
            // The first run is discarded.
            &format!("vmtest.runs={}", runs.unwrap_or(report::run::RUNS) + 1),
            (report::run::FILE, |outcome: &Outcome, file: &Path| {
                report::run::publish(paths, outcome, file)
            }),
        ),
        Command::RunQemu => show(
            paths,
            "Having QEMU migrate a running guest with VFs",
            (Kernel::Intree, "qemu"),
            "",
            (report::qemu::FILE, report::qemu::publish),
        ),
        Command::RunNet => show(
            paths,
            "Having QEMU migrate a guest that streams through a VF",
            (Kernel::Stock, "run-net"),
            "",
            (report::net::FILE, report::net::publish),
        ),
        Command::CheckQemuFaults { fault } => {
            let wanted = report::faults::wanted(fault.as_deref())?;
            let only = names::parameter(fault.as_deref().unwrap_or_default());
            show(
                paths,
                "Migrating a running guest whose VF fails",
                (Kernel::Intree, "qemu-faults"),
                &format!("vmtest.only={only}"),
                (report::faults::FILE, |outcome: &Outcome, file: &Path| {
                    report::faults::publish(outcome, file, &wanted)
                }),
            )
        }
        Command::Bench { runs, only } => measure(paths, *runs, only.as_deref()),
        Command::Fuzz { target, input } => {
            Fuzz::new(paths, fuzz::named(target)?)?.show(input.as_deref())
        }
        Command::Campaign {
            slice: Some(slice), ..
        } => campaign::again(paths, slice),
        Command::Campaign {
            hours, only, seed, ..
        } => campaign::run(paths, campaign::wanted(only.as_deref())?, *hours, *seed),
        Command::Mutants {
            draw: Some(count),
            seed,
            ..
        } => mutants::draw(paths, *count, seed::or_new(*seed)),
        Command::Mutants {
            hours, only, seed, ..
        } => mutants::run(paths, only.as_deref(), *hours, *seed),
        Command::BenchTable => bench::table::update(paths).map(|()| true),
        Command::CheckOperator => {
            let accel = Accel::probe(paths)?;
            println!("An operator on two hosts, machines {}", accel.about());
            let outcome = follow(|hear| operator::run(paths, accel, hear))?;
            let ok = show_tests(&outcome);
            println!(
                "What was typed and seen: {}",
                report::path_word(&outcome.dir.join("host1/results.tap"))
            );
            Ok(ok)
        }
        Command::Check { all, only, seed } => {
            check::run(paths, extent(*all), only.as_deref(), seed::or_new(*seed))
        }
        Command::Scenario {
            kernel,
            name,
            properties,
            seed,
            only,
        } => {
            let scenario = find(name, *kernel)?;
            let seed = seed::or_new(*seed);
            println!("seed {seed}");
            let mut outcome = boot(&Machine {
                paths,
                accel: Accel::probe(paths)?,
                kernel: *kernel,
                scenario,
                all: false,
                properties,
                parameters: &format!(
                    "{} vmtest.only={}",
                    seed::parameter(seed),
                    names::parameter(only)
                ),
                kept: None,
            })?;
            let logs = bench::tests(*kernel, scenario, &outcome);
            outcome.tests.extend(logs);
            Ok(show_tests(&outcome))
        }
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("vm-test: {err:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        env,
        fs,
        process, //
    };

    const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

    #[test]
    fn a_name_of_nothing_is_an_error_before_anything_is_made() {
        let wrong = Some("nosuch".to_string());
        let commands = [
            Command::Bench {
                runs: None,
                only: wrong.clone(),
            },
            Command::Check {
                all: false,
                only: wrong.clone(),
                seed: None,
            },
            Command::CheckQemuFaults {
                fault: wrong.clone(),
            },
            Command::Mutants {
                hours: None,
                only: wrong.clone(),
                seed: None,
                draw: None,
            },
            Command::Fuzz {
                target: "nosuch".to_string(),
                input: None,
            },
            Command::Scenario {
                kernel: Kernel::Stock,
                name: "nosuch".to_string(),
                properties: String::new(),
                seed: None,
                only: String::new(),
            },
        ];
        for command in commands {
            assert!(needed(Path::new(TOP), &command).is_err(), "{command:?}");
        }
    }

    /// A command line without paths.
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    /// What requirements.sh takes to be needed by a command of vm-test.
    fn likely(arguments: &[&str]) -> String {
        let cache = env::temp_dir().join(format!("vm-test-likely-{}", process::id()));
        let script = r#". "$0/common.sh"; . "$VM_DIR/requirements.sh"; likely_targets "$@""#;
        let output = process::Command::new("bash")
            .args(["-c", script, env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .env("VFIO_MLX5_RUST_CACHE", &cache)
            .output()
            .unwrap();
        fs::remove_dir_all(cache).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    #[test]
    fn what_a_command_needs_is_known_without_this_program() {
        let commands: [&[&str]; 14] = [
            &["run"],
            &["run", "--runs=3"],
            &["run-qemu"],
            &["run-net"],
            &["check"],
            &["check", "--all", "--seed=1"],
            &["check-qemu-faults"],
            &["check-operator"],
            &["fuzz", "--target=stream"],
            &["bench"],
            &["campaign", "--hours=1"],
            &["mutants"],
            &["bench-table"],
            &["scenario", "--kernel=bare", "--", "migrate"],
        ];
        for arguments in commands {
            let line = Line::parse_from([&"vm-test"].into_iter().chain(arguments));
            let needs = needs::line(&needed(Path::new(TOP), &line.command).unwrap());
            assert_eq!(likely(arguments), needs, "{arguments:?}");
        }
        // Of a part it is not.
        assert_eq!(likely(&["check", "--only=shell scripts"]), "");
    }

    #[test]
    fn what_measures_needs_the_kernels_of_its_machines() {
        let line = |only: &str| {
            let only = Some(only.to_string());
            let command = Command::Bench { runs: None, only };
            needs::line(&needed(Path::new(TOP), &command).unwrap())
        };
        assert_eq!(line("paths"), "stock bare");
        assert_eq!(line("qemu"), "intree consumer");
        assert_eq!(line("net"), "stock consumer");
    }
}

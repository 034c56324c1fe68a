// SPDX-License-Identifier: GPL-2.0

//! Starts test machines, judges what comes of them, and reports.

mod accel;
mod bench;
mod check;
mod initramfs;
mod kernel;
mod machine;
mod paths;
mod report;

use accel::Accel;
use anyhow::{bail, Context, Result};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kernel::Kernel;
use machine::{Machine, News, Outcome};
use paths::Paths;
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// Starts test machines.
#[derive(Parser, Debug)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// One migration with each driver, and a report.
    Run,
    /// QEMU migrates a running guest, and a report.
    RunQemu,
    /// All tests.
    Check {
        /// Only those with this in the name of their group.
        #[arg(long)]
        only: Option<String>,
    },
    /// Our driver and the C driver, measured.
    Bench {
        /// Runs of each kind, of which the median counts.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Only those with this in their name.
        #[arg(long)]
        only: Option<String>,
    },
    /// One scenario in one machine.
    Scenario {
        /// Which kernel.
        #[arg(long, value_enum)]
        kernel: Kernel,
        /// Which scenario.
        name: String,
        /// More properties of the emulated HCA: ",num-vfs=4,state-size=64M".
        #[arg(long, default_value = "")]
        properties: String,
        /// Of the random sequences.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// The scenarios that the machine's init has.
fn scenarios(paths: &Paths) -> Result<Vec<String>> {
    let output = Command::new(paths.build.join("vm-guest"))
        .arg("--list-scenarios")
        .output()
        .context("vm-guest --list-scenarios")?;
    let names: Vec<String> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_string)
        .collect();
    if names.is_empty() {
        bail!("vm-guest has no scenarios");
    }
    Ok(names)
}

/// Runs a machine, and shows what it says meanwhile.
fn boot(machine: &Machine<'_>) -> Result<Outcome> {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let outcome = machine.run(|news| match news {
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

fn show_failures(outcome: &Outcome) -> bool {
    for test in outcome.tests.iter().filter(|test| !test.ok) {
        println!("not ok: {}", test.name);
        for line in &test.diagnostics {
            println!("    {line}");
        }
    }
    let ok = outcome.tests.iter().all(|test| test.ok);
    if !ok {
        println!("The logs are in {}", outcome.dir.display());
    }
    ok
}

/// Runs a scenario for a person to see, and reports what came of it.
fn show(
    paths: &Paths,
    accel: Accel,
    (kernel, scenario): (Kernel, &str),
    publish: fn(&Outcome, &Path) -> Result<()>,
) -> Result<bool> {
    let outcome = boot(&Machine {
        paths,
        accel,
        kernel,
        scenario,
        properties: "",
        parameters: "",
    })?;
    let ok = show_failures(&outcome);
    if !outcome.data.is_empty() {
        publish(&outcome, &paths.out())?;
    }
    Ok(ok)
}

fn run(cli: &Cli) -> Result<bool> {
    let paths = &cli.paths;
    let accel = Accel::probe(paths)?;
    match &cli.command {
        What::Run => {
            println!(
                "Migrating a VF of an emulated ConnectX, on {}",
                accel.name()
            );
            show(
                paths,
                accel,
                (Kernel::Stock, "migrate"),
                report::run::publish,
            )
        }
        What::RunQemu => {
            println!(
                "Migrating a running guest with VFs by QEMU, on {}",
                accel.name()
            );
            show(
                paths,
                accel,
                (Kernel::Intree, "qemu"),
                report::qemu::publish,
            )
        }
        What::Bench { runs, only } => {
            for bench in bench::ALL {
                if only
                    .as_ref()
                    .is_some_and(|only| !bench.scenario.contains(only))
                {
                    continue;
                }
                println!("{}, on {}", bench.title, accel.name());
                let outcome = boot(&Machine {
                    paths,
                    accel,
                    kernel: bench.kernel,
                    scenario: bench.scenario,
                    properties: "",
                    parameters: &format!("vmtest.runs={runs}"),
                })?;
                if !show_failures(&outcome) {
                    return Ok(false);
                }
                (bench.publish)(&outcome, &paths.out())?;
            }
            Ok(true)
        }
        What::Check { only } => check::Check {
            paths,
            accel,
            only: only.clone(),
            scenarios: scenarios(paths)?,
        }
        .run(),
        What::Scenario {
            kernel,
            name,
            properties,
            seed,
        } => {
            let outcome = boot(&Machine {
                paths,
                accel,
                kernel: *kernel,
                scenario: name,
                properties,
                parameters: &format!("vmtest.seed={seed}"),
            })?;
            for test in outcome.tests.iter().filter(|test| test.ok) {
                match &test.skipped {
                    Some(reason) => println!("skipped: {}: {reason}", test.name),
                    None => println!("ok: {}", test.name),
                }
            }
            Ok(show_failures(&outcome))
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

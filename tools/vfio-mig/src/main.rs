// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig`: look at, migrate and test VFIO devices.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}

// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig`: look at, migrate and test VFIO devices.

// They panic if the reader of a pipe has gone: see cli::out.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}

// SPDX-License-Identifier: GPL-2.0

//! `stress`.

use super::{
    check_distinct,
    complete,
    out::outln,
    show,
    values, //
};
use clap_complete::ArgValueCandidates;
use std::time::Duration;
use vfio_mig::{
    address::Address,
    error::Error,
    stress::{
        self,
        Limits, //
    },
};

/// Migrate again and again, in all ways that the device has.
///
/// Migrates by stop-copy and with pre-copy, to another device or back into the same one. Some
/// migrations are given up half way, and sometimes a device is taken from state to state.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// Another device, which can load the state of the first.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    second: Option<Address>,
    /// Number of migrations, at most.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::at_least_one::<u64>)]
    count: u64,
    /// Seconds to go on for, at most.
    #[arg(long, value_name = "SECONDS", value_parser = values::at_least_one::<u64>)]
    seconds: Option<u64>,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::parse_number)]
    seed: u64,
}

impl Args {
    /// Fails if the arguments do not fit each other.
    pub fn check(&self) -> Result<(), String> {
        check_distinct(self.device, self.second)
    }
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let bar = show::steps(args.count, json);
    let limits = Limits {
        seed: args.seed,
        count: args.count,
        time: args.seconds.map(Duration::from_secs),
    };
    let done = stress::run(args.device, args.second, limits, |done| {
        bar.set_position(done.count());
    });
    bar.finish_and_clear();
    let done = done?;
    if json {
        return show::json(&done);
    }
    let text = format!(
        "{} migrations by stop-copy, {} with pre-copy, of which {} were compared; {} given up, \
         {} walks through states, {} bytes",
        done.stop_copy, done.precopy, done.compared, done.given_up, done.walks, done.bytes
    );
    outln!("{}", show::wrapped("", &text))
}

// SPDX-License-Identifier: GPL-2.0

//! `fuzz`.

use super::{
    out::{
        errln,
        outln, //
    },
    show,
    values, //
};
use vfio_mig::{
    address::Address,
    error::Error,
    fuzz::{
        self,
        Rounds, //
    },
};

/// Feed a device's driver with what no correct program would.
///
/// Loads changed states, requests states in any order and makes ioctls with random contents.
/// After each round the device must come back by a reset, and from time to time a good
/// migration must work. Look at the kernel's log, too. For a round that fails, prints the
/// command that repeats it.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    device: Address,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::parse_number)]
    seed: u64,
    /// Number of the first round.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::parse_number)]
    first: u64,
    /// Number of rounds.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::at_least_one::<u64>)]
    rounds: u64,
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
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let bar = show::steps(args.rounds, json);
    let rounds = Rounds {
        seed: args.seed,
        first: args.first,
        count: args.rounds,
    };
    let mut last = args.first;
    let done = fuzz::run(args.device, rounds, |number| {
        last = number;
        bar.set_position(number - args.first);
    });
    bar.finish_and_clear();
    // Any other error comes from opening the device or saving its state, before the
    // first round.
    if matches!(done, Err(Error::Round { .. })) && !json {
        errln!(
            "again: vfio-mig fuzz {} --seed {} --first {last} --rounds 1",
            args.device,
            args.seed
        )?;
    }
    let done = done?;
    if json {
        return show::json(&done);
    }
    outln!(
        "{} rounds: {} changed states, of which {} were taken; {} requests for states, {} other \
         ioctls; {} good migrations",
        done.rounds,
        done.streams,
        done.streams_taken,
        done.states,
        done.ioctls,
        done.good
    )
}

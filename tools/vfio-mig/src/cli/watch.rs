// SPDX-License-Identifier: GPL-2.0

//! `watch`: what pre-copy has left to move.

use super::{
    complete,
    out::outln,
    show,
    values, //
};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use std::{
    collections::VecDeque,
    fs::File,
    io::{
        self,
        IsTerminal, //
    },
    os::fd::AsFd,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    address::Address,
    device::Device,
    error::{
        with_undo,
        Context,
        Error, //
    },
    interrupt,
    state::State,
    stream,
    uapi::{
        self,
        PrecopyInfo, //
    },
    wait,
    workload::Workload, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// Seconds between two looks, from 0 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = values::parse_interval, default_value = "1")]
    interval: Duration,
    /// Number of looks. Without it, goes on until interrupted.
    #[arg(long, value_name = "N", value_parser = values::at_least_one::<u32>)]
    count: Option<u32>,
    /// Do not read the stream, to see how much piles up.
    #[arg(long)]
    keep: bool,
    /// Have the device create objects of this size, once. Only for emulated
    /// ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "0")]
    create: u64,
    /// Have the device change this many bytes before each look. Only for emulated
    /// ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "0")]
    change: u64,
}

/// Number of looks that the plot shows: what the counters leave of 80 columns.
const PLOT: usize = 17;

#[derive(Serialize)]
struct Look {
    ms: f64,
    initial_bytes: u64,
    dirty_bytes: u64,
    reinit: bool,
    read_bytes: u64,
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    interrupt::catch()?;
    let device = Device::open(args.device)?;
    let v2 = device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET);
    if v2 {
        device.opt_in_precopy_info_v2()?;
    }
    let watched = device
        .begin(State::PRE_COPY)
        .and_then(|stream| look(args, &device, stream, v2, json));
    with_undo(watched, device.step_back())
}

/// Looks again and again.
fn look(args: &Args, device: &Device, mut stream: File, v2: bool, json: bool) -> Result<(), Error> {
    let workload = Workload {
        create_bytes: args.create,
        change_bytes: args.change,
    };
    let begin = Instant::now();
    let mut left = VecDeque::new();
    let mut read_bytes = 0;
    let terminal = io::stdout().is_terminal();
    for round in 0..args.count.unwrap_or(u32::MAX) {
        if round > 0 {
            wait::sleep(args.interval)?;
        }
        workload.step(device, round)?;
        let info = uapi::precopy_info(stream.as_fd(), PrecopyInfo::default())
            .context(format!("{}: PRECOPY_INFO", args.device))?;
        let look = Look {
            ms: begin.elapsed().as_secs_f64() * 1e3,
            initial_bytes: info.initial_bytes,
            dirty_bytes: info.dirty_bytes,
            reinit: v2 && info.flags & uapi::PRECOPY_INFO_REINIT != 0,
            read_bytes,
        };
        if json {
            show::json(&look)?;
        } else {
            if round == 0 {
                outln!("   seconds  initial_bytes    dirty_bytes           read")?;
            }
            // It may go on for days.
            if left.len() == PLOT {
                left.pop_front();
            }
            left.push_back(look.initial_bytes.saturating_add(look.dirty_bytes));
            show_look(&look, left.make_contiguous(), terminal)?;
        }
        if !args.keep {
            read_bytes += stream::copy_available(&mut stream, &mut io::sink(), |_| ())?.0;
        }
    }
    Ok(())
}

fn show_look(look: &Look, left: &[u64], terminal: bool) -> Result<(), Error> {
    let most = left.iter().copied().max().unwrap_or(0);
    let reinit = if look.reinit { "REINIT" } else { "" };
    // A file only gets the last value.
    let plot = match terminal {
        true => format!(" {}", show::spark(left, most)),
        false => String::new(),
    };
    outln!(
        "{:10.3} {:14} {:14} {:14} {reinit:6}{plot}",
        look.ms / 1e3,
        look.initial_bytes,
        look.dirty_bytes,
        look.read_bytes
    )
}

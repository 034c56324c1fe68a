// SPDX-License-Identifier: GPL-2.0

//! `state`: takes a device from state to state, and shows the arcs on the way.

use super::{
    complete,
    out::outln,
    show, //
};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use std::time::Instant;
use vfio_mig::{
    address::Address,
    device::Device,
    error::Error,
    state::State, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// States to go to, in turn. The device is in RUNNING at first, since opening it resets
    /// it, and so does the next open. The stream of a session is not read.
    #[arg(add = ArgValueCandidates::new(complete::states))]
    states: Vec<State>,
}

#[derive(Serialize)]
struct Step {
    from: State,
    to: State,
    /// The states on the way, by the uAPI's rules.
    path: Vec<State>,
    data_fd: bool,
    ms: f64,
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let device = Device::open(args.device)?;
    let features = device.features()?;
    let mut steps = Vec::new();
    // Kept open: closing the file would end the session.
    let mut session = None;
    for to in &args.states {
        let from = device.state()?;
        let begin = Instant::now();
        let file = device.set_state(*to)?;
        let step = Step {
            from,
            to: *to,
            path: features.path(from, *to).unwrap_or_default(),
            data_fd: file.is_some(),
            ms: begin.elapsed().as_secs_f64() * 1e3,
        };
        session = file.or(session);
        if !json {
            let path: Vec<String> = [from]
                .iter()
                .chain(&step.path)
                .map(State::to_string)
                .collect();
            let fd = if step.data_fd { ", with a data fd" } else { "" };
            let time = format!("{:10.3} ms", step.ms);
            outln!(
                "{}",
                show::field(&time, &format!("{}{fd}", path.join(" -> ")))
            )?;
        }
        steps.push(step);
    }
    let state = device.state()?;
    drop(session);
    if json {
        show::json(&serde_json::json!({ "state": state, "steps": steps }))
    } else {
        outln!("{state}")
    }
}

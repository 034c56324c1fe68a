// SPDX-License-Identifier: GPL-2.0

//! `state`: one state after another, and the way in between.

use super::{
    out::outln,
    show, //
};
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
    device: Address,
    /// States to go to, in turn. Opening the device has reset it to RUNNING, as the next
    /// open() will. What a session streams is not read.
    states: Vec<State>,
}

#[derive(Serialize)]
struct Step {
    from: State,
    to: State,
    /// The arcs of the way, by the uAPI's rules.
    path: Vec<State>,
    data_fd: bool,
    ms: f64,
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let device = Device::open(args.device)?;
    let features = device.features()?;
    let mut steps = Vec::new();
    // A session ends when its file is closed before its time.
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
            outln!("{:10.3} ms  {}{fd}", step.ms, path.join(" -> "))?;
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

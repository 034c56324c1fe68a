// SPDX-License-Identifier: GPL-2.0

//! Processes that hold a device, and are killed.

use super::resuming::usable;
use crate::scenarios::compare::{
    errno_name,
    Observation, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::File,
    io::{
        BufRead,
        BufReader, //
    },
    process::{
        Command,
        ExitCode,
        Stdio, //
    },
    thread, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State, //
};

/// Starts a process that holds a device in a state, and returns once it does.
fn holder(vf: Bdf, state: State) -> Result<std::process::Child> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--hold", &vf.to_string(), &state.0.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the holder said {line:?}");
    Ok(child)
}

/// What a holder does.
pub fn hold(args: &[String]) -> ExitCode {
    let held = || -> Result<(Device, Option<File>)> {
        let [bdf, state] = args else {
            anyhow::bail!("--hold BDF STATE");
        };
        let device = Device::open(bdf.parse::<Bdf>()?)?;
        let file = device.set_state(State(state.parse()?))?.map(File::from);
        Ok((device, file))
    };
    match held() {
        Ok(_held) => {
            println!("ready");
            loop {
                thread::park();
            }
        }
        Err(err) => {
            println!("{err:#}");
            ExitCode::FAILURE
        }
    }
}

pub(super) const OBSERVATIONS: &[Observation] = &[
    ("killed in each state", |site| {
        let mut seen = Vec::new();
        for state in [
            State::STOP,
            State::STOP_COPY,
            State::RESUMING,
            State::RUNNING_P2P,
        ] {
            let mut child = holder(site.vf, state)?;
            child.kill()?;
            child.wait()?;
            let device = Device::open(site.vf)?;
            seen.push(format!("{state}: {}", device.state()?));
        }
        usable(site)?;
        Ok(seen.join(", "))
    }),
    ("a device that someone else has", |site| {
        let device = Device::open(site.vf)?;
        let again = Device::open(site.vf);
        let errno = again.err().and_then(|err| err.errno()).unwrap_or(0);
        drop(device);
        Ok(errno_name(errno))
    }),
];

// SPDX-License-Identifier: GPL-2.0

//! Processes that end, in whatever state a device is in.

use super::{
    require,
    Site,
    Stop,
    Test,
    Verdict, //
};
use crate::{
    process,
    state::State, //
};
use nix::{
    sys::{
        signal::{
            kill,
            Signal, //
        },
        wait::waitpid, //
    },
    unistd::{
        pipe,
        ForkResult, //
    },
};
use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    thread, //
};

/// The next process that opens the device finds it working.
fn require_usable(site: &Site) -> Verdict {
    let device = site.open_as_left()?;
    let state = device.state()?;
    require(state == State::RUNNING, || {
        format!("the next one finds it in {state}")
    })?;
    let mut file = device.begin(State::STOP_COPY)?;
    let n = file.read(&mut [0; 64])?;
    require(n > 0, || "the next one finds no state to save".to_string())
}

fn closed(site: &Site, state: State) -> Verdict {
    drop(site.open_in(state)?);
    require_usable(site)
}

/// The device first, and its data file after that.
fn closed_before_its_session(site: &Site, state: State) -> Verdict {
    let (device, file) = site.open_in(state)?;
    drop(device);
    drop(file);
    require_usable(site)
}

fn killed(site: &Site, state: State) -> Verdict {
    let (from, to) = pipe().map_err(io::Error::from)?;
    match process::fork()? {
        ForkResult::Child => {
            let held = site.open_in(state);
            let said = match &held {
                Ok(_) => "ready".to_string(),
                Err(Stop::Skip(why)) => format!("skip {why}"),
                Err(Stop::Fail(why)) => format!("fail {why}"),
            };
            // The parent finds out if this fails.
            let _ = writeln!(File::from(to), "{said}");
            loop {
                thread::park();
            }
        }
        ForkResult::Parent { child } => {
            drop(to);
            let heard = read_line(File::from(from));
            let killed = kill(child, Signal::SIGKILL).map_err(io::Error::from);
            let waited = waitpid(child, None).map_err(io::Error::from);
            let said = heard?;
            killed?;
            waited?;
            if let Some(why) = said.strip_prefix("skip ") {
                return Err(Stop::Skip(why.to_string()));
            }
            require(said == "ready", || said.clone())?;
            require_usable(site)
        }
    }
}

/// A line, and no more: the other end stays open.
fn read_line(mut from: impl Read) -> io::Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    Ok(line)
}

/// A child has the files, too: they are closed when both have closed them.
fn forked(site: &Site, state: State) -> Verdict {
    let (device, file) = site.open_in(state)?;
    let (from, to) = pipe().map_err(io::Error::from)?;
    match process::fork()? {
        ForkResult::Child => {
            drop(to);
            // Ends when the parent closes its end.
            let _ = File::from(from).read(&mut [0]);
            process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(from);
            drop((device, file));
            // The child still has it.
            let busy = site.open().is_err();
            drop(to);
            waitpid(child, None).map_err(io::Error::from)?;
            require(busy, || {
                "it can be opened while a child has it open".to_string()
            })?;
            require_usable(site)
        }
    }
}

pub fn tests() -> Vec<Test> {
    const CLOSED: &str = "closing a device ends whatever there was, and the next one finds it \
                          running";
    const KILLED: &str = "a process that is killed leaves nothing behind, whatever it was doing";
    const FORKED: &str = "a device is closed when the last one who has it open closes it";
    let mut tests = Vec::new();
    for state in State::ALL {
        tests.push(Test::expected(
            format!("close.{state}"),
            CLOSED,
            move |site| closed(site, state),
        ));
        if state.is_saving() || state == State::RESUMING {
            tests.push(Test::expected(
                format!("close.{state}_before_its_session"),
                CLOSED,
                move |site| closed_before_its_session(site, state),
            ));
        }
        tests.push(Test::expected(
            format!("kill.{state}"),
            KILLED,
            move |site| killed(site, state),
        ));
        tests.push(Test::expected(
            format!("fork.{state}"),
            FORKED,
            move |site| forked(site, state),
        ));
    }
    tests
}

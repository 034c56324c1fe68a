// SPDX-License-Identifier: GPL-2.0

//! Requests of a device that is open.

use super::{
    attempts::{
        Outcome,
        Request, //
    },
    subject::{
        closed,
        Ready,
        Subject, //
    },
};
use crate::vf::IOVA;
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd, //
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
    workload::Workload, //
};

/// What is logged.
const LOGGED: LoggingRange = LoggingRange {
    iova: IOVA,
    length: 1 << 30,
};
/// Bytes of each write, if a state is written in parts.
const PART: usize = 1000;

/// Gets the device to a state, by requests that do not fail. Before RESUMING is left, the whole
/// of a state is written.
fn bring(ready: &mut Ready<'_>, to: State) -> Result<()> {
    let state = ready.open()?.state()?;
    if state != to {
        ready
            .set_state(to)
            .with_context(|| format!("from {state} to {to}"))?;
    }
    Ok(())
}

fn bring_to_leave(ready: &mut Ready<'_>, from: State) -> Result<()> {
    bring(ready, from)?;
    if from == State::RESUMING {
        let stream = std::mem::take(&mut ready.stream);
        let written = ready.file()?.write_all(&stream);
        ready.stream = stream;
        written?;
    }
    Ok(())
}

/// Reads until there is nothing more, or not for now.
fn read_all(ready: &mut Ready<'_>) -> io::Result<()> {
    let file = ready.file.as_mut().ok_or_else(closed)?;
    loop {
        match file.read(&mut ready.bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => (),
            Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => return Ok(()),
            Err(err) => return Err(err),
        }
    }
}

fn write_parts(ready: &mut Ready<'_>, size: usize) -> io::Result<()> {
    let file = ready.file.as_mut().ok_or_else(closed)?;
    for part in ready.stream.chunks(size) {
        file.write_all(part)?;
    }
    Ok(())
}

fn device<'a>(ready: &'a Ready<'_>) -> io::Result<&'a Device> {
    ready.device.as_ref().ok_or_else(closed)
}

fn get(ready: &Ready<'_>, feature: u32) -> io::Result<()> {
    let flags = uapi::FEATURE_GET | feature;
    uapi::feature(device(ready)?.fd(), flags, &mut [0; 4])
}

/// The device is in a state that the request may lead to from `from`: a request for another
/// state gets there if it succeeds, and else as far as the kernel leads it. It runs after that:
/// a reset mends ERROR, and states that are not whole.
fn runs_again(
    ready: &mut Ready<'_>,
    outcome: Outcome,
    from: State,
    to: Option<State>,
) -> Result<()> {
    let features = ready.subject.features;
    let logs = ready.subject.logs;
    ready.file = None;
    let device = ready.device()?;
    let state = device.state()?;
    let path = to.and_then(|to| features.path(from, to));
    let on_the_way = path.is_some_and(|path| path.contains(&state));
    let good = match (outcome.succeeded, to) {
        (true, to) => state == to.unwrap_or(from),
        (false, None) => state == from,
        (false, Some(_)) => state == from || on_the_way || state == State::ERROR,
    };
    ensure!(good, "the device is in {state}");
    if logs {
        device.stop_logging()?;
    }
    if state == State::ERROR || state == State::RESUMING {
        device.reset()?;
    } else {
        device.set_state(State::RUNNING)?;
    }
    let state = device.state()?;
    ensure!(
        state == State::RUNNING,
        "the device is in {state} after that"
    );
    Ok(())
}

/// A request for another state.
fn arc(subject: &Subject, from: State, to: State, allocates: bool) -> Request {
    let features = subject.features;
    Request {
        name: format!("from {from} to {to}"),
        allocates,
        ready: Box::new(move |ready| bring_to_leave(ready, from)),
        work: Box::new(move |ready| ready.set_state(to)),
        after: Box::new(move |ready, outcome| {
            ensure!(features.path(from, to).is_some(), "there is no such arc");
            runs_again(ready, outcome, from, Some(to))
        }),
    }
}

/// A request that is made in a state, which stays.
fn stays(
    name: &str,
    state: State,
    allocates: bool,
    prepare: fn(&mut Ready<'_>) -> Result<()>,
    work: fn(&mut Ready<'_>) -> io::Result<()>,
) -> Request {
    Request {
        name: format!("{name}, in {state}"),
        allocates,
        ready: Box::new(move |ready| {
            bring(ready, state)?;
            prepare(ready)
        }),
        work: Box::new(work),
        after: Box::new(move |ready, outcome| runs_again(ready, outcome, state, None)),
    }
}

fn nothing(_: &mut Ready<'_>) -> Result<()> {
    Ok(())
}

fn logging(ready: &mut Ready<'_>) -> Result<()> {
    ready.device()?.start_logging(regs::PAGE, &[LOGGED])?;
    Ok(())
}

/// A reset, in a state.
fn reset(from: State) -> Request {
    Request {
        name: format!("VFIO_DEVICE_RESET, in {from}"),
        allocates: false,
        ready: Box::new(move |ready| bring(ready, from)),
        work: Box::new(|ready| {
            uapi::with_value(device(ready)?.fd(), uapi::VFIO_DEVICE_RESET, 0).map(drop)
        }),
        after: Box::new(move |ready, outcome| {
            ensure!(outcome.succeeded, "a reset needs memory");
            runs_again(ready, outcome, State::RUNNING, None)
        }),
    }
}

/// Whether an arc allocates: for commands, or for the memory of a session.
fn arc_allocates(subject: &Subject, to: State) -> bool {
    let begins = to == State::STOP_COPY || to == State::RESUMING;
    subject.works || begins
}

/// Those of the state machine: each arc, and requests that are several.
fn of_states(subject: &Subject) -> Vec<Request> {
    let features = subject.features;
    let several = [
        (State::RUNNING, State::STOP_COPY),
        (State::RUNNING, State::RESUMING),
        (State::PRE_COPY, State::STOP_COPY),
        (State::RESUMING, State::RUNNING),
        (State::STOP_COPY, State::RUNNING),
    ];
    let is_several = |(from, to): &(State, State)| {
        let path = features.path(*from, *to);
        path.is_some_and(|path| path.len() > 1)
    };
    let all = features
        .arcs()
        .chain(several.into_iter().filter(is_several));
    all.map(|(from, to)| arc(subject, from, to, arc_allocates(subject, to)))
        .collect()
}

fn of_precopy(subject: &Subject) -> Vec<Request> {
    let precopy = State::PRE_COPY;
    if !subject.features.supports(precopy) {
        return Vec::new();
    }
    let ask = |ready: &mut Ready<'_>| {
        let file = ready.file()?;
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(drop)
    };
    let mut all = vec![
        stays("read", precopy, false, nothing, read_all),
        stays("PRECOPY_INFO", precopy, true, nothing, ask),
    ];
    if subject.works {
        let work = |ready: &mut Ready<'_>| {
            let work = Workload {
                create_bytes: 64 << 10,
                change_bytes: 64 << 10,
            };
            Ok(work.step(ready.device()?, 0)?)
        };
        all.push(stays("PRECOPY_INFO after work", precopy, true, work, ask));
    }
    all
}

fn of_logging(subject: &Subject) -> Vec<Request> {
    if !subject.logs {
        return Vec::new();
    }
    let start = |ready: &mut Ready<'_>| {
        uapi::logging_start(device(ready)?.fd(), regs::PAGE, &[LOGGED]).map(drop)
    };
    let report = |ready: &mut Ready<'_>| {
        let bitmap = ready.bitmap.as_mut_ptr() as u64;
        uapi::logging_report_at(device(ready)?.fd(), LOGGED, regs::PAGE, bitmap)
    };
    let stop = |ready: &mut Ready<'_>| {
        let flags = uapi::FEATURE_SET | uapi::FEATURE_DMA_LOGGING_STOP;
        uapi::feature(device(ready)?.fd(), flags, &mut [0; 4])
    };
    vec![
        stays("LOGGING_START", State::RUNNING, true, nothing, start),
        stays("LOGGING_REPORT", State::RUNNING, true, logging, report),
        stays("LOGGING_STOP", State::RUNNING, true, logging, stop),
    ]
}

/// All of a device.
pub(super) fn all(subject: &Subject) -> Vec<Request> {
    let mut all = of_states(subject);
    all.push(stays("read", State::STOP_COPY, false, nothing, read_all));
    all.push(stays(
        "a write of a whole state",
        State::RESUMING,
        true,
        nothing,
        |ready| write_parts(ready, usize::MAX),
    ));
    all.push(stays(
        "writes of a state in parts",
        State::RESUMING,
        true,
        nothing,
        |ready| write_parts(ready, PART),
    ));
    all.extend(of_precopy(subject));
    all.extend(of_logging(subject));
    let running = State::RUNNING;
    all.push(stays("GET MIGRATION", running, false, nothing, |ready| {
        get(ready, uapi::FEATURE_MIGRATION)
    }));
    all.push(stays(
        "GET DEVICE_STATE",
        running,
        false,
        nothing,
        |ready| get(ready, uapi::FEATURE_MIG_DEVICE_STATE),
    ));
    let sends = subject.works;
    all.push(stays("GET DATA_SIZE", running, sends, nothing, |ready| {
        get(ready, uapi::FEATURE_MIG_DATA_SIZE)
    }));
    let states = [running, State::STOP_COPY, State::RESUMING, State::PRE_COPY];
    let supported = |state: &State| subject.features.supports(*state);
    all.extend(states.into_iter().filter(supported).map(reset));
    all
}

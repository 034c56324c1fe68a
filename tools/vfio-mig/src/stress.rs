// SPDX-License-Identifier: GPL-2.0

//! Migrations again and again, in all ways that a device has, with some of them
//! given up half way.

use crate::{
    address::{
        self,
        Address, //
    },
    device::Device,
    error::{
        Context,
        Error, //
    },
    migrate, precopy,
    state::{
        Features,
        State, //
    },
    stream,
    target::{
        DeviceTarget,
        Target, //
    },
    workload::{
        self,
        Workload, //
    },
};
use fastrand::Rng;
use serde::Serialize;
use std::{
    io::{
        Read,
        Write, //
    },
    time::{
        Duration,
        Instant, //
    },
};

/// What a device that can work does in a round of pre-copy.
const WORK: u64 = 16 << 10;
/// Most rounds of pre-copy.
const MAX_ROUNDS: u32 = 5;

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seed of the random choices.
    pub seed: u64,
    /// Migrations.
    pub count: u64,
    /// Time, if there is a limit.
    pub time: Option<Duration>,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Done {
    /// Migrations by stop-copy.
    pub stop_copy: u64,
    /// Migrations with pre-copy.
    pub precopy: u64,
    /// Migrations given up.
    pub given_up: u64,
    /// Walks through states.
    pub walks: u64,
    /// Bytes that were moved.
    pub bytes: u64,
    /// Migrations after which the state was compared with what had been there.
    pub compared: u64,
}

impl Done {
    /// Returns the number of all that was done.
    pub fn count(&self) -> u64 {
        self.stop_copy + self.precopy + self.given_up + self.walks
    }
}

/// Makes the source work, if it can, and remembers the digest of its state after that.
struct Busy {
    can_work: bool,
    seed: u32,
    digest: Option<u64>,
}

impl Busy {
    fn new(rng: &mut Rng, source: &Device) -> Self {
        Self {
            can_work: workload::is_available(source),
            // What a device writes depends on the round: no two are the same.
            seed: rng.u32(1..1 << 30),
            digest: None,
        }
    }

    fn work(&mut self, source: &Device, create_bytes: u64, round: u32) -> Result<(), Error> {
        if self.can_work {
            let work = Workload {
                create_bytes,
                change_bytes: WORK,
            };
            work.step(source, round)?;
            self.digest = Some(workload::digest(source)?);
        }
        Ok(())
    }

    /// Fails if the digest of `device` is not that of the source after its last work.
    /// Returns whether there was a digest to compare.
    fn compare(&self, device: &Device) -> Result<bool, Error> {
        let Some(digest) = self.digest else {
            return Ok(false);
        };
        match workload::digest(device)? {
            now if now == digest => Ok(true),
            now => Err(Error::Unexpected(format!(
                "{}: a state with the digest {digest:016x} has become one with {now:016x}",
                device.address()
            ))),
        }
    }
}

impl precopy::Observer for Busy {
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        let seed = self.seed;
        // Objects are created in round 0.
        self.work(source, WORK, if round == 0 { 0 } else { seed + round })
    }
}

fn require_state(device: &Device, wanted: State, after: &str) -> Result<(), Error> {
    match device.state()? {
        state if state == wanted => Ok(()),
        state => Err(Error::Unexpected(format!(
            "{after}: {} is in {state}, not in {wanted}",
            device.address()
        ))),
    }
}

/// Migrates to the other device or, if there is none, saves this device and loads it again.
fn stop_copy(
    rng: &mut Rng,
    source: &Device,
    other: Option<&Device>,
    done: &mut Done,
) -> Result<(), Error> {
    let mut busy = Busy::new(rng, source);
    busy.work(source, 0, busy.seed)?;
    done.bytes += move_by_stop_copy(source, other)?;
    done.stop_copy += 1;
    done.compared += u64::from(busy.compare(other.unwrap_or(source))?);
    if other.is_some() {
        source.set_state(State::RUNNING)?;
    }
    Ok(())
}

fn move_by_stop_copy(source: &Device, other: Option<&Device>) -> Result<u64, Error> {
    if let Some(other) = other {
        let report = migrate::stop_copy(source, &mut DeviceTarget::new(other), &mut ())?;
        require_state(other, State::RUNNING, "a migration")?;
        require_state(source, State::STOP, "a migration")?;
        return Ok(report.bytes);
    }
    let mut state = Vec::new();
    let mut from = source.begin(State::STOP_COPY)?;
    let bytes = stream::copy(&mut from, &mut state, |_| ())?;
    let mut target = DeviceTarget::new(source);
    target.prepare()?;
    target.write_all(&state).context("writing the state")?;
    target.finish()?;
    target.start()?;
    Ok(bytes)
}

fn with_precopy(
    rng: &mut Rng,
    source: &Device,
    other: &Device,
    done: &mut Done,
) -> Result<(), Error> {
    let options = precopy::Options {
        info: precopy::InfoVersion::V1,
        max_rounds: rng.u32(1..=MAX_ROUNDS),
        ..Default::default()
    };
    let mut busy = Busy::new(rng, source);
    let report = precopy::migrate(source, &mut DeviceTarget::new(other), options, &mut busy)?;
    require_state(other, State::RUNNING, "a migration")?;
    source.set_state(State::RUNNING)?;
    done.precopy += 1;
    done.bytes += report.precopy_bytes + report.downtime_bytes;
    done.compared += u64::from(busy.compare(other)?);
    Ok(())
}

/// Begins a migration, and gives it up at some point.
fn give_up(rng: &mut Rng, source: &Device, features: Features) -> Result<(), Error> {
    let begin = match rng.u32(..3) {
        0 => State::STOP_COPY,
        1 => State::RESUMING,
        _ if features.supports(State::PRE_COPY) => State::PRE_COPY,
        _ => State::STOP_COPY,
    };
    let mut file = source.begin(begin)?;
    let mut buf = vec![0; rng.usize(1..1 << 16)];
    // The session is given up, whether this succeeds or not.
    if begin == State::RESUMING {
        let _ = file.write(&buf);
        source.reset()?;
    } else {
        let _ = file.read(&mut buf);
        match rng.u32(..3) {
            0 => source.reset()?,
            1 => drop(file),
            _ => (),
        }
        source.set_state(State::RUNNING)?;
    }
    require_state(source, State::RUNNING, "giving up")
}

/// Takes a device from one migration state to another, but not to RESUMING, which could not
/// be left without data.
fn walk(rng: &mut Rng, source: &Device, features: Features) -> Result<(), Error> {
    let states: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| features.supports(*state))
        .filter(|state| ![State::ERROR, State::RESUMING].contains(state))
        .collect();
    let mut at = source.state()?;
    for _ in 0..rng.u32(2..8) {
        let to = states[rng.usize(..states.len())];
        let possible = features.path(at, to).is_some();
        match source.set_state(to) {
            Ok(_) if possible => at = to,
            Err(_) if !possible => (),
            Err(err) => return Err(err),
            Ok(_) => {
                return Err(Error::Unexpected(format!(
                    "{at} -> {to} succeeded, which is not allowed"
                )))
            }
        }
        require_state(source, at, "a walk")?;
    }
    source.set_state(State::RUNNING)?;
    Ok(())
}

/// Goes on until a limit is reached. `progress` gets what was done so far.
pub fn run(
    first: Address,
    second: Option<Address>,
    limits: Limits,
    mut progress: impl FnMut(&Done),
) -> Result<Done, Error> {
    address::require_distinct(first, second)?;
    let mut rng = Rng::with_seed(limits.seed);
    if let Some(second) = second {
        // Opening the first one resets it.
        Device::look_up(second)?;
    }
    let mut source = Device::open(first)?;
    let mut other = second.map(Device::open).transpose()?;
    let features = source.features()?;
    let begin = Instant::now();
    let mut done = Done::default();
    let expired = || limits.time.is_some_and(|time| begin.elapsed() >= time);
    while done.count() < limits.count && !expired() {
        match (rng.u32(..4), &other) {
            (0, Some(other)) if features.supports(State::PRE_COPY) => {
                with_precopy(&mut rng, &source, other, &mut done)?;
            }
            (0 | 1, other) => stop_copy(&mut rng, &source, other.as_ref(), &mut done)?,
            (2, _) => {
                give_up(&mut rng, &source, features)?;
                done.given_up += 1;
            }
            _ => {
                walk(&mut rng, &source, features)?;
                done.walks += 1;
            }
        }
        // Back and forth.
        if let Some(other) = &mut other {
            std::mem::swap(&mut source, other);
        }
        progress(&done);
    }
    Ok(done)
}

// SPDX-License-Identifier: GPL-2.0

//! Migration of one device's state to another device.

use crate::{
    device::Device,
    error::{Context, Error},
    state::State,
    stream,
};
use serde::Serialize;
use std::{fs::File, path::Path, time::Instant};

/// A part of a migration.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// Bytes of state that it moved.
    pub bytes: u64,
}

/// How a migration went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Its parts, in order.
    pub phases: Vec<Phase>,
}

/// Hears of the progress.
pub trait Observer {
    /// A phase begins. `total` is how much it will move, about, if anything.
    fn phase(&mut self, name: &'static str, total: u64);
    /// So many bytes have been moved in the phase.
    fn bytes(&mut self, bytes: u64);
}

/// Hears nothing.
impl Observer for () {
    fn phase(&mut self, _name: &'static str, _total: u64) {}
    fn bytes(&mut self, _bytes: u64) {}
}

struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    phases: Vec<Phase>,
}

impl Recorder<'_> {
    fn run<T>(
        &mut self,
        name: &'static str,
        total: u64,
        work: impl FnOnce(&mut dyn Observer) -> Result<(T, u64), Error>,
    ) -> Result<T, Error> {
        self.observer.phase(name, total);
        let start = Instant::now();
        let (result, bytes) = work(self.observer)?;
        self.phases.push(Phase {
            name,
            ms: start.elapsed().as_secs_f64() * 1e3,
            bytes,
        });
        Ok(result)
    }
}

/// Migrates by stop-copy: the source stops, its state is moved, and the
/// destination runs. With `through`, the state goes to that file first.
///
/// When this fails the source runs again, and the destination is reset. They
/// never run both.
pub fn stop_copy(
    source: &Device,
    destination: &Device,
    through: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    for device in [source, destination] {
        device.features()?;
    }
    let mut recorder = Recorder {
        observer,
        phases: Vec::new(),
    };
    let moved = move_state(source, destination, through, &mut recorder);
    let result = moved.and_then(|bytes| {
        recorder.run("start the destination", 0, |_| {
            destination.set_state(State::RUNNING)?;
            Ok(((), 0))
        })?;
        Ok(bytes)
    });
    match result {
        Ok(bytes) => Ok(Report {
            bytes,
            phases: recorder.phases,
        }),
        Err(err) => {
            back_out(source, destination);
            Err(err)
        }
    }
}

/// After a failure: the source runs again, if the destination does not have its
/// state.
pub(crate) fn back_out(source: &Device, destination: &Device) {
    // The destination first: a reset always ends in RUNNING, so it must not
    // have the source's state by then.
    if destination.reset().is_ok() {
        let _ = source.set_state(State::RUNNING);
    }
}

fn move_state(
    source: &Device,
    destination: &Device,
    through: Option<&Path>,
    recorder: &mut Recorder<'_>,
) -> Result<u64, Error> {
    let mut to = recorder.run("prepare the destination", 0, |_| {
        Ok((destination.begin(State::RESUMING)?, 0))
    })?;
    recorder.run("stop the source", 0, |_| {
        source.set_state(State::STOP)?;
        Ok(((), 0))
    })?;
    let total = source.data_size()?;
    let bytes = match through {
        None => recorder.run("save and load", total, |observer| {
            let mut from = source.begin(State::STOP_COPY)?;
            let bytes = stream::copy(&mut from, &mut to, |n| observer.bytes(n))?;
            Ok((bytes, bytes))
        })?,
        Some(path) => {
            let what = || path.display().to_string();
            let bytes = recorder.run("save", total, |observer| {
                let mut file = File::create(path).context(what())?;
                let mut from = source.begin(State::STOP_COPY)?;
                let bytes = stream::copy(&mut from, &mut file, |n| observer.bytes(n))?;
                Ok((bytes, bytes))
            })?;
            recorder.run("load", bytes, |observer| {
                let mut file = File::open(path).context(what())?;
                let bytes = stream::copy(&mut file, &mut to, |n| observer.bytes(n))?;
                Ok((bytes, bytes))
            })?
        }
    };
    drop(to);
    recorder.run("finish", 0, |_| {
        destination.set_state(State::STOP)?;
        source.set_state(State::STOP)?;
        Ok(((), 0))
    })?;
    Ok(bytes)
}

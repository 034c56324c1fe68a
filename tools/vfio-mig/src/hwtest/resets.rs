// SPDX-License-Identifier: GPL-2.0

//! Resets: in the middle of what firmware does, and by whoever opens a VF.

use super::{
    bench::{
        self,
        ms,
        Bench, //
    },
    Figures, //
};
use crate::{
    device::Device,
    error::Error,
    state::State,
    stream, //
};
use serde_json::json;
use std::{
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Moments of a command at which the VF is reset, of so many parts.
const MOMENTS: u32 = 8;

/// Fails unless the device runs.
fn runs(device: &Device) -> Result<(), Error> {
    match device.state()? {
        State::RUNNING => Ok(()),
        state => {
            let text = format!("{}: {state} after a reset", device.address());
            Err(Error::Unexpected(text))
        }
    }
}

/// Fails unless the device runs and can be saved.
fn works(device: &Device) -> Result<(), Error> {
    runs(device)?;
    bench::save(device).map(drop)
}

fn figures(whole: Duration, resets: &[f64]) -> Figures {
    let value = json!({
        "undisturbed_ms": whole.as_secs_f64() * 1e3,
        "reset_ms": resets,
    });
    value.as_object().cloned().unwrap_or_default()
}

/// Resets the device `after` that time, and returns how long that took.
fn reset(device: &Device, after: Duration) -> Result<f64, Error> {
    thread::sleep(after);
    let begin = Instant::now();
    device.reset()?;
    Ok(ms(begin))
}

/// Of a SAVE.
pub fn during_save(bench: &Bench) -> Result<Figures, Error> {
    let source = bench.source()?;
    let begin = Instant::now();
    bench::save(&source)?;
    let whole = begin.elapsed();
    let mut resets = Vec::new();
    for moment in 0..MOMENTS {
        let file = source.begin(State::STOP_COPY)?;
        resets.push(reset(&source, whole * moment / MOMENTS)?);
        drop(file);
        works(&source)?;
    }
    Ok(figures(whole, &resets))
}

/// Of a LOAD.
pub fn during_load(bench: &Bench) -> Result<Figures, Error> {
    let state = bench::save(&bench.source()?)?;
    let destination = bench.destination()?;
    let begin = Instant::now();
    bench::load(&destination, &state)?;
    let whole = begin.elapsed();
    let (mut resets, mut written) = (Vec::new(), Vec::new());
    for moment in 0..MOMENTS {
        let mut file = destination.begin(State::RESUMING)?;
        let (taken, written_all) = thread::scope(|scope| {
            let writer = scope.spawn(|| stream::write_all(&mut file, &state, 0));
            let taken = reset(&destination, whole * moment / MOMENTS);
            (taken, writer.join())
        });
        resets.push(taken?);
        // The reset ends the write, with an error that firmware may choose.
        let written_all = written_all.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.push(written_all.err().and_then(|err| err.errno()));
        drop(file);
        works(&destination)?;
    }
    let mut found = figures(whole, &resets);
    found.insert("write_errno".to_string(), written.into());
    Ok(found)
}

/// Of all VFs, when they are opened.
pub fn afterwards(bench: &Bench) -> Result<Figures, Error> {
    let mut found = Figures::new();
    for device in bench.all()? {
        runs(&device)?;
        found.insert(device.address().to_string(), device.driver().into());
    }
    Ok(found)
}

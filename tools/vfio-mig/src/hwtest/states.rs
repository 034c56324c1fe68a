// SPDX-License-Identifier: GPL-2.0

//! Saving and loading: sizes, times, and what can be asked meanwhile.

use super::{
    bench::{
        self,
        ms,
        Bench, //
    },
    Figures, //
};
use crate::{
    error::Error,
    state::State,
    stream,
    uapi, //
};
use serde_json::json;
use std::{
    io::Read,
    time::Instant, //
};

/// How often a state is saved and loaded.
const ROUNDS: usize = 5;
/// A piece of a state.
const PIECE: usize = 64 << 10;

fn figures(value: serde_json::Value) -> Figures {
    value.as_object().cloned().unwrap_or_default()
}

/// What the driver offers.
pub fn capabilities(bench: &Bench) -> Result<Figures, Error> {
    let device = bench.source()?;
    Ok(figures(json!({
        "driver": device.driver(),
        "access": device.access(),
        "features": device.features()?.names(),
        "precopy_info_v2": device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET),
        "dma_logging": device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET),
        "can_reset": device.can_reset()?,
    })))
}

/// The whole state, again and again.
pub fn stop_copy(bench: &Bench) -> Result<Figures, Error> {
    let (mut save_ms, mut load_ms) = (Vec::new(), Vec::new());
    let (mut estimates, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let source = bench.source()?;
        estimates.push(source.data_size()?);
        let begin = Instant::now();
        let state = bench::save(&source)?;
        save_ms.push(ms(begin));
        bytes.push(state.len());
        drop(source);
        let destination = bench.destination()?;
        let begin = Instant::now();
        bench::load(&destination, &state)?;
        load_ms.push(ms(begin));
    }
    Ok(figures(json!({
        "data_size": estimates,
        "bytes": bytes,
        "save_ms": save_ms,
        "load_ms": load_ms,
    })))
}

/// A stream of several images.
pub fn precopy(bench: &Bench) -> Result<Figures, Error> {
    let source = bench.source()?;
    let mut state = Vec::new();
    let begin = Instant::now();
    let mut file = source.begin(State::PRE_COPY)?;
    stream::copy_available(&mut file, &mut state, |_| ())?;
    let (running_ms, running) = (ms(begin), state.len());
    let stop = Instant::now();
    source.set_state(State::STOP_COPY)?;
    stream::copy_available(&mut file, &mut state, |_| ())?;
    let stopped_ms = ms(stop);
    source.step_back()?;
    drop((file, source));
    let destination = bench.destination()?;
    let begin = Instant::now();
    bench::load(&destination, &state)?;
    Ok(figures(json!({
        "running_bytes": running,
        "running_ms": running_ms,
        "stopped_bytes": state.len() - running,
        "stopped_ms": stopped_ms,
        "load_ms": ms(begin),
    })))
}

/// DATA_SIZE in each state of a save, and while data are read.
pub fn data_size(bench: &Bench) -> Result<Figures, Error> {
    let source = bench.source()?;
    let mut sizes = Figures::new();
    for state in [State::RUNNING, State::STOP, State::RUNNING] {
        source.set_state(state)?;
        sizes.insert(state.to_string(), source.data_size()?.into());
    }
    let mut file = source.begin(State::STOP_COPY)?;
    let begin = Instant::now();
    let during = source.data_size()?;
    let answered_ms = ms(begin);
    let read = file.read(&mut [0; 16]);
    let n = read.map_err(|source| Error::Stream {
        what: stream::READING,
        bytes: 0,
        source,
    })?;
    let rest = source.data_size()?;
    source.step_back()?;
    sizes.insert("during the SAVE".to_string(), during.into());
    sizes.insert("answered_ms".to_string(), answered_ms.into());
    sizes.insert("read".to_string(), n.into());
    sizes.insert("after that".to_string(), rest.into());
    Ok(sizes)
}

/// Which writes wait for firmware.
pub fn writes(bench: &Bench) -> Result<Figures, Error> {
    let state = bench::save(&bench.source()?)?;
    let destination = bench.destination()?;
    let mut file = destination.begin(State::RESUMING)?;
    let mut times = Vec::new();
    for piece in state.chunks(PIECE) {
        let begin = Instant::now();
        stream::write_all(&mut file, piece, 0)?;
        times.push(ms(begin));
    }
    let begin = Instant::now();
    destination.set_state(State::RUNNING)?;
    let last = times.pop().unwrap_or_default();
    Ok(figures(json!({
        "pieces": times.len() + 1,
        "longest_but_last_ms": times.iter().copied().fold(0.0, f64::max),
        "last_ms": last,
        "leave_resuming_ms": ms(begin),
    })))
}

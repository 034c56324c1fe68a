// SPDX-License-Identifier: GPL-2.0

//! A session in RESUMING that gets invalid bytes.

use crate::scenarios::{
    compare::{
        outcome,
        words,
        Site, //
    },
    streams, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs::File,
    io::Write,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    device::Device,
    state::State, //
};

/// Writes `bytes` to a resuming file, and "all" where it took them.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> String {
    match file.write(bytes) {
        Ok(n) if n == bytes.len() => "all".to_string(),
        other => words(other),
    }
}

/// Writes `bytes` to a resuming file, and goes on until there is an error: it
/// may come a bit later, from firmware.
pub(super) fn resume(site: &Site, bytes: &[u8]) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(&mut file, bytes);
    let mut next = write(&mut file, &[0]);
    let begin = Instant::now();
    while next == "all" && begin.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(10));
        next = write(&mut file, &[0]);
    }
    let last = write(&mut file, &[0]);
    drop((device, file));
    usable(site)?;
    Ok(format!("{written}, then {next}, then {last}"))
}

/// Writes `bytes` and leaves RESUMING.
pub(super) fn leave(site: &Site, bytes: &[u8]) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(&mut file, bytes);
    let left = outcome(device.set_state(State::STOP));
    let state = device.state()?;
    drop((device, file));
    usable(site)?;
    Ok(format!("{written}, leaving: {left}, {state}"))
}

/// A good migration still works.
pub(super) fn usable(site: &Site) -> Result<()> {
    streams::migrate(site.other, site.vf, 2).context("afterwards, a good migration")
}

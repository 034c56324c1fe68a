// SPDX-License-Identifier: GPL-2.0

//! The state of one device, to a stream and from there.

use crate::{device::Device, error::Error, state::State, stream, target};
use std::io::{Read, Write};

/// Saves the state of a device by stop-copy. Whatever comes of it, the device runs
/// again afterwards. `progress` gets the bytes so far.
pub fn save(device: &Device, to: &mut impl Write, progress: impl FnMut(u64)) -> Result<u64, Error> {
    device.features()?;
    let saved = device
        .begin(State::STOP_COPY)
        .and_then(|mut from| stream::copy(&mut from, to, progress));
    let running = device.set_state(State::RUNNING);
    let bytes = saved?;
    running?;
    Ok(bytes)
}

/// Loads a state into a device, which then runs. When this fails the device is
/// reset. `progress` gets the bytes so far.
pub fn load(
    device: &Device,
    from: &mut impl Read,
    progress: impl FnMut(u64),
) -> Result<u64, Error> {
    device.features()?;
    let mut to = device.begin(State::RESUMING)?;
    let loaded =
        stream::copy(from, &mut to, progress).map_err(|err| target::refused_by(device, err));
    drop(to);
    let loaded = loaded.and_then(|bytes| {
        if bytes == 0 {
            return Err(Error::NothingToLoad);
        }
        device.set_state(State::RUNNING)?;
        Ok(bytes)
    });
    if loaded.is_err() {
        let _ = device.reset();
    }
    loaded
}

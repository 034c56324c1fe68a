// SPDX-License-Identifier: GPL-2.0

//! The state of one device, to a stream and from there.

use crate::{
    device::Device,
    error::{
        with_undo,
        Error, //
    },
    state::State,
    stream,
    target, //
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
};

/// Saves the state of a device by stop-copy. The device runs again afterwards, also if this
/// fails. `progress` gets the bytes so far.
pub fn save(device: &Device, to: &mut impl Write, progress: impl FnMut(u64)) -> Result<u64, Error> {
    save_with(device, to, |_| Ok(()), progress)
}

/// As [`save`], and calls `commit` to keep a complete state, even if the device does not run
/// again. That is [`Error::NotPutBack`] if nothing else is wrong.
pub fn save_with<W: Write>(
    device: &Device,
    mut to: W,
    commit: impl FnOnce(W) -> Result<(), Error>,
    progress: impl FnMut(u64),
) -> Result<u64, Error> {
    device.features()?;
    let saved = device
        .begin(State::STOP_COPY)
        .and_then(|mut from| stream::copy(&mut from, &mut to, progress));
    // Put back first: the device does not have to wait for a disk.
    let back = device.step_back();
    let kept = saved.and_then(|bytes| commit(to).map(|()| bytes));
    with_undo(kept, back)
}

/// Loads a state into a device, which then runs. When this fails the device is
/// reset. `progress` gets the bytes so far.
pub fn load(
    device: &Device,
    from: &mut impl Read,
    progress: impl FnMut(u64),
) -> Result<u64, Error> {
    device.features()?;
    let loaded = device
        .begin(State::RESUMING)
        .and_then(|to| load_into(device, to, from, progress));
    match loaded {
        Ok(bytes) => Ok(bytes),
        Err(err) => Err(err.unless_undone(device.forget())),
    }
}

fn load_into(
    device: &Device,
    mut to: File,
    from: &mut impl Read,
    progress: impl FnMut(u64),
) -> Result<u64, Error> {
    let bytes =
        stream::copy(from, &mut to, progress).map_err(|err| target::refused_by(device, err))?;
    drop(to);
    if bytes == 0 {
        return Err(Error::NothingToLoad);
    }
    device.set_state(State::RUNNING)?;
    Ok(bytes)
}

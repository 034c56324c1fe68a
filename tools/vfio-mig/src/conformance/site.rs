// SPDX-License-Identifier: GPL-2.0

//! What a test works on.

use super::{
    skip,
    Stop, //
};
use crate::{
    address::Address,
    device::Device,
    state::{
        Features,
        State, //
    },
    stream::{
        self,
        End, //
    },
    uapi,
    workload, //
};
use std::{
    fs::File,
    io::{
        self,
        Write, //
    },
};

/// One device, or two of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The device that is tested.
    pub device: Address,
    /// Another one that can load its state.
    pub second: Option<Address>,
}

/// What no stream begins with.
pub const GARBAGE: [u8; 4096] = [0xa5; 4096];

impl Site {
    /// Opens the device, and resets it: most tests do not care about the state that it was
    /// left in.
    pub fn open(&self) -> Result<Device, Stop> {
        let device = self.open_as_left()?;
        match reset(&device) {
            Ok(()) | Err(Stop::Skip(_)) => Ok(device),
            Err(err) => Err(err),
        }
    }

    /// Opens the device. Does not reset it, unless the driver does so when it is opened.
    pub fn open_as_left(&self) -> Result<Device, Stop> {
        Ok(Device::open(self.device)?)
    }

    /// Opens the second device, where there is one, or else this one.
    pub fn open_to_load(&self) -> Result<Device, Stop> {
        let device = self.second.unwrap_or(self.device);
        Self { device, ..*self }.open()
    }

    /// Opens it, and asks for its features.
    pub fn open_running(&self) -> Result<(Device, Features), Stop> {
        let device = self.open()?;
        let features = device.features()?;
        Ok((device, features))
    }

    /// Opens it and goes to a state. Skips where it has none of the kind.
    pub fn open_in(&self, state: State) -> Result<(Device, Option<File>), Stop> {
        let (device, features) = self.open_running()?;
        let file = enter(&device, features, state)?;
        Ok((device, file))
    }

    /// As [`Self::open_in`], to a state that comes with a data file.
    pub fn open_session(&self, state: State) -> Result<(Device, File), Stop> {
        match self.open_in(state)? {
            (device, Some(file)) => Ok((device, file)),
            _ => Err(Stop::Fail(format!("{state}: no data fd"))),
        }
    }

    /// Opens it, opted in to PRECOPY_INFOv2, and goes to a state.
    pub fn open_session_v2(&self, state: State) -> Result<(Device, File), Stop> {
        let (device, features) = self.open_running()?;
        require_state(features, state)?;
        if !device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET) {
            return skip("the kernel has no PRECOPY_INFOv2");
        }
        device.opt_in_precopy_info_v2()?;
        match enter(&device, features, state)? {
            Some(file) => Ok((device, file)),
            None => Err(Stop::Fail(format!("{state}: no data fd"))),
        }
    }

    /// A whole state of the device, by stop-copy.
    pub fn saved(&self) -> Result<Vec<u8>, Stop> {
        let (device, mut file) = self.open_session(State::STOP_COPY)?;
        let mut bytes = Vec::new();
        stream::copy(&mut file, &mut bytes, |_| ())?;
        drop(device);
        Ok(bytes)
    }
}

/// Resets a device. Skips where that is not possible.
pub fn reset(device: &Device) -> Result<(), Stop> {
    match device.reset() {
        Err(_) if !device.can_reset()? => skip("the device cannot be reset"),
        result => Ok(result?),
    }
}

/// Skips where a device cannot be in a state.
pub fn require_state(features: Features, state: State) -> Result<(), Stop> {
    if features.supports(state) {
        Ok(())
    } else {
        skip(format!("the device does not support {state}"))
    }
}

/// Goes to a state.
fn enter(device: &Device, features: Features, state: State) -> Result<Option<File>, Stop> {
    require_state(features, state)?;
    if state == State::ERROR {
        break_it(device)?;
        return Ok(None);
    }
    Ok(device.set_state(state)?.map(File::from))
}

/// Takes a device to ERROR, where it can be.
fn break_it(device: &Device) -> Result<(), Stop> {
    let mut file = device.begin(State::RESUMING)?;
    // May fail right here.
    let _ = file.write_all(&GARBAGE);
    let _ = device.set_state(State::STOP);
    match device.state()? {
        State::ERROR => Ok(()),
        state => skip(format!(
            "an invalid state leaves the device in {state}, and no other way to ERROR is known"
        )),
    }
}

/// Reads until the final or the temporary end.
pub fn drain(file: &mut File) -> Result<(u64, End), Stop> {
    Ok(stream::copy_available(file, &mut io::sink(), |_| ())?)
}

/// Skips where the device cannot be made to work.
pub fn require_workload(device: &Device) -> Result<(), Stop> {
    if workload::is_available(device) {
        Ok(())
    } else {
        skip("the device does nothing by itself (only an emulated ConnectX VF can be told to)")
    }
}

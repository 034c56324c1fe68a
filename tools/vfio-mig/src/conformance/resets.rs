// SPDX-License-Identifier: GPL-2.0

//! VFIO_DEVICE_RESET, in every state.

use super::{
    require,
    site,
    Site,
    Test,
    Verdict, //
};
use crate::state::State;
use std::io::{
    Read,
    Write, //
};

fn reset(site: &Site, state: State) -> Verdict {
    let (device, file) = site.open_in(state)?;
    site::reset(&device)?;
    let now = device.state()?;
    require(now == State::RUNNING, || format!("it leads to {now}"))?;
    if let Some(mut file) = file {
        let over = match state {
            State::RESUMING => file.write(&[0; 64]).is_err(),
            _ => file.read(&mut [0; 64]).is_err(),
        };
        require(over, || "the session goes on".to_string())?;
    }
    // And again, from the beginning.
    let mut file = device.begin(State::STOP_COPY)?;
    let n = file.read(&mut [0; 64])?;
    require(n > 0, || "there is no state to save afterwards".to_string())
}

fn in_the_middle_of_a_save(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::STOP_COPY)?;
    let n = file.read(&mut [0; 5])?;
    require(n > 0, || "there is no state to save".to_string())?;
    site::reset(&device)?;
    let now = device.state()?;
    require(now == State::RUNNING, || format!("it leads to {now}"))?;
    require(file.read(&mut [0; 64]).is_err(), || {
        "the session goes on".to_string()
    })
}

/// If VFIO_DEVICE_RESET works, VFIO_DEVICE_GET_INFO must say so.
fn is_announced(site: &Site) -> Verdict {
    let device = site.open_as_left()?;
    site::reset(&device)?;
    require(device.can_reset()?, || {
        "a reset works, but VFIO_DEVICE_FLAGS_RESET is not set".to_string()
    })
}

pub fn tests() -> Vec<Test> {
    const WHY: &str = "a reset ends whatever there was: the state is RUNNING, and no session \
                       goes on";
    let each = State::ALL.into_iter().map(|state| {
        Test::expected(format!("reset.{state}"), WHY, move |site| {
            reset(site, state)
        })
    });
    let middle = Test::expected("reset.in_a_save", WHY, in_the_middle_of_a_save);
    let announced = Test::uapi(
        "reset.is_announced",
        209,
        "VFIO_DEVICE_FLAGS_RESET (1 << 0) /* Device supports reset */",
        is_announced,
    );
    each.chain([middle, announced]).collect()
}

// SPDX-License-Identifier: GPL-2.0

//! What is loaded, and what is refused.

use super::{
    require,
    site::{
        drain,
        reset,
        GARBAGE, //
    },
    skip,
    Site,
    Test,
    Verdict, //
};
use crate::{
    device::Device,
    state::State,
    stream, //
};
use std::io::{
    Read,
    Write, //
};

/// Where a driver may be after it has refused a state.
fn require_refused(device: &Device, what: &str) -> Verdict {
    let state = device.state()?;
    let allowed = [State::RESUMING, State::STOP, State::ERROR];
    require(allowed.contains(&state), || {
        format!("{what}: refused, and then in {state}")
    })
}

/// Writes `bytes`, and leaves RESUMING: one of the two has to fail.
fn require_invalid(site: &Site, bytes: &[u8], what: &str) -> Verdict {
    let (device, mut file) = site.open_session(State::RESUMING)?;
    let written = file.write_all(bytes);
    let left = device.set_state(State::STOP);
    require(left.is_err(), || match &written {
        Ok(()) => format!("{what} is taken for a state"),
        Err(err) => format!(
            "{what}: write() fails ({}), and then SET_STATE does not",
            super::shown(err)
        ),
    })?;
    require_refused(&device, what)?;
    reset(&device)?;
    let state = device.state()?;
    require(state == State::RUNNING, || {
        format!("{what}: a reset leads to {state}")
    })
}

fn garbage(site: &Site) -> Verdict {
    require_invalid(site, &GARBAGE, "garbage")
}

fn incomplete(site: &Site) -> Verdict {
    let state = site.saved()?;
    for len in [1, state.len() / 2, state.len() - 1] {
        if len == 0 || len == state.len() {
            continue;
        }
        let what = format!("a state of {len} instead of {} bytes", state.len());
        require_invalid(site, &state[..len], &what)?;
    }
    Ok(())
}

fn too_much(site: &Site) -> Verdict {
    let mut state = site.saved()?;
    state.extend_from_slice(&GARBAGE);
    require_invalid(site, &state, "a state with garbage behind it")
}

/// Half of a state, and then another one from its beginning.
fn inconsistent(site: &Site) -> Verdict {
    let state = site.saved()?;
    let mut mixed = state[..state.len() / 2].to_vec();
    mixed.extend_from_slice(&state);
    require_invalid(site, &mixed, "half a state and then a whole one")
}

fn given_up(site: &Site) -> Verdict {
    let state = site.saved()?;
    for len in [0, state.len() / 2, state.len()] {
        let (device, mut file) = site.open_session(State::RESUMING)?;
        file.write_all(&state[..len])?;
        reset(&device)?;
        let now = device.state()?;
        require(now == State::RUNNING, || {
            format!("a reset after {len} bytes leads to {now}")
        })?;
        require(file.write(&state).is_err(), || {
            "more can be written after the reset".to_string()
        })?;
    }
    Ok(())
}

/// A device whose load has failed can load a state later.
fn recovers(site: &Site) -> Verdict {
    let state = site.saved()?;
    let (device, mut file) = site.open_session(State::RESUMING)?;
    let _ = file.write_all(&GARBAGE);
    let _ = device.set_state(State::STOP);
    drop(file);
    reset(&device)?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&state)?;
    device.set_state(State::RUNNING)?;
    Ok(())
}

fn error_needs_a_reset(site: &Site) -> Verdict {
    let (device, _) = site.open_in(State::ERROR)?;
    for to in State::ALL {
        let result = device.set_state(to);
        let now = device.state()?;
        require(result.is_err() && now == State::ERROR, || {
            format!("asked for {to}, it goes to {now}")
        })?;
    }
    reset(&device)?;
    let now = device.state()?;
    require(now == State::RUNNING, || format!("a reset leads to {now}"))
}

/// Saves what was just loaded, by stop-copy and by pre-copy.
fn loads_what_was_saved(site: &Site) -> Verdict {
    let mut state = site.saved()?;
    for round in 0..3 {
        let (device, mut file) = site.open_session(State::RESUMING)?;
        file.write_all(&state)?;
        let mut from = device.begin(State::STOP_COPY)?;
        let mut again = Vec::new();
        stream::copy(&mut from, &mut again, |_| ())?;
        require(!again.is_empty(), || format!("nothing in round {round}"))?;
        state = again;
    }
    Ok(())
}

/// Saves by pre-copy, and loads. `read` says how much is read in PRE_COPY.
fn through_precopy(site: &Site, read: u64) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    let mut state = Vec::new();
    stream::copy_available(&mut (&mut file).take(read), &mut state, |_| ())?;
    device.set_state(State::STOP_COPY)?;
    stream::copy(&mut file, &mut state, |_| ())?;
    drop((device, file));
    let device = site.open_to_load()?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&state)?;
    device.set_state(State::RUNNING)?;
    Ok(())
}

fn loads_what_precopy_saved(site: &Site) -> Verdict {
    through_precopy(site, u64::MAX)
}

fn loads_what_was_left_early(site: &Site) -> Verdict {
    through_precopy(site, 0)?;
    through_precopy(site, 100)
}

fn precopy_is_not_a_whole_state(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    let mut state = Vec::new();
    stream::copy_available(&mut file, &mut state, |_| ())?;
    device.set_state(State::STOP_COPY)?;
    let (rest, _) = drain(&mut file)?;
    drop((device, file));
    if rest == 0 {
        return skip("STOP_COPY has nothing to add to what PRE_COPY streams");
    }
    let (device, mut file) = site.open_session(State::RESUMING)?;
    file.write_all(&state)?;
    // A driver may take this or refuse it; it must not break.
    match device.set_state(State::STOP) {
        Ok(_) => Ok(()),
        Err(_) => require_refused(&device, "a state without its end"),
    }
}

pub fn tests() -> Vec<Test> {
    const INVALID: &str = "If the user provided data is found to be incomplete, inconsistent, \
                           or otherwise invalid, the migration driver must fail the SET_STATE \
                           ioctl and optionally go to the ERROR state as described below.";
    vec![
        Test::uapi("resuming.garbage", 1119, INVALID, garbage),
        Test::uapi("resuming.incomplete", 1119, INVALID, incomplete),
        Test::uapi("resuming.inconsistent", 1119, INVALID, inconsistent),
        Test::uapi("resuming.too_much", 1119, INVALID, too_much),
        Test::uapi(
            "resuming.given_up",
            1127,
            "To abort a RESUMING session the device must be reset.",
            given_up,
        ),
        Test::uapi(
            "resuming.after_a_failure",
            1058,
            "The user can then decide if it should execute a VFIO_DEVICE_RESET, attempt to \
             return to the original state, or attempt to return to some other state such as \
             RUNNING or STOP.",
            recovers,
        ),
        Test::uapi(
            "resuming.error_needs_a_reset",
            1200,
            "To recover from ERROR VFIO_DEVICE_RESET must be used to return the \
             device_state back to RUNNING.",
            error_needs_a_reset,
        ),
        Test::uapi(
            "resuming.saved_again",
            1115,
            "Leaving RESUMING terminates a data transfer session and indicates the device \
             should complete processing of the data delivered by write().",
            loads_what_was_saved,
        ),
        Test::uapi(
            "resuming.saved_by_pre_copy",
            1171,
            "While in the STOP_COPY state the device has the same behavior as STOP with the \
             addition that the data transfers session continues to stream the migration \
             state.",
            loads_what_precopy_saved,
        ),
        Test::uapi(
            "resuming.pre_copy_left_early",
            1282,
            "It is recommended to leave PRE_COPY for STOP_COPY only after this field reaches \
             zero. Leaving PRE_COPY earlier might make things slower.",
            loads_what_was_left_early,
        ),
        Test::uapi(
            "resuming.pre_copy_without_its_end",
            1056,
            "If this function fails then current device_state may be the original operating \
             state or some other state along the combination transition path.",
            precopy_is_not_a_whole_state,
        ),
    ]
}

// SPDX-License-Identifier: GPL-2.0

//! Every state, requested from every state.

use super::{
    require,
    Site,
    Source,
    Stop,
    Test,
    Verdict, //
};
use crate::state::State;
use std::io::Write;

/// The sentence that says how a request ends.
fn source(from: State, to: State) -> Source {
    if to == State::ERROR {
        return Source::Uapi(1196, "ERROR cannot be specified as a device state,");
    }
    if from == State::ERROR {
        return Source::Uapi(
            1200,
            "To recover from ERROR VFIO_DEVICE_RESET must be used to return the \
             device_state back to RUNNING.",
        );
    }
    if from == State::STOP_COPY && to.is_saving() && to != from {
        return Source::Uapi(
            1190,
            "These arcs are not permitted and return error if requested.",
        );
    }
    Source::Uapi(
        1049,
        "The kernel migration driver must fully transition the device to the new state \
         value before the operation returns to the user.",
    )
}

/// Whether going from one state to another begins a session, and so returns a
/// data fd.
fn begins_session(from: State, to: State) -> bool {
    match to {
        State::RESUMING => from != to,
        to => to.is_saving() && !from.is_saving(),
    }
}

fn request(site: &Site, from: State, to: State) -> Verdict {
    let (_, features) = site.open_running()?;
    super::site::require_state(features, to)?;
    // RESUMING can only be left with a state.
    let stream = match from {
        State::RESUMING => site.saved()?,
        _ => Vec::new(),
    };
    let (device, file) = site.open_in(from)?;
    if let Some(mut file) = file
        .as_ref()
        .filter(|_| from == State::RESUMING && to != from)
    {
        file.write_all(&stream)?;
    }
    let result = device.set_state(to);
    let now = device.state()?;
    let Some(path) = features.path(from, to) else {
        require(result.is_err(), || "the request succeeds".to_string())?;
        return require(now == from, || format!("it fails, but leads to {now}"));
    };
    let data = result.map_err(|err| {
        let path: Vec<String> = path.iter().map(State::to_string).collect();
        Stop::Fail(format!("{err} (the way is: {})", path.join(", ")))
    })?;
    require(now == to, || format!("it succeeds, and leads to {now}"))?;
    let begins = begins_session(from, to);
    require(data.is_some() == begins, || match begins {
        true => "no data fd, and a session should have begun".to_string(),
        false => "a data fd, and no session began".to_string(),
    })
}

pub fn tests() -> Vec<Test> {
    let all = State::ALL.into_iter();
    all.flat_map(|from| State::ALL.map(|to| (from, to)))
        .map(|(from, to)| {
            let name = format!("request.{from}.to_{to}");
            Test::new(name, source(from, to), move |site| request(site, from, to))
        })
        .collect()
}

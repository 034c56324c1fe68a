// SPDX-License-Identifier: GPL-2.0

//! Every state request from every state, with both drivers.

use super::{
    compare::{
        errno_name,
        outcome, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    tap::Results, //
};
use anyhow::{
    bail,
    Result, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("matrix", run)];

/// Requests that are no state.
const NO_STATES: [State; 3] = [State(8), State(1 << 16), State(u32::MAX)];

/// What comes of a request: the result, whether there is a data fd, and where
/// the device ends.
fn request(device: &Device, from: State, to: State) -> Result<String> {
    device.reset()?;
    // Kept open: a session needs its file.
    let _data = match uapi::set_state(device.fd(), from.0) {
        Ok(data) => data,
        Err(err) => return Ok(format!("{from} itself: {err}")),
    };
    let (result, fd) = match uapi::set_state(device.fd(), to.0) {
        Ok(fd) => ("ok".to_string(), fd.is_some()),
        Err(err) => (errno_name(err.raw_os_error().unwrap_or(0)), false),
    };
    let end = device.state()?;
    Ok(format!("{result}, data fd: {fd}, then {end}"))
}

fn open(vfs: &Vfs) -> Result<[Device; 2]> {
    let of = |driver| Device::open(vfs.of(driver).0);
    Ok([of(Driver::C)?, of(Driver::Rust)?])
}

/// The same through the ERROR state, which only a bad stream leads to.
fn from_error(vf: Bdf, to: State) -> Result<String> {
    use std::io::Write;

    let device = Device::open(vf)?;
    let mut data = device.begin(State::RESUMING)?;
    data.write_all(&[0; 7])?;
    let left = outcome(device.set_state(State::STOP));
    let result = outcome(device.set_state(to));
    let end = device.state()?;
    device.reset()?;
    Ok(format!(
        "{left}; {result}, then {end}; reset: {}",
        device.state()?
    ))
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    results.test("migration features", |_| {
        let [c, rust] = open(&vfs)?;
        let (c, rust) = (c.features()?.names(), rust.features()?.names());
        if c != ["STOP_COPY", "P2P", "PRE_COPY"] || rust != c {
            bail!("C: {c:?}, Rust: {rust:?}");
        }
        Ok(())
    });
    let requests = State::ALL.into_iter().chain(NO_STATES);
    for (from, to) in State::ALL
        .into_iter()
        .flat_map(|from| requests.clone().map(move |to| (from, to)))
    {
        results.test(&format!("{from} -> {to}"), |_| {
            let [c, rust] = open(&vfs)?;
            let (c, rust) = (request(&c, from, to)?, request(&rust, from, to)?);
            if c != rust {
                bail!("C:    {c}\nRust: {rust}");
            }
            Ok(())
        });
    }
    results.test("only a reset leads out of ERROR", |_| {
        let (vf, _) = vfs.of(Driver::Rust);
        for to in [
            State::STOP,
            State::RUNNING,
            State::RESUMING,
            State::STOP_COPY,
        ] {
            let seen = from_error(vf, to)?;
            let expected = "EINVAL; EINVAL, then ERROR; reset: RUNNING";
            if seen != expected {
                bail!("to {to}: {seen}, expected {expected}");
            }
        }
        Ok(())
    });
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Streams that are written while their session ends.

use super::session::{
    is_as_it_says,
    runs,
    write_on,
    End,
    APART, //
};
use crate::{
    kmsg::Refused,
    records,
    scenarios::{
        compare::{
            words,
            Site, //
        },
        streams, //
    },
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use fastrand::Rng;
use std::{
    io::Write,
    os::fd::AsFd,
    thread,
    time::Duration, //
};
use vfio_mig::{
    state::State,
    uapi, //
};

/// A stream is written, with another image behind it, and then the session ends: a LOAD that
/// has not begun does not begin after that.
pub(super) fn written_then_ended(site: &Site, end: End, waits: bool, rng: &mut Rng) -> Result<()> {
    let (mut bytes, _) = streams::save(site.other, 2)?;
    bytes.extend_from_within(records::head(&bytes)?..);
    let mut refused = Refused::from_now_on()?;
    let vf = Vf::open(site.vf, 16)?;
    let empty = vf.digest()?;
    let file = vf.device().begin(State::RESUMING)?;
    uapi::set_nonblocking(file.as_fd(), !waits)?;
    let writer = {
        let file = file.try_clone()?;
        thread::spawn(move || write_on(&file, &bytes))
    };
    let written = match waits {
        true => {
            thread::sleep(Duration::from_millis(rng.u64(..2 * APART)));
            end.carry_out(site, vf)
                .map(|vf| (vf, writer.join().unwrap_or_default()))
        }
        false => {
            let written = writer.join().unwrap_or_default();
            end.carry_out(site, vf).map(|vf| (vf, written))
        }
    };
    let (vf, written) = written?;
    ensure!(
        ["all", "ENODEV", "EAGAIN"].contains(&written.as_str()),
        "the writer got {written}"
    );
    let after = words((&file).write(&[0]));
    ensure!(after == "ENODEV", "a write after that: {after}");
    ensure!(is_as_it_says(&vf)? == State::RUNNING);
    ensure!(vf.digest()? == empty, "the VF has a state that was loaded");
    runs(&vf)?;
    refused.none()
}

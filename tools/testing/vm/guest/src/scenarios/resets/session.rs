// SPDX-License-Identifier: GPL-2.0

//! A session, what ends it, and the VF after that.

use crate::{
    reset::Way,
    scenarios::compare::{
        words,
        Site, //
    },
    vf::Vf, //
};
use anyhow::{
    bail,
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::Write, //
};
use vfio_mig::state::State;

/// Most milliseconds between a session and its end.
pub(super) const APART: u64 = 150;

/// What ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Reset(Way),
    Close,
}

pub(super) const ENDS: [End; 4] = [
    End::Reset(Way::Ioctl),
    End::Reset(Way::Sysfs),
    End::Reset(Way::Bit),
    End::Close,
];

impl End {
    /// Ends the session of a VF, which is open after that and runs.
    pub(super) fn carry_out(self, site: &Site, vf: Vf) -> Result<Vf> {
        match self {
            Self::Reset(way) => {
                way.reset(site.vf, vf.device())?;
                Ok(vf)
            }
            Self::Close => {
                drop(vf);
                Vf::open(site.vf, 16)
            }
        }
    }
}

/// What the VF says of itself, if it is in a state.
fn flags_in(state: State) -> Result<u32> {
    let initiator = regs::FLAG_INITIATOR_SUSPENDED;
    Ok(match state {
        State::RUNNING | State::PRE_COPY => 0,
        State::RUNNING_P2P | State::PRE_COPY_P2P => initiator,
        State::STOP | State::STOP_COPY | State::RESUMING => {
            initiator | regs::FLAG_RESPONDER_SUSPENDED
        }
        other => bail!("the state is {other}"),
    })
}

/// The VF is what its state says. Returns the state.
pub(super) fn is_as_it_says(vf: &Vf) -> Result<State> {
    let state = vf.device().state()?;
    let flags = vf.read(regs::FLAGS)? as u32;
    ensure!(
        flags == flags_in(state)?,
        "in {state}, the VF's flags are {flags:#x}"
    );
    Ok(state)
}

/// Asks for the state.
pub(super) fn state_is(vf: &Vf, expected: State) -> Result<()> {
    let state = vf.device().state()?;
    ensure!(state == expected, "the state is {state}, not {expected}");
    Ok(())
}

/// The VF runs, works, and can be stopped.
pub(super) fn runs(vf: &Vf) -> Result<()> {
    let state = is_as_it_says(vf)?;
    ensure!(state == State::RUNNING, "the state is {state}");
    vf.device().enable_bus_master()?;
    vf.work(1, 16)?;
    for state in [State::STOP, State::RUNNING] {
        vf.device().set_state(state)?;
        is_as_it_says(vf)?;
    }
    Ok(())
}

/// Writes all that is taken, and returns what came last.
pub(super) fn write_on(mut file: &File, bytes: &[u8]) -> String {
    let mut at = 0;
    while at < bytes.len() {
        match file.write(&bytes[at..]) {
            Ok(n) if n > 0 => at += n,
            other => return words(other),
        }
    }
    "all".to_string()
}

// SPDX-License-Identifier: GPL-2.0

//! Arcs that meet a reset, or a thread that asks.

use super::session::{
    is_as_it_says,
    runs,
    APART, //
};
use crate::{
    kmsg::Refused,
    reset::Way,
    scenarios::compare::{
        words,
        Site, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use mlx5_emu_regs as regs;
use std::{
    io::Read,
    os::fd::AsFd,
    sync::atomic::{
        AtomicBool,
        Ordering::Relaxed, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// Arcs that meet a reset, in `make check` and in `make check-all`.
const ROUNDS: [u32; 2] = [200, 1000];

/// Has a thread ask for a state, and another one reset the VF.
fn race(site: &Site, vf: &Vf, rng: &mut Rng) -> Result<String> {
    let device = vf.device();
    let begin = *rng
        .choice(&[State::RUNNING, State::STOP, State::PRE_COPY])
        .unwrap();
    let target = *rng.choice(&State::ALL[1..]).unwrap();
    let way = *rng.choice(&Way::ALL).unwrap();
    // Half of them as close together as commands are.
    let apart = match rng.bool() {
        true => Duration::from_micros(rng.u64(..5000)),
        false => Duration::from_millis(rng.u64(..APART)),
    };
    let reset_first = rng.u32(..4) == 0;
    let what = format!(
        "{begin} -> {target}, {way:?}, {apart:?} apart{}",
        if reset_first { ", reset first" } else { "" }
    );
    // Data files stay open: a session ends all the same.
    let _data = device.set_state(begin)?;
    let wait = |waits: bool| {
        if waits {
            thread::sleep(apart)
        }
    };
    let (arc, reset) = thread::scope(|scope| {
        let arc = scope.spawn(|| {
            wait(reset_first);
            uapi::set_state(device.fd(), target.0)
        });
        let reset = scope.spawn(|| {
            wait(!reset_first);
            way.reset(site.vf, device)?;
            device.state().context("after the reset")
        });
        (arc.join(), reset.join())
    });
    let reset = reset.ok().context("a thread panicked")?;
    let after_reset = reset.with_context(|| what.clone())?;
    let check = || -> Result<()> {
        let state = is_as_it_says(vf)?;
        if reset_first {
            ensure!(after_reset != State::ERROR, "ERROR after the reset");
        }
        match state {
            // Nothing was written, so it cannot be left but by a reset.
            State::RESUMING => device.reset()?,
            _ => drop(device.set_state(State::RUNNING)?),
        }
        runs(vf)
    };
    check().with_context(|| what.clone())?;
    drop(arc);
    Ok(what)
}

pub(super) fn races(results: &mut Results, site: &Site) -> Result<()> {
    let seed = sys::seed()?;
    let rounds = sys::rounds(ROUNDS)?;
    let name = format!("{rounds} arcs meet a reset: RUNNING means that it runs");
    results.test(&name, |results| {
        let mut rng = Rng::with_seed(seed);
        let mut refused = Refused::from_now_on()?;
        let vf = Vf::open(site.vf, 16)?;
        for round in 0..rounds {
            let what =
                race(site, &vf, &mut rng).with_context(|| format!("seed {seed}, round {round}"))?;
            refused
                .none()
                .with_context(|| format!("seed {seed}, round {round}, {what}"))?;
            if round % 20 == 19 {
                results.progress(&format!("{} rounds", round + 1));
            }
        }
        Ok(())
    });
    Ok(())
}

/// A thread asks for PRECOPY_INFO again and again, which starts SAVEs, while another thread
/// stops the device: neither makes the other fail.
pub(super) fn stopped_while_asked(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, 16)?;
    let mut rng = Rng::with_seed(1);
    for round in 0..20 {
        let file = vf.device().begin(State::PRE_COPY)?;
        let over = AtomicBool::new(false);
        let mut buf = vec![0; 1 << 20];
        let stopped = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                while !over.load(Relaxed) {
                    // Impossible once the device is stopped.
                    let _ = vf.command(regs::CMD_CHANGE_STATE, &[20, 0]);
                    let _ = uapi::precopy_info(file.as_fd(), PrecopyInfo::default());
                    while (&file).read(&mut buf).is_ok_and(|n| n > 0) {}
                }
            });
            thread::sleep(Duration::from_millis(rng.u64(..APART)));
            let stopped = [State::PRE_COPY_P2P, State::PRE_COPY, State::STOP_COPY]
                .map(|state| uapi::set_state(vf.device().fd(), state.0));
            over.store(true, Relaxed);
            asker.join().ok().context("the asker panicked")?;
            stopped
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(anyhow::Error::from)
        });
        stopped.with_context(|| format!("round {round}"))?;
        let end = words((&file).read(&mut [0]));
        ensure!(end == "0" || end == "1", "round {round}, reading: {end}");
        vf.device().set_state(State::RUNNING)?;
    }
    runs(&vf)
}

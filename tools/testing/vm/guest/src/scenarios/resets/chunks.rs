// SPDX-License-Identifier: GPL-2.0

//! A stopped device that is saved in chunks: what ends its session waits for one of them.

use super::session::runs;
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::Driver,
    reset::Way,
    scenarios::{
        compare::{
            words,
            Site, //
        },
        Vfs, //
    },
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::Read,
    sync::atomic::{
        AtomicU64,
        Ordering::Relaxed, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::state::State;

/// Ends a session while a reader keeps up with firmware: it waits for the SAVE that is
/// under way, and for no other.
fn waits_for_one_chunk(site: &Site, end: impl FnOnce(&Vf) -> Result<()>) -> Result<()> {
    let faults = Faults::open()?;
    let vf = Vf::open(site.vf, 16)?;
    let file = {
        // So that all SAVEs count.
        let counted = Fault::late(opcode::SAVE_VHCA_STATE, Duration::from_millis(1));
        faults.arm(counted.about(fault::vhca(site.vf)?).times(0))?;
        vf.device().begin(State::STOP_COPY)?
    };
    let read = AtomicU64::new(0);
    let ended = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| {
            let mut buf = vec![0; 1 << 20];
            loop {
                match (&file).read(&mut buf) {
                    Ok(n) if n > 0 => read.fetch_add(n as u64, Relaxed),
                    end => return words(end),
                };
            }
        });
        while faults.fired()? < 8 {
            thread::sleep(Duration::from_millis(1));
        }
        let before = faults.fired()?;
        let result = end(&vf);
        let after = faults.fired()?;
        let seen = reader.join().ok().context("the reader panicked")?;
        result?;
        // One may have begun between the count and the call.
        ensure!(after - before <= 1, "{} SAVEs were sent", after - before);
        ensure!(faults.fired()? == after, "a SAVE was sent after the end");
        Ok(seen)
    })?;
    let read = read.load(Relaxed);
    ensure!(
        ended == "ENODEV",
        "after {read} bytes, the reader got {ended}"
    );
    faults.disarm()?;
    runs(&vf)
}

pub fn run_chunks(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("STOP_COPY -> STOP waits for one chunk", |_| {
        waits_for_one_chunk(&site, |vf| {
            vf.device().set_state(State::STOP)?;
            vf.device().set_state(State::RUNNING)?;
            Ok(())
        })
    });
    for way in Way::ALL {
        results.test(&format!("a reset ({way:?}) waits for one chunk"), |_| {
            waits_for_one_chunk(&site, |vf| way.reset(site.vf, vf.device()))
        });
    }
    Ok(())
}

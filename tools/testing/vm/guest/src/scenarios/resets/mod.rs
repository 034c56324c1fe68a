// SPDX-License-Identifier: GPL-2.0

//! Resets, and other ends of a session, while firmware is at work. Only with the Rust
//! driver: the C driver sends the remaining commands of an arc after a reset, and so leaves
//! a VF suspended that says RUNNING.

mod chunks;

mod held;
mod races;
mod session;
mod stuck;
mod written;

use super::{
    compare::Site,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    tap::Results, //
};
use anyhow::Result;
use chunks::run_chunks;
use fastrand::Rng;
use held::{
    arc_meets_reset,
    end_waits_for_one,
    reload_waits_for_one,
    state_during_an_arc,
    Held,
    BUSY, //
};
use races::{
    races,
    stopped_while_asked, //
};
use session::ENDS;
use stuck::stuck_calls;
use written::written_then_ended;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("resets", run), ("resets-chunks", run_chunks)];

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    stuck_calls(results, &site);
    results.test("PRECOPY_INFO, while the device is stopped", |_| {
        stopped_while_asked(&site)
    });
    races(results, &site)?;
    for end in ENDS {
        for (waits, how) in [(true, "write() waits"), (false, "write() does not wait")] {
            let name = format!("a stream is written, then {end:?}: {how}");
            results.test(&name, |_| {
                let mut rng = Rng::with_seed(1);
                (0..5).try_for_each(|_| written_then_ended(&site, end, waits, &mut rng))
            });
        }
    }
    results.test("the state can be asked for during an arc", |_| {
        state_during_an_arc(&site)
    });
    for (state, busy) in BUSY {
        let name = format!("an arc that leaves {state}, and a reset, wait for firmware");
        let good = state != "RESUMING, after an error";
        results.test(&name, |_| arc_meets_reset(&site, busy, good));
    }
    for held in [Held::Save, Held::Load] {
        for end in ENDS {
            let name = format!("{end:?} waits for the {held:?} that is executed, and no other");
            results.test(&name, |_| end_waits_for_one(&site, held, end));
        }
        let name = format!("a reload of the PF waits for the {held:?} that is executed");
        results.test(&name, |_| reload_waits_for_one(&site, held));
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Hostile streams, and devices and processes that go away.

mod firmware;
mod pf;
mod processes;
mod resuming;
mod streams;

use super::{
    compare::{
        self,
        Difference,
        Observation,
        Site, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    fault::opcode,
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use firmware::{
    undestroyed,
    undestroyed_between, //
};
use pf::{
    not_enabled,
    pf_removed,
    reset_while_saving,
    Removal, //
};
use std::{
    thread,
    time::Duration, //
};
use streams::complaints;

pub use processes::hold;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("badinput", run)];

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    // First: the kernel limits the rate of messages.
    results.test("the kernel log says what was wrong", |_| {
        let (vf, other) = vfs.of(Driver::Rust);
        complaints(&Site { vf, other })
    });
    let compared: [(&[Observation], &[Difference]); 4] = [
        (firmware::OBSERVATIONS, &[]),
        (streams::OBSERVATIONS, streams::DIFFERENCES),
        (processes::OBSERVATIONS, &[]),
        (pf::OBSERVATIONS, pf::DIFFERENCES),
    ];
    for (observations, differences) in compared {
        compare::both(results, &vfs, observations, differences);
    }
    for (what, opcode) in [
        ("an mkey", opcode::DESTROY_MKEY),
        ("a PD", opcode::DEALLOC_PD),
    ] {
        results.test(&format!("{what} that is not destroyed"), |_| {
            // The rate of messages is limited.
            thread::sleep(Duration::from_secs(5));
            let (vf, other) = vfs.of(Driver::Rust);
            undestroyed(&Site { vf, other }, opcode)
        });
    }
    results.test("an mkey that is not destroyed within a session", |_| {
        thread::sleep(Duration::from_secs(5));
        let (vf, other) = vfs.of(Driver::Rust);
        undestroyed_between(&Site { vf, other })
    });
    results.test("a reload of the PF that does not enable a VF", |_| {
        let (vf, other) = vfs.of(Driver::Rust);
        not_enabled(&Site { vf, other }, 2)
    });
    results.test("a reset in the middle of a save", |_| {
        let (vf, other) = vfs.of(Driver::Rust);
        reset_while_saving(&Site { vf, other })
    });
    let removals: [(&str, Removal); 2] = [
        ("the VFs are removed while one is in use", |pf| {
            pf.set_vfs(0)
        }),
        ("the PF's driver is unbound while a VF is in use", |pf| {
            pf.set_bound(false)
        }),
    ];
    for (name, remove) in removals {
        results.test(name, |_| {
            kmsg::expect(kmsg::PF_UNBIND);
            let mut seen = Vec::new();
            for driver in Driver::BOTH {
                let pf = Pf::find()?;
                if pf.driver().is_err() {
                    pf.set_bound(true)?;
                }
                let (vf, other) = Vfs::new()?.of(driver);
                seen.push(pf_removed(&Site { vf, other }, remove)?);
            }
            let pf = Pf::find()?;
            if pf.driver().is_err() {
                pf.set_bound(true)?;
            }
            ensure!(seen[0] == seen[1], "C: {}\nRust: {}", seen[0], seen[1]);
            Ok(())
        });
    }
    Ok(())
}

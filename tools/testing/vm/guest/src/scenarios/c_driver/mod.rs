// SPDX-License-Identifier: GPL-2.0

//! Faults of the C driver: each test says what would be right, so it fails, or the kernel does,
//! as long as the driver has the fault. Only the fault that was asked for is tried, since the
//! machine may not go on after it. What each one is about is in c-driver-bugs.rst.

mod bitmaps;
mod late;
mod sessions;
mod waits;

use super::{
    compare::{
        Site,
        Test, //
    },
    memory,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    sys,
    tap::Results, //
};
use anyhow::Result;
use vm_common::names;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("c-driver", run), ("c-driver-bounced", run)];

/// The tests, by the names of the table.
const TESTS: &[Test] = &[
    (
        "RUNNING after a reload in PRE_COPY",
        sessions::left_after_reload,
    ),
    (
        "PRECOPY_INFO after a reload in PRE_COPY",
        sessions::asked_after_reload,
    ),
    (
        "STOP after a reload in RESUMING",
        sessions::loaded_then_reloaded,
    ),
    ("write after an unbind", sessions::write_after_unbind),
    ("record without memory", |site| {
        memory::out_of_memory(site, "loaded")
    }),
    ("refused SAVE in PRE_COPY", sessions::save_refused),
    (
        "refused SAVE at the end of PRE_COPY",
        sessions::last_save_refused,
    ),
    ("reset in a SAVE", sessions::reset_in_save),
    ("reset in an arc", sessions::reset_in_arc),
    ("reader without memory", waits::reader_without_memory),
    ("late SAVE", late::save),
    ("late LOAD", late::load),
    ("late report", late::report),
    ("report of a part of a tracked page", bitmaps::beyond),
    ("silent page tracker", waits::silent_tracker),
    ("event of a command comes twice", waits::event_twice),
    ("event of a command does not come", waits::event_lost),
    ("state through bounce buffers", bounced),
];

/// The state that was saved is the one that is loaded.
fn bounced(site: &Site) -> Result<()> {
    (0..3).try_for_each(|_| streams::migrate(site.vf, site.other, 3))
}

fn run(results: &mut Results) -> Result<()> {
    let only = sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    let chosen = TESTS
        .iter()
        .find(|(name, _)| names::parameter(name) == only);
    let Some((name, test)) = chosen else {
        results.test("a fault is chosen", |_| {
            let all = names::lines(TESTS.iter().map(|(name, _)| *name));
            anyhow::bail!("choose one with FAULT=, of those of the scenario:\n{all}")
        });
        return Ok(());
    };
    let (vf, other) = Vfs::new()?.of(Driver::C);
    results.test(name, |_| test(&Site { vf, other }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::c_driver;

    #[test]
    fn each_fault_has_a_test() {
        let tests: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
        let table: Vec<&str> = c_driver::ALL.iter().map(|fault| fault.name).collect();
        assert_eq!(tests, table);
    }
}

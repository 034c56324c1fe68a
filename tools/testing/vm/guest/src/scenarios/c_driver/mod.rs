// SPDX-License-Identifier: GPL-2.0

//! Faults of the C driver: each test says what would be right, so it fails, or the kernel does,
//! as long as the driver has the fault. Only the fault that was asked for is tried, since the
//! machine may not go on after it. With the fixes, all of them can be tried in one machine. What
//! each one is about is in c-driver-bugs.rst.

mod bitmaps;
mod data;
mod late;
mod precopy;
mod probe;
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
    hca::{
        self,
        Driver, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use vm_common::{
    c_driver::{
        self,
        Fault, //
    },
    kernel::Kernel,
    names, //
};

/// `MLX5_CMD_STAT_BAD_PARAM_ERR`: a refusal from which the driver does not conclude that
/// firmware has lost track of the device.
const BAD_PARAM: u8 = 0x3;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("c-driver", |results| run(results, "c-driver")),
    ("c-driver-bounced", |results| {
        run(results, "c-driver-bounced")
    }),
    ("c-driver-flood", |results| run(results, "c-driver-flood")),
];

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
        "PRECOPY_INFO after the device was closed",
        precopy::asked_after_close,
    ),
    (
        "STOP after a reload in RESUMING",
        sessions::loaded_then_reloaded,
    ),
    ("STOP in an image", data::half_an_image),
    ("write after an unbind", sessions::write_after_unbind),
    ("record without memory", |site| {
        memory::out_of_memory(site, "loaded")
    }),
    ("two writers", data::two_writers),
    ("size record that is too short", data::short_size),
    ("refused first SAVE", precopy::first_save_refused),
    ("refused SAVE in PRE_COPY", sessions::save_refused),
    (
        "refused SAVE at the end of PRE_COPY",
        sessions::last_save_refused,
    ),
    (
        "refused query of the last image",
        precopy::last_query_refused,
    ),
    ("reset in a SAVE", sessions::reset_in_save),
    ("reset in an arc", sessions::reset_in_arc),
    ("reader without memory", waits::reader_without_memory),
    ("writer without memory", waits::writer_without_memory),
    ("read into an unmapped page", data::read_to_unmapped),
    ("PRECOPY_INFO onto garbage", precopy::info_onto_garbage),
    (
        "PRECOPY_INFO in the first SAVE",
        precopy::info_in_first_save,
    ),
    ("read in a SAVE", precopy::read_in_save),
    ("LOAD that is refused as busy", data::load_refused),
    ("late SUSPEND", late::suspend),
    ("late SAVE", late::save),
    ("late LOAD", late::load),
    ("late report", late::report),
    ("report of a part of a tracked page", bitmaps::beyond),
    ("report of the end of a tracked page", bitmaps::before),
    ("empty range", bitmaps::empty_range),
    ("silent page tracker", waits::silent_tracker),
    ("probe without memory", probe::without_memory),
    ("event of a command comes twice", waits::event_twice),
    ("event of a command does not come", waits::event_lost),
    ("state through bounce buffers", bounced),
    ("report through bounce buffers", bitmaps::bounced),
    ("report that fills its queue", bitmaps::flooded),
];

/// The state that was saved is the one that is loaded.
fn bounced(site: &Site) -> Result<()> {
    (0..3).try_for_each(|_| streams::migrate(site.vf, site.other, 3))
}

/// Tries the fault that was chosen; or all of the scenario, with a kernel that has the fixes.
fn run(results: &mut Results, scenario: &str) -> Result<()> {
    let only = sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    let kernel = sys::kernel_parameter("vmtest.kernel_name")?;
    let all = only.is_empty() && kernel.as_deref() == Some(Kernel::Fixed.name());
    let is_chosen = |fault: &&Fault| match all {
        true => fault.scenario == scenario && fault.is_fixed(),
        false => names::parameter(fault.name) == only,
    };
    let chosen: Vec<&Fault> = c_driver::ALL.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        results.test("a fault is chosen", |_| {
            let all = names::lines(TESTS.iter().map(|(name, _)| *name));
            bail!("choose one with FAULT=, of those of the scenario:\n{all}")
        });
        return Ok(());
    }
    let (vf, other) = Vfs::new()?.of(Driver::C);
    for fault in chosen {
        let (name, test) = TESTS
            .iter()
            .find(|(name, _)| *name == fault.name)
            .context("a fault without a test")?;
        results.test(name, |_| {
            // Some are about what happens when it is not.
            hca::bind(vf, Driver::C)?;
            test(&Site { vf, other })
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_test() {
        let tests: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
        let table: Vec<&str> = c_driver::ALL.iter().map(|fault| fault.name).collect();
        assert_eq!(tests, table);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Reports with more messages than the driver has room for.

use super::logged::{
    pages,
    pages_of,
    scatter,
    tracked,
    ALL,
    PAGE, //
};
use crate::{
    hca::Driver,
    scenarios::{
        compare::{
            self,
            outcome,
            Site, //
        },
        Vfs, //
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};

/// Pages that were written are reported again and again: whenever the driver posts a
/// receive entry, the device has a message for it.
fn flooded(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    for _ in 0..10 {
        let written = scatter(&vf, 60)?;
        ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    }
    Ok(())
}

/// More than the driver puts up with in one report. The next one has the rest.
fn flood_ends_one_report(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let written = scatter(&vf, 120)?;
    let first = outcome(pages_of(vf.device(), ALL));
    ensure!(first == "EIO", "a report that does not end: {first}");
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    let written = scatter(&vf, 10)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// Reports with more messages than there is room for: only with the Rust driver,
/// since the C driver posts a receive entry before the completion queue has room.
pub fn run_flood(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(Driver::Rust);
    let tests: [compare::Test; 2] = [
        ("reports of more messages than there is room for", flooded),
        ("a report that does not end", flood_ends_one_report),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&Site { vf, other }));
    }
    Ok(())
}

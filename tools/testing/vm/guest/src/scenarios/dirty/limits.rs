// SPDX-License-Identifier: GPL-2.0

//! Firmware with one tracker, short messages and small pages.

use super::{
    compared::{
        DIFFERENCES,
        OBSERVATIONS, //
    },
    logged::{
        pages,
        pages_of,
        scatter,
        tracked,
        ALL,
        PAGE,
        PAGES, //
    },
};
use crate::{
    kmsg,
    scenarios::{
        compare::{
            self,
            outcome,
            Observation,
            Site, //
        },
        Vfs, //
    },
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};

/// A tracker more than firmware has.
fn one_tracker_too_many(site: &Site) -> Result<String> {
    kmsg::expect("CREATE_GENERAL_OBJECT");
    let vf = tracked(site)?;
    let other = Vf::open(site.other, PAGES)?;
    let refused = outcome(other.device().start_logging(PAGE, &[ALL]));
    ensure!(refused == "ENOMEM", "a tracker too many: {refused}");
    let mut seen = vec![refused];
    seen.push(outcome(pages_of(other.device(), ALL)));
    vf.device().stop_logging()?;
    other.device().start_logging(PAGE, &[ALL])?;
    let written = scatter(&other, 100)?;
    ensure!(written == pages(other.device(), ALL, PAGE)?, "other pages");
    Ok(seen.join(", "))
}

/// Both drivers at the limits of firmware.
pub fn run_limits(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    compare::both(results, &vfs, OBSERVATIONS, DIFFERENCES);
    let one_too_many: [Observation; 1] =
        [("a tracker more than firmware has", one_tracker_too_many)];
    compare::both(results, &vfs, &one_too_many, &[]);
    Ok(())
}

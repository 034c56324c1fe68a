// SPDX-License-Identifier: GPL-2.0

//! Bitmaps of reports.

use crate::{
    scenarios::{
        compare::{
            outcome,
            Site, //
        },
        dirty::{
            self,
            ALL,
            PAGE,
            PAGES, //
        },
    },
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use vfio_mig::uapi::{
    self,
    LoggingRange, //
};

/// The tracker's pages, and the pages of a report that ends in the middle of one: those of one
/// word of its bitmap.
const TRACKED: u64 = 2 << 20;
const REPORTED: u64 = 64;

/// A VF that has written to the first of its tracked pages.
fn written(site: &Site) -> Result<Vf> {
    let vf = Vf::open(site.vf, PAGES)?;
    vf.device().start_logging(TRACKED, &[ALL])?;
    vf.command(regs::CMD_DMA_WRITE, &[IOVA, 8])?;
    Ok(vf)
}

/// A report about a part of a tracked page sets bits of its own bitmap only.
pub(super) fn beyond(site: &Site) -> Result<()> {
    let vf = written(site)?;
    let part = LoggingRange {
        iova: IOVA,
        length: REPORTED * PAGE,
    };
    // It looks at what is behind the bitmap.
    uapi::logging_report(vf.device().fd(), part, PAGE)?;
    Ok(())
}

/// A report about a part of a tracked page that begins before it has the pages of that part.
pub(super) fn before(site: &Site) -> Result<()> {
    let vf = written(site)?;
    let part = LoggingRange {
        iova: IOVA + REPORTED * PAGE,
        length: REPORTED * PAGE,
    };
    let reported = dirty::pages(vf.device(), part, PAGE)?.len() as u64;
    ensure!(
        reported == REPORTED,
        "{reported} of {REPORTED} pages are reported"
    );
    Ok(())
}

/// An empty range is none, alone or beside others.
pub(super) fn empty_range(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, PAGES)?;
    let empty = LoggingRange {
        iova: IOVA + PAGES * PAGE,
        length: 0,
    };
    let alone = outcome(vf.device().start_logging(PAGE, &[empty]));
    let beside = outcome(vf.device().start_logging(PAGE, &[ALL, empty]));
    ensure!(
        alone == "EINVAL" && beside == "EINVAL",
        "alone: {alone}; beside another: {beside}"
    );
    Ok(())
}

/// The pages that are reported are those that were written.
pub(super) fn bounced(site: &Site) -> Result<()> {
    let vf = dirty::tracked(site)?;
    (1..4).try_for_each(|round| dirty::scatter_and_report(&vf, 10 * round))
}

/// Reports are complete whose messages come as fast as there are receive entries for them.
pub(super) fn flooded(site: &Site) -> Result<()> {
    let vf = dirty::tracked(site)?;
    (0..20).try_for_each(|_| dirty::scatter_and_report(&vf, 8))
}

// SPDX-License-Identifier: GPL-2.0

//! Bitmaps of reports.

use crate::{
    scenarios::{
        compare::Site,
        dirty::{
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
use anyhow::Result;
use mlx5_emu_regs as regs;
use vfio_mig::uapi::{
    self,
    LoggingRange, //
};

/// The tracker's pages, and the pages of a report that ends in the middle of one: those of one
/// word of its bitmap.
const TRACKED: u64 = 2 << 20;
const REPORTED: u64 = 64;

/// A report about a part of a tracked page sets bits of its own bitmap only.
pub(super) fn beyond(site: &Site) -> Result<()> {
    let vf = Vf::open(site.vf, PAGES)?;
    vf.device().start_logging(TRACKED, &[ALL])?;
    vf.command(regs::CMD_DMA_WRITE, &[IOVA, 8])?;
    let part = LoggingRange {
        iova: IOVA,
        length: REPORTED * PAGE,
    };
    // It looks at what is behind the bitmap.
    uapi::logging_report(vf.device().fd(), part, PAGE)?;
    Ok(())
}

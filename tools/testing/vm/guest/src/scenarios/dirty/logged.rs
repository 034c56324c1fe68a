// SPDX-License-Identifier: GPL-2.0

//! A VF whose writes are logged, and the pages that are reported.

use crate::{
    scenarios::compare::{
        outcome,
        Site, //
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
use std::collections::BTreeSet;
use vfio_mig::{
    device::Device,
    uapi::LoggingRange, //
};

/// Pages of memory of a VF.
pub const PAGES: u64 = 2048;
pub const PAGE: u64 = regs::PAGE;
/// All of them.
pub const ALL: LoggingRange = LoggingRange {
    iova: IOVA,
    length: PAGES * PAGE,
};

/// The pages of a report, counted from the beginning of `range`.
pub fn pages(device: &Device, range: LoggingRange, page_size: u64) -> Result<BTreeSet<u64>> {
    let bitmap = device.dirty_pages(range, page_size)?;
    let bits = bitmap.iter().enumerate().flat_map(|(word, bits)| {
        (0..64)
            .filter(move |bit| (bits >> bit) & 1 == 1)
            .map(move |bit| word as u64 * 64 + bit)
    });
    Ok(bits.collect())
}

/// Pages that a scatter command writes to.
pub(super) fn scattered(seq: u64, count: u64, among: u64) -> BTreeSet<u64> {
    (0..count)
        .map(|i| regs::scatter_page(seq, i, among))
        .collect()
}

/// Writes to `count` pages, and returns which.
pub fn scatter(vf: &Vf, count: u64) -> Result<BTreeSet<u64>> {
    vf.command(regs::CMD_DMA_SCATTER, &[IOVA, PAGES * PAGE, count])?;
    Ok(scattered(vf.seq()?, count, PAGES))
}

/// Writes to `count` pages, which are reported, and no others.
pub fn scatter_and_report(vf: &Vf, count: u64) -> Result<()> {
    let written = scatter(vf, count)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// Writes, and reads of what is reported, with tracking of `PAGE` bytes.
pub fn tracked(site: &Site) -> Result<Vf> {
    let vf = Vf::open(site.vf, PAGES)?;
    let page_size = vf.device().start_logging(PAGE, &[ALL])?;
    ensure!(page_size == PAGE, "pages of {page_size} bytes");
    Ok(vf)
}

/// A few numbers of a set of pages.
pub(super) fn digest(pages: &BTreeSet<u64>) -> String {
    let sum = pages.iter().fold(0u64, |sum, page| {
        sum.rotate_left(7)
            .wrapping_add(page.wrapping_mul(0x9e37_79b9))
    });
    format!("{} pages {sum:x}", pages.len())
}

pub fn pages_of(device: &Device, range: LoggingRange) -> Result<Vec<u64>, vfio_mig::error::Error> {
    device.dirty_pages(range, PAGE)
}

/// A report that a device does not end.
pub(super) fn stalled(site: &Site) -> Result<Vf> {
    let vf = tracked(site)?;
    scatter(&vf, 10)?;
    vf.command(regs::CMD_TRACK_FAULT, &[regs::TRACK_STALL])?;
    Ok(vf)
}

/// After it, and after a new start, everything works.
pub fn works_again(vf: &Vf) -> Result<()> {
    let again = outcome(pages_of(vf.device(), ALL));
    ensure!(again == "EIO", "a report after a failed one: {again}");
    vf.device().stop_logging()?;
    vf.device().start_logging(PAGE, &[ALL])?;
    let written = scatter(vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

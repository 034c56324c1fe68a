// SPDX-License-Identifier: GPL-2.0

//! `dirty`: where a device writes to.

use super::{
    complete,
    out::outln,
    show,
    values, //
};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use std::time::Duration;
use vfio_mig::{
    address::Address,
    device::Device,
    error::{
        with_undo,
        Context,
        Error, //
    },
    interrupt,
    memory::DeviceMemory,
    uapi::LoggingRange,
    wait,
    workload, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// Where the memory begins that is given to the device and logged.
    #[arg(long, value_name = "HEX", value_parser = values::parse_hex, default_value = "0x100000000")]
    iova: u64,
    /// The length of that memory.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "16M")]
    length: u64,
    /// The size of the pages that the device should tell apart, a power of two. The
    /// address and the length of the memory must be multiples of it.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "4K")]
    page_size: u64,
    /// Seconds between two reports, from 0 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = values::parse_interval, default_value = "1")]
    interval: Duration,
    /// Number of reports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one::<u32>)]
    count: u32,
    /// Have the device write to this many pages before each report. Only for
    /// emulated ConnectX VFs.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::parse_number)]
    write_pages: u64,
}

/// Rows of the map, at most.
const ROWS: usize = 16;
/// Largest range that is logged. The memory is really allocated.
const MAX_LENGTH: u64 = 1 << 40;
/// Smallest page that the kernel reports, and smallest length that is mapped.
const MIN_PAGE: u64 = 4096;

impl Args {
    /// Fails if the memory is not what VFIO_DEVICE_FEATURE_DMA_LOGGING_START and
    /// VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT take.
    pub fn check(&self) -> Result<(), String> {
        let page = self.page_size;
        if !page.is_power_of_two() || page < MIN_PAGE {
            return Err(format!(
                "--page-size must be a power of two, {MIN_PAGE} at least"
            ));
        }
        if !(1..=MAX_LENGTH).contains(&self.length) {
            return Err(format!("--length must be from 1 page to {MAX_LENGTH}"));
        }
        if self.iova % page != 0 || self.length % page != 0 {
            return Err(format!(
                "--iova and --length must be multiples of the page size, {page}"
            ));
        }
        match self.iova.checked_add(self.length) {
            Some(_) => Ok(()),
            None => Err("--iova and --length add up to more than 64 bits".to_string()),
        }
    }
}

#[derive(Serialize)]
struct Report {
    page_size: u64,
    pages: u64,
    dirty_pages: u64,
    /// Runs of dirty pages.
    ranges: Vec<Range>,
}

#[derive(PartialEq, Eq, Debug, Serialize)]
struct Range {
    /// Its first address.
    iova: u64,
    /// Its length, in bytes.
    length: u64,
}

fn is_dirty(bitmap: &[u64], page: u64) -> bool {
    let word = bitmap.get((page / 64) as usize);
    word.is_some_and(|word| (word >> (page % 64)) & 1 != 0)
}

fn report(bitmap: &[u64], iova: u64, page_size: u64, pages: u64) -> Report {
    let mut ranges: Vec<Range> = Vec::new();
    let mut dirty_pages = 0;
    for page in (0..pages).filter(|page| is_dirty(bitmap, *page)) {
        let at = iova + page * page_size;
        dirty_pages += 1;
        match ranges.last_mut() {
            Some(Range { iova, length }) if *iova + *length == at => *length += page_size,
            _ => ranges.push(Range {
                iova: at,
                length: page_size,
            }),
        }
    }
    Report {
        page_size,
        pages,
        dirty_pages,
        ranges,
    }
}

/// Columns of the map, which leave room for addresses up to `end`.
fn columns(end: u64) -> usize {
    match end {
        0..0x1_0000_0000_0000 => 64,
        _ => 32,
    }
}

/// Pages that a character of the map stands for.
fn pages_of_cell(pages: u64, columns: usize) -> u64 {
    pages.div_ceil((ROWS * columns) as u64).max(1)
}

/// Each character is some pages: none, few, many or all of them dirty.
fn map(bitmap: &[u64], pages: u64, columns: usize) -> Vec<String> {
    let each = pages_of_cell(pages, columns);
    let cell = |cell: u64| {
        let range = cell * each..((cell + 1) * each).min(pages);
        let all = range.end - range.start;
        let dirty = range.filter(|page| is_dirty(bitmap, *page)).count() as u64;
        match dirty {
            0 => '.',
            n if n == all => '█',
            n if n * 2 < all => '░',
            _ => '▒',
        }
    };
    let cells: Vec<char> = (0..pages.div_ceil(each)).map(cell).collect();
    cells
        .chunks(columns)
        .map(|row| row.iter().collect())
        .collect()
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    interrupt::catch()?;
    let device = Device::open(args.device)?;
    let memory = DeviceMemory::new(args.length as usize).context("memory for the device")?;
    device.space().map(&memory, args.iova)?;
    let range = LoggingRange {
        iova: args.iova,
        length: args.length,
    };
    let page_size = device.start_logging(args.page_size, &[range])?;
    let logged = log(args, &device, range, page_size, json);
    with_undo(logged, device.stop_logging())
}

/// Makes the reports.
fn log(
    args: &Args,
    device: &Device,
    range: LoggingRange,
    page_size: u64,
    json: bool,
) -> Result<(), Error> {
    let pages = args.length.div_ceil(page_size.max(1));
    if !json {
        outln!(
            "logging {:#x}..{:#x}, pages of {page_size} bytes",
            args.iova,
            args.iova + args.length
        )?;
    }
    for _ in 0..args.count {
        if args.write_pages > 0 {
            workload::scatter(device, args.iova, args.length, args.write_pages)?;
        }
        wait::sleep(args.interval)?;
        let bitmap = device.dirty_pages(range, page_size)?;
        let report = report(&bitmap, args.iova, page_size, pages);
        if json {
            show::json(&report)?;
            continue;
        }
        outln!("{} of {pages} pages dirty", report.dirty_pages)?;
        let columns = columns(args.iova + args.length);
        let row_bytes = columns as u64 * pages_of_cell(pages, columns) * page_size;
        for (row, text) in (0..).zip(map(&bitmap, pages, columns)) {
            outln!(" {:#014x} {text}", args.iova + row * row_bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_pages_are_put_together() {
        let report = report(&[0b1_0110, 1], 0x1000, 0x1000, 128);
        assert_eq!(report.dirty_pages, 4);
        let range = |(iova, length)| Range { iova, length };
        let ranges = [(0x2000, 0x2000), (0x5000, 0x1000), (0x41000, 0x1000)].map(range);
        assert_eq!(report.ranges, ranges);
    }

    #[test]
    fn a_map_has_no_more_than_its_cells() {
        let rows = map(&vec![u64::MAX; 1 << 10], 1 << 16, 64);
        assert_eq!((rows.len(), rows[0].chars().count()), (ROWS, 64));
        assert!(rows.iter().all(|row| row.chars().all(|c| c == '█')));
        assert_eq!(map(&[0b10], 3, 64), [".█."]);
        let halves = map(&[0x5555_5555_5555_5555; 1 << 10], 1 << 16, 64);
        assert!(halves[0].starts_with('▒'));
    }

    #[test]
    fn a_row_fits() {
        for end in [0x1000, (1 << 48) - 1, 1 << 48, u64::MAX] {
            let row = format!(" {end:#014x} {}", ".".repeat(columns(end)));
            assert!(row.len() <= show::COLUMNS, "{row}");
        }
    }
}

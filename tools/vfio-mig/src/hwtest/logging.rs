// SPDX-License-Identifier: GPL-2.0

//! The limits of page trackers.

use super::{
    bench::Bench,
    Figures, //
};
use crate::{
    device::Device,
    error::{
        with_undo,
        Context,
        Error, //
    },
    uapi::{
        self,
        LoggingRange, //
    },
};
use serde_json::{
    json,
    Value, //
};
use std::io;

/// Where ranges begin.
const IOVA: u64 = 1 << 32;
/// Length of a range, and of the gap behind it.
const LENGTH: u64 = 1 << 30;

fn range(number: u64) -> LoggingRange {
    LoggingRange {
        iova: IOVA + number * 2 * LENGTH,
        length: LENGTH,
    }
}

/// Whether an errno can tell of a limit. All others tell that something has failed.
fn tells_of_limit(errno: &i32) -> bool {
    [
        libc::E2BIG,
        libc::EAGAIN,
        libc::EINVAL,
        libc::ENOMEM,
        libc::EOPNOTSUPP,
    ]
    .contains(errno)
}

/// Starts logging. Returns the page size that is granted, or the errno of a refusal. What is
/// refused only once was no limit, but has failed.
fn start(
    device: &Device,
    page_size: u64,
    ranges: &[LoggingRange],
) -> Result<Result<u64, i32>, Error> {
    let refused = match device.start_logging(page_size, ranges) {
        Ok(granted) => return Ok(Ok(granted)),
        Err(err) => err,
    };
    let Some(errno) = refused.errno().filter(tells_of_limit) else {
        return Err(refused);
    };
    match device.start_logging(page_size, ranges) {
        Err(again) if again.errno() == Some(errno) => Ok(Err(errno)),
        Err(again) => Err(again),
        Ok(_) => {
            let round = "refused once, and then granted".to_string();
            let source = Box::new(refused);
            Err(Error::Round { round, source }.unless_undone(device.stop_logging()))
        }
    }
}

/// Fails with the errno of a refusal of what each device that logs DMA can do.
fn require_granted(device: &Device, refusal: Option<i32>) -> Result<(), Error> {
    match refusal {
        None => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno))
            .context(format!("{}: logging DMA at all", device.address())),
    }
}

/// Starts logging, looks at a report, and stops it. Returns the page size, or the errno.
fn try_out(
    device: &Device,
    page_size: u64,
    ranges: &[LoggingRange],
) -> Result<Result<Value, i32>, Error> {
    let granted = match start(device, page_size, ranges)? {
        Ok(granted) => granted,
        Err(errno) => return Ok(Err(errno)),
    };
    let found = match device.dirty_pages(range(0), granted) {
        // The kernel has no bitmaps for reports.
        Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => {
            Ok(json!({ "page_size": granted, "report_errno": libc::EOPNOTSUPP }))
        }
        reported => reported.map(|_| json!({ "page_size": granted })),
    };
    with_undo(found, device.stop_logging()).map(Ok)
}

/// Tries things out until the end, one of which must be granted.
fn try_all<'a>(
    device: &Device,
    all: impl Iterator<Item = (String, u64, &'a [LoggingRange])>,
) -> Result<Figures, Error> {
    let mut found = Figures::new();
    let mut refusal = None;
    let mut is_granted = false;
    for (name, page_size, ranges) in all {
        let value = match try_out(device, page_size, ranges)? {
            Ok(value) => {
                is_granted = true;
                value
            }
            Err(errno) => {
                refusal = Some(errno);
                json!({ "errno": errno })
            }
        };
        found.insert(name, value);
    }
    require_granted(device, refusal.filter(|_| !is_granted))?;
    Ok(found)
}

/// What there is to say of a device that logs no DMA.
fn without_logging(device: &Device) -> Option<Figures> {
    let logs = device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET);
    let figures = || Figures::from_iter([("dma_logging".to_string(), false.into())]);
    (!logs).then(figures)
}

/// Which page sizes there are.
pub fn page_sizes(bench: &Bench) -> Result<Figures, Error> {
    let device = bench.source()?;
    if let Some(none) = without_logging(&device) {
        return Ok(none);
    }
    let ranges = [range(0)];
    let sizes = (12..=30).map(|shift| 1u64 << shift);
    try_all(
        &device,
        sizes.map(|size| (size.to_string(), size, &ranges[..])),
    )
}

/// How many ranges there can be.
pub fn ranges(bench: &Bench) -> Result<Figures, Error> {
    let device = bench.source()?;
    if let Some(none) = without_logging(&device) {
        return Ok(none);
    }
    let ranges: Vec<LoggingRange> = (0..1 << 8).map(range).collect();
    let counts = (0..=8).map(|shift| 1usize << shift);
    try_all(
        &device,
        counts.map(|count| (count.to_string(), 4096, &ranges[..count])),
    )
}

/// How many trackers there can be, up to the number of VFs.
pub fn trackers(bench: &Bench) -> Result<Figures, Error> {
    let devices = bench.all()?;
    if let Some(none) = devices.first().and_then(without_logging) {
        return Ok(none);
    }
    let mut count = 0;
    let mut refusal = None;
    for device in &devices {
        match start(device, 4096, &[range(0)])? {
            Ok(_) => count += 1,
            Err(errno) => {
                require_granted(device, Some(errno).filter(|_| count == 0))?;
                refusal = Some(errno);
                break;
            }
        }
    }
    for device in &devices[..count] {
        device.stop_logging()?;
    }
    let value = json!({ "vfs": devices.len(), "trackers": count, "then_errno": refusal });
    Ok(value.as_object().cloned().unwrap_or_default())
}

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
        Error, //
    },
    uapi::LoggingRange, //
};
use serde_json::{
    json,
    Value, //
};

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

/// Starts logging, looks at a report, and stops it. Returns the page size, or the errno.
fn try_out(device: &Device, page_size: u64, ranges: &[LoggingRange]) -> Result<Value, Error> {
    let granted = match device.start_logging(page_size, ranges) {
        Ok(granted) => granted,
        Err(err) if err.errno().is_some() => return Ok(json!({ "errno": err.errno() })),
        Err(err) => return Err(err),
    };
    let reported = device.dirty_pages(range(0), granted);
    let reported = match reported {
        // The kernel has no bitmaps for reports.
        Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => Ok(()),
        reported => reported.map(drop),
    };
    with_undo(reported, device.stop_logging())?;
    Ok(json!({ "page_size": granted }))
}

/// Which page sizes there are.
pub fn page_sizes(bench: &Bench) -> Result<Figures, Error> {
    let device = bench.source()?;
    let mut found = Figures::new();
    for shift in 12..=30 {
        let page_size = 1u64 << shift;
        let result = try_out(&device, page_size, &[range(0)])?;
        found.insert(page_size.to_string(), result);
    }
    Ok(found)
}

/// How many ranges there can be.
pub fn ranges(bench: &Bench) -> Result<Figures, Error> {
    let device = bench.source()?;
    let mut found = Figures::new();
    for count in (0..=8).map(|shift| 1u64 << shift) {
        let ranges: Vec<LoggingRange> = (0..count).map(range).collect();
        let result = try_out(&device, 4096, &ranges)?;
        found.insert(count.to_string(), result);
    }
    Ok(found)
}

/// How many trackers there can be, up to the number of VFs.
pub fn trackers(bench: &Bench) -> Result<Figures, Error> {
    let devices = bench.all()?;
    let mut started = Vec::new();
    let mut errno = None;
    for device in &devices {
        match device.start_logging(4096, &[range(0)]) {
            Ok(_) => started.push(device),
            Err(err) => {
                errno = err.errno();
                break;
            }
        }
    }
    let count = started.len();
    for device in started {
        device.stop_logging()?;
    }
    let value = json!({ "vfs": devices.len(), "trackers": count, "then_errno": errno });
    Ok(value.as_object().cloned().unwrap_or_default())
}

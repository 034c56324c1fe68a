// SPDX-License-Identifier: GPL-2.0

//! DMA logging.

use super::{
    require,
    site::require_workload,
    skip,
    Site,
    Stop,
    Test,
    Verdict, //
};
use crate::{
    device::Device,
    memory::DeviceMemory,
    state::State,
    uapi::{
        self,
        LoggingRange, //
    },
    workload, //
};

const PAGE: u64 = 4096;
/// What is logged.
const RANGE: LoggingRange = LoggingRange {
    iova: 0x1_0000_0000,
    length: 256 * PAGE,
};
/// "The core kernel code guarantees to support by minimum num_ranges that fit
/// into a single kernel page."
const RANGES: u64 = PAGE / 16;

/// A device that can log.
fn open(site: &Site) -> Result<Device, Stop> {
    let device = site.open()?;
    if device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET) {
        Ok(device)
    } else {
        skip("the device has no DMA logging")
    }
}

/// A report, or why there cannot be any.
fn report(device: &Device, page_size: u64) -> Result<Vec<u64>, Stop> {
    match uapi::logging_report(device.fd(), RANGE, page_size) {
        Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            skip("the kernel has no dirty bitmaps (they come with IOMMUFD)")
        }
        result => Ok(result?),
    }
}

/// A device that logs, with memory behind the range that is logged.
fn logging(site: &Site) -> Result<(Device, DeviceMemory), Stop> {
    let device = open(site)?;
    let memory = DeviceMemory::new(RANGE.length as usize)?;
    device.space().map(&memory, RANGE.iova)?;
    device.start_logging(PAGE, &[RANGE])?;
    Ok((device, memory))
}

fn count(bitmap: &[u64]) -> u32 {
    bitmap.iter().map(|word| word.count_ones()).sum()
}

fn probing(site: &Site) -> Verdict {
    let device = open(site)?;
    let can = |feature, method| device.has_feature(feature, method);
    let all = can(uapi::FEATURE_DMA_LOGGING_STOP, uapi::FEATURE_SET)
        && can(uapi::FEATURE_DMA_LOGGING_REPORT, uapi::FEATURE_GET);
    require(all, || {
        "the device has START, but not STOP and REPORT".to_string()
    })
}

fn starts_and_stops(site: &Site) -> Verdict {
    let device = open(site)?;
    for _ in 0..3 {
        device.start_logging(PAGE, &[RANGE])?;
        device.stop_logging()?;
    }
    Ok(())
}

fn no_second_start(site: &Site) -> Verdict {
    let device = open(site)?;
    device.start_logging(PAGE, &[RANGE])?;
    require(device.start_logging(PAGE, &[RANGE]).is_err(), || {
        "another start succeeds".to_string()
    })?;
    device.stop_logging()?;
    device.start_logging(PAGE, &[RANGE])?;
    Ok(())
}

fn no_report_without_logging(site: &Site) -> Verdict {
    let device = open(site)?;
    for after in ["before a start", "after a stop"] {
        require(device.dirty_pages(RANGE, PAGE).is_err(), || {
            format!("a report {after} succeeds")
        })?;
        device.start_logging(PAGE, &[RANGE])?;
        device.stop_logging()?;
    }
    require(device.dirty_pages(RANGE, PAGE).is_err(), || {
        "a report after a stop succeeds".to_string()
    })
}

fn page_size_is_one(site: &Site) -> Verdict {
    let device = open(site)?;
    for hint in [512, 4096, 8192, 2 << 20, 1 << 30] {
        // The range must consist of whole pages of that size.
        let range = LoggingRange {
            length: RANGE.length.max(hint),
            ..RANGE
        };
        let page_size = device.start_logging(hint, &[range])?;
        device.stop_logging()?;
        require(page_size.is_power_of_two(), || {
            format!("hint {hint}, page size {page_size}")
        })?;
    }
    Ok(())
}

fn as_many_ranges_as_a_page_has(site: &Site) -> Verdict {
    let device = open(site)?;
    // Adjoining ranges could be combined: these cannot.
    let ranges: Vec<LoggingRange> = (0..RANGES)
        .map(|i| LoggingRange {
            iova: RANGE.iova + i * 2 * PAGE,
            length: PAGE,
        })
        .collect();
    device.start_logging(PAGE, &ranges)?;
    device.stop_logging()?;
    Ok(())
}

fn reports_only_set_bits(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    report(&device, PAGE)?;
    for before in [u64::MAX, 0xa5a5_a5a5_a5a5_a5a5] {
        let bitmap = uapi::logging_report_onto(device.fd(), RANGE, PAGE, before)?;
        require(bitmap.iter().all(|word| word & before == before), || {
            format!("words {before:#x} became {:#x}", bitmap[0])
        })?;
    }
    Ok(())
}

fn reports_of_any_page_size(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    report(&device, PAGE)?;
    for shift in 12..=20 {
        let page_size = 1 << shift;
        if let Err(err) = device.dirty_pages(RANGE, page_size) {
            return require(false, || format!("page size {page_size}: {err}"));
        }
    }
    require(device.dirty_pages(RANGE, 3 * PAGE).is_err(), || {
        "a page size of 12288 is taken".to_string()
    })
}

fn does_not_need_migration(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    report(&device, PAGE)?;
    let features = device.features()?;
    for state in [State::RUNNING_P2P, State::STOP, State::RUNNING] {
        if features.supports(state) {
            device.set_state(state)?;
            report(&device, PAGE)?;
        }
    }
    device.set_state(State::STOP)?;
    device.stop_logging()?;
    Ok(())
}

fn writes_are_logged(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    require_workload(&device)?;
    report(&device, PAGE)?;
    // The pages 3, 4 and 5.
    workload::write(&device, RANGE.iova + 3 * PAGE, 3 * PAGE)?;
    let bitmap = report(&device, PAGE)?;
    require(bitmap[0] == 0b11_1000 && count(&bitmap) == 3, || {
        format!(
            "pages 3 to 5 were written, the bitmap begins with {:#x}",
            bitmap[0]
        )
    })
}

fn reports_clear_the_log(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    require_workload(&device)?;
    workload::write(&device, RANGE.iova, 8 * PAGE)?;
    let first = report(&device, PAGE)?;
    let second = report(&device, PAGE)?;
    require((count(&first), count(&second)) == (8, 0), || {
        format!("{} pages, and then {}", count(&first), count(&second))
    })
}

fn bits_are_replicated(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    require_workload(&device)?;
    report(&device, PAGE)?;
    workload::write(&device, RANGE.iova + 5 * PAGE, 8)?;
    // Of four pages each: the second one.
    let bitmap = report(&device, 4 * PAGE)?;
    require(bitmap[0] == 0b10 && count(&bitmap) == 1, || {
        format!(
            "page 5 was written, the bitmap begins with {:#x}",
            bitmap[0]
        )
    })
}

fn nothing_is_logged_after_a_stop(site: &Site) -> Verdict {
    let (device, _memory) = logging(site)?;
    require_workload(&device)?;
    device.stop_logging()?;
    workload::write(&device, RANGE.iova, 8 * PAGE)?;
    device.start_logging(PAGE, &[RANGE])?;
    let bitmap = report(&device, PAGE)?;
    require(count(&bitmap) == 0, || {
        format!("{} pages were written before the start", count(&bitmap))
    })
}

pub fn tests() -> Vec<Test> {
    const PAIRED: &str = "A single call to start device DMA logging can be issued and a \
                          matching stop should follow at the end.";
    const QUERY: &str = "Query the device's DMA log for written pages within the given IOVA \
                         range.";
    vec![
        Test::uapi(
            "logging.probe",
            1382,
            "VFIO_DEVICE_FEATURE_PROBE can be used to detect if the device supports DMA \
             logging.",
            probing,
        ),
        Test::uapi("logging.start_and_stop", 1408, PAIRED, starts_and_stops),
        Test::uapi(
            "logging.second_start",
            1409,
            "Another start is not allowed in the meantime.",
            no_second_start,
        ),
        Test::uapi(
            "logging.report_without_it",
            1454,
            "If DMA logging is not enabled, an error will be returned.",
            no_report_without_logging,
        ),
        Test::uapi(
            "logging.page_size",
            1399,
            "On output the device will return the page size it selected.",
            page_size_is_one,
        ),
        Test::uapi(
            "logging.many_ranges",
            1404,
            "The core kernel code guarantees to support by minimum num_ranges that fit into \
             a single kernel page.",
            as_many_ranges_as_a_page_has,
        ),
        Test::uapi(
            "logging.only_sets_bits",
            1447,
            "The LOGGING_REPORT will only set bits in the bitmap and never clear or perform \
             any initialization of the user provided bitmap.",
            reports_only_set_bits,
        ),
        Test::uapi(
            "logging.report_page_sizes",
            1442,
            "The input page_size can be any power of two value and does not have to match \
             the value given to VFIO_DEVICE_FEATURE_DMA_LOGGING_START.",
            reports_of_any_page_size,
        ),
        Test::uapi(
            "logging.any_state",
            1388,
            "Only DMA WRITEs are logged, and this API is not connected to \
             VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.",
            does_not_need_migration,
        ),
        Test::uapi("logging.writes", 1434, QUERY, writes_are_logged),
        Test::uapi(
            "logging.report_clears",
            1435,
            "During querying the log is cleared for the IOVA range.",
            reports_clear_the_log,
        ),
        Test::uapi(
            "logging.other_page_size",
            1443,
            "The driver will format its internal logging to match the reporting page size, \
             possibly by replicating bits if the internal page size is lower than requested.",
            bits_are_replicated,
        ),
        Test::uapi(
            "logging.stopped",
            1426,
            "Upon VFIO_DEVICE_FEATURE_SET stop device DMA logging that was started by \
             VFIO_DEVICE_FEATURE_DMA_LOGGING_START",
            nothing_is_logged_after_a_stop,
        ),
    ]
}

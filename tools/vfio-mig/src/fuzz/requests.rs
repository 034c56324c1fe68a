// SPDX-License-Identifier: GPL-2.0

//! Requests of all kinds, in any order: right ones, wrong ones, and right ones at the wrong
//! time.

use super::{
    errno::{
        Answer,
        Refused, //
    },
    input::Call,
    shared::Shared, //
};
use crate::{
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
    workload, //
};
use fastrand::Rng;
use std::{
    io::{
        Read,
        Write, //
    },
    os::fd::AsFd, //
};

/// Most bytes that a call reads or writes.
const MAX_PIECE: usize = 1 << 16;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        /// A kind of request.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// MIG_DEVICE_STATE, to set it.
    SetState = "SET_STATE";
    /// MIG_DEVICE_STATE, to get it.
    GetState = "GET_STATE";
    /// MIG_DATA_SIZE.
    DataSize = "DATA_SIZE";
    /// Whether there is a feature, and what MIGRATION says.
    Probe = "PROBE";
    /// Opting in to version 2 of PRECOPY_INFO.
    OptIn = "PRECOPY_INFOv2";
    /// Features with random contents.
    AnyFeature = "FEATURE";
    /// Other ioctls of the device, with random contents.
    AnyIoctl = "ioctl";
    /// DMA_LOGGING_START.
    LoggingStart = "LOGGING_START";
    /// DMA_LOGGING_STOP.
    LoggingStop = "LOGGING_STOP";
    /// DMA_LOGGING_REPORT.
    LoggingReport = "LOGGING_REPORT";
    /// Reads of a data file.
    Read = "read";
    /// Writes to a data file.
    Write = "write";
    /// poll() of a data file.
    Poll = "poll";
    /// PRECOPY_INFO of a data file.
    PrecopyInfo = "PRECOPY_INFO";
    /// Closing a data file, unless somebody else uses it.
    Close = "close";
    /// Reads of a device's configuration space.
    Config = "config";
    /// Work that the device is told to do.
    Work = "work";
    /// VFIO_DEVICE_RESET.
    Reset = "RESET";
}

/// A kind of request, and how it is made.
struct Request {
    kind: Kind,
    /// How often it is made, compared with others.
    weight: u32,
    make: fn(&Shared<'_>, &mut Rng) -> Answer,
}

const REQUESTS: &[Request] = &[
    Request {
        kind: Kind::SetState,
        weight: 32,
        make: |shared, rng| {
            let to = any_state(rng);
            let file = uapi::set_state(shared.site.device.fd(), to.0)?;
            if let Some(file) = file {
                shared.keep(rng, file);
            }
            Ok(())
        },
    },
    Request {
        kind: Kind::GetState,
        weight: 240,
        make: |shared, _| Ok(shared.site.device.state().map(drop)?),
    },
    Request {
        kind: Kind::DataSize,
        weight: 120,
        make: |shared, _| Ok(shared.site.device.data_size().map(drop)?),
    },
    Request {
        kind: Kind::Probe,
        weight: 160,
        make: |shared, rng| {
            let flags = uapi::FEATURE_PROBE | (rng.u32(..4) << 16) | any_feature(rng);
            Ok(uapi::feature(shared.site.device.fd(), flags, &mut [0; 4])?)
        },
    },
    Request {
        kind: Kind::OptIn,
        weight: 16,
        make: |shared, _| Ok(shared.site.device.opt_in_precopy_info_v2()?),
    },
    Request {
        kind: Kind::AnyFeature,
        weight: 240,
        make: feature,
    },
    Request {
        kind: Kind::AnyIoctl,
        weight: 120,
        make: |shared, rng| {
            let which = rng.usize(..uapi::HARMLESS.len());
            // Its size, its flags, and small numbers, some of which may be fit for something.
            let mut words = [0; uapi::HARMLESS_WORDS].map(|_| rng.u32(..8));
            words[0] = rng.u32(..=size_of_val(&words) as u32);
            words[1] = rng.u32(..64);
            let fd = shared.site.device.fd();
            Ok(uapi::harmless_ioctl(fd, which, &mut words).map(drop)?)
        },
    },
    Request {
        kind: Kind::LoggingStart,
        weight: 32,
        make: logging_start,
    },
    Request {
        kind: Kind::LoggingStop,
        weight: 24,
        make: |shared, _| Ok(shared.site.device.stop_logging()?),
    },
    Request {
        kind: Kind::LoggingReport,
        weight: 80,
        make: logging_report,
    },
    Request {
        kind: Kind::Read,
        weight: 360,
        make: |shared, rng| {
            let file = shared.file(rng).ok_or(Refused::NothingToAsk)?;
            let mut buf = vec![0; rng.usize(0..MAX_PIECE)];
            Ok((&*file).read(&mut buf).map(drop)?)
        },
    },
    Request {
        kind: Kind::Write,
        weight: 48,
        make: |shared, rng| {
            let file = shared.file(rng).ok_or(Refused::NothingToAsk)?;
            let len = rng.usize(0..MAX_PIECE);
            let junk = vec![0x5a; len];
            let piece = match rng.u32(..4) {
                0 => &junk[..],
                _ => &shared.good[..len.min(shared.good.len())],
            };
            Ok((&*file).write(piece).map(drop)?)
        },
    },
    Request {
        kind: Kind::Poll,
        weight: 160,
        make: |shared, rng| {
            let file = shared.file(rng).ok_or(Refused::NothingToAsk)?;
            let events = [libc::POLLIN, libc::POLLOUT, libc::POLLIN | libc::POLLOUT];
            let events = events[rng.usize(..events.len())];
            Ok(uapi::poll(file.as_fd(), events, i32::from(rng.u32(..16) == 0)).map(drop)?)
        },
    },
    Request {
        kind: Kind::PrecopyInfo,
        weight: 240,
        make: |shared, rng| {
            let file = shared.file(rng).ok_or(Refused::NothingToAsk)?;
            let asked = match rng.u32(..4) {
                0 => PrecopyInfo {
                    argsz: rng.u32(..48),
                    flags: rng.u32(..),
                    initial_bytes: rng.u64(..),
                    dirty_bytes: rng.u64(..),
                },
                _ => PrecopyInfo::default(),
            };
            Ok(uapi::precopy_info(file.as_fd(), asked).map(drop)?)
        },
    },
    Request {
        kind: Kind::Close,
        weight: 16,
        make: |shared, rng| {
            let file = shared.take_file(rng);
            file.map(drop).ok_or(Refused::NothingToAsk)
        },
    },
    Request {
        kind: Kind::Config,
        weight: 80,
        make: |shared, rng| {
            let device = &shared.site.device;
            let offset = device.region(uapi::CONFIG_REGION)?.offset;
            Ok(device.read_at(offset + rng.u64(..64) * 4, &mut [0; 4])?)
        },
    },
    Request {
        kind: Kind::Work,
        weight: 80,
        make: work,
    },
    Request {
        kind: Kind::Reset,
        weight: 1,
        make: |shared, _| Ok(shared.site.device.reset()?),
    },
];

/// A state, or sometimes none.
pub(super) fn any_state(rng: &mut Rng) -> State {
    match rng.u32(..16) {
        0 => State(rng.u32(..)),
        _ => State(rng.u32(..9)),
    }
}

fn any_feature(rng: &mut Rng) -> u32 {
    let features = [
        uapi::FEATURE_MIGRATION,
        uapi::FEATURE_MIG_DEVICE_STATE,
        uapi::FEATURE_DMA_LOGGING_START,
        uapi::FEATURE_DMA_LOGGING_STOP,
        uapi::FEATURE_DMA_LOGGING_REPORT,
        uapi::FEATURE_MIG_DATA_SIZE,
        uapi::FEATURE_MIG_PRECOPY_INFO_V2,
        0x1000,
    ];
    features[rng.usize(..features.len())]
}

/// A migration feature or an unknown one, with random data.
fn feature(shared: &Shared<'_>, rng: &mut Rng) -> Answer {
    let feature = any_feature(rng);
    let flags = (rng.u32(..16) << 16) | feature;
    // The second word is where a data fd comes back.
    let mut data = [rng.u32(..10), u32::MAX, rng.u32(..), rng.u32(..)];
    uapi::feature_with_argsz(
        shared.site.device.fd(),
        rng.u32(..64),
        flags,
        &mut data, //
    )?;
    if feature == uapi::FEATURE_MIG_DEVICE_STATE && data[1] != u32::MAX {
        // It is a file of this process. If closing it fails, nothing is lost.
        let _ = nix::unistd::close(data[1] as i32);
    }
    Ok(())
}

/// A range, which mostly is a part of the device's memory.
fn any_range(shared: &Shared<'_>, rng: &mut Rng) -> LoggingRange {
    let all = shared.site.range();
    let page = |rng: &mut Rng, most: u64| rng.u64(..=most) & !4095;
    match rng.u32(..8) {
        0 => LoggingRange {
            iova: rng.u64(..),
            length: rng.u64(..),
        },
        1 => LoggingRange {
            iova: page(rng, 1 << 36),
            length: page(rng, 1 << 24),
        },
        2..5 => {
            let offset = page(rng, all.length);
            LoggingRange {
                iova: all.iova + offset,
                length: page(rng, all.length - offset),
            }
        }
        _ => all,
    }
}

fn logging_start(shared: &Shared<'_>, rng: &mut Rng) -> Answer {
    let count = match rng.u32(..4) {
        0 => rng.usize(..40),
        _ => 1,
    };
    let ranges: Vec<_> = (0..count).map(|_| any_range(shared, rng)).collect();
    let page_size = match rng.u32(..8) {
        0 => rng.u64(..),
        _ => 4096,
    };
    Ok(shared
        .site
        .device
        .start_logging(page_size, &ranges)
        .map(drop)?)
}

fn logging_report(shared: &Shared<'_>, rng: &mut Rng) -> Answer {
    let range = any_range(shared, rng);
    let range = LoggingRange {
        // The bitmap is ours: it must not be too large.
        length: range.length.min(1 << 24),
        ..range
    };
    let page_size = match rng.u32(..4) {
        0 => 1 << rng.u32(9..22),
        _ => 4096,
    };
    let report = uapi::logging_report(shared.site.device.fd(), range, page_size);
    match report.map(drop).map_err(Refused::from) {
        Err(Refused::Overrun) if shared.plan.overruns => Ok(()),
        answer => answer,
    }
}

fn work(shared: &Shared<'_>, rng: &mut Rng) -> Answer {
    let site = shared.site;
    if !site.works {
        return Err(Refused::NothingToAsk);
    }
    let work = workload::Workload {
        create_bytes: 0,
        change_bytes: 1 << rng.u32(12..16),
    };
    let LoggingRange { iova, length } = site.range();
    Ok(match rng.bool() {
        true => work.step(&site.device, rng.u32(..1 << 16)),
        false => workload::scatter(&site.device, iova, length, rng.u64(1..16)),
    }?)
}

/// The kinds of requests, with their weights.
pub(super) fn weights() -> impl Iterator<Item = (Kind, u32)> {
    REQUESTS
        .iter()
        .map(|request| (request.kind, request.weight))
}

/// Makes a request.
pub(super) fn make(shared: &Shared<'_>, Call { kind, seed }: Call) -> Answer {
    let request = REQUESTS.iter().find(|request| request.kind == kind);
    let request = request.ok_or(Refused::NothingToAsk)?;
    (request.make)(shared, &mut Rng::with_seed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_made_in_one_way() {
        for kind in Kind::ALL {
            let made = REQUESTS.iter().filter(|request| request.kind == kind);
            assert_eq!(made.count(), 1, "{}", kind.name());
        }
    }
}

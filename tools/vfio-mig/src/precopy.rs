// SPDX-License-Identifier: GPL-2.0

//! Pre-copy migration: most of the state moves while the source runs.
//!
//! The decision when to stop the source is that of QEMU: not before the
//! destination has all initial bytes, and then as soon as what is left is little
//! enough. With version 2 of PRECOPY_INFO a device can have new initial bytes at
//! any time (`VFIO_PRECOPY_INFO_REINIT`), which are waited for again; version 1
//! has no way to say so, and counts them as dirty.

use crate::{
    device::Device,
    error::{
        Context,
        Error, //
    },
    migrate,
    state::State,
    stream::{
        self,
        End, //
    },
    target::Target,
    uapi::{
        self,
        PrecopyInfo, //
    },
};
use serde::Serialize;
use std::{
    fs::File,
    os::fd::AsFd,
    time::Instant, //
};

/// Version of PRECOPY_INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InfoVersion {
    /// What every driver with PRE_COPY has.
    V1,
    /// After `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`.
    V2,
}

impl InfoVersion {
    /// The newest version that a device has.
    pub fn newest_of(device: &Device) -> Self {
        match device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET) {
            true => Self::V2,
            false => Self::V1,
        }
    }
}

/// How to migrate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which PRECOPY_INFO to ask for.
    pub info: InfoVersion,
    /// The source is stopped when no initial bytes are left, and no more dirty
    /// bytes than this. (QEMU: bandwidth times downtime limit.)
    pub switchover_bytes: u64,
    /// The source is stopped after this many rounds at the latest.
    pub max_rounds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            info: InfoVersion::V2,
            switchover_bytes: 1 << 20,
            max_rounds: 50,
        }
    }
}

/// Is told of the progress, and makes the source work.
pub trait Observer {
    /// All data of a round have been read; the source still runs. `round` counts from 0.
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error>;
    /// What the device has answered then.
    fn info(&mut self, _info: &PrecopyInfo) {}
    /// `bytes` were moved in all so far.
    fn bytes(&mut self, _bytes: u64) {}
}

/// Neither.
impl Observer for () {
    fn round(&mut self, _source: &Device, _round: u32) -> Result<(), Error> {
        Ok(())
    }
}

/// How a migration went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which PRECOPY_INFO was used.
    pub info: InfoVersion,
    /// Rounds of pre-copy.
    pub rounds: u32,
    /// How often the device told of new initial bytes.
    pub reinits: u32,
    /// Time from PRE_COPY to the end of the last round, in milliseconds.
    pub precopy_ms: f64,
    /// Bytes that were moved in it.
    pub precopy_bytes: u64,
    /// Time from the request to stop the source until the destination ran, in
    /// milliseconds.
    pub downtime_ms: f64,
    /// Bytes that were moved in it.
    pub downtime_bytes: u64,
    /// Time that the destination took to load these bytes, in milliseconds: in write(), and
    /// to leave RESUMING. It includes all firmware LOADs of the downtime.
    pub downtime_load_ms: f64,
    /// Time that the source then took to free what it had saved, in milliseconds.
    pub free_ms: f64,
    /// SHA-256 of the stream, where one was made.
    pub sha256: Option<String>,
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Migrates with pre-copy. As with QEMU, the source frees what it has saved when the
/// destination runs. If this fails before the destination runs, the source runs again, and
/// the destination is reset. The two never run at the same time.
pub fn migrate(
    source: &Device,
    target: &mut dyn Target,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    source.features()?;
    let (mut report, file) = run(source, target, options, observer)
        .map_err(|err| migrate::back_out(source, target, err))?;
    let begin = Instant::now();
    migrate::free(source, file)?;
    report.free_ms = ms(begin);
    Ok(report)
}

/// The stream on its way.
struct Transfer<'a> {
    from: File,
    to: &'a mut dyn Target,
    bytes: u64,
    load_ms: f64,
}

impl Transfer<'_> {
    /// Moves data until the final or the temporary end.
    fn move_available(&mut self, observer: &mut dyn Observer) -> Result<End, Error> {
        let before = self.bytes;
        let (moved, end) = stream::copy_available(
            &mut self.from,
            &mut stream::Timed::new(&mut self.to, &mut self.load_ms),
            |n| observer.bytes(before + n),
        )
        .map_err(|err| self.to.explain(err))?;
        self.bytes += moved;
        Ok(end)
    }
}

fn run(
    source: &Device,
    target: &mut dyn Target,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<(Report, File), Error> {
    if options.info == InfoVersion::V2 {
        source.opt_in_precopy_info_v2()?;
    }
    target.prepare()?;
    let begin = Instant::now();
    let mut transfer = Transfer {
        from: source.begin(State::PRE_COPY)?,
        to: target,
        bytes: 0,
        load_ms: 0.0,
    };
    let (mut rounds, mut reinits) = (0, 0);
    loop {
        transfer.move_available(observer)?;
        observer.round(source, rounds)?;
        let info = uapi::precopy_info(transfer.from.as_fd(), PrecopyInfo::default())
            .context(format!("{}: PRECOPY_INFO", source.address()))?;
        observer.info(&info);
        rounds += 1;
        if options.info == InfoVersion::V2 && info.flags & uapi::PRECOPY_INFO_REINIT != 0 {
            reinits += 1;
        }
        if info.initial_bytes == 0 {
            // Do not stop the source before the destination has loaded them, either.
            transfer.to.wait_loaded()?;
        }
        let ready = info.initial_bytes == 0 && info.dirty_bytes <= options.switchover_bytes;
        if ready || rounds >= options.max_rounds {
            break;
        }
    }
    let (precopy_ms, precopy_bytes) = (ms(begin), transfer.bytes);
    transfer.load_ms = 0.0;

    let stop = Instant::now();
    source.set_state(State::STOP_COPY)?;
    // The stream begins with data that were saved in PRE_COPY and not read.
    transfer.move_available(observer)?;
    let Transfer {
        from,
        to: target,
        bytes,
        load_ms,
    } = transfer;
    let finish = Instant::now();
    target.finish()?;
    let load_ms = load_ms + ms(finish);
    target.start()?;
    let report = Report {
        info: options.info,
        rounds,
        reinits,
        precopy_ms,
        precopy_bytes,
        downtime_ms: ms(stop),
        downtime_bytes: bytes - precopy_bytes,
        downtime_load_ms: load_ms,
        free_ms: 0.0,
        sha256: target.checksum(),
    };
    Ok((report, from))
}

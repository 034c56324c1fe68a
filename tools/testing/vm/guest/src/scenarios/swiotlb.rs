// SPDX-License-Identifier: GPL-2.0

//! DMA through bounce buffers (`swiotlb=force`): what firmware has written is only
//! there after a sync for the CPU, and what it is to read only after one for the
//! device.
//!
//! Only our driver: the C driver does not sync, and loses its states here.

use super::{streams, Bench};
use crate::{
    events,
    hca::{Driver, Pf},
    tap::Results,
    vf::Vf,
};
use anyhow::{ensure, Context, Result};
use mlx5_emu_regs as regs;
use std::{fs, io, os::fd::AsFd};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    migrate,
    precopy::{self, Observer},
    state::State,
    stream,
    target::DeviceTarget,
    uapi::{self, PrecopyInfo},
    workload::{self, Workload},
};

/// The most slots of bounce buffers, of 2 KiB each, that were in use at a time.
const USED: &str = "/sys/kernel/debug/swiotlb/io_tlb_used_hiwater";
/// Bytes of a record's header.
const HEADER: u64 = 16;
/// Bytes of the record with the size, which a stream begins with.
const SIZE_RECORD: u64 = 24;
/// Slots for half of a state.
const HALF: u64 = (512 << 10) / (2 << 10);

/// Changes a bit in each round, and knows the state then.
#[derive(Default)]
struct Busy {
    digest: u64,
}

impl Observer for Busy {
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        let work = Workload {
            create_bytes: 64 << 10,
            change_bytes: 12 << 10,
        };
        work.step(source, round)?;
        self.digest = workload::digest(source)?;
        Ok(())
    }
}

fn require_digest(device: &Device, digest: u64) -> Result<()> {
    let now = workload::digest(device)?;
    ensure!(now == digest, "digest {digest:016x} became {now:016x}");
    Ok(())
}

fn stop_copy(from: &Device, to: &Device, round: u32) -> Result<()> {
    let mut busy = Busy::default();
    busy.round(from, round)?;
    migrate::stop_copy(from, &mut DeviceTarget::new(to), &mut ())?;
    require_digest(to, busy.digest)
}

/// The same state gives the same stream: a sync that is forgotten gives what the
/// buffer had before.
fn same_again(vf: Bdf) -> Result<()> {
    let first = streams::saved(&Device::open(vf)?)?;
    let second = streams::saved(&Device::open(vf)?)?;
    streams::same(&first, &second)
}

fn with_precopy(from: &Device, to: &Device) -> Result<()> {
    let options = precopy::Options {
        switchover_bytes: 0,
        max_rounds: 8,
        ..Default::default()
    };
    let mut busy = Busy::default();
    let report = precopy::migrate(from, &mut DeviceTarget::new(to), options, &mut busy)?;
    ensure!(report.rounds == 8, "{report:?}");
    require_digest(to, busy.digest)
}

/// The kernel's event about a sync for the CPU.
const SYNC: &str = "dma_sync_single_for_cpu";

/// Bytes that were synced for the CPU while something was saved, and what came of it.
fn synced<T>(work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    let pf = Pf::find()?.address();
    let event = format!("dma/{SYNC}");
    events::turn_events(&event, true)?;
    events::taken_of(SYNC)?;
    let result = work();
    events::turn_events(&event, false)?;
    let mut bytes = 0;
    for line in events::taken_of(SYNC)? {
        if line.starts_with(&format!("{SYNC}: {pf} ")) {
            bytes += events::number(&line, "size")? as u64;
        }
    }
    Ok((bytes, result?))
}

/// As many bytes are synced as an image has, and not its buffer.
fn what_the_image_has(vf: Bdf) -> Result<()> {
    let vf = Vf::open(vf, 16)?;
    let mut file = None;
    for pages in [0, 1, 3] {
        if pages > 0 {
            vf.command(regs::CMD_CHANGE_STATE, &[pages, 0])?;
        }
        let (synced, saved) = synced(|| {
            let file = match &mut file {
                Some(file) => file,
                none => none.insert(vf.device().begin(State::PRE_COPY)?),
            };
            uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
            Ok(stream::copy_available(file, &mut io::sink(), |_| ())?.0)
        })?;
        // The first image has the record with the size before it.
        let record = if pages == 0 { SIZE_RECORD } else { 0 };
        let image = saved - record - HEADER;
        ensure!(
            synced == image,
            "{pages} pages: an image of {image} bytes, of which {synced} were synced"
        );
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let (a, b) = bench.of(Driver::Rust);
    results.test("the same stream twice", |_| same_again(a));
    results.test("the state goes through bounce buffers", |_| {
        let used: u64 = fs::read_to_string(USED).context(USED)?.trim().parse()?;
        ensure!(used > HALF, "{used} slots were in use");
        Ok(())
    });
    results.test("what an image has is synced, and no more", |_| {
        what_the_image_has(a)
    });
    results.test("by stop-copy, there and back", |_| {
        let (a, b) = (Device::open(a)?, Device::open(b)?);
        for (round, (from, to)) in (0..).zip([(&a, &b), (&b, &a), (&a, &b)]) {
            stop_copy(from, to, round)?;
        }
        Ok(())
    });
    results.test("with pre-copy", |_| {
        with_precopy(&Device::open(a)?, &Device::open(b)?)
    });
    Ok(())
}

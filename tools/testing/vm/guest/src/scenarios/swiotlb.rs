// SPDX-License-Identifier: GPL-2.0

//! DMA through bounce buffers (`swiotlb=force`): what firmware has written is only
//! there after a sync for the CPU, and what it is to read only after one for the
//! device.
//!
//! Only our driver: the C driver does not sync, and loses its states here.

use super::{streams, Bench};
use crate::{hca::Driver, tap::Results};
use anyhow::{ensure, Context, Result};
use std::fs;
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    migrate,
    precopy::{self, Observer},
    target::DeviceTarget,
    workload::{self, Workload},
};

/// The most slots of bounce buffers, of 2 KiB each, that were in use at a time.
const USED: &str = "/sys/kernel/debug/swiotlb/io_tlb_used_hiwater";
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

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    let (a, b) = bench.of(Driver::Rust);
    results.test("the same stream twice", |_| same_again(a));
    results.test("the state goes through bounce buffers", |_| {
        let used: u64 = fs::read_to_string(USED).context(USED)?.trim().parse()?;
        ensure!(used > HALF, "{used} slots were in use");
        Ok(())
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

// SPDX-License-Identifier: GPL-2.0

//! DMA through bounce buffers (`swiotlb=force`): what firmware has written is only there
//! after a sync for the CPU, and what it is to read only after one for the device. There are
//! 64 MiB of bounce buffers, in segments of 256 KiB. No piece is larger than a segment, and
//! a segment with a small piece in it has no room for a large one. Only with our driver: the
//! C driver does not sync, and loses states here.

use super::{
    compare::{
        self,
        outcome,
        Site, //
    },
    dirty,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    events,
    hca::{
        Driver,
        Pf, //
    },
    kmsg,
    records,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::{
        self,
        File, //
    },
    os::fd::AsFd, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    migrate,
    precopy::{
        self,
        Observer, //
    },
    state::State,
    stream,
    target::DeviceTarget,
    uapi::{
        self,
        PrecopyInfo, //
    },
    workload::{
        self,
        Workload, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("swiotlb", run)];

/// Slots of bounce buffers, of 2 KiB each, and how many are in use.
const SLOTS: &str = "/sys/kernel/debug/swiotlb/io_tlb_nslabs";
const USED: &str = "/sys/kernel/debug/swiotlb/io_tlb_used";
const SLOT: u64 = 2 << 10;
const MIB: u64 = 1 << 20;
/// What the kernel says if no bounce buffer is left.
const FULL: &str = "swiotlb buffer is full";

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
            let mut saved = Vec::new();
            stream::copy_available(file, &mut saved, |_| ())?;
            Ok(saved)
        })?;
        let images = records::images(&saved)?;
        let image: usize = images
            .iter()
            .map(|image| image.len() - records::HEADER)
            .sum();
        ensure!(
            synced == image as u64,
            "{pages} pages: an image of {image} bytes, of which {synced} were synced"
        );
    }
    Ok(())
}

fn number(file: &str) -> Result<u64> {
    let text = fs::read_to_string(file).context(file.to_string())?;
    Ok(text.trim().parse()?)
}

/// Bytes of bounce buffers that are in use.
fn used() -> Result<u64> {
    Ok(number(USED)? * SLOT)
}

/// Bytes of bounce buffers that are left.
fn left() -> Result<u64> {
    Ok(number(SLOTS)? * SLOT - used()?)
}

/// A session has its buffers mapped.
fn is_bounced(vf: Bdf) -> Result<()> {
    let before = used()?;
    let vf = Vf::open(vf, 16)?;
    let size = vf.read(regs::STATE_SIZE)?;
    let _file = vf.device().begin(State::PRE_COPY)?;
    let bytes = used()?.saturating_sub(before);
    ensure!(bytes > size, "{bytes} bytes are in use, for {size}");
    Ok(())
}

/// A device in PRE_COPY whose data file is not read: each new initial state is one more image
/// that has a buffer.
struct Hoard {
    vf: Vf,
    file: File,
    size: u64,
}

impl Hoard {
    fn begin(vf: Bdf) -> Result<Self> {
        let vf = Vf::open(vf, 16)?;
        vf.device().opt_in_precopy_info_v2()?;
        let file = vf.device().begin(State::PRE_COPY)?;
        let size = vf.read(regs::STATE_SIZE)?;
        let hoard = Self { vf, file, size };
        // What is created before the first image is in that one.
        hoard.wait()?;
        Ok(hoard)
    }

    /// Has changes saved if there are any, and waits for the SAVE that is under way.
    fn wait(&self) -> Result<()> {
        for _ in 0..2 {
            uapi::precopy_info(self.file.as_fd(), PrecopyInfo::default())?;
        }
        Ok(())
    }

    /// Saves until no more than about `bytes` are left, and no less.
    fn leave(&self, bytes: u64) -> Result<()> {
        loop {
            let spare = left()?.saturating_sub(bytes);
            if spare < 128 << 10 {
                return Ok(());
            }
            // An image is longer than its pages, and a buffer than its image.
            let pages = spare.min(self.size) / regs::PAGE / 32 * 31;
            let before = left()?;
            self.vf.command(regs::CMD_CREATE_STATE, &[pages, 0])?;
            self.wait()?;
            ensure!(left()? < before, "{pages} pages are not saved");
        }
    }

    fn change(&self, bytes: u64) -> Result<()> {
        let args = [bytes / regs::PAGE, 0];
        self.vf.command(regs::CMD_CHANGE_STATE, &args)
    }
}

/// Starts to track where there is memory for messages, but hardly in large pieces.
fn tracks_in_the_rest(site: &Site) -> Result<()> {
    let hoard = Hoard::begin(site.other)?;
    hoard.leave(2 * MIB + (64 << 10))?;
    let vf = dirty::tracked(site)?;
    for count in [10, 1000] {
        dirty::scatter_and_report(&vf, count)?;
    }
    Ok(())
}

/// The device can be stopped and saved while unread images have two thirds of all.
fn stops_with_the_rest(site: &Site) -> Result<()> {
    let hoard = Hoard::begin(site.vf)?;
    hoard.leave(20 * MIB)?;
    hoard.change(12 * MIB)?;
    let digest = hoard.vf.digest()?;
    let Hoard { vf, mut file, .. } = hoard;
    vf.device().set_state(State::STOP_COPY)?;
    let mut bytes = Vec::new();
    stream::copy(&mut file, &mut bytes, |_| ())?;
    drop(file);
    // Else there are no bounce buffers left to load with.
    drop(vf);
    let loaded = streams::load(site.other, &bytes)?;
    ensure!(loaded == digest, "another state was loaded");
    Ok(())
}

/// The device cannot be stopped if there is no bounce buffer for the rest of its state: it
/// runs again, its migration can be given up, and the next one works.
fn runs_on_without(site: &Site) -> Result<()> {
    kmsg::expect(FULL);
    let hoard = Hoard::begin(site.vf)?;
    hoard.leave(2 * MIB)?;
    hoard.change(8 * MIB)?;
    let device = hoard.vf.device();
    let stopped = outcome(device.set_state(State::STOP_COPY));
    ensure!(stopped == "ENOMEM", "to STOP_COPY: {stopped}");
    let state = device.state()?;
    ensure!(state == State::PRE_COPY_P2P, "the device is in {state:?}");
    device.set_state(State::RUNNING)?;
    hoard.vf.work(3, 16)?;
    drop(hoard);
    streams::migrate(site.vf, site.other, 3)
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (a, b) = vfs.of(Driver::Rust);
    results.test("the same stream twice", |_| same_again(a));
    results.test("the state goes through bounce buffers", |_| is_bounced(a));
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
    let site = Site { vf: a, other: b };
    let tests: [compare::Test; 3] = [
        (
            "tracking starts in what is left, in pieces",
            tracks_in_the_rest,
        ),
        (
            "a stop with what unread images have left",
            stops_with_the_rest,
        ),
        ("a stop for which nothing is left", runs_on_without),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&site));
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Streams go from either driver to either driver.

use super::{
    compare::Site,
    NamedRun,
    Vfs, //
};
use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    hca::Driver,
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
use serde_json::json;
use std::{
    fs::File,
    io::{
        Cursor,
        Read,
        Write, //
    },
    os::fd::AsFd,
    path::Path, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    migrate,
    output::Output,
    precopy,
    state::State,
    stream,
    target::DeviceTarget,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("streams", run),
    ("chunks", run_chunks),
    ("chunks-grow", run_growing_chunks),
    ("unwritten", run_unwritten),
    ("small-pages", run_small_pages),
];

/// Saves a VF that has worked. Returns the stream and the VF's digest.
pub fn save(vf: Bdf, rounds: u64) -> Result<(Vec<u8>, u64)> {
    let vf = Vf::open(vf, 16)?;
    vf.work(rounds, 16)?;
    let digest = vf.digest()?;
    Ok((saved(vf.device())?, digest))
}

/// The stream of a device that is stopped, or runs.
pub fn saved(device: &Device) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut from = device.begin(State::STOP_COPY)?;
    stream::copy(&mut from, &mut bytes, |_| ())?;
    Ok(bytes)
}

/// Loads a stream, and returns the digest of the VF, which runs.
pub fn load(vf: Bdf, bytes: &[u8]) -> Result<u64> {
    let vf = Vf::open(vf, 16)?;
    let mut to = vf.device().begin(State::RESUMING)?;
    stream::copy(&mut Cursor::new(bytes), &mut to, |_| ())?;
    drop(to);
    vf.device().set_state(State::RUNNING)?;
    let digest = vf.digest()?;
    vf.work(3, 16)?;
    Ok(digest)
}

/// Has a VF work, saves it, and loads that into another one, which is what the first one was.
pub fn migrate(from: Bdf, to: Bdf, rounds: u64) -> Result<()> {
    let (stream, digest) = save(from, rounds).context("saving")?;
    let loaded = load(to, &stream).context("loading")?;
    ensure!(
        loaded == digest,
        "digest {digest:016x} became {loaded:016x}"
    );
    Ok(())
}

/// Saves and loads in pieces of `size` bytes.
fn in_pieces(from: Bdf, to: Bdf, size: usize) -> Result<()> {
    let source = Vf::open(from, 16)?;
    let destination = Vf::open(to, 16)?;
    source.work(3, 16)?;
    let digest = source.digest()?;
    let mut data = source.device().begin(State::STOP_COPY)?;
    let mut sink = destination.device().begin(State::RESUMING)?;
    let mut piece = vec![0; size];
    loop {
        let n = data.read(&mut piece)?;
        if n == 0 {
            break;
        }
        sink.write_all(&piece[..n])?;
    }
    destination.device().set_state(State::RUNNING)?;
    ensure!(destination.digest()? == digest);
    Ok(())
}

/// What either driver has saved, either driver loads.
fn interchange(results: &mut Results, vfs: &Vfs) {
    for from in Driver::BOTH {
        for to in Driver::BOTH {
            let name = format!("saved by {}, loaded by {}", from.name(), to.name());
            results.test(&name, |_| {
                let (bytes, digest) = save(vfs.of(from).0, 12)?;
                ensure!(load(vfs.of(to).1, &bytes)? == digest, "digests differ");
                Ok(())
            });
        }
    }
}

/// Where firmware saves in chunks: the C driver asks for that, and its streams
/// have a record for each.
pub fn run_growing_chunks(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    interchange(results, &vfs);
    same_stream(results, &vfs);
    results.test("each chunk has a record", |_| {
        let (stream, _) = save(vfs.of(Driver::Rust).0, 2)?;
        let records = records::all(&stream)?.len();
        ensure!(records > 3, "{records} records");
        Ok(())
    });
    Ok(())
}

/// As [`run_growing_chunks`], and there are many.
pub fn run_chunks(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    // First: the host looks for it in the log of commands.
    for driver in Driver::BOTH {
        let (vf, other) = vfs.of(driver);
        let name = format!("firmware loads many images, {} driver", driver.name());
        results.test(&name, |results| {
            let (stream, digest) = save(other, 2)?;
            ensure!(load(vf, &stream)? == digest, "digests differ");
            results.json(&json!({
                "loaded": records::images(&stream)?.len(),
                "driver": driver.name(),
                "vhca": fault::vhca(vf)?,
            }));
            Ok(())
        });
    }
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test(
        "an image is taken in while firmware loads the one before",
        |_| overlap(&site),
    );
    results.test("firmware cannot reach a second buffer", |_| {
        one_buffer(&site)
    });
    run_growing_chunks(results)
}

/// Images that are loaded while the next one is taken in.
const OVERLAPPING: usize = 12;

/// A state that is loaded, each image while the next one is taken in.
struct Loading {
    vf: Vf,
    file: File,
    faults: Faults,
    stream: Vec<u8>,
    digest: u64,
    /// Bytes of the stream that were written: an image lacks its last byte.
    written: usize,
}

impl Loading {
    fn new(site: &Site) -> Result<Self> {
        let (stream, digest) = save(site.other, 2)?;
        let faults = Faults::open()?;
        let vf = Vf::open(site.vf, 16)?;
        let mut file = vf.device().begin(State::RESUMING)?;
        let images = records::images(&stream)?;
        let written = stream.len() - images.concat().len() + images[0].len() - 1;
        file.write_all(&stream[..written])?;
        Ok(Self {
            vf,
            file,
            faults,
            stream,
            digest,
            written,
        })
    }

    /// Firmware loads an image until the next one, of `len` bytes, is there but for its
    /// last byte.
    fn next(&mut self, len: usize) -> Result<()> {
        self.faults.arm(Fault::held(opcode::LOAD_VHCA_STATE))?;
        let until = self.written + len;
        self.file.write_all(&self.stream[self.written..until])?;
        self.written = until;
        self.faults.wait_for_held(1)?;
        self.faults.release()
    }

    fn finish(mut self) -> Result<()> {
        self.file.write_all(&self.stream[self.written..])?;
        drop(self.file);
        self.vf.device().set_state(State::RUNNING)?;
        ensure!(self.vf.digest()? == self.digest, "digests differ");
        Ok(())
    }

    /// The lengths of the images after the first.
    fn lengths(&self) -> Result<Vec<usize>> {
        let images = records::images(&self.stream)?;
        Ok(images[1..].iter().map(|image| image.len()).collect())
    }
}

fn overlap(site: &Site) -> Result<()> {
    let mut loading = Loading::new(site)?;
    for len in loading.lengths()?.into_iter().take(OVERLAPPING) {
        loading.next(len)?;
    }
    loading.finish()
}

/// The mkey of the second buffer fails: the first one is given up for it.
fn one_buffer(site: &Site) -> Result<()> {
    let mut loading = Loading::new(site)?;
    let next = loading.lengths()?[0];
    loading.next(next)?;
    let before = loading.faults.fired()?;
    loading.faults.arm(Fault::fail(opcode::CREATE_MKEY))?;
    let last = &loading.stream[loading.written..=loading.written];
    loading.file.write_all(last)?;
    loading.written += 1;
    let fired = loading.faults.fired()? - before;
    ensure!(fired == 1, "{fired} mkeys have failed");
    loading.finish()
}

/// Bytes at the end of each image that firmware does not write in the scenario
/// `unwritten`: the property `save-unwritten` in the table of scenarios.
const UNWRITTEN: usize = 1 << 20;
/// Memory that is not zero any more, where pages for an image come from.
const STAINED: usize = 256 << 20;
/// What is in it.
const STAIN: u8 = 0xa5;

/// Where firmware says that an image has more bytes than it writes: user space must
/// not see what was in that memory before.
pub fn run_unwritten(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    interchange(results, &vfs);
    // The C driver relies on CONFIG_INIT_ON_ALLOC_DEFAULT_ON.
    results.test("what firmware has not written is zero", |_| {
        for _ in 0..3 {
            drop(std::hint::black_box(vec![STAIN; STAINED]));
            let (stream, _) = save(vfs.of(Driver::Rust).0, 2)?;
            let end = &stream[stream.len() - UNWRITTEN..];
            let first = end.iter().position(|byte| *byte != 0);
            ensure!(first.is_none(), "byte {first:?} of {UNWRITTEN} is not");
            ensure!(stream[stream.len() - UNWRITTEN - 8..][..8] != [0; 8]);
        }
        Ok(())
    });
    // Buffers that had an image of the same VF are used again as they are.
    results.test(
        "with pre-copy, what firmware has not written is the VF's",
        |_| {
            drop(std::hint::black_box(vec![STAIN; STAINED]));
            let vf = Vf::open(vfs.of(Driver::Rust).0, 16)?;
            let mut file = vf.device().begin(State::PRE_COPY)?;
            let mut bytes = Vec::new();
            for pages in [0, 1, 16, 1] {
                if pages > 0 {
                    vf.command(regs::CMD_CHANGE_STATE, &[pages, 0])?;
                }
                uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
                stream::copy_available(&mut file, &mut bytes, |_| ())?;
            }
            vf.device().set_state(State::STOP_COPY)?;
            stream::copy(&mut file, &mut bytes, |_| ())?;
            let images = bytes.len() / UNWRITTEN;
            ensure!(images > 4, "{} bytes, too few for five images", bytes.len());
            let stained = bytes.windows(64).position(|some| *some == [STAIN; 64]);
            ensure!(stained.is_none(), "at {stained:?} something else is");
            Ok(())
        },
    );
    Ok(())
}

/// Where firmware refuses mkeys with larger pages: the module parameter has none made.
pub fn run_small_pages(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    interchange(results, &vfs);
    let (a, b) = vfs.of(Driver::Rust);
    results.test("a migration with pre-copy", |_| {
        let (source, destination) = (Vf::open(a, 16)?, Vf::open(b, 16)?);
        source.work(3, 16)?;
        let digest = source.digest()?;
        let mut target = DeviceTarget::new(destination.device());
        precopy::migrate(
            source.device(),
            &mut target,
            precopy::Options::default(),
            &mut (),
        )?;
        ensure!(destination.digest()? == digest, "digests differ");
        Ok(())
    });
    Ok(())
}

fn same_stream(results: &mut Results, vfs: &Vfs) {
    results.test(
        "both drivers make the same stream of the same state",
        |_| {
            let (c, _) = save(vfs.of(Driver::C).0, 9)?;
            let (rust, _) = save(vfs.of(Driver::Rust).0, 9)?;
            same(&records::shared(&c)?, &records::shared(&rust)?)
        },
    );
}

/// Two streams are the same.
pub fn same(c: &[u8], rust: &[u8]) -> Result<()> {
    let first = c.iter().zip(rust).position(|(a, b)| a != b);
    ensure!(
        c == rust,
        "{} and {} bytes, first difference at {first:?}",
        c.len(),
        rust.len()
    );
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    interchange(results, &vfs);
    same_stream(results, &vfs);
    results.test("pieces do not matter", |_| {
        let (from, to) = vfs.of(Driver::Rust);
        for size in [4095, 4097, 65_537] {
            in_pieces(from, to, size)?;
        }
        Ok(())
    });
    results.test("through a file", |_| {
        let (from, to) = vfs.of(Driver::Rust);
        let source = Vf::open(from, 16)?;
        let destination = Vf::open(to, 16)?;
        source.work(5, 16)?;
        let digest = source.digest()?;
        let file = Output::create_regular(Path::new("/tmp/state"))?;
        migrate::through_file(source.device(), destination.device(), file, &mut ())?;
        ensure!(destination.digest()? == digest);
        Ok(())
    });
    results.test("back and forth", |_| {
        let (a, b) = vfs.of(Driver::Rust);
        let (a, b) = (Vf::open(a, 16)?, Vf::open(b, 16)?);
        let mut at = &a;
        let mut next = &b;
        for _ in 0..6 {
            at.work(2, 16)?;
            let digest = at.digest()?;
            migrate::stop_copy(at.device(), &mut DeviceTarget::new(next.device()), &mut ())?;
            ensure!(next.digest()? == digest);
            std::mem::swap(&mut at, &mut next);
        }
        Ok(())
    });
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Benchmark: how many instructions the machine executes in each call.

use super::{
    compare::Site,
    dirty_paths,
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    cgroup::{
        Group,
        Peak, //
    },
    count,
    hca::{
        self,
        Driver,
        Pf, //
    },
    records,
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::BTreeMap,
    fs::{
        self,
        File, //
    },
    io::{
        Read,
        Seek,
        Write, //
    },
    os::fd::AsFd,
    sync::Barrier,
    thread, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    migrate,
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
    ("paths", run),
    ("bench-paths", run),
    ("bench-paths-0", run_0),
    ("bench-paths-274", run_chunks),
    ("bench-paths-1g", run_1g),
    ("bench-paths-vfs", run_vfs),
    ("bench-profile", run_profile),
];

/// The control group that is charged for a session whose memory is measured.
const GROUP: &str = "session";
/// Bytes that a session is read with.
const PIECE: usize = 1 << 20;

/// Counts one call, or several.
pub(super) struct Counter<'a> {
    pub(super) results: &'a mut Results,
    pub(super) name: &'a str,
    pub(super) driver: &'static str,
    pub(super) run: u32,
}

impl Counter<'_> {
    /// Tells the host, with the members of `more`.
    fn tell(&mut self, more: Value) {
        let mut said = json!({
            "path": self.name,
            "driver": self.driver,
            "run": self.run,
        });
        if let (Some(said), Value::Object(more)) = (said.as_object_mut(), more) {
            said.extend(more);
        }
        self.results.json(&said);
    }

    /// Counts instructions.
    pub(super) fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.count_as(json!({}), work)
    }

    /// Counts what `more` says.
    fn count_as<T>(&mut self, more: Value, work: impl FnOnce() -> T) -> T {
        let result = count::counted(work);
        self.tell(more);
        result
    }

    /// Counts the instructions for the bytes whose number `work` returns.
    fn count_bytes(&mut self, work: impl FnOnce() -> Result<usize>) -> Result<()> {
        let bytes = count::counted(work)?;
        self.tell(json!({ "bytes": bytes }));
        Ok(())
    }

    /// A figure that was not counted: bytes, commands.
    fn value(&mut self, unit: &str, value: u64) {
        self.tell(json!({ "unit": unit, "value": value }));
    }
}

/// Reads a file until its final or temporary end. Returns the number of bytes.
fn drain(file: &mut File, buf: &mut [u8]) -> Result<usize> {
    let mut bytes = 0;
    loop {
        match file.read(buf) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes += n,
            Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => return Ok(bytes),
            Err(err) => return Err(err.into()),
        }
    }
}

/// Reads a file to its end, in calls of `size` bytes.
fn read_all(file: &mut File, size: usize, counter: &mut Counter<'_>) -> Result<()> {
    let mut buf = vec![1; size];
    counter.count_bytes(|| drain(file, &mut buf))
}

/// Reads a state in calls of `size` bytes, when it is there.
fn read(site: &Site, size: usize, counter: &mut Counter<'_>) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    records::read_to_image(&mut file)?;
    read_all(&mut file, size, counter)
}

/// A device that is saved from RUNNING to RUNNING, with pages that change in PRE_COPY.
struct Session {
    vf: Vf,
    buf: Vec<u8>,
}

impl Session {
    /// Opens the device. What the program needs for reading, it has then.
    fn open(site: &Site) -> Result<Self> {
        let vf = Vf::open(site.vf, 16)?;
        let buf = vec![1; PIECE];
        Ok(Self { vf, buf })
    }

    /// Reads all of the first image.
    fn begin(&mut self) -> Result<File> {
        let mut file = self.vf.device().begin(State::PRE_COPY)?;
        drain(&mut file, &mut self.buf)?;
        Ok(file)
    }

    /// Reads what has changed, while it runs and then.
    fn end(&mut self, mut file: File) -> Result<()> {
        self.vf.command(regs::CMD_CHANGE_STATE, &[16, 0])?;
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        drain(&mut file, &mut self.buf)?;
        self.vf.device().set_state(State::STOP_COPY)?;
        drain(&mut file, &mut self.buf)?;
        self.vf.device().set_state(State::RUNNING)?;
        Ok(())
    }
}

/// A device in PRE_COPY whose data file was read to its end.
fn in_precopy(site: &Site) -> Result<(Vf, File)> {
    let vf = Vf::open(site.vf, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    stream::copy_available(&mut file, &mut std::io::sink(), |_| ())?;
    Ok((vf, file))
}

/// Changes pages, asks, and reads what has changed.
fn cycle(site: &Site, pages: u64, counter: &mut Counter<'_>) -> Result<()> {
    let (vf, mut file) = in_precopy(site)?;
    if pages > 0 {
        vf.command(regs::CMD_CHANGE_STATE, &[pages, 0])?;
    }
    counter.count(|| -> Result<()> {
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default())?;
        stream::copy_available(&mut file, &mut std::io::sink(), |_| ())?;
        Ok(())
    })
}

/// A whole migration by the tool's library.
fn whole(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let source = Device::open(site.vf)?;
    let destination = Device::open(site.other)?;
    counter.count(|| migrate::stop_copy(&source, &mut DeviceTarget::new(&destination), &mut ()))?;
    Ok(())
}

fn stop_copy(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let device = Device::open(site.vf)?;
    device.set_state(State::STOP)?;
    counter.count(|| device.begin(State::STOP_COPY))?;
    Ok(())
}

fn pre_copy(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let device = Device::open(site.vf)?;
    counter.count(|| device.begin(State::PRE_COPY))?;
    Ok(())
}

/// Pages that are cleared from PRE_COPY to RUNNING.
fn cleared(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let mut session = Session::open(site)?;
    counter.count_as(json!({ "counts": "pages" }), || {
        let file = session.begin()?;
        session.end(file)
    })
}

/// Pages that are cleared when the first image was read.
fn cleared_later(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let mut session = Session::open(site)?;
    let file = session.begin()?;
    counter.count_as(json!({ "counts": "pages" }), || session.end(file))
}

/// The most memory that a session has: its user is charged for it.
fn pinned(site: &Site, counter: &mut Counter<'_>) -> Result<()> {
    let _group = Group::of_this_process(GROUP)?;
    let mut session = Session::open(site)?;
    let mut peak = Peak::of(GROUP)?;
    let file = session.begin()?;
    session.end(file)?;
    counter.value("bytes", peak.growth()?);
    Ok(())
}

/// What is counted.
type Path = fn(&Site, &mut Counter<'_>) -> Result<()>;

const PATHS: &[(&str, Path)] = &[
    ("migrate", whole),
    ("STOP -> STOP_COPY", stop_copy),
    ("RUNNING -> PRE_COPY", pre_copy),
    ("read, 1 MiB", |site, counter| read(site, 1 << 20, counter)),
    ("read, 64 KiB", |site, counter| {
        read(site, 64 << 10, counter)
    }),
    ("read, 4 KiB", |site, counter| read(site, 4 << 10, counter)),
    ("write, leave RESUMING", |site, counter| {
        let bytes = streams::saved(&Device::open(site.other)?)?;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        counter.count(|| -> Result<()> {
            file.write_all(&bytes)?;
            device.set_state(State::STOP)?;
            Ok(())
        })
    }),
    ("PRECOPY_INFO", |site, counter| {
        let (_vf, file) = in_precopy(site)?;
        counter.count(|| uapi::precopy_info(file.as_fd(), PrecopyInfo::default()))?;
        Ok(())
    }),
    ("pre-copy cycle, 0 pages", |site, counter| {
        cycle(site, 0, counter)
    }),
    ("pre-copy cycle, 1 page", |site, counter| {
        cycle(site, 1, counter)
    }),
    ("pre-copy cycle, 16 pages", |site, counter| {
        cycle(site, 16, counter)
    }),
    ("RUNNING -> RUNNING_P2P", |site, counter| {
        let device = Device::open(site.vf)?;
        counter.count(|| device.set_state(State::RUNNING_P2P))?;
        Ok(())
    }),
    ("close in STOP_COPY", |site, counter| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        records::read_to_image(&mut file)?;
        counter.count(|| drop((file, device)));
        Ok(())
    }),
    ("pages cleared in a session", cleared),
    ("pages cleared after PRE_COPY", cleared_later),
    ("memory pinned in a session", pinned),
];

/// What is counted where pages are cleared only if somebody asks for that.
const PATHS_0: &[(&str, Path)] = &[
    ("migrate, init_on_alloc=0", whole),
    ("pages cleared in a session, init_on_alloc=0", cleared),
    (
        "pages cleared after PRE_COPY, init_on_alloc=0",
        cleared_later,
    ),
    ("memory pinned in a session, init_on_alloc=0", pinned),
];

/// What is counted with a state of 1 GiB.
const PATHS_1G: &[(&str, Path)] = &[
    ("STOP -> STOP_COPY, 1 GiB", stop_copy),
    ("RUNNING -> PRE_COPY, 1 GiB", pre_copy),
];

/// What is counted where firmware saves in chunks: 274 records.
const PATHS_CHUNKS: &[(&str, Path)] = &[("RESUMING, 274 records, commands", |site, counter| {
    let bytes = streams::saved(&Device::open(site.other)?)?;
    let device = Device::open(site.vf)?;
    let pf = Pf::find()?;
    let before = pf.commands()?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&bytes)?;
    device.set_state(State::STOP)?;
    counter.value("commands", pf.commands()? - before);
    Ok(())
})];

/// How many VFs migrate at once.
const AT_ONCE: [usize; 5] = [1, 2, 4, 8, 16];

/// Migrates VFs into others, all at once.
fn at_once(pairs: &[[Bdf; 2]], counter: &mut Counter<'_>) -> Result<()> {
    let open = |[from, to]: &[Bdf; 2]| Ok([Device::open(*from)?, Device::open(*to)?]);
    let devices = pairs.iter().map(open).collect::<Result<Vec<_>>>()?;
    let begin = &Barrier::new(devices.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = devices
            .iter()
            .map(|[from, to]| {
                scope.spawn(move || {
                    begin.wait();
                    migrate::stop_copy(from, &mut DeviceTarget::new(to), &mut ())
                })
            })
            .collect();
        counter.count_as(json!({ "vfs": pairs.len() }), || {
            begin.wait();
            threads.into_iter().try_for_each(|thread| {
                thread.join().ok().context("a thread panicked")??;
                Ok(())
            })
        })
    })
}

/// As much in a file in memory.
fn memfd(name: &'static str, size: usize, run: u32, results: &mut Results) -> Result<()> {
    let mut file = sys::memory_file(c"state")?;
    file.write_all(&vec![1; 16 << 20])?;
    file.rewind()?;
    let driver = "memfd";
    read_all(
        &mut file,
        size,
        &mut Counter {
            results,
            name,
            driver,
            run,
        },
    )
}

/// The function of the kernel that clears pages.
const CLEARING: &str = "__clear_pages_unrolled";
/// Functions that are told of together.
const TOGETHER: usize = 500;

/// The functions of the kernel and its modules, by their addresses.
fn functions() -> Result<BTreeMap<u64, String>> {
    let text = fs::read_to_string("/proc/kallsyms")?;
    let mut functions = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [address, "t" | "T", name, ..] = words[..] {
            functions.insert(u64::from_str_radix(address, 16)?, name.to_string());
        }
    }
    Ok(functions)
}

/// Where the kernel clears pages: to where the next function begins.
fn clearing(functions: &BTreeMap<u64, String>) -> Result<[u64; 2]> {
    let mut from = functions.iter().skip_while(|(_, name)| *name != CLEARING);
    let mut next = || from.next().with_context(|| format!("no {CLEARING}()"));
    Ok([*next()?.0, *next()?.0])
}

/// Counts, and tells of all functions.
pub fn run_profile(results: &mut Results) -> Result<()> {
    run(results)?;
    // Modules are there only now.
    let functions: Vec<(u64, String)> = functions()?.into_iter().collect();
    for some in functions.chunks(TOGETHER) {
        results.json(&json!({ "functions": some }));
    }
    Ok(())
}

/// Counts each path with each driver.
fn each(results: &mut Results, vfs: &Vfs, run: u32, paths: &[(&str, Path)]) {
    for (name, path) in paths {
        for driver in super::in_turn(run) {
            let title = format!("run {run}, {name}, {} driver", driver.name());
            results.test(&title, |results| {
                let (vf, other) = vfs.of(driver);
                let driver = driver.name();
                path(
                    &Site { vf, other },
                    &mut Counter {
                        results,
                        name,
                        driver,
                        run,
                    },
                )
            });
        }
    }
}

/// Prepares for the first count: tells where pages are cleared, and makes a control group.
/// Most hosts have control groups, and the kernel then allocates pages that it charges in
/// another way.
fn begin(results: &mut Results) -> Result<()> {
    results.json(&json!({ "clearing": clearing(&functions()?)? }));
    drop(Group::new(GROUP)?);
    Ok(())
}

fn run_paths(results: &mut Results, paths: &[(&str, Path)]) -> Result<()> {
    let vfs = Vfs::new()?;
    begin(results)?;
    for run in 0..super::runs()? {
        each(results, &vfs, run, paths);
    }
    Ok(())
}

pub fn run_0(results: &mut Results) -> Result<()> {
    run_paths(results, PATHS_0)
}

pub fn run_chunks(results: &mut Results) -> Result<()> {
    run_paths(results, PATHS_CHUNKS)
}

pub fn run_1g(results: &mut Results) -> Result<()> {
    run_paths(results, PATHS_1G)
}

pub fn run_vfs(results: &mut Results) -> Result<()> {
    let pf = Pf::find()?;
    pf.set_vfs(0)?;
    let most = AT_ONCE.iter().copied().max().unwrap_or(0);
    pf.set_vfs((most * 2 * Driver::BOTH.len()) as u16)?;
    let vfs = pf.vfs()?;
    let pairs: Vec<[Bdf; 2]> = vfs.chunks_exact(2).map(|two| [two[0], two[1]]).collect();
    let (c, rust) = pairs.split_at(most);
    let of = |driver| match driver {
        Driver::C => c,
        Driver::Rust => rust,
    };
    for driver in Driver::BOTH {
        for vf in of(driver).as_flattened() {
            hca::bind(*vf, driver)?;
        }
    }
    begin(results)?;
    for run in 0..super::runs()? {
        for count in AT_ONCE {
            let name = match count {
                1 => "1 VF at once".to_string(),
                _ => format!("{count} VFs at once"),
            };
            for driver in super::in_turn(run) {
                let title = format!("run {run}, {name}, {} driver", driver.name());
                results.test(&title, |results| {
                    at_once(
                        &of(driver)[..count],
                        &mut Counter {
                            results,
                            name: &name,
                            driver: driver.name(),
                            run,
                        },
                    )
                });
            }
        }
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    begin(results)?;
    for run in 0..super::runs()? {
        each(results, &vfs, run, PATHS);
        dirty_paths::count(results, &vfs, run)?;
        for (name, size) in [
            ("read, 1 MiB", 1 << 20),
            ("read, 64 KiB", 64 << 10),
            ("read, 4 KiB", 4 << 10),
        ] {
            memfd(name, size, run, results)?;
        }
    }
    Ok(())
}

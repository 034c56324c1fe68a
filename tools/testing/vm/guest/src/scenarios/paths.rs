// SPDX-License-Identifier: GPL-2.0

//! Benchmark: how many instructions the machine executes in each call.

use super::{compare::Site, streams, Bench};
use crate::{count, sys, tap::Results, vf::Vf};
use anyhow::{Context, Result};
use mlx5_emu_regs as regs;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, Write},
    os::fd::AsFd,
};
use vfio_mig::{
    device::Device,
    migrate::{self, Observer},
    state::State,
    stream,
    target::DeviceTarget,
    uapi::{self, PrecopyInfo},
};

/// Bytes before the first image: a size record, and its header.
const BEFORE: usize = 24 + 16;

/// Counts one call, or several.
struct Counter<'a> {
    results: &'a mut Results,
    name: &'static str,
    driver: &'static str,
    run: u32,
}

impl Counter<'_> {
    fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let result = count::counted(work);
        self.results.json(&json!({
            "path": self.name,
            "driver": self.driver,
            "run": self.run,
        }));
        result
    }
}

struct Nobody;

impl Observer for Nobody {
    fn phase(&mut self, _name: &'static str, _total: u64) {}
    fn bytes(&mut self, _bytes: u64) {}
}

/// Reads a file to its end, in calls of `size` bytes.
fn read_all(file: &mut File, size: usize, counter: &mut Counter<'_>) -> Result<()> {
    let mut buf = vec![1; size];
    counter.count(|| -> Result<()> {
        while file.read(&mut buf)? > 0 {}
        Ok(())
    })
}

/// Reads a state in calls of `size` bytes, when it is there.
fn read(site: &Site, size: usize, counter: &mut Counter<'_>) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    file.read_exact(&mut [0; BEFORE])?;
    read_all(&mut file, size, counter)
}

/// A running device that is being saved, of which all was read.
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

/// What is counted.
type Path = fn(&Site, &mut Counter<'_>) -> Result<()>;

const PATHS: &[(&str, Path)] = &[
    ("migrate", |site, counter| {
        let source = Device::open(site.vf)?;
        let destination = Device::open(site.other)?;
        counter.count(|| {
            migrate::stop_copy(&source, &mut DeviceTarget::new(&destination), &mut Nobody)
        })?;
        Ok(())
    }),
    ("STOP -> STOP_COPY", |site, counter| {
        let device = Device::open(site.vf)?;
        device.set_state(State::STOP)?;
        counter.count(|| device.begin(State::STOP_COPY))?;
        Ok(())
    }),
    ("RUNNING -> PRE_COPY", |site, counter| {
        let device = Device::open(site.vf)?;
        counter.count(|| device.begin(State::PRE_COPY))?;
        Ok(())
    }),
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
        file.read_exact(&mut [0; BEFORE])?;
        counter.count(|| drop((file, device)));
        Ok(())
    }),
];

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

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    results.json(&json!({ "clearing": clearing(&functions()?)? }));
    for run in 0..super::runs()? {
        for (name, path) in PATHS {
            for driver in super::in_turn(run) {
                results.test(
                    &format!("run {run}, {name}, {} driver", driver.name()),
                    |results| {
                        let (vf, other) = bench.of(driver);
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
                    },
                );
            }
        }
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

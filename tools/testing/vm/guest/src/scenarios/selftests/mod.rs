// SPDX-License-Identifier: GPL-2.0

//! The kernel's VFIO selftests, with ours among them. By `make run_tests` on VFs of our driver:
//! all of them, upstream's unmodified. Those of migration also on other devices: VFs of the C
//! driver, our sample, and mtty, which is no PCI device. That of dma-bufs is to pass with
//! vfio-pci, and to skip with the C driver.
//!
//! Each test is one result here, and so is each program. [`subjects`] lists what may be skipped,
//! and what may fail.

mod each;
mod listener;
mod subjects;

pub use listener::{
    result,
    Verdict, //
};

use super::{
    conformance::{
        bind_samples,
        create_mttys,
        remove_mttys, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    hca::{
        self,
        Driver, //
    },
    host::{
        self,
        in_root,
        ROOT, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use listener::Listener;
use std::{
    collections::BTreeSet,
    fs,
    io::{
        BufRead,
        BufReader, //
    },
    process::{
        Child,
        Stdio, //
    },
};
use subjects::Subject;
use vfio_mig::{
    address::Address,
    bdf::Bdf,
    device::Device, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("selftests", run), ("selftests-each", each::run)];

/// The test of dma-bufs.
const DMA_BUFS: &str = "vfio_pci_dmabuf_test";
/// What it says of a driver that exports none.
const NO_DMA_BUFS: &str = "exports no dma-bufs: Operation not supported";
/// The test that takes one device, or two.
const DATA: &str = "vfio_migration_data_test";
/// The tests of migration.
const MIGRATION: &[&str] = &[
    "vfio_dma_logging_test",
    DATA,
    "vfio_migration_precopy_test",
    "vfio_migration_test",
];
/// The test that opens devices in all ways that there are.
const OPENING: &str = "vfio_pci_device_init_perf_test";
/// Seconds for a program. The runner's 45 are meant for hardware.
const TIMEOUT: u32 = 600;

/// Makes the folder of the tests one that can be written to.
fn make_writable(folder: &str) -> Result<()> {
    let copy = "/dev/shm/vfio";
    let status = in_root("/bin/cp").args(["-a", folder, copy]).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(sys::mount_folder(
        &format!("{ROOT}{copy}"),
        &format!("{ROOT}{folder}"),
    )?)
}

/// The programs that there are.
fn programs(folder: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(format!("{ROOT}{folder}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with("_test") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Gives the lines of a program to `take`, until it ends. Returns its exit status.
fn listen(child: &mut Child, mut take: impl FnMut(&str)) -> Result<Option<i32>> {
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_string();
        println!("{line}");
        take(&line);
    }
    Ok(child.wait()?.code())
}

/// `make run_tests`, and everything that it reports.
fn run_tests(listener: &mut Listener<'_>, tests: &str, vfs: (Bdf, Bdf)) -> Result<()> {
    let both = format!("{} {}", vfs.0, vfs.1);
    let mut child = in_root("/bin/sh")
        .args(["-c", "exec make \"$@\" 2>&1", "make", "-C", tests])
        .args(["TARGETS=vfio", "run_tests"])
        .env("kselftest_override_timeout", TIMEOUT.to_string())
        .env("VFIO_SELFTESTS_BDF", vfs.0.to_string())
        .env("KSELFTEST_VFIO_PCI_DEVICE_INIT_PERF_TEST_ARGS", &both)
        .env("KSELFTEST_VFIO_MIGRATION_DATA_TEST_ARGS", &both)
        .stdout(Stdio::piped())
        .spawn()
        .context("make")?;
    let status = listen(&mut child, |line| listener.line(line))?;
    ensure!(status == Some(0), "make: exit status {status:?}");
    Ok(())
}

/// Runs a program. Devices are the last of its arguments.
fn run_program(
    listener: &mut Listener<'_>,
    folder: &str,
    program: &str,
    arguments: &[String],
) -> Result<()> {
    listener.begin(program);
    let mut child = in_root("/bin/sh")
        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(format!("{folder}/{program}"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context(program.to_string())?;
    let status = listen(&mut child, |line| listener.inner(line))?;
    listener.exited(status);
    Ok(())
}

/// Runs programs on devices of a subject, with the same arguments.
fn run_programs(
    results: &mut Results,
    subject: &'static Subject,
    folder: &str,
    programs: &[&str],
    arguments: &[String],
) {
    let mut listener = Listener::new(results, subject);
    let outcome = programs
        .iter()
        .try_for_each(|program| run_program(&mut listener, folder, program, arguments));
    let all = programs.iter().map(|program| program.to_string()).collect();
    listener.finish(&all, outcome);
}

/// Writes to a region of a device, so that its state is not that of another one.
fn write_region(device: Address, index: u32, at: u64, bytes: &[u8]) -> Result<()> {
    let device = Device::open(device)?;
    let offset = device.region(index)?.offset;
    Ok(device.write_at(offset + at, bytes)?)
}

/// Our sample: the memory of the devices is behind a BAR.
fn on_samples(results: &mut Results, folder: &str) -> Result<()> {
    const MEMORY_BAR: u32 = 2;
    let samples = bind_samples()?;
    for (sample, byte) in samples.into_iter().zip([0x5a, 0xa5]) {
        write_region(sample.into(), MEMORY_BAR, 0x1000, &[byte; 64])?;
    }
    let devices = samples.map(|sample| sample.to_string());
    run_programs(results, &subjects::SAMPLE, folder, MIGRATION, &devices);
    Ok(())
}

/// mtty: its ports have a scratch register.
fn on_mttys(results: &mut Results, folder: &str) -> Result<()> {
    const SCRATCH: u64 = 7;
    let Some(names) = create_mttys()? else {
        results.skip("mtty: the selftests", "this kernel has no mtty module");
        return Ok(());
    };
    for (name, byte) in names.iter().zip([0x5a, 0xa5]) {
        write_region(name.parse()?, 0, SCRATCH, &[byte])?;
    }
    let devices = names
        .clone()
        .map(|name| format!("/sys/bus/mdev/devices/{name}"));
    let programs = [&[OPENING], MIGRATION].concat();
    run_programs(results, &subjects::MTTY, folder, &programs, &devices);
    remove_mttys(&names)
}

/// Runs the test of dma-bufs on a VF, all of whose tests must pass, or skip.
fn dma_bufs(folder: &str, vf: Bdf, passes: bool) -> Result<()> {
    let output = in_root(&format!("{folder}/{DMA_BUFS}"))
        .arg(vf.to_string())
        .output()
        .context(DMA_BUFS)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = || format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<Verdict> = text
        .lines()
        .filter_map(|line| Some(result(line)?.0))
        .collect();
    let expected = |verdict: &Verdict| match verdict {
        Verdict::Ok => passes,
        Verdict::Skipped(reason) => !passes && reason.ends_with(NO_DMA_BUFS),
        Verdict::Failed => false,
    };
    let good = verdicts.iter().all(expected) && !verdicts.is_empty();
    ensure!(good && output.status.success(), "{}", said());
    Ok(())
}

/// Prepares them. Returns their folder, and that of VFIO's.
fn prepare() -> Result<(String, String)> {
    let parameter = |name| sys::kernel_parameter(name)?.with_context(|| format!("no {name}="));
    let tests = parameter("vmtest.selftests")? + "/tools/testing/selftests";
    let folder = format!("{tests}/vfio");
    host::mount()?;
    make_writable(&folder)?;
    Ok((tests, folder))
}

pub fn run(results: &mut Results) -> Result<()> {
    if !fs::exists("/dev/iommu")? {
        results.skip(
            "the kernel's VFIO selftests",
            "the kernel has no iommufd, which they need",
        );
        return Ok(());
    }
    let vfs = Vfs::new()?;
    let ours = vfs.of(Driver::Rust);
    let (c, other) = vfs.of(Driver::C);
    let (tests, folder) = prepare()?;

    let mut listener = Listener::new(results, &subjects::ALL);
    let outcome = run_tests(&mut listener, &tests, ours);
    listener.finish(&programs(&folder)?, outcome);

    // The only one that has something else to do with a single VF.
    let one = ["-t", "migrate", &ours.0.to_string()].map(str::to_string);
    run_programs(results, &subjects::ONE, &folder, &[DATA], &one);
    on_samples(results, &folder)?;
    on_mttys(results, &folder)?;

    results.test(&format!("{DMA_BUFS} skips with the C driver"), |_| {
        dma_bufs(&folder, c, false)
    });
    results.test(&format!("{DMA_BUFS} passes with vfio-pci"), |_| {
        sys::load_module("vfio_pci", "")?;
        hca::bind_to(other, "vfio-pci")?;
        dma_bufs(&folder, other, true)
    });
    hca::bind_to(other, Driver::C.sysfs_name())?;

    // Last: lockdep does not survive it.
    let both = [c.to_string(), other.to_string()];
    run_programs(results, &subjects::C, &folder, MIGRATION, &both);
    Ok(())
}

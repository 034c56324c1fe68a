// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig test` judges drivers: ours, the C driver, and samples.

use super::{
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    collections::BTreeSet,
    fs,
    io::{
        BufRead,
        BufReader,
        ErrorKind, //
    },
    path::Path,
    process::{
        Command,
        Stdio, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State,
    sysfs, //
};
use vm_common::drivers::lacks;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("conformance", run),
    ("conformance-c", run_c),
    ("conformance-mtty", run_mtty),
];

/// A line of KTAP.
struct Line {
    name: String,
    ok: bool,
    skipped: Option<String>,
    about: Vec<String>,
}

/// Runs the suite on the first device, with the second one to load into. One test
/// here for each test there, one for all of them, and one of what the device lacks.
pub(super) fn suite(results: &mut Results, driver: &str, devices: &[String; 2]) {
    let mut lines = Vec::new();
    results.test(&format!("{driver}: the suite runs"), |results| {
        // Resets end SAVEs and LOADs.
        kmsg::expect("VHCA_STATE");
        let expectations = format!("/lib/expectations/{driver}.toml");
        let mut command = Command::new("/bin/vfio-mig");
        command.arg("test").args(devices);
        if Path::new(&expectations).exists() {
            command.args(["--expect", &expectations]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut about = Vec::new();
        for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
            let line = line?;
            if let Some(text) = line.strip_prefix("# ") {
                about.push(text.to_string());
            } else if let Some(line) = parse(&line, &mut about) {
                results.progress(&format!("{driver}: {}", line.name));
                lines.push(line);
            }
        }
        let status = child.wait()?;
        let good = !lines.is_empty() && lines.iter().all(|line| line.ok);
        ensure!(
            status.success() == good,
            "vfio-mig test ended with {status}"
        );
        Ok(())
    });
    let mut reasons = BTreeSet::new();
    for line in lines {
        let name = format!("{driver}: {}", line.name);
        match line.skipped {
            Some(reason) if is_declared(driver, &reason) => {
                results.skip(&name, &reason);
                reasons.insert(reason);
            }
            Some(reason) => {
                let about = format!("skipped, though not declared inapplicable: {reason}");
                results.record(&name, false, None, &[about]);
            }
            None => results.record(&name, line.ok, None, &line.about),
        }
    }
    // Otherwise the device can do something after all, and the list is out of date.
    let unseen: Vec<String> = lacks(driver)
        .iter()
        .filter(|reason| !reasons.contains(**reason))
        .map(|reason| format!("no test was skipped for this reason: {reason}"))
        .collect();
    let name = format!("{driver}: the device lacks all that it is declared to lack");
    results.record(&name, unseen.is_empty(), None, &unseen);
}

/// What some kernels lack.
const KERNELS_LACK: &[&str] = &[
    "the kernel has no dirty bitmaps (they come with IOMMUFD)",
    "the kernel has no PRECOPY_INFOv2",
    "the kernel has no PRECOPY_INFOv2, or the device no PRE_COPY",
];

fn is_declared(driver: &str, reason: &str) -> bool {
    lacks(driver).contains(&reason) || KERNELS_LACK.contains(&reason)
}

/// A result, with what was said before it.
fn parse(line: &str, about: &mut Vec<String>) -> Option<Line> {
    let ok = line.strip_prefix("ok ");
    let rest = ok.or_else(|| line.strip_prefix("not ok "))?;
    let (_, name) = rest.split_once(' ')?;
    let mut about = std::mem::take(about);
    let (name, skipped) = match name.split_once(" # ") {
        None => (name, None),
        Some((name, directive)) => match directive.strip_prefix("SKIP ") {
            Some(why) => (name, Some(why.to_string())),
            None => {
                about.push(directive.to_string());
                (name, None)
            }
        },
    };
    Some(Line {
        name: name.to_string(),
        ok: ok.is_some(),
        skipped,
        about,
    })
}

fn on_vfs(results: &mut Results, driver: Driver) -> Result<()> {
    let vfs = Vfs::new()?;
    let (vf, other) = vfs.of(driver);
    suite(
        results,
        driver.sysfs_name(),
        &[vf.to_string(), other.to_string()],
    );
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    on_vfs(results, Driver::Rust)
}

pub fn run_c(results: &mut Results) -> Result<()> {
    on_vfs(results, Driver::C)
}

/// Creates two devices of the kernel's sample of a mediated device, if the kernel has it.
pub(super) fn create_mttys() -> Result<Option<[String; 2]>> {
    let types = Path::new("/sys/class/mdev_bus/mtty/mdev_supported_types");
    if !types.exists() {
        return Ok(None);
    }
    let devices = [1, 2].map(|i| format!("83b8f4f2-509f-382f-3c1e-e6bfe0fa100{i}"));
    for device in &devices {
        fs::write(types.join("mtty-2/create"), device).context("creating an mtty")?;
    }
    Ok(Some(devices))
}

/// Removes them.
pub(super) fn remove_mttys(devices: &[String; 2]) -> Result<()> {
    for device in devices {
        fs::write(format!("/sys/bus/mdev/devices/{device}/remove"), "1")?;
    }
    Ok(())
}

/// The kernel's sample of a mediated device.
pub fn run_mtty(results: &mut Results) -> Result<()> {
    let Some(devices) = create_mttys()? else {
        results.skip("mtty: the suite runs", "this kernel has no mtty module");
        return Ok(());
    };
    suite(results, "mtty", &devices);
    remove_mttys(&devices)
}

/// What drives ivshmem-plain.
pub(super) const SAMPLE: &str = "vfio_ivshmem_rust";

/// The machine's two ivshmem-plain devices, bound to our own sample.
pub fn bind_samples() -> Result<[Bdf; 2]> {
    bind_ivshmem(SAMPLE)
}

/// The machine's two ivshmem-plain devices, bound to a driver.
pub fn bind_ivshmem(driver: &str) -> Result<[Bdf; 2]> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")? {
        let entry = entry?;
        let id = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if (id("vendor").trim(), id("device").trim()) == ("0x1af4", "0x1110") {
            devices.push(entry.file_name().to_string_lossy().parse::<Bdf>()?);
        }
    }
    devices.sort();
    let [first, second] = devices[..] else {
        bail!("{} ivshmem devices", devices.len());
    };
    for device in [first, second] {
        let dir = sysfs::device_dir(device);
        fs::write(dir.join("driver_override"), driver)?;
        fs::write("/sys/bus/pci/drivers_probe", device.to_string())?;
        let bound = sysfs::driver(device)?;
        ensure!(bound == driver, "{device} is bound to {bound}");
    }
    Ok([first, second])
}

/// A data file keeps its driver's module loaded once the device is closed, and that keeps
/// the module of the abstractions.
pub fn file_keeps_module(device: Bdf, driver: &str) -> Result<()> {
    let _file = Device::open(device)?.begin(State::STOP_COPY)?;
    ensure!(sys::is_module(driver)?, "{driver} is no module");
    for module in [driver, "vfio_rust"] {
        if !sys::is_module(module)? {
            continue;
        }
        match sys::unload_module(module) {
            Ok(()) => bail!("{module} is unloaded"),
            Err(err) => ensure!(
                err.kind() == ErrorKind::WouldBlock,
                "unloading {module}: {err}"
            ),
        }
    }
    Ok(())
}

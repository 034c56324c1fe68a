// SPDX-License-Identifier: GPL-2.0

//! The slot that the PF is in: the machine, whose monitor is on the third serial port, asks for the
//! PF, takes it without asking, and puts it back.

use crate::{
    hca::Pf,
    kmsg::KernelLog,
    qmp::Qmp,
    sys, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde_json::json;
use std::{
    fs::{
        self,
        File,
        OpenOptions, //
    },
    io,
    os::unix::fs::{
        FileExt,
        OpenOptionsExt, //
    },
    path::Path,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::slot::HCA;

/// Where the monitor is.
const PORT: &str = "/dev/ttyS2";
/// How long QEMU may take for an answer, in tenths of a second.
const ANSWER: u8 = 200;
/// Slots, each with a file that says whether it is on.
const SLOTS: &str = "/sys/bus/pci/slots";
/// What the kernel says of a button that was pressed. It waits for five seconds then, in which
/// the button can be pressed again.
const PRESSED: &str = "Button press: will power off";
/// What the kernel says of a slot that it is to turn on, and has not turned off yet.
const ENABLED: &str = "Already enabled";
/// A file of a kernel that looks at the order of locks.
const LOCKDEP: &str = "/proc/lockdep";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// `PCI_CAPABILITY_LIST` and `PCI_CAP_ID_EXP`.
const CAPABILITIES: u64 = 0x34;
const EXPRESS: u8 = 0x10;
/// `PCI_EXP_SLTCTL`, with `PCI_EXP_SLTCTL_PWR_OFF` and `PCI_EXP_SLTCTL_PWR_IND_OFF`: the slot
/// has no power, and the light beside it says so. `PCI_EXP_SLTCTL_HPIE`: the slot interrupts.
const SLOT_CONTROL: u64 = 0x18;
const OFF: u16 = 0x400 | 0x300;
const INTERRUPTS: u16 = 0x20;

/// QEMU's monitor.
struct Monitor(Qmp<File>);

impl Monitor {
    fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(PORT)
            .context(PORT)?;
        sys::set_raw(&port, ANSWER).context(PORT)?;
        Ok(Self(Qmp::again(port).context("the machine's monitor")?))
    }

    /// Whether QEMU has the HCA.
    fn has_hca(&mut self) -> Result<bool> {
        let list = self
            .0
            .execute("qom-list", json!({ "path": "/machine/peripheral" }))?;
        let mut devices = list.as_array().into_iter().flatten();
        Ok(devices.any(|device| device["name"] == HCA))
    }

    /// Waits until QEMU has no HCA any more.
    fn wait_until_gone(&mut self) -> Result<()> {
        wait_until("a QEMU without the PF", || Ok(!self.has_hca()?))
    }

    /// Adds a device, as on QEMU's command line.
    fn add(&mut self, device: &str) -> Result<()> {
        let line = json!({ "command-line": format!("device_add {device}") });
        let said = self.0.execute("human-monitor-command", line)?;
        match said.as_str() {
            Some("") => Ok(()),
            _ => bail!("QEMU cannot add {device}: {said}"),
        }
    }
}

/// Why nothing can be taken out of the slot, if it cannot.
pub fn missing() -> Option<&'static str> {
    Path::new(LOCKDEP).exists().then_some(
        "pciehp takes two locks in either order, and lockdep says nothing more when it has said so",
    )
}

/// Turns the only slot on or off.
fn turn(on: bool) -> io::Result<()> {
    for slot in fs::read_dir(SLOTS)? {
        fs::write(slot?.path().join("power"), if on { "1" } else { "0" })?;
    }
    Ok(())
}

/// Waits until something is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < PATIENCE, "it does not come to {what}");
        thread::sleep(POLL);
    }
    Ok(())
}

/// The machine presses the button beside the slot, whose light blinks. The host's user turns the
/// slot off without waiting for long: the kernel removes what is in it.
pub fn unplug() -> Result<()> {
    let mut log = KernelLog::new()?;
    log.lines();
    let mut monitor = Monitor::open()?;
    monitor.0.execute("device_del", json!({ "id": HCA }))?;
    log.wait_for(&[PRESSED], PATIENCE)?;
    turn(false).context("turning the slot off")?;
    monitor.wait_until_gone()
}

/// The slot's control register, in the configuration space of its port.
struct Control {
    config: File,
    at: u64,
}

impl Control {
    fn of(pf: &Pf) -> Result<Self> {
        let config = OpenOptions::new()
            .read(true)
            .write(true)
            .open(pf.port()?.join("config"))?;
        let byte = |at: u64| -> Result<u8> {
            let mut byte = [0];
            config.read_exact_at(&mut byte, at)?;
            Ok(byte[0])
        };
        let mut at = u64::from(byte(CAPABILITIES)?);
        while at != 0 && byte(at)? != EXPRESS {
            at = u64::from(byte(at + 1)?);
        }
        ensure!(at != 0, "the PF's port has no PCI Express capability");
        let at = at + SLOT_CONTROL;
        Ok(Self { config, at })
    }

    fn write(&self, value: u16) -> Result<()> {
        Ok(self.config.write_all_at(&value.to_le_bytes(), self.at)?)
    }

    /// Takes the power away for a moment. The kernel hears of what that has done when there is
    /// power again: it leaves alone what is in a slot without.
    fn cut(&self) -> Result<()> {
        let mut bytes = [0; 2];
        self.config.read_exact_at(&mut bytes, self.at)?;
        let before = u16::from_le_bytes(bytes);
        self.write((before | OFF) & !INTERRUPTS)?;
        self.write(before)
    }
}

/// The PF is pulled out: QEMU removes a device whose slot has lost its power, and the kernel hears
/// of it when it is gone. Returns when the kernel has dealt with it.
pub fn pull() -> Result<()> {
    Control::of(&Pf::find()?)?.cut()?;
    Monitor::open()?.wait_until_gone()?;
    // A slot that is off cannot be turned on either, since it is empty, but that is not said.
    let mut log = KernelLog::new()?;
    wait_until("a slot that is off", || {
        log.lines();
        let _ = turn(true);
        Ok(!log.lines().iter().any(|line| line.contains(ENABLED)))
    })
}

/// Puts the PF back into its slot.
pub fn plug() -> Result<()> {
    let hca = sys::kernel_parameter("vmtest.hca")?;
    let hca = hca.context("no vmtest.hca= on the kernel's command line")?;
    Monitor::open()?.add(&hca)?;
    wait_until("a PF with a driver", || {
        let driver = Pf::find().and_then(|pf| pf.driver());
        Ok(driver.is_ok_and(|driver| driver == "mlx5_core"))
    })
}

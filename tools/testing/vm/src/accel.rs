// SPDX-License-Identifier: GPL-2.0

//! What a test machine runs on: KVM where that works, emulation elsewhere.
//!
//! A device node is no proof: it can be there where guests die in it. So a
//! kernel is booted with KVM once, and the answer kept for as long as the host
//! is up.

use crate::{
    children,
    kernel,
    paths::Paths, //
};
use anyhow::Result;
use std::{
    fs,
    path::Path,
    process::{
        Command,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::kernel::Kernel;

/// An accelerator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accel {
    /// The host's.
    Kvm,
    /// None. On one host thread: with more, QEMU 10.0 looks sections of an old memory map
    /// up in a new one while VFs come and go. The documentation has more about that.
    Tcg,
}

const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel has nothing to run, and says so when all else has gone well.
const REACHED: &str = "Unable to mount root fs";

fn kvm_works(paths: &Paths) -> Result<bool> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let console = paths.out().join("log/kvm-probe.log");
    fs::create_dir_all(paths.out().join("log"))?;
    let mut child = children::bind(&mut Command::new("qemu-system-x86_64"))
        .args(["-accel", "kvm", "-cpu", "host", "-M", "q35", "-m", "512"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(kernel::image(Kernel::Stock, paths))
        .args(["-append", "console=ttyS0 panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    while child.try_wait()?.is_none() && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    child.wait()?;
    Ok(fs::read_to_string(&console).is_ok_and(|text| text.contains(REACHED)))
}

impl Accel {
    /// Finds out, or remembers.
    pub fn probe(paths: &Paths) -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let known = paths.build.join("kvm-works");
        let answer = match fs::read_to_string(&known) {
            Ok(text) if text.starts_with(&boot) => text.ends_with("yes"),
            _ => {
                let works = kvm_works(paths)?;
                let answer = if works { "yes" } else { "no" };
                fs::write(&known, format!("{boot}{answer}"))?;
                works
            }
        };
        Ok(if answer { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's options.
    pub fn args(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=single", "-cpu", "max"],
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation (TCG)",
        }
    }

    /// What a person is told of a machine on it.
    pub fn about(self) -> &'static str {
        match self {
            Self::Kvm => "that runs with KVM",
            Self::Tcg => "that QEMU emulates without KVM",
        }
    }
}

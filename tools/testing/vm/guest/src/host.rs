// SPDX-License-Identifier: GPL-2.0

//! The host's files: programs other than the init, and the files that they need. And a folder of
//! the host's that takes what is kept for other machines.

use crate::sys;
use anyhow::{
    Context,
    Result, //
};
use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{
        Command,
        Stdio, //
    },
};

/// Where they are mounted.
pub const ROOT: &str = "/host";

/// Mounts them.
pub fn mount() -> Result<()> {
    let options = "trans=virtio,version=9p2000.L,cache=loose,msize=262144";
    sys::mount_from("root", "9p", ROOT, libc::MS_RDONLY, Some(options))
        .context("the host's files")?;
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/dev/shm"),
    ] {
        sys::mount(kind, &format!("{ROOT}{at}")).with_context(|| format!("{kind} on {at}"))?;
    }
    // Programs write to them.
    for (name, number) in [("stdin", 0), ("stdout", 1), ("stderr", 2)] {
        symlink(
            format!("/proc/self/fd/{number}"),
            format!("{ROOT}/dev/{name}"),
        )
        .with_context(|| format!("/dev/{name}"))?;
    }
    symlink("/proc/self/fd", format!("{ROOT}/dev/fd")).context("/dev/fd")
}

/// Where the folder for what is kept is mounted.
const KEPT: &str = "/kept";

/// Mounts the folder for what is kept, if the host has one for this machine.
pub fn mount_kept() -> Result<Option<&'static Path>> {
    if sys::kernel_parameter("vmtest.kept")?.is_none() {
        return Ok(None);
    }
    let options = "trans=virtio,version=9p2000.L,msize=262144";
    sys::mount_from("kept", "9p", KEPT, 0, Some(options)).context("the folder of the host's")?;
    Ok(Some(Path::new(KEPT)))
}

/// A command of the host's.
pub fn in_root(program: &str) -> Command {
    let mut command = sys::command_in(ROOT, program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("TMPDIR", "/dev/shm")
        .stdin(Stdio::null());
    command
}

// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when they are told to: the kernel's fault injection, for one
//! thread. With all checkers, the kernel can also have copies from and to user space fail.
//! Those are counted with the allocations.

use anyhow::{
    bail,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io,
    os::unix::fs::FileExt,
    path::{
        Path,
        PathBuf, //
    },
};

const NTH: &str = "/proc/thread-self/fail-nth";
/// Settings for both allocators: failures also if the caller could wait, of pages of
/// any order, and without a stack in the log for each.
const SETTINGS: &[(&str, &str)] = &[
    ("failslab/ignore-gfp-wait", "0"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "0"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
];
/// The setting for copies.
const COPIES: (&str, &str) = ("fail_usercopy/verbose", "0");

fn path(name: &str) -> PathBuf {
    Path::new("/sys/kernel/debug").join(name)
}

fn copies_can_fail() -> bool {
    path(COPIES.0).exists()
}

/// Gets it ready.
pub fn set_up() -> Result<()> {
    let copies = copies_can_fail().then_some(&COPIES);
    for (name, value) in SETTINGS.iter().chain(copies) {
        let path = path(name);
        fs::write(&path, value).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Whether what fails when it is told to fails with this error.
pub fn explains(errno: i32) -> bool {
    errno == libc::ENOMEM || errno == libc::EFAULT && copies_can_fail()
}

/// Whether a call on [`NTH`] was the next to fail.
fn is_next<T>(result: &io::Result<T>) -> bool {
    let err = result.as_ref().err();
    err.is_some_and(|err| err.raw_os_error() == Some(libc::EFAULT)) && copies_can_fail()
}

/// Does `work`, in which the `n`th allocation or copy fails, from 1 on. Returns the result of
/// `work`, and whether there were `n` of them.
pub fn with_failure<T>(n: u32, work: impl FnOnce() -> T) -> Result<(T, bool)> {
    // Opened before `work`: opening it again would be the next allocation.
    let file = File::options()
        .read(true)
        .write(true)
        .open(NTH)
        .context(NTH)?;
    file.write_all_at(n.to_string().as_bytes(), 0)?;
    let result = work();
    let mut left = [0; 16];
    // Both copy, too, and may be what fails.
    let read = file.read_at(&mut left, 0);
    let written = file.write_all_at(b"0", 0);
    if !is_next(&written) {
        written?;
    }
    if is_next(&read) {
        return Ok((result, false));
    }
    let left = String::from_utf8_lossy(&left[..read?]);
    match left.trim().parse::<u32>() {
        Ok(left) => Ok((result, left == 0)),
        Err(_) => bail!("{NTH}: {left:?}"),
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when they are told to: the kernel's fault injection, for one
//! thread.

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
    os::unix::fs::FileExt,
    path::Path, //
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

/// Gets it ready.
pub fn set_up() -> Result<()> {
    for (name, value) in SETTINGS {
        let path = Path::new("/sys/kernel/debug").join(name);
        fs::write(&path, value).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Does `work`, in which the `n`th allocation fails, from 1 on. Returns the result of `work`,
/// and whether it allocated `n` times.
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
    let read = file.read_at(&mut left, 0)?;
    file.write_all_at(b"0", 0)?;
    let left = String::from_utf8_lossy(&left[..read]);
    match left.trim().parse::<u32>() {
        Ok(left) => Ok((result, left == 0)),
        Err(_) => bail!("{NTH}: {left:?}"),
    }
}

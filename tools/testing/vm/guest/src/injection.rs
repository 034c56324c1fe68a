// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when they are told to: the kernel's fault injection. Either the nth one
//! of a thread fails, or each one may, by chance, while a thread makes a request, or in a worker
//! of the kernel. With all checkers, the kernel can also have copies from and to user space fail.
//! Those are counted with the allocations.

use crate::sys;
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
/// More bytes than a scenario allocates while something may fail.
const HEAP: i32 = 128 << 20;
/// The setting for copies.
const COPIES: (&str, &str) = ("fail_usercopy/verbose", "0");
/// What can fail by chance.
const CAPABLE: &[&str] = &["failslab", "fail_page_alloc", "fail_usercopy"];
/// Whether a task is one of those that have allocations fail by chance.
const CHOSEN: &str = "/proc/thread-self/make-it-fail";
/// More than will ever fail: the kernel counts down.
const TIMES: u32 = 1_000_000_000;

fn path(name: &str) -> PathBuf {
    Path::new("/sys/kernel/debug").join(name)
}

fn copies_can_fail() -> bool {
    path(COPIES.0).exists()
}

/// Gets it ready.
pub fn set_up() -> Result<()> {
    // What this process allocates itself, between requests or in them, must not fail.
    sys::reserve_heap(HEAP)?;
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

/// How often allocations fail by chance: `percent` of each `interval`th one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chance {
    /// Of those that may fail.
    pub percent: u32,
    /// Of all allocations, each `interval`th one may fail.
    pub interval: u32,
}

/// Allocations that fail by chance, until this is dropped: in requests that are made by
/// [`by_chance`], and in workers.
pub struct Random(());

impl Random {
    /// Begins, without any.
    pub fn begin() -> Result<Self> {
        set_up()?;
        let random = Self(());
        random.set(&[
            ("probability", 0),
            ("task-filter", 1),
            ("space", 0),
            ("times", TIMES),
        ])?;
        Ok(random)
    }

    fn capable() -> impl Iterator<Item = PathBuf> {
        CAPABLE
            .iter()
            .map(|name| path(name))
            .filter(|path| path.exists())
    }

    fn set(&self, settings: &[(&str, u32)]) -> Result<()> {
        for folder in Self::capable() {
            for (name, value) in settings {
                let path = folder.join(name);
                fs::write(&path, value.to_string()).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Sets the chance.
    pub fn set_chance(&self, chance: Chance) -> Result<()> {
        self.set(&[
            ("interval", chance.interval),
            ("probability", chance.percent),
        ])
    }

    /// Has allocations of workers fail, too, or not: of those that there are now. A worker runs
    /// work of any queue.
    pub fn choose_workers(&self, chosen: bool) -> Result<u32> {
        let mut workers = 0;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.starts_with("kworker/") {
                // It may have ended.
                let written = fs::write(path.join("make-it-fail"), u8::from(chosen).to_string());
                workers += u32::from(written.is_ok());
            }
        }
        Ok(workers)
    }

    /// How many have failed.
    pub fn failed(&self) -> Result<u64> {
        let mut failed = 0;
        for folder in Self::capable() {
            let left: u32 = fs::read_to_string(folder.join("times"))?.trim().parse()?;
            failed += u64::from(TIMES.saturating_sub(left));
        }
        Ok(failed)
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        // Whatever becomes of the test, nothing may fail after it.
        let _ = self.set(&[("probability", 0), ("task-filter", 0)]);
        let _ = self.choose_workers(false);
    }
}

/// Does `work`, in which allocations fail by chance, if that is on.
pub fn by_chance<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let file = File::options().write(true).open(CHOSEN)?;
    file.write_all_at(b"1", 0)?;
    let result = work();
    // This copies, too.
    loop {
        let written = file.write_all_at(b"0", 0);
        if !is_next(&written) {
            written?;
            return Ok(result);
        }
    }
}

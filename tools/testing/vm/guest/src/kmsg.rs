// SPDX-License-Identifier: GPL-2.0

//! The kernel log, as far as it speaks of bugs.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
};

/// What a kernel says when something is wrong with it.
const FAULTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "kernel panic",
    "KASAN",
    "UBSAN",
    "refcount_t:",
    "possible recursive locking",
    "possible circular locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "sleeping function called",
    "held lock freed",
    "INFO: task",
    "unregister_netdevice",
    "rust_kernel: panicked",
    "list_add corruption",
    "list_del corruption",
    "general protection fault",
    "health compromised",
    "DMAR: [DMA",
];

/// Reads the kernel log from where it is now.
pub struct KernelLog {
    reader: File,
}

impl KernelLog {
    /// From now on.
    pub fn new() -> std::io::Result<Self> {
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        let mut log = Self { reader };
        log.lines();
        Ok(log)
    }

    /// The messages since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.reader.read(&mut record) {
                Ok(0) => return lines,
                Ok(n) => {
                    let record = String::from_utf8_lossy(&record[..n]);
                    // "level,seq,time,flags;text", and then lines of variables.
                    if let Some((_, text)) = record.split_once(';') {
                        lines.push(text.lines().next().unwrap_or_default().to_string());
                    }
                }
                // A record was overwritten before it was read.
                Err(err) if err.raw_os_error() == Some(libc::EPIPE) => (),
                Err(_) => return lines,
            }
        }
    }

    /// Those of the messages since the last call that tell of a bug.
    pub fn faults(&mut self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| FAULTS.iter().any(|fault| line.contains(fault)));
        lines
    }
}

/// Adds a line to the kernel log, so that it tells what was going on.
pub fn note(text: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("vmtest: {text}\n").as_bytes());
    }
}

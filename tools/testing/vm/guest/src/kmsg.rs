// SPDX-License-Identifier: GPL-2.0

//! The kernel log. Each message belongs to a span, which is a test or the time between two
//! tests, and the faults of a span are checked when it ends.

use anyhow::{
    bail,
    ensure,
    Result, //
};
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::{
        Read,
        Write, //
    },
    mem,
    os::unix::fs::OpenOptionsExt,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vm_common::judge::{
    Judge,
    Mark,
    MARK, //
};

/// Where the PCI core, with lockdep, warns whenever a PF with VFs is unbound from its
/// driver: the driver's remove() calls pci_disable_sriov() without pci_rescan_remove_lock.
/// It does so whatever the VFs are bound to.
pub const PF_UNBIND: &str = "drivers/pci/remove.c";

/// Reads the kernel log, from the first message since the boot.
pub struct KernelLog {
    reader: File,
    judge: Judge,
    /// Messages that nobody has asked for yet.
    lines: Vec<String>,
    /// Faults of this span.
    faults: Vec<String>,
    /// Warnings of mlx5_core in this span.
    warnings: Vec<String>,
}

/// Time between two looks at the log.
const POLL: Duration = Duration::from_millis(20);
/// The least severe level of a message that is a warning: KERN_WARNING.
const WARNING: u32 = 4;
/// Warnings that are no fault: with promiscuous mode, mlx5e gives this one on any adapter.
const HARMLESS: &str = "S-tagged traffic will be dropped while C-tag vlan stripping is enabled";

/// Whether mlx5_core warns, in a record "level,seq,time,flags;text" with facility and level
/// in one number.
fn is_warning(head: &str, line: &str) -> bool {
    let level = head
        .split(',')
        .next()
        .and_then(|level| level.parse::<u32>().ok());
    level.is_some_and(|level| level % 8 <= WARNING)
        && line.contains("mlx5_core")
        && !line.contains(HARMLESS)
}

impl KernelLog {
    /// Begins with the span of the boot.
    pub fn new() -> std::io::Result<Self> {
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        Ok(Self {
            reader,
            judge: Judge::default(),
            lines: Vec::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Takes in what has come. To be called now and then, since the kernel keeps a
    /// limited number of messages.
    pub fn pull(&mut self) {
        let mut record = [0; 8192];
        loop {
            match self.reader.read(&mut record) {
                Ok(0) => return,
                Ok(n) => {
                    let record = String::from_utf8_lossy(&record[..n]);
                    // "level,seq,time,flags;text", and then lines of variables.
                    if let Some((head, text)) = record.split_once(';') {
                        let line = text.lines().next().unwrap_or_default().to_string();
                        if self.judge.is_fault(&line) {
                            self.faults.push(line.clone());
                        } else if is_warning(head, &line) {
                            self.warnings.push(line.clone());
                        }
                        self.lines.push(line);
                    }
                }
                // Messages were overwritten before they were read: the host has
                // them, in the console.
                Err(err) if err.raw_os_error() == Some(libc::EPIPE) => (),
                Err(_) => return,
            }
        }
    }

    /// The messages of this span since the last call. They still count for the span's
    /// faults.
    pub fn lines(&mut self) -> Vec<String> {
        self.pull();
        mem::take(&mut self.lines)
    }

    /// Waits until the kernel has said one of these, for `patience` at most.
    pub fn wait_for(&mut self, texts: &[&str], patience: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut seen = Vec::new();
        loop {
            seen.extend(self.lines());
            let said = |text: &&str| seen.iter().any(|line| line.contains(*text));
            if texts.iter().any(said) {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < patience,
                "the kernel said none of {texts:?}, but {seen:#?}"
            );
            thread::sleep(POLL);
        }
    }

    /// How many faults this span has so far.
    pub fn faults(&mut self) -> usize {
        self.pull();
        self.faults.len()
    }

    /// Warnings of mlx5_core in this span that are no faults, since the last call.
    pub fn driver_warnings(&mut self) -> Vec<String> {
        self.pull();
        mem::take(&mut self.warnings)
    }

    /// Ends the span, and returns its faults.
    pub fn end_span(&mut self) -> Vec<String> {
        self.pull();
        self.lines.clear();
        self.warnings.clear();
        mem::take(&mut self.faults)
    }
}

/// Commands that firmware has refused, as mlx5_core logs them.
pub struct Refused(KernelLog);

impl Refused {
    /// From now on.
    pub fn from_now_on() -> Result<Self> {
        let mut log = KernelLog::new()?;
        log.lines();
        Ok(Self(log))
    }

    /// Fails if there were any since the last call.
    pub fn none(&mut self) -> Result<()> {
        let lines = self.0.lines();
        match lines.iter().find(|line| line.contains("failed, status")) {
            None => Ok(()),
            Some(line) => bail!("firmware has refused a command: {line}"),
        }
    }
}

/// Does `work`, and fails if the kernel has not said `text` by then. Announces `text`, as
/// [`expect`] does.
pub fn require<T>(text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    expect(text);
    let mut log = KernelLog::new()?;
    log.lines();
    let result = work()?;
    let lines = log.lines();
    ensure!(
        lines.iter().any(|line| line.contains(text)),
        "the kernel did not say {text:?}, but {lines:#?}"
    );
    Ok(result)
}

/// Announces that the kernel may complain with this text until the test ends.
pub fn expect(text: &str) {
    mark(Mark::Expect(text));
}

/// Adds a mark to the kernel log.
pub fn mark(mark: Mark<'_>) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("{MARK}{}\n", mark.line()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_the_driver_are_told_apart() {
        let line = "mlx5_core 0000:01:00.0 eth0: TX timeout detected";
        assert!(is_warning("3,1,2,-", line));
        assert!(is_warning("12,1,2,-", line));
        assert!(!is_warning("6,1,2,-", line));
        assert!(!is_warning("4,1,2,-", "ACPI: no"));
        assert!(!is_warning(
            "4,1,2,-",
            &format!("mlx5_core eth0: {HARMLESS}")
        ));
    }
}

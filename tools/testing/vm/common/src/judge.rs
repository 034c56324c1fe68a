// SPDX-License-Identifier: GPL-2.0

//! Which messages of a kernel tell of a fault.
//!
//! Init judges the messages of each test when it ends; the host judges the whole
//! console when the machine has ended, with what init could not see. Both know from
//! marks in the log which test a message belongs to, and what it has announced.

/// What a kernel says when something is wrong with it.
const FAULTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "kernel panic",
    "Kernel panic",
    "KASAN",
    "UBSAN",
    "KFENCE",
    "refcount_t:",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "Invalid wait context",
    "suspicious RCU usage",
    "sleeping function called",
    "scheduling while atomic",
    "held lock freed",
    "lock held when returning",
    "INFO: task",
    "rcu_preempt detected",
    "rcu_sched detected",
    "soft lockup",
    "hard LOCKUP",
    "unregister_netdevice",
    "rust_kernel: panicked",
    "list_add corruption",
    "list_del corruption",
    "general protection fault",
    "page allocation failure",
    "DMA-API: debugging out of memory",
    "swiotlb buffer is full",
    "health compromised",
    "DMAR: [DMA",
    // A command that firmware has refused.
    "mlx5_cmd_out_err:",
    "mlx5_cmd_check:",
    UNDESTROYED,
];

/// What our driver logs if firmware refuses to destroy an object. mlx5_core logs that, too,
/// but for an mkey: a SAVE or a LOAD still uses it, and was not waited for.
pub const UNDESTROYED: &str =
    "firmware did not destroy an object: memory stays until it does, or the PF reloads";

/// What a kernel says when it is beyond reporting anything itself.
const DEATHS: &[&str] = &["Kernel panic", "Oops:", "BUG: unable to handle"];

/// Before whatever init writes to the log.
pub const MARK: &str = "vmtest: ";

/// A mark in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark<'a> {
    /// A test begins.
    Begin(&'a str),
    /// Faults with this in them belong to the test.
    Expect(&'a str),
    /// The test ends.
    End,
}

impl<'a> Mark<'a> {
    /// Returns what follows [`MARK`] in the log.
    pub fn line(self) -> String {
        match self {
            Self::Begin(name) => format!("begin {name}"),
            Self::Expect(text) => format!("expect {text}"),
            Self::End => "end".to_string(),
        }
    }

    fn parse(line: &'a str) -> Option<Self> {
        let (_, mark) = line.split_once(MARK)?;
        match mark.trim_end().split_once(' ') {
            Some(("begin", name)) => Some(Self::Begin(name)),
            Some(("expect", text)) => Some(Self::Expect(text)),
            None if mark.trim_end() == "end" => Some(Self::End),
            _ => None,
        }
    }
}

/// Whether a kernel that says so does not go on.
pub fn is_death(line: &str) -> bool {
    DEATHS.iter().any(|death| line.contains(death))
}

/// Reads a log from its beginning, line by line.
#[derive(Default, Debug)]
pub struct Judge {
    test: Option<String>,
    expected: Vec<String>,
}

impl Judge {
    /// Whether a line tells of a fault that nobody has announced.
    pub fn is_fault(&mut self, line: &str) -> bool {
        match Mark::parse(line) {
            Some(Mark::Begin(name)) => {
                *self = Self {
                    test: Some(name.to_string()),
                    expected: Vec::new(),
                }
            }
            Some(Mark::Expect(text)) => self.expected.push(text.to_string()),
            Some(Mark::End) => *self = Self::default(),
            None => {
                let fault = FAULTS.iter().any(|fault| line.contains(fault))
                    // Of a message that is limited, and was there before.
                    && !line.contains("callbacks suppressed");
                return fault && !self.expected.iter().any(|text| line.contains(text));
            }
        }
        false
    }

    /// The test that the last line belongs to.
    pub fn test(&self) -> &str {
        self.test.as_deref().unwrap_or("outside of any test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(lines: &[&str]) -> Vec<String> {
        let mut judge = Judge::default();
        let mut found = Vec::new();
        for line in lines {
            if judge.is_fault(line) {
                found.push(format!("{}: {line}", judge.test()));
            }
        }
        found
    }

    #[test]
    fn a_fault_belongs_to_its_test() {
        let log = [
            "[ 1.0] WARNING: CPU: 0 early",
            "[ 1.1] vmtest: begin a b",
            "[ 1.2] fine",
            "[ 1.3] BUG: in a",
            "[ 1.4] vmtest: end",
            "[ 1.5] INFO: task late",
        ];
        let expected = [
            "outside of any test: [ 1.0] WARNING: CPU: 0 early",
            "a b: [ 1.3] BUG: in a",
            "outside of any test: [ 1.5] INFO: task late",
        ];
        assert_eq!(faults(&log), expected);
    }

    #[test]
    fn what_is_announced_is_no_fault_until_the_test_ends() {
        let refused = "mlx5_cmd_out_err:1:(pid 2): LOAD_VHCA_STATE(0xb07) failed";
        let log = [
            refused,
            "vmtest: begin a",
            "vmtest: expect LOAD_VHCA_STATE",
            refused,
            "mlx5_cmd_out_err:1:(pid 2): SUSPEND_VHCA(0x115) failed",
            "vmtest: end",
            refused,
        ];
        assert_eq!(faults(&log).len(), 3);
    }

    #[test]
    fn marks_are_read_as_they_are_written() {
        for mark in [Mark::Begin("a b"), Mark::Expect("c d"), Mark::End] {
            let line = format!("[    1.0] {MARK}{}\r", mark.line());
            assert_eq!(Mark::parse(&line), Some(mark));
        }
    }
}

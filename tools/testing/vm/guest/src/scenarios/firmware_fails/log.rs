// SPDX-License-Identifier: GPL-2.0

//! What the kernel says while commands fail.

use crate::{
    fault::opcode,
    kmsg::{
        self,
        KernelLog, //
    },
};
use anyhow::{
    bail,
    Result, //
};
use vm_common::judge::UNDESTROYED;

/// What mlx5_core says if firmware refuses a command.
const REFUSED: &str = "failed, status";

/// The kernel log. A message must belong to the command that has failed.
pub(super) struct Log(KernelLog);

impl Log {
    /// Begins with the messages of the boot.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(KernelLog::new()?))
    }

    /// Announces what is checked here until the test ends.
    pub(super) fn expect() {
        kmsg::expect(REFUSED);
        kmsg::expect(UNDESTROYED);
    }

    /// Forgets what there is.
    pub(super) fn skip(&mut self) {
        self.0.lines();
    }

    /// Fails if there is a complaint since the last call that the failure of the command
    /// `failed`, with this syndrome, does not explain.
    pub(super) fn check(&mut self, failed: Option<u16>, syndrome: u32) -> Result<()> {
        let lines = self.0.lines();
        match lines.iter().find(|line| !explains(failed, syndrome, line)) {
            Some(line) => bail!("the kernel says {line}"),
            None => Ok(()),
        }
    }
}

/// Whether the failure of a command explains a line. What is not destroyed still uses other
/// objects, which firmware then refuses to destroy.
fn explains(failed: Option<u16>, syndrome: u32, line: &str) -> bool {
    let refused = line.contains(REFUSED);
    let left = failed.is_some_and(opcode::is_destroy);
    let used = line.contains("DESTROY") || line.contains("DEALLOC");
    match line.contains(UNDESTROYED) {
        true => left,
        false => !refused || line.contains(&format!("syndrome ({syndrome:#x})")) || left && used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_belongs_to_the_command_that_has_failed() {
        let refused = |name: &str, syndrome: u32| {
            format!("{name}(0x1) op_mod(0x0) failed, status no(0x3), syndrome ({syndrome:#x}), err")
        };
        let suspend = Some(opcode::SUSPEND_VHCA);
        let destroy = Some(opcode::DESTROY_QP);
        assert!(explains(suspend, 7, &refused("SUSPEND_VHCA", 7)));
        assert!(!explains(suspend, 7, &refused("SUSPEND_VHCA", 0)));
        assert!(!explains(suspend, 7, &refused("DESTROY_CQ", 0)));
        assert!(explains(destroy, 7, &refused("DESTROY_CQ", 0)));
        assert!(!explains(destroy, 7, &refused("CREATE_CQ", 0)));
        assert!(explains(destroy, 7, UNDESTROYED));
        assert!(!explains(suspend, 7, UNDESTROYED) && !explains(None, 7, UNDESTROYED));
        assert!(explains(None, 7, "something else"));
    }
}

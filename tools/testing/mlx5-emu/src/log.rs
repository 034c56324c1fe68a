// SPDX-License-Identifier: GPL-2.0

//! The event log: one record for each command.

use crate::{
    host::FunctionId,
    ifc, //
};
use std::fmt;

/// A command that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandRecord {
    /// When it was sent, in nanoseconds.
    pub start: u64,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// Through whose command queue it came.
    pub function: FunctionId,
    /// What it was.
    pub opcode: u16,
    /// `op_mod`.
    pub op_mod: u16,
    /// What it was about, where that is a VHCA or another function.
    pub subject: Option<u16>,
    /// Its status.
    pub status: u8,
    /// Its syndrome.
    pub syndrome: u32,
    /// Bytes of state that it moved.
    pub bytes: u64,
    /// Whether a test has made it fail, or be late.
    pub fault: bool,
}

impl fmt::Display for CommandRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} fn={} op=0x{:03x} {} op_mod=0x{:x}",
            self.start,
            self.function.0,
            self.opcode,
            ifc::opcode_name(self.opcode),
            self.op_mod
        )?;
        if let Some(subject) = self.subject {
            write!(f, " vhca={subject}")?;
        }
        write!(
            f,
            " status=0x{:x} syndrome=0x{:x} bytes={} ns={}",
            self.status, self.syndrome, self.bytes, self.duration
        )?;
        match self.fault {
            true => f.write_str(" fault"),
            false => Ok(()),
        }
    }
}

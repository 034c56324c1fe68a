// SPDX-License-Identifier: GPL-2.0

//! A client of QEMU's machine protocol.

use anyhow::{
    bail,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::io::{
    BufRead,
    BufReader,
    Read,
    Write, //
};

/// What no message has in it: QEMU forgets what has come before.
const FORGET: &[u8] = b"\xff\n";

/// A connection to a QEMU.
pub struct Qmp<S> {
    stream: BufReader<S>,
    /// Number of commands so far.
    commands: u64,
}

impl<S: Read + Write> Qmp<S> {
    fn of(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
            commands: 0,
        }
    }

    /// Begins to talk.
    pub fn new(stream: S) -> Result<Self> {
        let mut qmp = Self::of(stream);
        qmp.receive()?.context("no QMP greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Begins to talk, or goes on: there may be a rest of what was said before.
    pub fn again(stream: S) -> Result<Self> {
        let mut qmp = Self::of(stream);
        qmp.stream.get_mut().write_all(FORGET)?;
        let begun = qmp.execute("qmp_capabilities", json!({}));
        // It was not the first time.
        if begun.is_err() {
            qmp.execute("query-version", json!({}))?;
        }
        Ok(qmp)
    }

    /// A message, or `None` if a line is not one.
    fn receive(&mut self) -> Result<Option<Value>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            bail!("QEMU says nothing");
        }
        Ok(serde_json::from_slice(&line).ok())
    }

    /// Has a command carried out, and does not wait for that.
    pub fn send(&mut self, command: &str, arguments: Value) -> Result<()> {
        self.commands += 1;
        let request = json!({ "execute": command, "arguments": arguments, "id": self.commands });
        writeln!(self.stream.get_mut(), "{request}").with_context(|| format!("QMP {command}"))
    }

    /// Has a command carried out.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.send(command, arguments)?;
        let mut answer = || -> Result<Value> {
            loop {
                let Some(mut message) = self.receive()? else {
                    continue;
                };
                // All else is an event, or about a command that was only sent.
                if message["id"].as_u64() != Some(self.commands) {
                    continue;
                }
                if let Some(error) = message.get("error") {
                    bail!("{}", error["desc"].as_str().unwrap_or_default());
                }
                return Ok(message["return"].take());
            }
        };
        answer().with_context(|| format!("QMP {command}"))
    }
}

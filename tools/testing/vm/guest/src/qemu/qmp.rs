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
use std::{
    io::{
        BufRead,
        BufReader,
        Write, //
    },
    os::unix::net::UnixStream,
    time::Duration, //
};

/// Time limit for a command. The first one is answered when QEMU has opened its devices,
/// while another guest works: on a busy host that emulates all of it, more than a minute was
/// seen. The host kills a machine that is silent for two.
const TIMEOUT: Duration = Duration::from_secs(100);

/// A connection to a QEMU.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Number of commands so far.
    commands: u64,
}

impl Qmp {
    /// Begins to talk.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            commands: 0,
        };
        qmp.receive().context("QMP greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU has closed the connection");
        }
        serde_json::from_str(&line).with_context(|| line.clone())
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
                let mut message = self.receive()?;
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

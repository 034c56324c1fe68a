// SPDX-License-Identifier: GPL-2.0

//! States that go from one host to another.

use super::command::{
    fails,
    json,
    require_running,
    PATH, //
};
use crate::{
    fault::{
        opcode,
        Fault,
        Faults, //
    },
    scenarios::compare::Site, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::{
        BufRead,
        BufReader,
        Read,
        Write, //
    },
    net::{
        Shutdown,
        TcpStream, //
    },
    process::{
        Child,
        ChildStderr,
        Command,
        ExitStatus,
        Stdio, //
    },
};

/// A process that waits for a state.
pub struct Receiver {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Receiver {
    /// Starts it.
    pub fn start(device: &str) -> Result<Self> {
        let mut child = Command::new(PATH)
            .args(["receive", device, "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        stderr.read_line(&mut line)?;
        let address = line.trim_end().rsplit(' ').next().unwrap_or_default();
        Ok(Self {
            address: address.to_string(),
            stderr,
            child,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ends, and what it has said.
    pub fn end(mut self) -> Result<(ExitStatus, String)> {
        let mut said = String::new();
        let stdout = self.child.stdout.as_mut().context("no stdout")?;
        stdout.read_to_string(&mut said)?;
        self.stderr.read_to_string(&mut said)?;
        Ok((self.child.wait()?, said))
    }
}

/// What a sender says first.
pub const HELLO: &[u8] = b"\x01\x0a\0\0\0vfio-mig 1";
/// What a receiver answers.
pub const DONE: &[u8] = b"\x80\0\0\0\0";

/// To a device of another process, which is as good as another host.
pub(super) fn over_tcp(source: &str, destination: &str, more: &[&str]) -> Result<()> {
    let receiver = Receiver::start(destination)?;
    let to = format!("tcp:{}", receiver.address);
    let mut args = vec!["--json", "migrate", source, &to];
    args.extend(more);
    let sent = json(&args)?;
    let sent = &sent["migrations"][0];
    let (status, said) = receiver.end()?;
    let sha256 = sent["sha256"].as_str().context("no checksum")?;
    ensure!(status.success() && said.contains(sha256), "{sent}: {said}");
    Ok(())
}

/// Senders that stop.
pub(super) fn bad_senders(destination: &str) -> Result<()> {
    for bytes in [HELLO, &[HELLO, b"\x02\x04\0\0\0data"].concat()] {
        let receiver = Receiver::start(destination)?;
        TcpStream::connect(&receiver.address)?.write_all(bytes)?;
        let (status, said) = receiver.end()?;
        ensure!(status.code() == Some(1), "{bytes:?}: {said}");
        let info = json(&["--json", "info", destination])?;
        ensure!(info["state"] == "RUNNING", "{bytes:?}: {info}");
    }
    Ok(())
}

/// A peer that is no sender does not use the receiver up, nor keep a sender waiting.
pub(super) fn no_senders(source: &str, destination: &str) -> Result<()> {
    let receiver = Receiver::start(destination)?;
    let silent = TcpStream::connect(&receiver.address)?;
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x01\x0a\0\0\0vfio-mig 2",
    ] {
        TcpStream::connect(&receiver.address)?.write_all(bytes)?;
    }
    let to = format!("tcp:{}", receiver.address);
    json(&["--json", "migrate", source, &to])?;
    let (status, said) = receiver.end()?;
    drop(silent);
    let refused = said.matches("refused 127.0.0.1:").count();
    ensure!(status.success() && refused == 4, "{said}");
    for why in [
        "it closed the connection before HELLO",
        "it did not say HELLO",
        "it speaks \"vfio-mig 2\"",
        "another sender came first",
    ] {
        ensure!(said.contains(why), "{why}: {said}");
    }
    Ok(())
}

/// A sender hears why its state was refused, though it has not read all the while.
pub(super) fn reason_of_receiver(destination: &str) -> Result<()> {
    let receiver = Receiver::start(destination)?;
    let mut stream = TcpStream::connect(&receiver.address)?;
    stream.write_all(HELLO)?;
    for _ in 0..8 {
        stream.write_all(&[2, 0, 0, 8, 0])?;
        stream.write_all(&[0xff; 512 << 10])?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers)?;
    let answers = String::from_utf8_lossy(&answers);
    let (status, said) = receiver.end()?;
    let why = "the driver refused the state";
    ensure!(
        answers.contains(why) && said.contains(why) && status.code() == Some(1),
        "{answers}: {said}"
    );
    Ok(())
}

/// A receiver whose device does not start has reset it and says so: the source goes on.
pub(super) fn receiver_not_started(site: &Site) -> Result<()> {
    let (vf, other, faults) = (site.vf.to_string(), site.other.to_string(), Faults::open()?);
    for more in [&[][..], &["--precopy"]] {
        let receiver = Receiver::start(&other)?;
        let to = format!("tcp:{}", receiver.address());
        // The first one is the destination's: the source is put back after it has failed.
        faults.arm(Fault::fail(opcode::RESUME_VHCA))?;
        let args = [&["migrate", &vf, &to][..], more].concat();
        let said = fails(&args, 1)?;
        ensure!(faults.armed()? == 0, "{args:?}: it was not started: {said}");
        ensure!(
            said.contains(&format!("{other}: cannot go from")) && !said.contains("stays stopped"),
            "{args:?}: {said}"
        );
        let (status, said) = receiver.end()?;
        ensure!(status.code() == Some(1), "{args:?}: {status}: {said}");
    }
    require_running(site)
}

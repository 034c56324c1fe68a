// SPDX-License-Identifier: GPL-2.0

//! States that go from one process to another through pipes, as ssh has them.

use super::{
    command::{
        json,
        objects,
        require_running,
        PATH, //
    },
    hosts::{
        DONE,
        HELLO, //
    },
};
use crate::{
    scenarios::compare::Site,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::{
        Read,
        Write, //
    },
    process::{
        Child,
        Command,
        Output,
        Stdio, //
    },
};

/// A receiver at the ends of two pipes.
fn receiver(destination: &str) -> Result<Child> {
    Ok(Command::new(PATH)
        .args(["--json", "receive", destination, "--listen", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

/// A sender at the other ends of a receiver's pipes.
fn sender(source: &str, more: &[&str], receiver: &mut Child) -> Result<Child> {
    let from = receiver.stdout.take().context("no stdout")?;
    let to = receiver.stdin.take().context("no stdin")?;
    Ok(Command::new(PATH)
        .args(["--json", "migrate", source, "-"])
        .args(more)
        .stdin(Stdio::from(from))
        .stdout(Stdio::from(to))
        .stderr(Stdio::piped())
        .spawn()?)
}

/// The object of a command whose standard output has frames.
fn object(output: &Output) -> Result<serde_json::Value> {
    let mut objects = objects(&output.stderr)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(objects.len() == 1, "{}: {said}", output.status);
    objects.pop().context("no object")
}

/// Each process has its report on standard error.
pub(super) fn over_pipes(source: &str, destination: &str, more: &[&str]) -> Result<()> {
    let mut receiver = receiver(destination)?;
    let sent = sender(source, more, &mut receiver)?.wait_with_output()?;
    let received = receiver.wait_with_output()?;
    let (sent, received) = (object(&sent)?, object(&received)?);
    let sha256 = &sent["result"]["migrations"][0]["sha256"];
    ensure!(
        sha256.is_string() && *sha256 == received["result"]["sha256"],
        "{sent}: {received}"
    );
    Ok(())
}

/// As a command of ssh would do it.
pub(super) fn over_a_command(source: &str, destination: &str) -> Result<()> {
    let to = format!("exec:{PATH} --json receive {destination} --listen -");
    let report = json(&["--json", "migrate", source, &to])?;
    ensure!(report["migrations"][0]["sha256"].is_string(), "{report}");
    Ok(())
}

/// If one of two processes is killed in the middle, the other one undoes what it has begun.
pub(super) fn peer_dies(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());

    // A sender that is gone in the middle of a frame.
    let mut child = receiver(&other)?;
    let mut to = child.stdin.take().context("no stdin")?;
    let mut from = child.stdout.take().context("no stdout")?;
    let mut answer = [0; DONE.len()];
    to.write_all(HELLO)?;
    from.read_exact(&mut answer)?;
    ensure!(answer == DONE, "{answer:?}");
    to.write_all(b"\x02\x00\x00\x08\x00half a frame")?;
    drop(to);
    let failed = object(&child.wait_with_output()?)?;
    ensure!(failed["error"]["errno_name"] == "ECONNRESET", "{failed}");
    require_running(site)?;

    // A receiver that is killed once it has the first piece.
    let mut child = Command::new(PATH)
        .args(["--json", "migrate", &vf, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().context("no stdin")?;
    let mut from = child.stdout.take().context("no stdout")?;
    from.read_exact(&mut [0; HELLO.len()])?;
    to.write_all(DONE)?;
    from.read_exact(&mut vec![0; 64 << 10])?;
    drop((to, from));
    let failed = object(&child.wait_with_output()?)?;
    ensure!(failed["error"]["errno_name"] == "ECONNRESET", "{failed}");
    require_running(site)?;

    // The tool itself, which cannot say anything then.
    let mut to = receiver(&other)?;
    let mut child = sender(&vf, &["--precopy", "--change", "64K"], &mut to)?;
    sys::kill(child.id(), libc::SIGKILL)?;
    child.wait()?;
    let failed = object(&to.wait_with_output()?)?;
    ensure!(failed["error"]["status"] == 1, "{failed}");
    require_running(site)
}

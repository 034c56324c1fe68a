// SPDX-License-Identifier: GPL-2.0

//! Programs that are run.

use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::Write,
    process::{
        Command,
        Stdio, //
    },
};

/// Runs a program, and returns what it prints. With `input` as its input.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown} cannot be run"))?;
    let mut stdin = child.stdin.take().context("no input")?;
    let text = input.to_string();
    // It may print before it has read all.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{shown} ended with {}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

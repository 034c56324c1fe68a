// SPDX-License-Identifier: GPL-2.0

//! What the tool does if nobody reads what it prints, or if it cannot be written.

use std::{
    fs::OpenOptions,
    process::{Command, Output, Stdio},
};

/// As a shell shows a command that SIGPIPE has ended.
const CLOSED: Option<i32> = Some(128 + 13);

/// The writing end of a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(args).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_closed_pipe_ends_the_tool_quietly() {
    for args in [
        &["test", "--list"][..],
        &["--json", "test", "--list"],
        &["man"],
        &["completions", "bash"],
        // The error, as an object.
        &["--json", "info", "ffff:ff:1f.7"],
    ] {
        let output = tool(args).stdout(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), CLOSED, "{args:?}: {}", said(&output));
        assert!(!said(&output).contains("panic"), "{}", said(&output));
    }
}

#[test]
fn nobody_hears_an_error() {
    let mut command = tool(&["info", "ffff:ff:1f.7"]);
    let output = command.stderr(closed_pipe()).output().unwrap();
    assert_eq!(output.status.code(), CLOSED);
    assert!(output.stdout.is_empty());
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = tool(&["test", "--list"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("standard output: No space left"), "{said}");
}

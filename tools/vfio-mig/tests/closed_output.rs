// SPDX-License-Identifier: GPL-2.0

//! What the tool does if nobody reads its output, or if the output cannot be written.

use nix::fcntl::OFlag;
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::Read,
    process::{
        Command,
        Output,
        Stdio, //
    },
    thread, //
};

/// The status that a shell shows for a command that SIGPIPE has ended.
const CLOSED: Option<i32> = Some(128 + 13);

/// The writing end of a pipe without a reader, which a tool of another test must not
/// inherit.
fn closed_pipe() -> Stdio {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
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
        &["--help"],
        &["migrate", "--help"],
        &["--version"],
        // The error, as an object.
        &["--json", "info", "ffff:ff:1f.7"],
        &["--json", "info", "nonsense"],
    ] {
        let output = tool(args).stdout(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), CLOSED, "{args:?}: {}", said(&output));
        assert!(!said(&output).contains("panic"), "{}", said(&output));
    }
}

#[test]
fn nobody_hears_an_error() {
    for device in ["ffff:ff:1f.7", "nonsense"] {
        let mut command = tool(&["info", device]);
        let output = command.stderr(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), CLOSED, "{device}");
        assert!(output.stdout.is_empty(), "{device}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    for args in [&["test", "--list"][..], &["--help"], &["--version"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = tool(args).stdout(full).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output: No space left"), "{said}");
    }
}

#[test]
fn an_error_is_no_part_of_a_state() {
    let args = ["--json", "save", "ffff:ff:1f.7", "-"];
    let output = tool(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let text = error["error"]["message"].as_str().unwrap();
    assert!(text.contains("no such device"), "{text}");
    let args = ["--json", "save", "ffff:ff:1f.7", "/tmp/no/such/folder"];
    assert!(!tool(&args).output().unwrap().stdout.is_empty());
}

#[test]
fn a_terminal_gets_no_state() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = tool(&["save", "ffff:ff:1f.7", "-"]);
    let output = command.stdout(terminal.slave).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output: a terminal"), "{said}");
}

#[test]
fn a_terminal_is_told_how_to_read_the_manual() {
    // The manual is longer than a terminal's buffer: somebody has to read it.
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut screen = File::from(terminal.master);
    let reader = thread::spawn(move || {
        let mut page = Vec::new();
        // It ends with EIO when nobody has the other end any more.
        let _ = screen.read_to_end(&mut page);
        String::from_utf8(page).unwrap()
    });
    let hint = "vfio-mig man | man -l -\n";
    // A temporary, since it keeps the terminal open.
    let output = tool(&["man"]).stdout(terminal.slave).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).ends_with(hint), "{output:?}");
    assert!(reader.join().unwrap().contains(".TH VFIO-MIG 8"));
    let output = tool(&["man"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}
